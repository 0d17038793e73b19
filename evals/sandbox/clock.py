"""The wall clock of a program.

It runs while the judge waits for the program, so not while tests run. It stands still while the
program is ready to run and others have the cores, so that a verdict does not depend on what else
the machine does. Several times a second the clock looks at what the threads below the judge have
waited for a core, and adds that up, also of threads and children that have ended since. To this
comes what the judge itself, with an answer there, has waited for a core.

A program could make itself wait, with processes of its own. So the clock stands still for no larger
share of the time than others may have had of the cores, and a program takes at most PATIENCE times
its limit. Nobody can see what processes have used that came and went between two looks, their
parent not waiting for them. This is held against those that have many new processes at each look.

Standard library only, as evals/sandbox/judge.py is.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import NamedTuple, Protocol

CORES = len(os.sched_getaffinity(0))
TICKS = os.sysconf("SC_CLK_TCK")  # a second, of CPU time and of when a process has started
PATIENCE = 4  # how many times its limit a program may take, waiting for cores included
LOOK = 0.1  # seconds between two looks, which take milliseconds each; more where they take longer
PART = 20  # a look takes one of so many seconds at most

Key = tuple[int, int]  # a process's number, and the tick at which it has started


class Used(NamedTuple):
    """Ticks of CPU time: of a process, and of its children that have ended and were waited for."""

    own: int
    ended: int


class Scene(NamedTuple):
    """The machine at a time, in seconds since it has started. inside: the processes below the
    judge; outside: all others; waits: seconds that each thread inside has waited for a core since
    it began, by its number and the tick at which its process has started."""

    at: float
    inside: Mapping[Key, Used]
    outside: Mapping[Key, Used]
    waits: Mapping[Key, float]


class Machine(Protocol):
    def now(self) -> float:
        """Seconds since it has started."""
        ...

    def waited(self) -> float:
        """Seconds that this thread has waited for a core."""
        ...

    def look(self) -> Scene: ...


class Clock:
    """The time of one program, in a `with` whenever the judge waits for it. limit: seconds that it
    has. begin: when it was forked, in seconds since the machine has started; now, unless told."""

    def __init__(self, limit: float, begin: float | None = None, machine: Machine | None = None):
        self.limit = limit
        self.machine = machine or Linux()
        self.begin = self.machine.now() if begin is None else begin
        self.last = Scene(self.begin, {}, {}, {})
        self.pause = LOOK
        self.ran = 0.0  # seconds, as clocks on the wall have it
        self.waits = 0.0  # of these, seconds of waiting for cores, also for the program's own
        self.used = 0.0  # seconds of CPU time that the program's processes have had, or may have
        self.recent = 0.0  # seconds that it has run since the last look
        self.judges = 0.0  # of these, seconds that the judge has waited for a core
        self.since = self.before = 0.0  # when it began to run, and what the judge had waited then

    def __enter__(self) -> "Clock":
        self.since, self.before = self.machine.now(), self.machine.waited()
        return self

    def __exit__(self, *_: object) -> None:
        self._settle()
        self._settle_judge()

    @property
    def time(self) -> float:
        """Seconds that count, up to when it stopped or `over` was last asked."""
        return self.ran - self._stood()

    @property
    def left(self) -> float:
        """Seconds that the program still has, as `time` has it."""
        return self.limit - self.time

    def over(self) -> bool:
        """Whether its time is over. Looks if the last look was long ago."""
        self._settle()
        pause = self.pause if self.left > 0 else self.pause / 2
        if self.since - self.last.at < pause:
            return False
        self.look()
        return self.left <= 0

    def patience(self) -> float:
        """How many seconds to wait before `over` is to be asked again, once it has been asked."""
        return min(max(self.left, self.pause / 2), self.pause)

    def look(self) -> None:
        begin = time.thread_time()
        last, now = self.last, self.machine.look()
        self._settle()
        self._settle_judge()
        first = int(self.begin * TICKS)
        waited = self.judges + _longest(last.waits, now.waits, first)
        self.waits += min(waited, self.recent)
        self.used += _used(last, now, first) / TICKS
        self.last, self.recent, self.judges = now, 0.0, 0.0
        self.pause = max(LOOK, PART * (time.thread_time() - begin))

    def _settle(self) -> None:
        """Add the time since it began to run, or since the last call."""
        now = self.machine.now()
        self.ran += now - self.since
        self.recent += now - self.since
        self.since = now

    def _settle_judge(self) -> None:
        """Add what the judge has waited since. Costs more than the time, and counts at a look."""
        waited = self.machine.waited()
        self.judges += waited - self.before
        self.before = waited

    def _stood(self) -> float:
        others = self.last.at - self.begin - self.used / CORES
        return max(0.0, min(self.waits, others, (PATIENCE - 1) * self.limit))


def _longest(before: Mapping[Key, float], now: Mapping[Key, float], first: int) -> float:
    """The longest that a thread has waited since the last look; of one that was not there, since it
    began, if its process is the program's, begun at the tick `first` or later."""
    found = 0.0
    for key, seconds in now.items():
        if key in before or key[1] >= first:
            found = max(found, seconds - before.get(key, 0.0))
    return found


def _used(last: Scene, now: Scene, first: int) -> float:
    """Ticks that the processes inside have used since the last look, or may have: of what nobody is
    seen to have used, their share by the number of new processes, except for one."""
    inside = _seen(last.inside, now.inside, first)
    outside = _seen(last.outside, now.outside, first)
    unseen = max(0.0, CORES * TICKS * (now.at - last.at) - inside - outside)
    begun = int(last.at * TICKS)
    mine = sum(key[1] >= begun for key in now.inside) - 1
    theirs = sum(key[1] >= begun for key in now.outside)
    return inside + (unseen * mine / (mine + theirs) if mine > 0 else 0.0)


def _seen(before: Mapping[Key, Used], now: Mapping[Key, Used], first: int) -> int:
    """Ticks that processes have used since. What one has used that has ended is in its parent's
    sum, unless that did not wait for it; it was counted when it was seen."""
    own = ended = 0
    for key, used in now.items():
        old = before.get(key, Used(0, 0) if key[1] >= first else used)
        own, ended = own + used.own - old.own, ended + used.ended - old.ended
    counted = sum(sum(used) for key, used in before.items() if key not in now)
    return own + max(0, ended - counted)


class Linux:
    """The machine as /proc tells of it. Where the kernel does not count how long threads wait for
    cores, none waits."""

    def now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def waited(self) -> float:
        fd = _own_counts()
        return int(os.pread(fd, 100, 0).split()[1]) / 1e9 if fd is not None else 0.0

    def look(self) -> Scene:
        at = self.now()
        found, children = dict[int, tuple[Key, Used]](), dict[int, list[int]]()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with suppress(OSError, IndexError):
                with open(f"/proc/{pid}/stat", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()  # after a name of its choice
                user, system, ended_user, ended_system = map(int, fields[11:15])
                used = Used(user + system, ended_user + ended_system)
                found[pid] = (pid, int(fields[19])), used
                children.setdefault(int(fields[1]), []).append(pid)
        inside, below = dict[Key, Used](), [os.getpid()]
        for parent in below:
            for pid in children.get(parent, ()):
                if pid in found:  # a number that went to another process may be there twice
                    key, used = found.pop(pid)
                    inside[key] = used
                    below.append(pid)
        return Scene(at, inside, dict(found.values()), _waits(inside))


def _waits(processes: Iterable[Key]) -> dict[Key, float]:
    """Seconds that each of their threads has waited for a core."""
    found = dict[Key, float]()
    for pid, started in processes:
        with suppress(OSError, IndexError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    found[int(thread), started] = int(file.read().split()[1]) / 1e9
    return found


@cache
def _own_counts() -> int | None:
    """A file that says how long this process's first thread has waited for a core, if there is
    one."""
    with suppress(OSError):
        return os.open("/proc/self/schedstat", os.O_RDONLY)
    return None
