"""Rows of pass@k: what passed, told with intervals and the protocol."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evals.harness.candidates import Measured
from evals.harness.problems import Dataset
from evals.harness.protocol import Protocol
from evals.statistics import pass_at_k

Passed = list[list[tuple[int, int]]]  # temperature by temperature, problem by problem: of n, c


def label(temperature: float | None) -> str:
    return "" if temperature is None else f"{temperature:g}"


def at_temperature(protocol: Protocol, temperature: float | None) -> Protocol:
    """A protocol at a temperature. One greedy answer is enough, since all are alike."""
    if temperature is None:
        return protocol
    if temperature == 0:
        return dataclasses.replace(protocol, temperature=0.0, samples=1, top_p=1.0)
    return dataclasses.replace(protocol, temperature=temperature)


@dataclass(frozen=True)
class Teller:
    """Rows of one candidate on one benchmark. grid: temperatures, None if it is not known. Told in
    the protocol's record, beside it or instead of it: about, and drawing, which has more for each
    temperature: a value, or a list if several temperatures differ in it."""

    protocol: Protocol
    grid: Sequence[float | None]
    data: Dataset
    checkpoint: str
    first: str
    about: Mapping[str, Any] = field(default_factory=dict)
    drawing: Sequence[Mapping[str, Any]] = ()

    def rows(self, passed: Passed, first: Passed | None) -> list[Measured]:
        """pass@k at each temperature and at the chosen ones, of all problems and of each group; and
        the differences to the first candidate, if this is another one."""
        rows = []
        groups = sorted({problem.group for problem in self.data.problems} - {""})
        for k in pass_at_k.KS:
            ours = pass_at_k.table(passed, k)
            drawn = [i for i in range(len(self.grid)) if not np.isnan(ours[i]).any()]
            for i in drawn:
                at = ours[[i]]
                name = label(self.grid[i])
                rows.append(
                    self.row(f"pass@{k}", pass_at_k.estimate(at, pass_at_k.mean), name, [i])
                )
                for group in groups:
                    inside = [p.group == group for p in self.data.problems]
                    part = pass_at_k.estimate(at[:, inside], pass_at_k.mean)
                    rows.append(self.row(f"pass@{k} {group}", part, name, [i], sum(inside)))
            if len(drawn) > 1:
                for name, choice in pass_at_k.CHOICES.items():
                    value = pass_at_k.estimate(ours[drawn], choice)
                    rows.append(self.row(f"pass@{k}", value, name, drawn))
                for group in groups:
                    inside = np.array([p.group == group for p in self.data.problems])
                    part = pass_at_k.estimate(ours[drawn], pass_at_k.cross_validated, inside)
                    metric = f"pass@{k} {group}"
                    rows.append(self.row(metric, part, "cross-validated", drawn, sum(inside)))
            if first is None or not drawn:
                continue
            theirs = pass_at_k.table(first, k)
            metric = f"pass@{k} minus {self.first}"
            for i in drawn:
                minus = pass_at_k.difference(ours[[i]], theirs[[i]], pass_at_k.mean)
                rows.append(self.row(metric, minus, label(self.grid[i]), [i]))
            if len(drawn) > 1:
                for name, choice in pass_at_k.CHOICES.items():
                    minus = pass_at_k.difference(ours[drawn], theirs[drawn], choice)
                    rows.append(self.row(metric, minus, name, drawn))
        return rows

    def row(
        self,
        metric: str,
        value: pass_at_k.Estimate | float,
        temperature: str = "",
        used: Sequence[int] = (),
        count: int | None = None,
    ) -> Measured:
        """`used`: the temperatures it was measured at, or chosen from."""
        low = high = None
        if isinstance(value, pass_at_k.Estimate):
            value, low, high = value
        used = used or range(len(self.grid))
        grid = [self.grid[i] for i in used]
        at = at_temperature(self.protocol, grid[0]) if len(grid) == 1 else self.protocol
        record = json.loads(at.text()) | ({"temperature": grid} if len(grid) > 1 else {})
        record |= self.about
        if self.drawing:
            for name in self.drawing[0]:
                values = [self.drawing[i][name] for i in used]
                record[name] = values[0] if len(set(values)) == 1 else values
        return Measured(
            self.protocol.benchmark,
            self.protocol.variant,
            self.checkpoint,
            metric,
            temperature,
            value,
            low,
            high,
            len(self.data.problems) if count is None else count,
            json.dumps(record, sort_keys=True),
            self.data.origin,
        )
