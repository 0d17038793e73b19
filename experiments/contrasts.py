"""Contrasts: what a study asks of its arms, and what it expected, both written before the run.

A contrast is a sum of arms with coefficients that add up to 0, within each seed: {"n=4": 1,
"n=1": -1} is what n=4 changes. Its verdict is that of evals/statistics/contrast.py. A prediction
that does not hold stays in the study. What was thought of only after rows had been seen may be
asked too, and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from evals.statistics.contrast import Contrast

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Asked:
    """A contrast that a study declares.

    name       what it isolates, "depth" say
    metric     of the rows
    arms       arm -> coefficient
    margin     differences nearer to 0 than this do not matter; in the metric's unit
    predicted  of the difference: beyond the margin on one side, or within it; "nothing" if it was
               asked after rows had been seen
    unit       of the metric, for sentences
    """

    name: str
    metric: str
    arms: Mapping[str, float]
    margin: float
    predicted: Literal["larger", "smaller", "equal", "nothing"]
    unit: str
    missing: ClassVar[str] = "no seed has its arms"  # where there is nothing to compare

    def __post_init__(self) -> None:
        if abs(sum(self.arms.values())) > 1e-9:
            raise ValueError(f"contrast {self.name}: coefficients add up to 0, not {self.arms}")

    @property
    def formula(self) -> str:
        """E.g. "(n=4) - (n=1)"."""
        text = ""
        for arm, weight in self.arms.items():
            size = "" if abs(weight) == 1 else f"{abs(weight):g} "
            sign = "- " if weight < 0 else "+ " if text else ""
            text += f" {sign}{size}({arm})"
        return text.strip()

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        """The contrast over the seeds that all of its arms have; None if there is no such seed. Of
        several steps of a run, the last counts."""
        own = rows[(rows.metric == self.metric) & rows.arm.isin(list(self.arms))]
        own = own.dropna(subset="value")
        own = own[own.step == own.groupby("run_id").step.transform("max")]
        values = own.groupby(["seed", "arm"]).value.mean().unstack("arm")
        if set(values.columns) != set(self.arms):
            return None
        total = sum(weight * values[arm] for arm, weight in self.arms.items())
        by_seed = {int(seed): float(each) for seed, each in total.dropna().items()}  # pyright: ignore
        return Contrast(by_seed, self.margin) if by_seed else None

    def outcome(self, found: Contrast) -> str:
        """Of the prediction: "holds", "fails" or "open"; "open" too if there was none."""
        if self.predicted == "nothing":
            return "open"
        if self.predicted == "equal":
            fails = found.beyond_margin
            return "holds" if found.within_margin else "fails" if fails else "open"
        side = 1 if self.predicted == "larger" else -1
        if found.within_margin or found.sign == -side:
            return "fails"
        return "holds" if found.beyond_margin else "open"


def sentence(asked: Asked, found: Contrast) -> str:
    """E.g. "depth, (short) - (n=1): +0.004 bits per byte [-0.002, +0.010], equal within 0.02, as
    predicted"."""
    digits = 3 if asked.margin < 0.5 else 1
    text = f"{asked.name}, {asked.formula}: {found.mean:+.{digits}f} {asked.unit}"
    if bounds := found.interval:
        text += f" [{bounds[0]:+.{digits}f}, {bounds[1]:+.{digits}f}]"
    text += f", {found.verdict}"
    if (needed := found.seeds_needed) and "undecided" in found.verdict:
        text += f" (about {needed} needed)"
    if asked.predicted == "nothing":
        return f"{text}; asked after the run"
    more = "within" if asked.predicted == "equal" else "by more than"
    predicted = f"{asked.predicted} {more} {asked.margin:g}"
    outcome = asked.outcome(found)
    if outcome == "holds":
        return f"{text}, as predicted"
    return f"{text}; predicted: {predicted}" + ", which fails" * (outcome == "fails")


def sentences(asked: Sequence[Asked], rows: pd.DataFrame) -> list[str]:
    """One for each contrast; of one without rows, that there are none."""
    return [
        sentence(each, found) if (found := each.of(rows)) else f"{each.name}: {each.missing}"
        for each in asked
    ]


def largest(asked: Sequence[Asked], rows: pd.DataFrame, count: int) -> list[str]:
    """The sentences of the largest contrasts whose predictions hold or fail; of the largest at all
    if none does."""
    found = [(each, contrast) for each in asked if (contrast := each.of(rows))]
    decided = [pair for pair in found if pair[0].outcome(pair[1]) != "open"]
    shown = sorted(decided or found, key=lambda pair: -abs(pair[1].mean))
    return [sentence(*pair) for pair in shown[:count]]
