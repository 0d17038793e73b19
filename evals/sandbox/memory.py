"""How many bytes the processes of a program hold together, as /proc of the machine says.

Pages of their own count, and all of the memory that they share, also what none of them maps just
now. Files in memory and the kernel's buffers are not seen. Standard library only, as
evals/sandbox/judge.py is.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache

from evals.sandbox.processes import SHARED, read, status

MAPPINGS = 40_000  # of a program's processes together: reading more would take the watch seconds
ENDLESS = 1 << 62  # bytes, of processes whose memory cannot be told
OWN = ("RssAnon", "VmSwap", "HugetlbPages")
TABLES = "VmPTE"  # the kernel's, of pages that are there


class Account:
    """What processes hold.

    pids   they; a process that is not there any more is in `missed` alone
    exact  pages that processes share since a fork count once, if the kernel lets us know
    ended  those that were dead before. Others that are dead count as missed: each may have handed
           its memory to a process that came after them
    """

    def __init__(
        self, pids: Iterable[int] = (), exact: bool = False, ended: Iterable[int] = ()
    ) -> None:
        self.exact, self.ended = exact, {*ended}
        self.own = 0
        self.lost = 0  # bytes of the largest process that went while it was looked at
        self.shared = dict[str, int]()  # by inode
        self.mappings = 0
        self.alive, self.missed = set[int](), set[int]()
        for pid in pids:
            self.add(pid)

    @property
    def held(self) -> int:
        if self.mappings > MAPPINGS:
            return ENDLESS
        return self.own + self.lost + sum(self.shared.values())

    def add(self, pid: int) -> None:
        found = status(pid)
        folder = f"{pid}"
        if "RssAnon" not in found and int(found.get("Threads", 0)) > 1:  # its first has ended
            folder, found = _thread(pid)
        if "RssAnon" not in found:
            if pid not in self.ended:
                self.missed.add(pid)
            if found:
                self.ended.add(pid)
            return
        self.alive.add(pid)
        tables = _bytes(found.get(TABLES, "0 kB"))
        own = tables + sum(_bytes(found[name]) for name in OWN if name in found)
        try:
            self.own += tables + _proportional(folder) if self.exact else own
        except PermissionError:  # the kernel does not let us know
            self.own += own
        except (OSError, KeyError):
            self.missed.add(pid)
            self.lost = max(self.lost, own)
        self._share(pid, folder)

    def _share(self, pid: int, folder: str) -> None:
        """Count memory that it shares with its children, and no files."""
        try:
            with open(f"/proc/{folder}/maps", errors="replace", newline="\n") as lines:
                self._count(lines)
        except PermissionError:
            pass
        except OSError:
            self.missed.add(pid)

    def _count(self, lines: Iterable[str]) -> None:
        device = f" {_device()} "
        for line in lines:
            self.mappings += 1
            if self.mappings > MAPPINGS:
                return
            if device in line:
                span, _, offset, where, inode, *_ = line.split()
                if where != _device():
                    continue
                low, high = (int(end, 16) for end in span.split("-"))
                # What is unmapped keeps its pages: it may be as large as the filter lets it.
                size = max(int(offset, 16) + high - low, SHARED)
                self.shared[inode] = max(size, self.shared.get(inode, 0))


def sweep(parents: Iterable[int], ended: Iterable[int]) -> Account:
    """What all below some processes hold, exactly. Each is looked at as soon as it is listed and
    the youngest first, so that few can be gone by then."""
    found = Account(exact=True, ended=ended)
    todo = list(parents)
    while todo:
        parent = todo.pop()
        for child in _children(parent):
            found.add(child)
            todo.append(child)
    return found


def _children(pid: int) -> Iterator[int]:
    """The children of each thread of a process; none if it is gone, or if the kernel does not list
    them."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in read(f"/proc/{pid}/task/{thread}/children").split()[::-1]:
                yield int(child)


def _thread(pid: int) -> tuple[str, dict[str, str]]:
    """The folder in /proc of a thread that lives, and its status; empty if there is none."""
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            folder = f"{pid}/task/{thread}"
            if "RssAnon" in (found := status(folder)):
                return folder, found
    return f"{pid}", {}


def _proportional(folder: str) -> int:
    """Bytes of a process's pages of its own, of which each of those that share a page has a part.
    It takes longer than /proc/PID/status."""
    lines = read(f"/proc/{folder}/smaps_rollup").split("\n")
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return _bytes(found["Pss_Anon"]) + _bytes(found["SwapPss"])


def _bytes(value: str) -> int:
    """Of "  12 kB"."""
    return int(value.split()[0]) << 10


@cache
def _device() -> str:
    """That of the kernel's files for shared memory without a name, as in /proc/PID/maps."""
    with mmap.mmap(-1, mmap.PAGESIZE):
        for line in read("/proc/self/maps").split("\n"):
            if line.endswith("/dev/zero (deleted)"):
                return line.split()[3]
    return "00:01"
