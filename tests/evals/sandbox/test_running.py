"""Many programs side by side: in order, and nothing stays of one, of a judge, or of a supervisor
that ends. What cannot be run is refused in one line."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from evals.sandbox import isolation, runner
from evals.sandbox.runner import FunctionJob, Job, Limits, run_all
from mtp.errors import BadInput
from tests.evals.sandbox.asked import RIGHT, WRONG
from tests.evals.sandbox.helpers import ROOT, SHORT, functions, need, scripts


def test_results_come_in_order_and_jobs_are_read_as_needed() -> None:
    need()
    read = 0

    def jobs() -> Iterator[Job]:
        nonlocal read
        for i in range(200):
            read += 1
            wait = "import time; time.sleep(0.3)" if i % 10 == 0 else ""
            yield FunctionJob(f"{wait}\nf = {i}", f"assert f % 3 == {i % 2}", ("f",))

    results = run_all(jobs(), 3)
    for i in range(60):
        assert next(results).passed == (i % 3 == i % 2)
    assert 60 <= read < 60 + 16 * 3 + 2
    results.close()  # type: ignore[attr-defined]


def test_no_jobs_no_results() -> None:
    need()
    assert list(run_all([])) == []


def parents() -> dict[int, int]:
    """Each running process's parent."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = file.read_text().rpartition(")")[2].split()
            if state != "Z":
                found[int(file.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> list[int]:
    found, above = [pid], parents()
    for one in found:
        found += [child for child, parent in above.items() if parent == one]
    return found[1:]


SUPERVISOR = """
from evals.sandbox.runner import *
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
job = FunctionJob("import os, time\\nfor _ in range(5): os.fork()\\ntime.sleep(60)", "", ())
jobs = iter([FunctionJob("", "", ()), job, job, job])
for result in run_all(jobs, 2, allow_unsandboxed=True, walls=sys.argv[1]):
    print(result.verdict, flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("walls", isolation.KINDS)
def test_a_supervisor_that_ends_leaves_no_processes(
    walls: str, end: signal.Signals, tmp_path: Path
) -> None:
    need(walls)
    command = [sys.executable, "-c", SUPERVISOR, walls]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout and process.stdout.readline() == "passed\n"
        deadline = time.monotonic() + 30
        while len(below := descendants(process.pid)) < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(below) >= 40
        process.send_signal(end)
        process.wait(20)
    deadline = time.monotonic() + 20
    while (left := set(below) & set(parents())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_is_killed_costs_one_program() -> None:
    need()
    results = run_all([functions(RIGHT)] * 3 + [scripts("input(")], 1)
    assert next(results).passed
    mine = [pid for pid, parent in parents().items() if parent == os.getpid()]
    (judge,) = [p for p in mine if b"sandbox.judge" in Path(f"/proc/{p}/cmdline").read_bytes()]
    os.kill(judge, signal.SIGKILL)
    assert [r.verdict for r in results] == ["tampered", "passed", "failed"]


def test_tests_that_its_answers_keep_busy_end() -> None:
    need()
    job = FunctionJob("f = 10 ** 4000", "while f: pass", ("f",))
    first, second = run_all([job, functions(RIGHT)], 1, SHORT)
    assert first.verdict == "timed out" and "tests" in first.reason
    assert second.passed


def test_a_keeper_that_is_killed_costs_one_program() -> None:
    """As only a program without bubblewrap can do."""
    need("limits")
    kills = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1)"
    jobs = [functions(kills), functions(RIGHT)] * 2
    results = run_all(jobs, 1, allow_unsandboxed=True, walls="limits")
    assert [result.passed for result in results] == [False, True] * 2


def test_a_program_that_kills_its_keeper_and_answers_costs_one_program() -> None:
    need("limits")
    kills = (
        "import os, signal, ctypes\nctypes.CDLL(None).prctl(1, 0)\n"
        "os.kill(os.getppid(), signal.SIGKILL)" + WRONG
    )
    jobs = [functions(kills), functions(RIGHT)] * 2
    results = run_all(jobs, 1, allow_unsandboxed=True, walls="limits")
    assert [result.passed for result in results] == [False, True] * 2


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_a_judge_that_ends_leaves_no_folder(
    walls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(walls)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    limits = Limits(cpu=1, wall=1.0)
    sleeps = "if f: __import__('time').sleep(60)"
    job = FunctionJob("open('left', 'w').write('x')\nf = 1", sleeps, ("f",))
    (result,) = run_all([job], 1, limits, allow_unsandboxed=True, walls=walls)
    assert result.verdict == "timed out"
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------
# bad input


def test_without_bubblewrap_it_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.shutil, "which", lambda _: None)
    with pytest.raises(BadInput, match=r"bwrap is not installed.*--allow-unsandboxed"):
        runner.check_available()
    with pytest.raises(BadInput, match="bwrap is not installed"):
        run_all([functions(RIGHT)])
    assert runner.check_available(allow_unsandboxed=True) in isolation.KINDS[1:]


def test_a_bwrap_that_does_not_work_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho No permissions for a namespace >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"No permissions for a namespace.*--allow-unsandboxed"):
        runner.check_available()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_all([], 0), "0 workers; there must be 1 or more"),
        (lambda: Limits(cpu=0), "limit cpu=0 must be above 0"),
        (lambda: run_all([], walls="chroot"), "unknown walls 'chroot'; choose one of: bubblewrap"),
    ],
)
def test_bad_input_is_reported(call: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        call()
