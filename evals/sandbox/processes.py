"""What the processes below a judge hold, as /proc of the machine says, and an end to programs that
hold too much. Standard library only, as evals/sandbox/judge.py is."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple, TextIO

MAPPINGS = 10_000  # that a process may have
SHARED = 16 << 20  # bytes of a shared mapping at most (evals/sandbox/syscalls.py)
ENDLESS = 1 << 62  # bytes, of a process whose memory cannot be told


class Tree(NamedTuple):
    """Processes by the number of their parent."""

    children: dict[int, list[int]]

    def below(self, root: int) -> list[int]:
        """All descendants of a process, without it."""
        found = list(self.children.get(root, ()))
        for one in found:
            found += self.children.get(one, ())
        return found


def tree() -> Tree:
    """The processes of the machine, now."""
    children: dict[int, list[int]] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError):
            parent = int(_stat(int(entry))[1])
            children.setdefault(parent, []).append(int(entry))
    return Tree(children)


def memory(pids: Iterable[int], exact: bool = False) -> int:
    """Bytes that processes hold together: pages of their own, and all of the memory that they
    share, also what none of them maps just now. It does not see files in memory and the kernel's
    buffers.

    exact  pages that processes share since a fork count once, if the kernel lets us know
    """
    held, shared = 0, dict[str, int]()
    for pid in map(_with_memory, pids):
        own = _own(pid) if exact else 0
        held += own
        for name, value in ({} if own else _status(pid)).items():
            if name in ("RssAnon", "VmSwap", "HugetlbPages"):
                held += int(value.split()[0]) << 10
        with suppress(OSError), _open(f"/proc/{pid}/maps") as file:
            for number, line in enumerate(file):
                if number > MAPPINGS:  # reading them all would take the watch seconds
                    return ENDLESS
                if "/dev/zero (deleted)" in line:  # memory that is shared with children
                    span, _, offset, _, inode, *_ = line.split()
                    low, high = (int(end, 16) for end in span.split("-"))
                    # What is unmapped keeps its pages: it may be as large as the filter lets it.
                    size = max(int(offset, 16) + high - low, SHARED)
                    shared[inode] = max(size, shared.get(inode, 0))
    return held + sum(shared.values())


def _with_memory(pid: int) -> str:
    """The folder in /proc that tells of a process's memory: its own or, if its first thread has
    ended, that of a thread that lives."""
    if "RssAnon" not in _status(pid):
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                if "RssAnon" in _status(other := f"{pid}/task/{thread}"):
                    return other
    return f"{pid}"


def programs(root: int, kind: str, now: Tree) -> list[int]:
    """The processes of programs below a judge `root`, without those that keep them in. Each program
    is in a namespace of processes of its own, inside that of its keeper; without namespaces, it is
    below the judge's only child."""
    found = now.below(root)
    if kind == "limits":
        return [pid for pid in found if pid not in now.children.get(root, ())]
    own = _depth(root)
    return [pid for pid in found if _depth(pid) >= own + 2]


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _own(pid: str) -> int:
    """Bytes of a process's pages of its own, of which each of those that share a page has a part; 0
    if the kernel does not let us know. It takes longer than /proc/PID/status."""
    with suppress(OSError), _open(f"/proc/{pid}/smaps_rollup") as file:
        found = dict(line.split(":", 1) for line in file if ":" in line)
        with suppress(KeyError):
            return sum(int(found[name].split()[0]) << 10 for name in ("Pss_Anon", "SwapPss"))
    return 0


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the process's name, which it may choose: the state, the
    parent's number, .. Raises OSError if the process is gone."""
    with _open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()


def _status(pid: int | str) -> dict[str, str]:
    """The lines of /proc/PID/status by name; empty if the process is gone. A program may choose its
    name, which may have a carriage return in it."""
    with suppress(OSError), _open(f"/proc/{pid}/status") as file:
        return {name: value for name, _, value in (line.partition(":") for line in file)}
    return {}


def _open(path: str) -> TextIO:
    """A file of /proc, whose lines end with a line feed and nothing else."""
    return open(path, errors="replace", newline="\n")


def _depth(pid: int) -> int:
    """In how many namespaces of processes, one inside the other, a process is."""
    return len(_status(pid).get("NSpid", "").split())
