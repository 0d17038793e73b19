"""The processes below a judge, as /proc of the machine says: which they are, and an end to them.
Standard library only, as evals/sandbox/judge.py is."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

SHARED = 16 << 20  # bytes of a shared mapping at most (evals/sandbox/syscalls.py)


class Tree(NamedTuple):
    """Processes by the number of their parent, and the other way round; when each has started, in
    ticks; how many were gone before they could be looked at."""

    children: dict[int, list[int]]
    parents: dict[int, int]
    started: dict[int, int]
    gone: int

    def below(self, root: int) -> list[int]:
        """All descendants of a process, without it. Each once: a number that was given again while
        the tree was read could make a circle."""
        found = dict.fromkeys(self.children.get(root, ()))
        left = list(found)
        for one in left:
            more = [pid for pid in self.children.get(one, ()) if pid not in found and pid != root]
            found |= dict.fromkeys(more)
            left += more
        return left


def tree() -> Tree:
    """The processes of the machine, now."""
    now = Tree({}, {}, {}, 0)
    gone = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        pid = int(entry)
        try:
            fields = _stat(pid)
            parent, start = int(fields[1]), int(fields[19])
        except (OSError, ValueError, IndexError):
            gone += 1
            continue
        now.children.setdefault(parent, []).append(pid)
        now.parents[pid], now.started[pid] = parent, start
    return now._replace(gone=gone)


def programs(root: int, kind: str, now: Tree) -> list[int]:
    """The processes of programs below a judge `root`, without those that keep them in. Each program
    is in a namespace of processes of its own, inside that of its keeper; without namespaces, it is
    below the judge's only child. One that is gone by now may have been a program's, and counts."""
    found = now.below(root)
    if kind == "limits":
        return [pid for pid in found if pid not in now.children.get(root, ())]
    others = range(1, _depth(root) + 2)
    return [pid for pid in found if _depth(pid) not in others]


def kill(pids: Iterable[int], now: Tree) -> None:
    """Kill processes of a tree, and no other that has got the number of one of them."""
    for pid in pids:
        with suppress(OSError, IndexError):
            process = os.pidfd_open(pid)
            try:
                if int(_stat(pid)[19]) == now.started[pid]:
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def status(pid: int | str) -> dict[str, str]:
    """The lines of /proc/PID/status by name; empty if the process is gone. A program may choose its
    name, which may have a carriage return in it."""
    with suppress(OSError):
        lines = read(f"/proc/{pid}/status").split("\n")
        return {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {}


def read(path: str) -> str:
    """A file of /proc. Raises OSError if the process is gone."""
    file = os.open(path, os.O_RDONLY)
    try:
        parts = list[bytes]()
        while new := os.read(file, 1 << 16):
            parts.append(new)
    finally:
        os.close(file)
    return b"".join(parts).decode(errors="replace")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the process's name, which it may choose: the state, the
    parent's number, .. Raises OSError if the process is gone."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _depth(pid: int) -> int:
    """In how many namespaces of processes, one inside the other, a process is; 0 if it is gone."""
    return len(status(pid).get("NSpid", "").split())
