"""A program is not told how it did: it is asked the same whether its answers are right or wrong, it
gets the rest of its cases, and it does not live to see the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks import plus_rules
from evals.sandbox import quiet
from evals.sandbox.runner import FunctionJob, Limits, ScriptJob, run_all
from tests.evals.sandbox.helpers import SHORT, judged, need

LOOP = """
for i in range(3):
    assert f(i) == i
    if i:
        assert f(-i) == -i, "why"
"""
CHECK = """
def check(candidate):
    '''As in HumanEval.'''
    x = candidate(1)
    assert x == 1
    for i in range(2):
        assert candidate(i) == i
    assert x < 2, "asks the program for nothing"
check(f)
"""
HELPER = """
def equal(a, b):
    assert a == b
equal(f(1), 1)
equal(f(2), 2)
"""
TRIED = """
def negative(): assert f(-1) == 1
try:
    negative()
    assert False
except ValueError: pass
assert f(2) == 2
"""
METHOD = """
class Case:
    def test(self):
        assert f(1) == 1
        assert f(2) == 2
Case().test()
"""


def asked(tests: str, f: Callable[[Any], Any]) -> tuple[list[Any], int]:
    """What tests ask of f, and how much of it they find wrong."""
    calls, missed = [], []

    def spied(x: Any) -> Any:
        calls.append(x)
        return f(x)

    exec(quiet.compiled(tests), {"f": spied, quiet.MISSED: lambda: missed.append(0)})
    return calls, len(missed)


def refuses(x: Any) -> Any:
    raise KeyError(x)


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(1) == 1\nassert f(2) == 2",
        "assert f(1) == 1 and f(2) == 2 and (f(3) == 3 and f(4) == 4), 'why'",
        "assert all(f(x) == x for x in range(5) if x != 3)",
        "assert not any(f(x) != x for x in range(5))",
        LOOP,
        CHECK,
        HELPER,
        METHOD,
    ],
)
def test_what_is_asked_does_not_depend_on_what_is_right(tests: str) -> None:
    calls, missed = asked(tests, lambda x: x)
    assert len(calls) > 1 and not missed
    for wrong in (lambda x: None, lambda x: 1, lambda x: x if x > 1 else []):
        again, missed = asked(tests, wrong)
        assert again == calls and missed


@pytest.mark.parametrize("tests", ["assert f(1) == 1\nassert f(2) == 2", LOOP, CHECK, HELPER])
def test_the_tests_go_on_after_an_error_too(tests: str) -> None:
    calls, missed = asked(tests, refuses)
    assert set(calls) == {*asked(tests, lambda x: x)[0]} and missed


def test_what_a_test_waits_for_reaches_it() -> None:
    def picky(x: int) -> int:
        if x < 0:
            raise ValueError
        return x

    assert asked(TRIED, picky) == ([-1, 2], 0)
    calls, missed = asked(TRIED, lambda x: x)
    assert calls == [-1, 2] and missed == 1


def test_evalpluss_rules_look_at_all_inputs() -> None:
    reference, inputs = "def f(x): return x", ([[1], [2]], [[3]])
    check = plus_rules.checker("f", reference, inputs, "mbpp", 0.0)
    for wrong in (lambda x: 0, refuses):
        calls = list[int]()

        def spied(x: int, wrong: Any = wrong, calls: list[int] = calls) -> Any:
            calls.append(x)
            return wrong(x)

        with pytest.raises((AssertionError, KeyError), match=r"f is wrong|1"):
            check(spied)
        assert calls == [1, 2, 3]


def test_the_reason_is_the_first_one() -> None:
    tests = "assert f(1) == 1\nassert f(2) == 2\nassert f(3)"
    assert judged(FunctionJob("def f(x): return 0", tests, ("f",))).reason == "assert f(1) == 1"
    own = judged(FunctionJob("def f(x): return 1 / (x - 1)", tests, ("f",)))
    assert own.reason.startswith("ZeroDivisionError") and own.reason.endswith("f(1) == 1")
    dies = "import os\ndef f(x): return 0 if x < 3 else os._exit(1)"
    assert judged(FunctionJob(dies, tests, ("f",))).reason == "assert f(1) == 1"


def ran(job: FunctionJob | ScriptJob, limits: Limits | None = None) -> str:
    """The verdict on a program that can write files, in a sandbox without walls around them."""
    need("limits")
    (result,) = run_all([job], 1, limits, allow_unsandboxed=True, walls="limits")
    return result.verdict


CALLED = """
def f(x):
    open(f'{folder}/{{x}}', 'w').close()
    return {answer}
"""


@pytest.mark.parametrize("other", ["object()", "type('Yes', (), {'__eq__': lambda *_: True})()"])
def test_an_object_that_is_looked_at_only_behind_a_right_guess_tells_nothing(
    other: str, tmp_path: Path
) -> None:
    """[5, object()] == [5, 6] comes to the object, [4, object()] == [5, 6] does not."""
    tests = "assert f(1) == [5, 6]\nassert f(2) == 1\nassert f(3) == 1"
    for guess in (5, 4):
        folder = tmp_path / f"{guess}"
        folder.mkdir()
        program = CALLED.format(folder=folder, answer=f"[{guess}, {other}]")
        assert ran(FunctionJob(program, tests, ("f",))) in ("failed", "tampered")
        assert len([*folder.iterdir()]) == 3


@pytest.mark.parametrize(
    ("answer", "cases", "runs", "verdict"),
    [
        ("print(i)", 4, 4, "passed"),
        ("print(7)", 4, 4, "failed"),
        ("print(7); raise SystemExit(1)", 4, 4, "failed"),
        ("print(i)", 12, 12, "passed"),
        ("print(7 if i == 1 else i)", 12, 12, "failed"),
        ("print(7)", 12, 1, "failed"),  # the first of many alone, whose answer is of no use
    ],
)
def test_a_script_gets_its_other_cases(
    answer: str, cases: int, runs: int, verdict: str, tmp_path: Path
) -> None:
    program = f"i = int(input())\nopen(f'{tmp_path}/{{i}}', 'w').close()\n{answer}"
    given = tuple((f"{i}\n", f"{i}") for i in range(cases))
    assert ran(ScriptJob(program, given, rule="apps")) == verdict
    assert len([*tmp_path.iterdir()]) == runs


def test_a_script_that_ends_on_its_own_ends() -> None:
    cases = (("1", "1"), ("2", "2"), ("3", "3"))
    result = judged(ScriptJob("print(0 if input() == '1' else exit(1))", cases))
    assert (result.verdict, result.reason.partition(":")[0]) == ("failed", "case 1")


SEES = """
import os, sys
frame = sys._getframe()
while 'receive' not in frame.f_globals: frame = frame.f_back
def left(code, kept=os._exit):
    open({path!r}, 'w').close()
    kept(code)
os._exit = left
f = lambda x: {answer}
"""


def test_no_program_sees_that_nothing_more_comes(tmp_path: Path) -> None:
    reference = "f = lambda x: x"
    path = str(tmp_path / "seen")
    for answer, verdict in (("x", "passed"), ("0", "failed")):
        program = SEES.format(path=path, answer=answer)
        job = FunctionJob(program, "assert f(1) == 1", ("f",), reference=reference)
        assert [ran(job) for _ in range(5)] == [verdict] * 5
        assert [*tmp_path.iterdir()] == []


SLOW = """
import time
open(f'{folder}/{{time.monotonic_ns()}}', 'w').close()
def f(x):
    while x and time.process_time() < 1.3: pass
    return {answer}
"""


@pytest.mark.parametrize(("answer", "verdict"), [("x", "passed"), ("x or 1", "failed")])
def test_more_time_is_given_whatever_it_has_answered(
    answer: str, verdict: str, tmp_path: Path
) -> None:
    """Else a program that runs out of time would be told that its answers before were right."""
    tests = "assert f(0) == 0\nassert f(1) == 1"
    reference = SLOW.format(folder="/nowhere", answer="x").replace("open", "str.format")
    reference = reference.replace(".close()", "")
    program = SLOW.format(folder=tmp_path, answer=answer)
    job = FunctionJob(program, tests, ("f",), reference=reference)
    assert ran(job, SHORT) == verdict
    assert len([*tmp_path.iterdir()]) == 2
