"""Easy functions: references pass, answers that do not look at the arguments do not."""

import ast
import re
from collections import Counter

import pytest

from evals.benchmarks import microcode
from evals.benchmarks.microcode import COMPLETE, NEWLINE, Family, job, problems
from evals.harness.problems import Problem
from evals.harness.protocol import cut
from evals.sandbox.runner import run_all
from tests.evals.sandbox.helpers import need

LINES = {"level 1", "level 2"}  # where the prompt ends within a line


@pytest.fixture(scope="module")
def made() -> list[Problem]:
    return list(problems())


def passed(made: list[Problem], answer: str | None) -> list[Problem]:
    need()
    reported = run_all([job(p, answer or p.about["solution"], COMPLETE) for p in made])
    return [p for p, result in zip(made, reported, strict=True) if result.passed]


def test_every_reference_passes(made: list[Problem]) -> None:
    assert passed(made, None) == made


@pytest.mark.parametrize("value", ["None", "True", "1", "''", "[]"])
def test_a_constant_passes_only_where_it_is_asked_for(made: list[Problem], value: str) -> None:
    asked = {p.id for p in made if p.fields["prompt"].endswith(f'"""Return {value}."""\n')}
    assert {p.id for p in passed(made, f"\n    return {value}\n")} == asked


def test_saying_nothing_passes_nowhere(made: list[Problem]) -> None:
    assert passed(made, "\n") == []


def test_one_constant_completes_at_most_8_lines_of_the_first_level(made: list[Problem]) -> None:
    """With whatever closes the line."""
    need()
    asked = [p for p in made if p.group == "level 1"]
    parts = [re.fullmatch(r"( ?)(\w+|\[\])(:?\]?)", p.about["solution"]) for p in asked]
    constants = Counter(part[2] for part in parts if part)
    assert constants.total() == 20 and constants.most_common(2) == [("1", 8), ("0", 7)]
    for constant, count in constants.items():
        answers = [part[1] + constant + part[3] for part in parts if part]
        reported = run_all(job(p, a, COMPLETE) for p, a in zip(asked, answers, strict=True))
        assert sum(result.passed for result in reported) == count, constant


def test_an_argument_completes_only_lines_that_ask_for_it(made: list[Problem]) -> None:
    need()
    asked = []
    for p in made:
        if p.group in LINES:
            whole = ast.parse(job(p, p.about["solution"], COMPLETE).program)
            names = {n.arg for n in ast.walk(whole) if isinstance(n, ast.arg)}
            asked += [
                (p, before + name + after)
                for name in names
                for before in ("", " ")
                for after in ("", ":", ")", "))", "]")
            ]
    reported = run_all(job(p, answer, COMPLETE) for p, answer in asked)
    right = [pair for pair, result in zip(asked, reported, strict=True) if result.passed]
    assert len(right) >= 8
    for p, answer in right:
        assert p.about["solution"].strip(" )") == answer.strip(" )"), p.fields["prompt"] + answer


def test_only_the_rest_of_a_begun_line_is_taken(made: list[Problem]) -> None:
    need()
    begun = [p for p in made if p.group in LINES]
    more = [job(p, p.about["solution"] + "\n  no Python (", COMPLETE) for p in begun]
    assert all(result.passed for result in run_all(more))
    none = [job(p, "\n" + p.about["solution"], COMPLETE) for p in begun]
    assert not any(result.passed for result in run_all(none))


def test_returning_an_argument_is_enough_on_one_level_alone(made: list[Problem]) -> None:
    for index in (0, 1):
        asked, jobs = [], []
        for p in made:
            whole = job(p, p.about["solution"], COMPLETE).program
            (function,) = (n for n in ast.parse(whole).body if isinstance(n, ast.FunctionDef))
            names = [a.arg for a in function.args.args]
            if index < len(names) and p.group not in LINES | {"level 3"}:
                asked.append(p.id)
                jobs.append(job(p, f"\n    return {names[index]}\n", COMPLETE))
        need()
        reported = zip(asked, run_all(jobs), strict=True)
        assert len(asked) > 10 and [name for name, result in reported if result.passed] == []


def test_levels_are_full_different_and_the_same_each_time(made: list[Problem]) -> None:
    assert Counter(p.group for p in made) == {f"level {i}": microcode.EACH for i in range(1, 8)}
    assert len({p.fields["prompt"] for p in made}) == len({p.id for p in made}) == len(made)
    assert list(problems()) == made
    assert [p.fields for p in problems(seed=1)] != [p.fields for p in made]


def test_prompts_are_python_up_to_their_docstring(made: list[Problem]) -> None:
    for p in made:
        end = "" if p.group in LINES else "\n"
        assert p.fields["prompt"] == p.fields["open"] + end
        if end:
            ast.parse(p.fields["prompt"])
        assert cut(p.about["solution"], COMPLETE.stops) == p.about["solution"]
        for protocol in (COMPLETE, NEWLINE):
            ast.parse(job(p, p.about["solution"], protocol).program)


def test_more_problems_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    only = Family(1, "zero", "", "Return 0.", "return 0", ("()",))
    monkeypatch.setattr(microcode, "FAMILIES", [only])
    monkeypatch.setattr(microcode, "LEVELS", [1])
    with pytest.raises(ValueError, match="only 1 different"):
        list(problems(each=2))
