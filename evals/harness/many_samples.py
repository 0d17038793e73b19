"""Benchmarks with many sampled answers to each problem, each right or wrong: pass@k.

OUT/CHECKPOINT/BENCHMARK-VARIANT-T0.2.jsonl has the answers, and -verdicts.jsonl the verdicts on
answers that are programs. Interrupted work continues from both.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np

from evals.harness import protocol as protocols
from evals.harness.candidates import Candidate, Measured, Options, fitted, header, limited
from evals.harness.drafting import heads
from evals.harness.generation import draw
from evals.harness.journal import Journal, has
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import counts, prompts
from evals.harness.protocol import Protocol
from evals.sandbox.judge import JUDGE
from evals.sandbox.runner import Job, check_available, run_all
from evals.statistics import pass_at_k

CODE_TEMPERATURES = (0.1, 0.2, 0.4, 0.8)  # those that occur in Table S12

PROBE = "an answer\nof two lines"

Asked = Sequence[tuple[Problem, str]]
MakeJob = Callable[[Problem, str, Protocol], Job]


@dataclass(frozen=True)
class Check:
    """How answers are judged. verdicts: of (problem, answer) pairs, in their order; "passed" is
    right. job: if answers are programs, what the sandbox runs for one."""

    verdicts: Callable[[Asked, Protocol, bool], Iterator[str]]
    job: MakeJob | None = None


def by_tests(job: MakeJob) -> Check:
    """Answers are programs, or parts of programs, that run in the sandbox."""

    def verdicts(asked: Asked, protocol: Protocol, allow_unsandboxed: bool) -> Iterator[str]:
        jobs = (job(problem, answer, protocol) for problem, answer in asked)
        for result in run_all(jobs, allow_unsandboxed=allow_unsandboxed):
            yield result.verdict

    return Check(verdicts, job)


def by_rule(right: Callable[[Problem, str], bool]) -> Check:
    """Answers are text."""

    def verdicts(asked: Asked, *_: object) -> Iterator[str]:
        return ("passed" if right(problem, answer) else "failed" for problem, answer in asked)

    return Check(verdicts)


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
        judge = dict[str, str | int]()
        if self.check.job:
            judge["judge"] = JUDGE
            judge["walls"] = check_available(options.allow_unsandboxed)
            judge["job"] = jobs_sha256(self.check.job, data, protocol)
        grid = options.temperatures or self.temperatures
        found = [self._passed(one, data, protocol, grid, options, judge) for one in candidates]
        rows = []
        for candidate, (passed, extra) in zip(candidates, found, strict=True):
            first = None if passed is found[0][0] else found[0][0]
            tell = Teller(protocol, grid, data, candidate.name, candidates[0].name)
            rows += tell.rows(passed, first) + [tell.row(*each) for each in extra]
        return rows

    def _passed(
        self,
        candidate: Candidate,
        data: Dataset,
        protocol: Protocol,
        grid: Sequence[float],
        options: Options,
        judge: Mapping[str, str | int],
    ) -> tuple["Passed", list[tuple[str, float]]]:
        """What passed at each temperature, and numbers on the prompts. judge: what verdicts depend
        on beside the answers; empty if a rule gives them, which costs no more than keeping them."""
        model, weights = candidate.model(), candidate.weights()
        made = prompts(data, protocol, candidate.text, candidate.config.context)
        asked = {name: prompt for name, prompt in made.items() if prompt}
        folder = options.out / candidate.name
        passed: Passed = []
        for temperature in grid:
            at = at_temperature(protocol, temperature)
            stem = f"{self.name}-{protocol.variant}-T{temperature:g}"
            file = folder / f"{stem}.jsonl"
            k = heads(file, model, asked, at, options, candidate.text.eos)
            kept = {"batch": options.batch, "k": k, "seed": options.seed}
            records = header(at, data, weights, options)
            with Journal(file, records | {"heads": k, "seed": options.seed}) as journal:
                drawn = draw(model, candidate.text, asked, at, journal, **kept)
            file = folder / f"{stem}-verdicts.jsonl"
            with Journal(file, {**records, **judge}) if judge else nullcontext() as journal:
                right = self._judged(data, drawn, at, journal, options.allow_unsandboxed)
            n = at.samples
            passed.append([(n, right[problem.id]) for problem in data.problems])
        return passed, counts(made, protocol)

    def _judged(
        self,
        data: Dataset,
        drawn: Mapping[str, list[str]],
        protocol: Protocol,
        journal: Journal | None,
        allow_unsandboxed: bool,
    ) -> Counter[str]:
        """How many answers to each problem are right. Equal answers are judged once."""
        problems = {problem.id: problem for problem in data.problems}
        have = dict[tuple[str, str], str]()
        if journal:
            journal.check("a verdict", has(problem=str, answer=str, verdict=str))
            have = {(r["problem"], r["answer"]): r["verdict"] for r in journal.records}
        pairs = dict.fromkeys((name, answer) for name in drawn for answer in drawn[name])
        new = [(n, a) for n, a in pairs if (n, digest(a)) not in have]
        asked = [(problems[name], answer) for name, answer in new]
        verdicts = self.check.verdicts(asked, protocol, allow_unsandboxed) if asked else iter(())
        for (name, answer), verdict in zip(new, verdicts, strict=True):
            have[name, digest(answer)] = verdict
            if journal:
                journal.add({"problem": name, "answer": digest(answer), "verdict": verdict})
        right = Counter[str]()
        for name, answers in drawn.items():
            right[name] = sum(have[name, digest(answer)] == "passed" for answer in answers)
        return right


def digest(answer: str) -> str:
    return hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]


def jobs_sha256(job: MakeJob, data: Dataset, protocol: Protocol) -> str:
    """Distinguishes the programs and tests made of answers from those of another version."""
    made = hashlib.sha256()
    for problem in data.problems:
        made.update(repr(job(problem, PROBE, protocol)).encode(errors="surrogatepass"))
    return made.hexdigest()[:16]


def at_temperature(protocol: Protocol, temperature: float) -> Protocol:
    """A protocol at a temperature. One greedy answer is enough, since all are alike."""
    if temperature == 0:
        return dataclasses.replace(protocol, temperature=0.0, samples=1, top_p=1.0)
    return dataclasses.replace(protocol, temperature=temperature)


Passed = list[list[tuple[int, int]]]  # temperature by temperature, problem by problem: of n, c


@dataclass(frozen=True)
class Teller:
    """Rows of one candidate on one benchmark."""

    protocol: Protocol
    grid: Sequence[float]
    data: Dataset
    checkpoint: str
    first: str

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
                name = f"{self.grid[i]:g}"
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
                    choice = pass_at_k.held_out_in(inside)
                    part = pass_at_k.estimate(ours[drawn], choice, int(inside.sum()))
                    metric = f"pass@{k} {group}"
                    rows.append(self.row(metric, part, "cross-validated", drawn, sum(inside)))
            if first is None or not drawn:
                continue
            theirs = pass_at_k.table(first, k)
            metric = f"pass@{k} minus {self.first}"
            for i in drawn:
                minus = pass_at_k.difference(ours[[i]], theirs[[i]], pass_at_k.mean)
                rows.append(self.row(metric, minus, f"{self.grid[i]:g}", [i]))
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
        grid = [self.grid[i] for i in used or range(len(self.grid))]
        at = at_temperature(self.protocol, grid[0]) if len(grid) == 1 else self.protocol
        record = json.loads(at.text()) | ({"temperature": grid} if len(grid) > 1 else {})
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
