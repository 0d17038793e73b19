"""The wall clock of programs: when it runs, when it stands still, and for how long at most. Most of
it is tried on a machine that these tests make up."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from evals.sandbox import clock, judge
from evals.sandbox.clock import PATIENCE, TICKS, Clock, Key, Scene, Used
from evals.sandbox.program import Broken, Slow
from evals.sandbox.runner import FunctionJob, Limits, run_all
from evals.sandbox.values import Verdict
from evals.sandbox.watch import Watch
from tests.evals.sandbox.helpers import judged, need

CORES = 2
PROGRAM, OTHER = (1000, 10 * TICKS), (7, 1)
STEP = 0.05  # seconds; exact in ticks


class Fake:
    """A machine ten seconds after its start, when a program begins. `step` lets time pass."""

    def __init__(self) -> None:
        self.at, self.judge = 10.0, 0.0
        self.inside = {PROGRAM: Used(0, 0)}
        self.outside = {OTHER: Used(5000, 700)}
        self.waits: dict[Key, float] = {PROGRAM: 0.0}

    def now(self) -> float:
        return self.at

    def waited(self) -> float:
        return self.judge

    def look(self) -> Scene:
        return Scene(self.at, dict(self.inside), dict(self.outside), dict(self.waits))

    def run(self, key: Key, seconds: float) -> None:
        where = self.outside if key == OTHER else self.inside
        where[key] = Used(where[key].own + round(seconds * TICKS), where[key].ended)

    def wait(self, key: Key, seconds: float) -> None:
        self.waits[key] += seconds

    def fork(self, number: int) -> Key:
        key = (number, int(self.at * TICKS))
        self.inside[key], self.waits[key] = Used(0, 0), 0.0
        return key

    def end(self, key: Key, parent: Key | None) -> None:
        """`parent`: that waits for it; none may."""
        used = sum(self.inside.pop(key))
        del self.waits[key]
        if parent:
            old = self.inside[parent]
            self.inside[parent] = Used(old.own, old.ended + used)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "CORES", CORES)


def lasts(fake: Fake, limit: float, step: Callable[[int], None]) -> float:
    """Seconds until a program's time is over, of which `step` makes STEP pass each time; at most
    1000."""
    found = Clock(limit, machine=fake)
    with found:
        for number in range(int(1000 / STEP)):
            if found.over():
                break
            step(number)
            fake.at += STEP
    return fake.at - 10


def test_it_runs_while_a_program_sleeps() -> None:
    fake = Fake()
    assert lasts(fake, 3.0, lambda _: fake.run(OTHER, 2 * STEP)) == pytest.approx(3, abs=0.2)


def test_it_runs_while_a_program_has_a_core() -> None:
    fake = Fake()
    assert lasts(fake, 3.0, lambda _: fake.run(PROGRAM, STEP)) == pytest.approx(3, abs=0.2)


def test_it_stands_still_while_a_program_waits_for_a_core() -> None:
    """It has a core for two steps of five."""
    fake = Fake()

    def step(number: int) -> None:
        if number % 5 < 2:
            fake.run(PROGRAM, STEP)
            fake.run(OTHER, STEP)
        else:
            fake.wait(PROGRAM, STEP)
            fake.run(OTHER, 2 * STEP)

    assert lasts(fake, 4.0, step) == pytest.approx(10, abs=0.4)


def test_waits_of_children_that_have_ended_add_up() -> None:
    """Each lives for half a second and has a core for a fifth of it."""
    fake, child = Fake(), [PROGRAM]

    def step(number: int) -> None:
        if number % 10 == 0:
            if number:
                fake.end(child[0], PROGRAM)
            child[0] = fake.fork(2000 + number)
        if number % 5:
            fake.wait(child[0], STEP)
            fake.run(OTHER, 2 * STEP)
        else:
            fake.run(child[0], STEP)
            fake.run(OTHER, STEP)

    assert lasts(fake, 2.5, step) > 6


def test_waits_of_threads_that_have_ended_add_up() -> None:
    fake, thread = Fake(), [(2000, PROGRAM[1])]
    fake.waits[thread[0]] = 0.0

    def step(number: int) -> None:
        if number % 10 == 9:
            del fake.waits[thread[0]]
            thread[0] = (2000 + number, PROGRAM[1])
            fake.waits[thread[0]] = 0.0
        fake.run(OTHER, 2 * STEP if number % 4 else STEP)
        if number % 4:
            fake.wait(thread[0], STEP)
        else:
            fake.run(PROGRAM, STEP)

    assert lasts(fake, 2.5, step) > 5


def test_waits_of_the_judge_count_while_the_clock_runs() -> None:
    fake = Fake()

    def step(_: int) -> None:
        fake.judge += 0.6 * STEP
        fake.run(OTHER, 2 * STEP)

    assert lasts(fake, 2.0, step) == pytest.approx(5, abs=0.3)


def test_it_does_not_run_while_tests_do() -> None:
    fake = Fake()
    found = Clock(1.0, machine=fake)
    for _ in range(100):
        with found:
            fake.at += 0.005
        fake.at += 1.0  # the judge's
        fake.judge += 0.5
    with found:
        found.look()
        assert found.left == pytest.approx(0.5)
    assert found.time == pytest.approx(0.5)


def test_it_ends_though_there_is_always_something_to_read() -> None:
    fake = Fake()
    found = Clock(1.0, machine=fake)
    for _ in range(1000):
        with found:
            if found.over():
                break
            fake.at += 0.01
    assert fake.at - 10 == pytest.approx(1, abs=0.1)


def test_a_program_that_only_waits_ends() -> None:
    fake = Fake()

    def step(_: int) -> None:
        fake.wait(PROGRAM, STEP)
        fake.run(OTHER, 2 * STEP)

    assert lasts(fake, 2.0, step) == pytest.approx(PATIENCE * 2, abs=0.2)


@pytest.mark.parametrize("parent", [PROGRAM, None])
@pytest.mark.parametrize("life", [1, 3, 10**6])
def test_its_own_processes_do_not_make_it_stand_still(life: int, parent: Key | None) -> None:
    """They have both cores, whether their parent waits for them, ignores that they end, or they
    never end."""
    fake, children = Fake(), list[Key]()

    def step(number: int) -> None:
        if number % life == 0:
            while children:
                fake.end(children.pop(), parent)
            children.extend(fake.fork(2000 + 10 * number + i) for i in range(4))
        for child in children:
            fake.run(child, STEP / 2)
        fake.wait(PROGRAM, STEP)

    assert lasts(fake, 2.0, step) < 3


def test_short_processes_of_others_are_no_processes_of_its_own() -> None:
    """As those of a program beside it that burns time which nobody counts."""
    fake = Fake()

    def step(number: int) -> None:
        fake.outside = {OTHER: Used(5000, 700)}
        for i in range(20):
            fake.outside[5000 + 100 * number + i, int(fake.at * TICKS)] = Used(0, 0)
        fake.wait(PROGRAM, STEP * 0.75)
        fake.run(PROGRAM, STEP / 4 if number % 4 == 0 else 0)

    assert lasts(fake, 2.0, step) > 6


# --------------------------------------------------------------------------------------------------
# slow starts, late looks

TRIAL, JOB = {"program": "trial"}, {"program": "job"}


class Walls:
    """A sandbox for which programs start as `starts` says, from the last to the first."""

    def __init__(self, *starts: type[Broken] | None) -> None:
        self.starts = [*starts]

    def again(self) -> "Walls":
        return self


@pytest.mark.parametrize(
    ("starts", "job", "verdict"),
    [
        ((None,), JOB, "passed"),
        ((None, None, Slow), JOB, "passed"),
        ((None, Slow, None, Slow), JOB, "tampered"),
        ((None, Broken), JOB, "tampered"),
        ((None, Slow), TRIAL, "passed"),
        ((Slow, Slow), JOB, Slow),
        ((Slow, Slow), TRIAL, Slow),
        ((Broken, Broken), JOB, Broken),
    ],
)
def test_slow_starts_are_tried_again(
    starts: Any, job: dict, verdict: str | type[Broken], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(walls: Walls, *_: object) -> Verdict:
        if error := walls.starts.pop():
            raise error("no program starts")
        return Verdict("passed", "")

    monkeypatch.setattr(judge, "judge", start)
    walls: Any = Walls(*starts)
    if isinstance(verdict, str):
        found, _ = judge.second_try(walls, job, TRIAL, {})
        assert found.verdict == verdict
    else:
        with pytest.raises(verdict):
            judge.second_try(walls, job, TRIAL, {})


def test_a_late_look_at_memory_marks_no_other_job() -> None:
    """The judge has gone on to its next job by the time that the look is through."""
    nobody = 1 << 30
    jobs = [{nobody: 4}, {nobody: 5}, {}, {nobody: 5}]
    watch = Watch(-(1 << 30), "limits", lambda: jobs.pop(0))
    watch.look()
    assert not watch.exceeded and len(jobs) == 2
    jobs = [{nobody: 5}] * 4
    watch.look()
    assert [*watch.exceeded] == [5]


# --------------------------------------------------------------------------------------------------
# real programs


def test_tests_may_take_longer_than_a_program() -> None:
    need()
    sleeps = "import time\nassert f(1) == 2\ntime.sleep(1.2)\nassert f(2) == 3\ntime.sleep(0.1)"
    result = judged(
        FunctionJob("def f(x): return x + 1", sleeps + "\nassert f(3) == 4", ("f",)),
        Limits(cpu=1, wall=0.5),
    )
    assert result.passed, result


BURNS = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range({cores}):
    if not os.fork():
        while True: pass
while True:
    try:
        if not os.fork():
            end = time.process_time() + 0.05
            while time.process_time() < end: pass
            os._exit(0)
    except OSError: time.sleep(0.002)
"""


def test_a_program_of_short_processes_ends() -> None:
    need()
    job = FunctionJob(BURNS.format(cores=os.cpu_count()), "", ())
    result = judged(job, Limits(cpu=2, wall=1.0, processes=30))
    assert result.verdict == "timed out", result


def test_a_reference_that_sleeps_gets_the_program_its_time() -> None:
    need()
    sleeps = "import time\ntime.sleep(1)\nf = 1"
    job = FunctionJob(sleeps, "assert f == 1", ("f",), reference=sleeps)
    limits = Limits(cpu=1, wall=0.5)
    assert judged(job, limits).passed
    (result,) = run_all([FunctionJob(sleeps, "assert f == 1", ("f",))], 1, limits)
    assert result.verdict == "timed out"


def test_the_machine_tells_of_processes_and_threads() -> None:
    """Of this process and its child, which is below it."""
    machine = clock.Linux()
    before = machine.now()
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as child:
        scene = machine.look()
        inside, outside = ({pid for pid, _ in each} for each in (scene.inside, scene.outside))
        child.communicate(b"\n")
    assert child.pid in inside and child.pid not in outside
    assert os.getpid() in outside
    assert (child.pid in {thread for thread, _ in scene.waits}) and machine.waited() >= 0
    assert before <= scene.at <= machine.now()
    started = next(tick for pid, tick in scene.inside if pid == child.pid)
    assert before - 0.1 < started / TICKS < scene.at + 0.1
