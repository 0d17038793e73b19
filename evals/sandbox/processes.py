"""What the processes below a judge hold and have waited for, as /proc of the machine says, and an
end to programs that hold too much. Standard library only, as evals/sandbox/judge.py is."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple


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
        with suppress(OSError), open(f"/proc/{entry}/stat") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    return Tree(children)


def memory(pids: Iterable[int]) -> int:
    """Bytes that processes hold together. Pages that several share count for each. It does not see
    what no process maps: files in memory, and shared memory without a process."""
    held = 0
    for pid in pids:
        for name, value in _status(pid).items():
            if name in ("RssAnon", "RssShmem"):
                held += int(value.split()[0]) << 10
    return held


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


def waited(pids: Iterable[int]) -> float:
    """The longest time, in seconds, that a thread of these processes was ready to run while others
    had the cores; 0 where the kernel does not count it."""
    longest = 0.0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                    longest = max(longest, int(file.read().split()[1]) / 1e9)
    return longest


def _status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status by name; empty if the process is gone."""
    with suppress(OSError), open(f"/proc/{pid}/status") as file:
        return {name: value for name, _, value in (line.partition(":") for line in file)}
    return {}


def _depth(pid: int) -> int:
    """In how many namespaces of processes, one inside the other, a process is."""
    return len(_status(pid).get("NSpid", "").split())
