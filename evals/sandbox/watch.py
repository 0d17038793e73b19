"""A thread of the supervisor that watches the memory of programs, whatever their judges are busy
with: a judge that decodes an answer, or runs a test on it, looks at nothing else."""

import threading
from collections.abc import Callable, Mapping

from evals.sandbox import processes

POLL = 0.25  # seconds between two looks
KEEPER = 64 << 20  # bytes that a program may hold beyond its limit, much of which it shares


class Watch:
    """Kills programs that hold more than `limit` bytes together. judges: the pids of those at
    work, and the numbers of their jobs. Use it as a context; `exceeded` has the jobs whose programs
    were killed."""

    def __init__(self, limit: int, kind: str, judges: Callable[[], Mapping[int, int]]) -> None:
        self.limit, self.kind, self.judges = limit, kind, judges
        self.exceeded = set[int]()
        self.broken: Exception | None = None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, name="memory of programs", daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()

    def _run(self) -> None:
        while not self.over.wait(POLL):
            try:
                self.look()
            except Exception as error:  # programs must not run on unwatched
                self.broken = error
                processes.kill(self.judges())
                return

    def look(self) -> None:
        judges = self.judges()  # before the tree, in which may be the programs of jobs before
        now = processes.tree()
        for judge, job in judges.items():
            found = processes.programs(judge, self.kind, now)
            most = self.limit + KEEPER
            if processes.memory(found) > most and processes.memory(found, exact=True) > most:
                if self.judges().get(judge) != job:  # the next one's is not to blame
                    continue
                self.exceeded.add(job)
                processes.kill(found)
