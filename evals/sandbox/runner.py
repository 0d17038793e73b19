"""Programs written by a model: run them where they can do no harm, and say how they did.

    for result in run_all(jobs, allow_unsandboxed=False):   # in the order of the jobs
        result.verdict, result.reason, result.seconds

Two kinds of jobs: functions that tests call (HumanEval, MBPP; evals/benchmarks/programs.py makes
them), and scripts that read stdin and write to stdout (CodeContests, APPS). Verdicts: passed,
failed, timed out, out of memory, crashed, tampered.

WHAT KEEPS A PROGRAM FROM CLAIMING SUCCESS. Tests, expected results and comparisons are never in its
process. It runs behind walls and is asked, one call at a time, what a function returns; the judge,
a process outside, gets plain data of exact built-in types and compares it there with Python's own
operators. So nothing it patches, prints, inspects or raises reaches a comparison, and there is no
secret to find. It passes if its answers are right, and no other way (but for what a test of a class
asks an object of that class, see below). It is not told which are:
tests go on after a wrong answer (evals/sandbox/quiet.py), and all programs are killed at the end,
so that many together cannot find out answers by trying and passing notes. Arguments are handed by
value and the changes a call makes to them are carried back, so tests that look at a list afterwards
see what they would have seen.

The walls are bubblewrap's (evals/sandbox/isolation.py): no network, no files but read-only
libraries and empty folders in memory, no sight of other processes, a filter of system calls
(evals/sandbox/syscalls.py), limits on CPU and wall-clock time, memory, processes, files and output,
and an end of the whole tree with the job, the judge or the supervisor. Each job, and each case of a
script, has a fresh process, a user and namespaces of its own, forked from an interpreter that has
run no program.

WHAT IS GUARANTEED, with bubblewrap: a program that passes has given right answers, has changed
nothing outside, and has left no file, key, process or socket for the next. Not guaranteed:
  - which of the other verdicts a hostile program gets: it may crash on purpose.
  - that an answer was computed: a program may know it by heart.
  - that the machine's memory is enough for several programs at once: each is held to its limit,
    which is checked four times a second (evals/sandbox/watch.py). A control group around the
    evaluation bounds the sum, as `systemd-run --scope -p MemoryMax=8G` makes it.
  - anything against a hole in the kernel that the calls of the filter reach.
  - that a program does not notice how busy the machine is and, from what the kernel shares, what
    others do or did: pages of libraries that are in memory, numbers of pipes and sessions, locks.
  - the kernel's own buffers, which no limit counts.
  - anything against the tests, which are the benchmark's and trusted.
  - without bubblewrap (`allow_unsandboxed`): it may read and write the user's files, and so find
    the judge's process and its memory. Limits still hold, except that of processes for root.

Of an object of no built-in type a test can take the length and the items, iterate over it, look for
something among its items, print it, call it, ask for its truth, or hand it back; comparing one
fails, but with None and itself. Where a job allows `objects`, as for tests of a class, a test can
also read and set attributes and call methods, and what is based on a list, dict or set compares as
that. What a method returns is compared as any answer. But it is the program that answers, and it
knows what it is asked: `assert f(1).same(2)`, where f is expected to give a plain value with such a
method, would pass with any object that says yes. So jobs whose reference defines functions alone do
not allow it, and what others test by asking an object is as sure as with tests `inside`.

No function can be passed in but built-in types. A defaultdict of anything but a built-in type
arrives as a dict. An object that two arguments share arrives as two. A job may ask for its tests to
run `inside` instead, in the program's process: then they can do anything, and so can it.
"""

import dataclasses
import json
import operator
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import NamedTuple

from evals.sandbox import isolation
from evals.sandbox.watch import Watch
from mtp.errors import BadInput, choose

_START = "import sys; sys.path.insert(0, sys.argv[1]); from evals.sandbox.judge import main; main()"


@dataclass(frozen=True)
class Limits:
    """Of one program; of a script, in each case.

    cpu        seconds of CPU time of each of its processes
    wall       seconds for which it is waited for, without those for which it waits for cores that
               others use (evals/sandbox/clock.py)
    memory     bytes that all its processes hold together; each may map twice as many
    processes  of them, and threads, at once: a ThreadPoolExecutor makes up to 32
    file       bytes of each file, and of all in each of its folders, /tmp and /dev/shm
    output     bytes a script prints, or a function returns (as JSON); of a script also twice as
               many as it should print
    """

    cpu: int = 5
    wall: float = 10.0
    memory: int = 1 << 30
    processes: int = 72
    file: int = 16 << 20
    output: int = 32 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise BadInput(f"limit {name}={value} must be above 0")


@dataclass(frozen=True)
class FunctionJob:
    """program: defines `names`, all that the tests take from it, be they also built-in. setup:
    trusted code for the tests, run before them. tests: fail by raising anything. reference: a
    program that passes; one that times out gets another try with three times its time, of CPU or of
    the wall clock. inside: run the tests in the program's process, as other harnesses do. Then the
    program can forge a pass. objects: tests may read attributes of the program's objects and call
    their methods. False: a test that does fails. It is for functions that return plain data."""

    program: str
    tests: str
    names: tuple[str, ...]
    setup: str = ""
    reference: str = ""
    inside: bool = False
    objects: bool = True


@dataclass(frozen=True)
class ScriptJob:
    """cases: what the program reads, and what it must print. After a wrong output the others are
    run all the same, unless it is the first of more than ten; a case that ends otherwise is the
    last.
    rule: how output is compared, one of evals.sandbox.compare.RULES. cpu: seconds of CPU time of
    each case, and twice as much wall clock; None: as in the limits. reference: as of
    FunctionJob."""

    program: str
    cases: tuple[tuple[str, str], ...]
    cpu: int | None = None
    rule: str = "codecontests"
    reference: str = ""


Job = FunctionJob | ScriptJob


class Result(NamedTuple):
    """verdict: one of those above; reason: a line, empty if passed; seconds: of wall clock."""

    verdict: str
    reason: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.verdict == "passed"


def check_available(allow_unsandboxed: bool = False) -> str:
    """What will keep programs in: "bubblewrap"; else, if allowed, "namespaces" or "limits". Raises
    BadInput that names what is missing."""
    (judge,) = _start(1, Limits(), allow_unsandboxed, None)
    with closing(judge):
        return judge.walls.kind


def run_all(
    jobs: Iterable[Job],
    workers: int | None = None,
    limits: Limits | None = None,
    *,
    allow_unsandboxed: bool = False,
    walls: str | None = None,
    packages: tuple[str, ...] = (),
) -> Iterator[Result]:
    """The results of jobs, in their order, `workers` at a time (all cores unless told).

    `jobs` is read as workers become free, a few dozen results ahead at most. `walls` chooses among
    evals.sandbox.isolation.KINDS instead of taking the best. `packages` names what programs and
    tests may import beside the standard library, numpy say. Leaving the iterator, by Ctrl-C too,
    ends all processes. Raises BadInput as check_available does, and RuntimeError where walls do not
    start.
    """
    if workers is not None and workers < 1:
        raise BadInput(f"{workers} workers; there must be 1 or more")
    if walls is not None:
        choose("walls", walls, isolation.KINDS)
    workers = workers or len(os.sched_getaffinity(0))
    count = min(workers, max(1, operator.length_hint(jobs, 1)))
    judges = _start(count, limits or Limits(), allow_unsandboxed, walls, packages)
    return _run(iter(jobs), workers, judges)


def _start(
    count: int,
    limits: Limits,
    allow_unsandboxed: bool,
    kind: str | None,
    packages: tuple[str, ...] = (),
) -> list["_Judge"]:
    """Judges behind the best walls that work here, or behind walls of a kind, the first of which
    has tried them; the others start meanwhile. Raises BadInput if these are not bubblewrap's and no
    others are allowed."""
    why = "bwrap is not installed (Debian: apt-get install bubblewrap)"
    for walls in isolation.candidates(packages):
        if kind not in (None, walls.kind):
            continue
        if walls.kind != "bubblewrap" and not allow_unsandboxed:
            raise BadInput(
                f"programs written by a model need a sandbox: {why}; "
                "--allow-unsandboxed runs them with limits only, free to read your files"
            )
        judges = [_Judge(limits, walls) for _ in range(count)]
        try:
            judges[0].start()
            return judges
        except RuntimeError as error:
            for judge in judges:
                judge.close()
            why = str(error)
    raise BadInput(f"cannot keep programs in: {why}")


def _run(jobs: Iterator[Job], workers: int, judges: list["_Judge"]) -> Iterator[Result]:
    limits, walls = judges[0].limits, judges[0].walls
    done: dict[int, Result] = {}
    taken = given = 0
    waiting: Job | None = None

    def at_work() -> dict[int, int]:
        now = [(judge.process.pid, judge.busy) for judge in list(judges)]
        return {judge: job for judge, job in now if job is not None}

    watch = Watch(limits.memory, walls.kind, at_work)
    try:
        with watch, selectors.DefaultSelector() as selector:
            for judge in judges:
                selector.register(judge.out, selectors.EVENT_READ, judge)
            while True:
                while taken - given < 16 * workers:
                    if (waiting := waiting or next(jobs, None)) is None:
                        break
                    if free := next((judge for judge in judges if judge.busy is None), None):
                        free.give(taken, waiting)
                        taken, waiting = taken + 1, None
                        continue
                    if len(judges) < workers:
                        judges.append(judge := _Judge(limits, walls))
                        selector.register(judge.out, selectors.EVENT_READ, judge)
                    break
                if given == taken and waiting is None:
                    return
                for key, _ in selector.select():
                    if watch.broken:
                        raise RuntimeError(f"memory is not watched: {watch.broken}")
                    judge = key.data
                    if result := judge.take():
                        why = watch.exceeded.get(judge.last)
                        if why and not result.passed:
                            result = Result("out of memory", why, result.seconds)
                        done[judge.last] = result
                    if judge.gone:
                        selector.unregister(judge.out)
                        judges.remove(judge)
                        judge.close()
                while given in done:
                    yield done.pop(given)
                    given += 1
    finally:
        for judge in judges:
            judge.close()


class _Judge:
    """A process of evals/sandbox/judge.py; `busy` is the number of the job it works on."""

    def __init__(self, limits: Limits, walls: isolation.Walls) -> None:
        self.limits, self.walls = limits, walls
        root = Path(__file__).parents[2]
        bare = walls.kind != "bubblewrap"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        environment |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}  # as the programs have it
        self.scratch = tempfile.mkdtemp(prefix="programs-") if bare else None
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-S", "-P", "-c", _START, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the supervisor alone
        )
        assert self.process.stdin and self.process.stdout
        self.into, self.out = self.process.stdin, self.process.stdout.fileno()
        self.busy: int | None = -1  # the trial that it begins with
        self.last, self.rest, self.gone = -1, b"", False
        config = {"walls": walls._asdict(), "limits": dataclasses.asdict(limits)}
        path = isolation.path_of(walls.packages)
        self.send(config | {"scratch": self.scratch, "path": path})

    def start(self) -> None:
        """Wait until the walls have been seen to work. Raises RuntimeError if they do not."""
        while self.busy == -1:
            self.take()

    def send(self, message: object) -> None:
        with suppress(BrokenPipeError):  # `take` will see that it is gone
            self.into.write(json.dumps(message).encode() + b"\n")
            self.into.flush()

    def give(self, number: int, job: Job) -> None:
        self.busy = self.last = number
        self.send(dataclasses.asdict(job))

    def take(self) -> Result | None:
        """The result, once it has arrived completely."""
        new = os.read(self.out, 1 << 16)
        self.rest += new
        if not new:
            self.gone = True
            if self.busy is None:
                return None
            if self.busy == -1:
                raise RuntimeError("a judge ended before its first program")
            self.busy = None
            if self.process.wait() in (-signal.SIGPROF, -signal.SIGALRM):
                return Result("timed out", "the tests did not come to an end on its answers", nan)
            return Result("tampered", "the judge was killed", nan)
        if not self.rest.endswith(b"\n"):
            return None
        message, self.rest = json.loads(self.rest), b""
        trial, self.busy = self.busy == -1, None
        if "broken" in message:
            raise RuntimeError(message["broken"])
        if trial:
            if message["verdict"] != "passed":
                raise RuntimeError(f"{self.walls.kind} does not work here: {message['reason']}")
            return None
        return Result(message["verdict"], message["reason"], message["seconds"])

    def close(self) -> None:
        """End it and all below it: it kills those when its stdin closes. Then remove what they
        have left, which takes a while where it was killed and they are yet to follow."""
        with suppress(BrokenPipeError):
            self.into.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()
        for _ in range(50):
            if self.scratch is None or not os.path.exists(self.scratch):
                return
            shutil.rmtree(self.scratch, ignore_errors=True)
            time.sleep(0.1)
