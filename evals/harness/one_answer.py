"""Benchmarks that ask each problem once and score the answer: choice tasks, summaries.

OUT/CHECKPOINT/BENCHMARK-VARIANT.jsonl has the model's answer to each problem. Interrupted work
continues from it; scores follow from it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evals.harness import protocol as protocols
from evals.harness.candidates import Candidate, Measured, Options, fitted, header, limited
from evals.harness.drafting import Way, on_threads, way
from evals.harness.journal import Journal
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import Prompt, counts, prompts
from evals.harness.protocol import Protocol
from evals.statistics import pass_at_k
from mtp.data.tokenizer import Tokenizer

if TYPE_CHECKING:
    from mtp.model.model import MultiTokenTransformer

Scores = Mapping[str, float]  # of one problem: metric -> score


@dataclass(frozen=True)
class Work:
    """What a model is asked: the problems that have a prompt."""

    model: MultiTokenTransformer
    text: Tokenizer
    protocol: Protocol
    asked: Mapping[str, Prompt]
    problems: Mapping[str, Problem]
    journal: Journal
    batch: int
    k: int | None = None


@dataclass(frozen=True)
class Scored:
    """variants  its protocols, the first is the default
    load      a variant's data
    score     of each problem asked, by its id
    metrics   their names
    after     tokens that follow a prompt, if not the protocol's max_new
    chance    of guessing a problem right, where this is defined
    """

    name: str
    variants: tuple[Protocol, ...]
    load: Callable[[Source, Protocol], Dataset]
    score: Callable[[Work], Mapping[str, Scores]]
    metrics: tuple[str, ...]
    after: Callable[[Problem, Protocol, Tokenizer], int] | None = None
    chance: Callable[[Problem], float] | None = None

    def protocol(self, variant: str | None) -> Protocol:
        return protocols.variant(self.variants, variant)

    def data(self, protocol: Protocol, options: Options) -> Dataset:
        """The problems of a variant. Raises BadInput if there are none."""
        return limited(self.name, self.load(options.source.of(self.name), protocol), options)

    def measure(
        self, candidates: list[Candidate], data: Dataset, protocol: Protocol, options: Options
    ) -> list[Measured]:
        """Each metric's mean for each candidate, and differences to the first one."""
        protocol = dataclasses.replace(fitted(protocol, options, candidates), samples=1)
        rows, first = list[Measured](), dict[str, np.ndarray]()

        def tell(candidate: Candidate, how: Way | None, metric: str, *value: float) -> None:
            number, low, high = value if len(value) == 3 else (*value, None, None)
            written = protocol.max_new and low is not None
            temperature = "0" if written else ""  # neither likelihoods nor counts have one
            rows.append(
                Measured(
                    self.name, protocol.variant, candidate.name, metric, temperature, number, low,
                    high, len(data.problems), record(protocol, how), data.origin,
                )
            )  # fmt: skip

        for candidate in candidates:
            found, extra, how = self._scores(candidate, data, protocol, options)
            for metric, ours in found.items():
                tell(candidate, how, metric, *pass_at_k.estimate(ours, pass_at_k.mean))
            for metric, theirs in first.items():
                minus = pass_at_k.difference(found[metric], theirs, pass_at_k.mean)
                tell(candidate, how, f"{metric} minus {candidates[0].name}", *minus)
            for metric, value in extra:
                tell(candidate, how, metric, value)
            first = first or found
        return rows

    def _scores(
        self, candidate: Candidate, data: Dataset, protocol: Protocol, options: Options
    ) -> tuple[dict[str, np.ndarray], list[tuple[str, float]], Way | None]:
        """Each metric of all problems (1, P), 0 for problems that were not asked; numbers on the
        prompts; and how answers were drawn, if any were."""
        model, text = candidate.model(), candidate.text

        def after(problem: Problem) -> int:
            return self.after(problem, protocol, text) if self.after else protocol.max_new

        made = prompts(data, protocol, text, candidate.config.context, after)
        asked = {name: prompt for name, prompt in made.items() if prompt}
        problems = {problem.id: problem for problem in data.problems}
        batch = options.at_once(candidate.config)
        records = header(protocol, data, candidate.weights(), batch)
        file = options.out / candidate.name / f"{self.name}-{protocol.variant}.jsonl"
        how = None
        if protocol.max_new:
            how = way(file, model, asked, protocol, options, text.eos)
            records |= how._asdict()
        k, threads = how or (None, None)
        with Journal(file, records) as journal, on_threads(threads):
            work = Work(model, text, protocol, asked, problems, journal, batch, k)
            found = self.score(work)
        extra = counts(made, protocol)
        if self.chance:
            extra.append(("chance", float(np.mean([self.chance(p) for p in data.problems]))))
        by_metric = {
            metric: np.array([[found[name][metric] if name in found else 0.0 for name in problems]])
            for metric in self.metrics
        }
        return by_metric, extra, how


def record(protocol: Protocol, how: Way | None) -> str:
    """The protocol as a row has it, with how answers were drawn."""
    if how is None:
        return protocol.text()
    return json.dumps(json.loads(protocol.text()) | how._asdict(), sort_keys=True)
