"""Verdicts keep their reasons, are counted and shown, and a time-out is looked at twice."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evals.harness import counter
from evals.harness.journal import Journal
from evals.harness.many_samples import by_tests
from evals.harness.problems import Problem
from evals.harness.protocol import Protocol
from evals.harness.verdicts import Asked, Judging, digest, summary, verdicts
from evals.sandbox.runner import FunctionJob, Limits, Result
from evals.sandbox.values import line_of
from mtp.errors import BadInput
from tests.conftest import Cli
from tests.evals.sandbox.helpers import need

PROBLEMS = {name: Problem(name, {}, {}) for name in ("p", "q")}
DRAWN = {"p": ["good", "bad", "slow", "bad"], "q": ["slow", "good"]}


@given(st.text(max_size=2 * 300))
@example("\x1b]0;a title\x07\x1b[2J\x1b[31;1mred\x1b[0m \x9b31m\u202e\ud800 \x00\r\n\tend\x1b")
@example("\x1b" * 1000)
@example("word " * 100_000)
def test_a_clean_reason_is_a_short_line_that_can_be_printed(reason: str) -> None:
    found = line_of(reason)
    assert len(found) <= 300 and found.isprintable() and found == " ".join(found.split())
    assert line_of(found) == found


@given(st.text("abc: (1')é中", max_size=300))
def test_a_plain_reason_stays(reason: str) -> None:
    assert line_of(reason) == " ".join(reason.split())


def test_escapes_go_with_their_parameters() -> None:
    assert line_of("a \x1b[38;5;1mred\x1b[0m\x1b]0;title\x1b\\ word") == "a red word"
    assert line_of("x" * 1000) == "x" * (300 - 1) + "…"


class Judge:
    """Gives the verdicts it is told to, and records what it was asked."""

    def __init__(self, slow: str = "timed out") -> None:
        self.slow, self.asked = slow, list[tuple[str, str]]()

    def __call__(self, asked: Asked) -> Iterator[Result]:
        for problem, answer in asked:
            self.asked.append((problem.id, answer))
            said = {"good": "passed", "bad": "failed", "slow": self.slow}[answer]
            yield Result(said, "" if said == "passed" else f"\x1b[31m{answer}\nis why", 0.1)


def judged(file: Path, judge: Judge) -> dict[str, list[str]]:
    with Journal(file, {}) as journal:
        return verdicts(DRAWN, PROBLEMS, judge, journal, "run b T=0.2")


def test_equal_answers_are_judged_once_and_reasons_are_kept(tmp_path: Path, capsys: Any) -> None:
    judge = Judge("crashed")
    expected = {"p": ["passed", "failed", "crashed", "failed"], "q": ["crashed", "passed"]}
    assert judged(tmp_path / "j", judge) == expected
    assert judge.asked == [("p", "good"), ("p", "bad"), ("p", "slow"), ("q", "slow"), ("q", "good")]
    records = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()[1:]]
    assert [record["reason"] for record in records] == [
        "", "bad is why", "slow is why", "slow is why", ""
    ]  # fmt: skip
    assert records[1] == {
        "problem": "p", "answer": digest("bad"), "verdict": "failed", "reason": "bad is why",
    }  # fmt: skip
    shown = capsys.readouterr().err.splitlines()
    assert shown[0].startswith("run b T=0.2, judging: 5/5, ")
    assert shown[1] == "run b T=0.2: 6 answers: 2 passed, 2 failed, 2 crashed"
    again = Judge()
    assert judged(tmp_path / "j", again) == expected and not again.asked
    assert capsys.readouterr().err == ""  # nothing new


def test_without_a_journal_nothing_is_kept_or_said(capsys: Any) -> None:
    found = verdicts(DRAWN, PROBLEMS, Judge(), None, "x")
    assert found["p"] == ["passed", "failed", "timed out", "failed"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("second", ["passed", "failed", "timed out"])
def test_what_timed_out_is_judged_once_more_by_the_next_command(
    tmp_path: Path, second: str
) -> None:
    file = tmp_path / "j"
    assert judged(file, Judge())["p"][2] == "timed out"
    retried = Judge(second)
    found = judged(file, retried)
    assert retried.asked == [("p", "slow"), ("q", "slow")]
    assert found["p"][2] == found["q"][0] == second
    whole, settled = file.read_bytes(), Judge("crashed")
    assert judged(file, settled) == found and not settled.asked and file.read_bytes() == whole
    assert len(whole.splitlines()) == 1 + 5 + 2


def test_a_killed_retry_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "j"
    judged(file, Judge())
    judged(file, Judge("passed"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))
    left = Judge("passed")
    judged(file, left)
    assert left.asked == [("q", "slow")] and file.read_bytes() == b"".join(lines)


def test_a_record_without_a_reason_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", {}) as journal:
        journal.add({"problem": "p", "answer": digest("good"), "verdict": "passed"})
    with pytest.raises(BadInput, match="j line 2 is not a record of a verdict; delete the file"):
        judged(tmp_path / "j", Judge())


def test_progress_shows_what_is_being_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """A line after each answer if each takes long."""
    clock = iter(range(0, 10_000, 30))
    monkeypatch.setattr(counter.time, "monotonic", lambda: next(clock))
    judged(tmp_path / "j", Judge())
    shown = [line.split(",")[1].split()[1] for line in capsys.readouterr().err.splitlines()[:-1]]
    assert shown == ["1/5", "2/5", "3/5", "4/5", "5/5"]


def test_the_summary_counts_each_kind() -> None:
    assert summary({}) == "0 answers"
    assert summary({"a": ["failed", "passed"], "b": ["failed"]}) == "3 answers: 2 failed, 1 passed"


# --------------------------------------------------------------------------------------------------
# limits


def test_limits_are_those_of_the_command_line() -> None:
    usual = Limits()
    assert Judging.of(None, None, None, False) == Judging()
    found = Judging.of(3, 200, 7, True)
    assert (found.workers, found.at_once(), found.allow_unsandboxed) == (7, 7, True)
    wall = 3 * usual.wall / usual.cpu
    assert found.limits == dataclasses.replace(usual, cpu=3, wall=wall, memory=200 << 20)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--time-limit", 0], "--time-limit is 0; it must be at least 1"),
        (["--time-limit", "soon"], "argument --time-limit: invalid int value: 'soon'"),
        (["--memory", 63], "--memory is 63; it must be at least 64"),
        (["--workers", -1], "--workers is -1; it must be at least 1"),
    ],
)
def test_wrong_limits_are_refused_in_one_line(
    run_evals: Cli, tmp_path: Path, args: list[object], said: str
) -> None:
    result = run_evals("--checkpoint", tmp_path / "none", "--benchmarks", "mbpp", *args)
    assert result.code == 2 and said in result.err and result.err.count("\n") == 1


SLEEPS = "import time\ndef f():\n    time.sleep(60)\n"
FILLS = "def f():\n    return len(bytearray(600 << 20))\n"


def test_programs_run_within_these_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    need()
    check = by_tests(lambda _, answer, __: FunctionJob(answer, "assert f()", ("f",)))
    asked = [(PROBLEMS["p"], FILLS)]
    (result,) = check.results(asked, Protocol("b", "v"), Judging())
    assert result.verdict == "passed"
    (result,) = check.results(asked, Protocol("b", "v"), Judging.of(None, 200, 1, False))
    assert result.verdict != "passed"
    given = dict[str, Any]()

    def reported(_: object, workers: int, limits: Limits, **rest: Any) -> Iterator[Result]:
        given.update(workers=workers, limits=limits, **rest)
        return iter(())

    monkeypatch.setattr("evals.harness.many_samples.run_all", reported)
    judging = Judging.of(2, None, 3, True)
    list(check.results(asked, Protocol("b", "v"), judging))
    usual = {"allow_unsandboxed": True, "packages": ()}
    assert given == {"workers": 3, "limits": judging.limits, **usual}


def test_rows_and_verdicts_have_the_limits_and_a_change_makes_verdicts_stale(
    run_evals: Cli, runs: tuple[Path, Path], files: Path, tmp_path: Path
) -> None:
    need()
    args = ["--checkpoint", runs[0], "--benchmarks", "mbpp", "--data-dir", files, "--own-data"]
    args += ["--samples", 1, "--temperatures", "0", "--max-new", 4, "--out", tmp_path]
    result = run_evals(*args, "--time-limit", 3, "--memory", 300, "--workers", 1)
    assert result.code == 0, result.err
    rows = pd.read_csv(tmp_path / "results.csv")
    judges = [json.loads(text)["judge"] for text in rows.protocol]
    for judge in judges:
        assert judge["limit"]["cpu"] == 3 and judge["limit"]["memory"] == 300 << 20
        assert judge["workers"] == 1 and judge["walls"] == "bubblewrap"
    verdicts_file = tmp_path / "run0" / "mbpp-incoder-T0-verdicts.jsonl"
    assert json.loads(verdicts_file.read_text().splitlines()[0])["limit"] == judges[0]["limit"]
    assert "run0 mbpp T=0: 3 answers: 3 failed" in result.err
    result = run_evals(*args, "--time-limit", 4, "--memory", 300)
    assert result.code == 2 and "verdicts.jsonl has results of another limit;" in result.err
    result = run_evals(*args, "--time-limit", 3, "--memory", 300, "--workers", 2)
    assert result.code == 0, result.err  # as many at a time as you like
    rows = pd.read_csv(tmp_path / "results.csv")
    assert json.loads(rows.protocol[0])["judge"]["workers"] == 2


def test_packages_and_tests_are_what_verdicts_depend_on() -> None:
    usual = Judging.of(None, None, None, False)
    assert not {"packages", "tests"} & usual.limit().keys()
    asked = Judging.of(None, None, None, False, " numpy ", "inside")
    assert (asked.packages, asked.inside) == (("numpy",), True)
    assert asked.limit() == usual.limit() | {"packages": "numpy", "tests": "inside"}
    with pytest.raises(BadInput, match="package 'none_such'"):
        Judging.of(None, None, None, False, "none_such")


def test_jobs_run_as_they_are_asked_to() -> None:
    need()
    program = "import numpy\nf = numpy.float64(2) ** 3"
    check = by_tests(lambda problem, answer, _: FunctionJob(answer, problem.id, ("f",)))
    asked = [(Problem("assert f == 8", {}, {}), program)]
    protocol = Protocol("mine", "only")
    for packages, tests, verdict in (
        ("numpy", "outside", "passed"),
        ("numpy", "inside", "passed"),
        ("", "inside", "failed"),
    ):
        judging = Judging.of(None, None, 1, False, packages, tests)
        assert [r.verdict for r in check.results(asked, protocol, judging)] == [verdict]
