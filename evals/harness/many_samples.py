"""Benchmarks with many sampled answers to each problem, each right or wrong: pass@k.

OUT/CHECKPOINT/BENCHMARK-VARIANT-T0.2.jsonl has the answers, and -verdicts.jsonl the verdicts on
answers that are programs (evals/harness/verdicts.py). Interrupted work continues from both.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from evals.harness import protocol as protocols
from evals.harness import samples as files
from evals.harness.candidates import Candidate, Measured, Options, fitted, header, limited
from evals.harness.drafting import Way, on_threads, way
from evals.harness.generation import draw
from evals.harness.journal import Journal
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import counts, prompts
from evals.harness.protocol import Protocol
from evals.harness.telling import Passed, Teller, at_temperature
from evals.harness.verdicts import Asked, Judging, verdicts
from evals.sandbox.judge import JUDGE
from evals.sandbox.runner import FunctionJob, Job, Result, check_available, run_all

CODE_TEMPERATURES = (0.1, 0.2, 0.4, 0.8)  # those that occur in Table S12

PROBE = "an answer\nof two lines"

MakeJob = Callable[[Problem, str, Protocol], Job]


@dataclass(frozen=True)
class Check:
    """How answers are judged. results: of (problem, answer) pairs, in their order; "passed" is
    right. job: if answers are programs, what the sandbox runs for one."""

    results: Callable[[Asked, Protocol, Judging], Iterator[Result]]
    job: MakeJob | None = None

    def verdicts(self, asked: Asked, protocol: Protocol, allow_unsandboxed: bool) -> Iterator[str]:
        judging = Judging(allow_unsandboxed=allow_unsandboxed)
        return (result.verdict for result in self.results(asked, protocol, judging))


def by_tests(job: MakeJob) -> Check:
    """Answers are programs, or parts of programs, that run in the sandbox."""

    def results(asked: Asked, protocol: Protocol, judging: Judging) -> Iterator[Result]:
        jobs = (job(problem, answer, protocol) for problem, answer in asked)
        if judging.inside:
            jobs = map(inside, jobs)
        return run_all(
            jobs,
            judging.workers,
            judging.limits,
            allow_unsandboxed=judging.allow_unsandboxed,
            packages=judging.packages,
        )

    return Check(results, job)


def inside(job: Job) -> Job:
    """The same job with its tests in the program's process; a script has none."""
    return dataclasses.replace(job, inside=True) if isinstance(job, FunctionJob) else job


def by_rule(right: Callable[[Problem, str], bool]) -> Check:
    """Answers are text."""

    def results(asked: Asked, *_: object) -> Iterator[Result]:
        for problem, answer in asked:
            yield Result("passed" if right(problem, answer) else "failed", "", 0.0)

    return Check(results)


@dataclass(frozen=True)
class Sampled:
    """variants: its protocols, the first is the default; load: its data, `other` the data of a
    variant that has its own."""

    name: str
    variants: tuple[Protocol, ...]
    temperatures: tuple[float, ...]
    load: Callable[[Source], Dataset]
    check: Check
    other: Mapping[str, Callable[[Source], Dataset]] = field(default_factory=dict)

    def protocol(self, variant: str | None) -> Protocol:
        return protocols.variant(self.variants, variant)

    def data(self, protocol: Protocol, options: Options) -> Dataset:
        """The problems of a variant. Raises BadInput if there are none, or no sandbox for their
        programs."""
        if self.check.job:
            check_available(options.allow_unsandboxed)
        load = self.other.get(protocol.variant, self.load)
        return limited(self.name, load(options.source.of(self.name)), options)

    def measure(
        self, candidates: list[Candidate], data: Dataset, protocol: Protocol, options: Options
    ) -> list[Measured]:
        """pass@k of each candidate, and differences to the first one."""
        protocol = fitted(protocol, options, candidates)
        judge = self._judge(data, protocol, options)
        grid = options.temperatures or self.temperatures
        found = [self._passed(one, data, protocol, grid, options, judge) for one in candidates]
        rows = []
        for candidate, (passed, extra, ways) in zip(candidates, found, strict=True):
            first = None if passed is found[0][0] else found[0][0]
            about = self._about(judge, options)
            drawing = [each._asdict() for each in ways]
            tell = Teller(protocol, grid, data, candidate.name, candidates[0].name, about, drawing)
            rows += tell.rows(passed, first) + [tell.row(*each) for each in extra]
        return rows

    def of_samples(
        self, samples: files.Samples, data: Dataset, protocol: Protocol, options: Options
    ) -> list[Measured]:
        """pass@k of somebody's samples of all problems. Verdicts are kept in
        OUT/FILE/BENCHMARK-VARIANT-samples-verdicts.jsonl."""
        judge = self._judge(data, protocol, options)
        stem = f"{self.name}-{protocol.variant}"
        kept = {"samples of": stem, "data": data.origin, **judge}
        file = options.out / samples.name / f"{stem}-samples-verdicts.jsonl"
        title = f"{samples.name} {self.name}"
        with Journal(file, kept) if judge else nullcontext() as journal:
            right = self._right(data, samples.answers, protocol, journal, options, title)
        passed = [[(len(samples.answers[p.id]), right[p.id]) for p in data.problems]]
        about = samples.about() | self._about(judge, options)
        return Teller(protocol, (None,), data, samples.name, samples.name, about).rows(passed, None)

    def _judge(self, data: Dataset, protocol: Protocol, options: Options) -> dict[str, Any]:
        """What verdicts depend on beside the answers; empty if a rule gives them, which costs no
        more than keeping them."""
        if not self.check.job:
            return {}
        return {
            "judge": JUDGE,
            "walls": check_available(options.allow_unsandboxed),
            "limit": options.judging.limit(),
            "job": jobs_sha256(self.check.job, data, protocol),
        }

    def _about(self, judge: Mapping[str, Any], options: Options) -> dict[str, Any]:
        """The same for rows, with the number of programs that ran at a time."""
        return {"judge": {**judge, "workers": options.judging.at_once()}} if judge else {}

    def _passed(
        self,
        candidate: Candidate,
        data: Dataset,
        protocol: Protocol,
        grid: Sequence[float],
        options: Options,
        judge: Mapping[str, Any],
    ) -> tuple[Passed, list[tuple[str, float]], list[Way]]:
        """What passed at each temperature, numbers on the prompts, and how answers were drawn.
        judge: as `_judge` has it."""
        model, weights = candidate.model(), candidate.weights()
        made = prompts(data, protocol, candidate.text, candidate.config.context)
        asked = {name: prompt for name, prompt in made.items() if prompt}
        folder = options.out / candidate.name
        passed: Passed = []
        ways, batch = list[Way](), options.at_once(candidate.config)
        for temperature in grid:
            at = at_temperature(protocol, temperature)
            stem = f"{self.name}-{protocol.variant}-T{temperature:g}"
            file = folder / f"{stem}.jsonl"
            how = way(file, model, asked, at, options, candidate.text.eos)
            ways.append(how)
            kept = {"batch": batch, "k": how.heads, "seed": options.seed}
            records = header(at, data, weights, batch)
            begun = records | how._asdict() | {"seed": options.seed}
            with Journal(file, begun) as journal, on_threads(how.threads):
                drawn = draw(model, candidate.text, asked, at, journal, **kept)
            if options.export:
                files.write(options.export, data, drawn, at.samples)
            file = folder / f"{stem}-verdicts.jsonl"
            title = f"{candidate.name} {protocol.benchmark} T={temperature:g}"
            with Journal(file, {**records, **judge}) if judge else nullcontext() as journal:
                right = self._right(data, drawn, at, journal, options, title)
            n = at.samples
            passed.append([(n, right.get(problem.id, 0)) for problem in data.problems])
        return passed, counts(made, protocol), ways

    def _right(
        self,
        data: Dataset,
        drawn: Mapping[str, Sequence[str]],
        protocol: Protocol,
        journal: Journal | None,
        options: Options,
        title: str,
    ) -> dict[str, int]:
        """How many answers to each problem are right, by its id."""
        problems = {problem.id: problem for problem in data.problems}

        def judge(asked: Asked) -> Iterator[Result]:
            return self.check.results(asked, protocol, options.judging)

        found = verdicts(drawn, problems, judge, journal, title)
        return {name: each.count("passed") for name, each in found.items()}


def jobs_sha256(job: MakeJob, data: Dataset, protocol: Protocol) -> str:
    """Distinguishes the programs and tests made of answers from those of another version."""
    made = hashlib.sha256()
    for problem in data.problems:
        made.update(repr(job(problem, PROBE, protocol)).encode(errors="surrogatepass"))
    return made.hexdigest()[:16]
