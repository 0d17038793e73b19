"""Verdicts on answers, with their reasons, kept in a journal so that nothing is judged twice.

A record is of one problem and one text, however often that text was drawn:

    {"problem": "HumanEval/0", "answer": DIGEST, "verdict": "failed", "reason": "AssertionError"}

"timed out" may be the fault of a machine that was busy. So an answer that has timed out is judged
once more when the command is repeated, and what comes of it is kept: a second "timed out" is for
good. The last record of an answer counts.
"""

import dataclasses
import hashlib
import os
import sys
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.harness.counter import Counter
from evals.harness.journal import Journal, has
from evals.harness.problems import Problem
from evals.sandbox import isolation
from evals.sandbox.runner import Limits, Result
from evals.sandbox.values import line_of
from mtp.errors import BadInput

Asked = Sequence[tuple[Problem, str]]
Key = tuple[str, str]  # a problem's id, an answer's digest

TIMED_OUT = "timed out"
TIMES = 2  # that an answer has to time out before it is not judged again
LEAST = 64  # MB: Python and a few modules take half of it


@dataclass(frozen=True)
class Judging:
    """How programs are run. workers: programs at a time; None: one for each core. packages: what
    they may import beside the standard library. inside: tests that call functions run in the
    program's process."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    workers: int | None = None
    allow_unsandboxed: bool = False
    packages: tuple[str, ...] = ()
    inside: bool = False

    @staticmethod
    def of(
        time_limit: int | None,
        memory: int | None,
        workers: int | None,
        allow_unsandboxed: bool,
        packages: str | None = None,
        tests: str = "outside",
    ) -> "Judging":
        """From a command line's seconds, megabytes, and names with commas between; None leaves the
        default. The wall clock gets as many times the seconds as it does by default."""
        names = tuple(sorted(n.strip() for n in (packages or "").split(",") if n.strip()))
        isolation.path_of(names)  # which raises BadInput if one is not installed
        for name, value, least in (
            ("--time-limit", time_limit, 1),
            ("--memory", memory, LEAST),
            ("--workers", workers, 1),
        ):
            if value is not None and value < least:
                raise BadInput(f"{name} is {value}; it must be at least {least}")
        usual = Limits()
        changed = dict[str, Any]()
        if time_limit is not None:
            changed |= {"cpu": time_limit, "wall": time_limit * usual.wall / usual.cpu}
        if memory is not None:
            changed["memory"] = memory << 20
        limits = dataclasses.replace(usual, **changed)
        return Judging(limits, workers, allow_unsandboxed, names, tests == "inside")

    def limit(self) -> dict[str, Any]:
        """What verdicts depend on, for files and rows."""
        found: dict[str, Any] = dataclasses.asdict(self.limits)
        if self.packages:
            found["packages"] = ",".join(self.packages)
        return found | ({"tests": "inside"} if self.inside else {})

    def at_once(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))


def digest(answer: str) -> str:
    return hashlib.sha256(answer.encode(errors="surrogatepass")).hexdigest()[:16]


def kept(records: Sequence[Mapping[str, Any]]) -> tuple[dict[Key, str], set[Key]]:
    """The verdicts in a journal, the last of each answer; and the answers to be judged again."""
    have, times = dict[Key, str](), Tally[Key]()
    for record in records:
        key = record["problem"], record["answer"]
        have[key] = record["verdict"]
        times[key] += record["verdict"] == TIMED_OUT
    return have, {key for key in have if have[key] == TIMED_OUT and times[key] < TIMES}


def verdicts(
    drawn: Mapping[str, Sequence[str]],
    problems: Mapping[str, Problem],
    judge: Callable[[Asked], Iterator[Result]],
    journal: Journal | None,
    title: str,
) -> dict[str, list[str]]:
    """The verdict on each answer to each problem, by the problem's id. Equal answers are judged
    once, and those in the journal not again, but for time-outs. Without a journal nothing is
    kept or shown: a rule judges at once."""
    have, doubtful = dict[Key, str](), set[Key]()
    if journal:
        journal.check("a verdict", has(problem=str, answer=str, verdict=str, reason=str))
        have, doubtful = kept(journal.records)
    pairs = dict.fromkeys((name, answer) for name in drawn for answer in drawn[name])
    keys = {pair: (pair[0], digest(pair[1])) for pair in pairs}
    new = [pair for pair, key in keys.items() if key not in have or key in doubtful]
    results = judge([(problems[name], answer) for name, answer in new]) if new else iter(())
    if journal is None:
        have |= {keys[pair]: result.verdict for pair, result in zip(new, results, strict=True)}
    else:
        with Counter(f"{title}, judging", len(pairs)) as counter:
            counter.skip(len(pairs) - len(new))
            for pair, result in zip(new, results, strict=True):
                name, answer = keys[pair]
                have[name, answer] = result.verdict
                record = {"problem": name, "answer": answer, "verdict": result.verdict}
                journal.add(record | {"reason": line_of(result.reason)})
                counter.add(1)
    found = {name: [have[keys[name, a]] for a in answers] for name, answers in drawn.items()}
    if journal and new:
        print(f"{title}: {summary(found)}", file=sys.stderr)
    return found


def summary(found: Mapping[str, Sequence[str]]) -> str:
    """How many answers got each verdict, most first: "6 answers: 4 failed, 2 passed"."""
    tally = Tally(verdict for each in found.values() for verdict in each)
    kinds = ", ".join(f"{count} {kind}" for kind, count in tally.most_common())
    return f"{tally.total()} answers{': ' if kinds else ''}{kinds}"
