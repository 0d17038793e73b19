"""A thread of the supervisor that watches the memory of programs, whatever their judges are busy
with: a judge that decodes an answer, or runs a test on it, looks at nothing else.

A program's processes may come and go so fast that each is gone before it is looked at, while one
hands its memory to the next. So where one was missed, the watch looks again, until it has seen all
that it finds; the most that it sees counts. A program of which it sees nothing new in any of these
looks, time and again, is killed too.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from evals.sandbox import processes
from evals.sandbox.memory import Account, sweep

POLL = 0.25  # seconds between two looks
SWEEPS, SECONDS = 30, 0.05  # how often it looks again, and for how long
BLIND = 60  # times in a row that it saw nothing of what came and went
KEEPER = 64 << 20  # bytes that a program may hold beyond its limit, much of which it shares


class Watch:
    """Kills programs that hold more than `limit` bytes together. judges: the pids of those at
    work, and the numbers of their jobs. Use it as a context; `exceeded` has the jobs whose programs
    were killed, and why."""

    def __init__(self, limit: int, kind: str, judges: Callable[[], Mapping[int, int]]) -> None:
        self.limit, self.kind, self.judges = limit, kind, judges
        self.exceeded = dict[int, str]()
        self.blind = dict[int, int]()  # by job: times in a row that nothing new was seen
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
                for judge in self.judges():
                    with suppress(OSError):
                        os.kill(judge, signal.SIGKILL)
                return

    def look(self) -> None:
        judges = self.judges()  # before the tree, in which may be the programs of jobs before
        now = processes.tree()
        most = self.limit + KEEPER
        self.blind = {job: n for job, n in self.blind.items() if job in judges.values()}
        for judge, job in judges.items():
            found = processes.programs(judge, self.kind, now)
            account = Account(found)
            if account.held > most:
                account = Account(found, exact=True)
            held, blind = account.held, 0
            if held <= most and (account.missed or now.gone):
                keepers = {now.parents[pid] for pid in found} - {*found}
                more, blind = self._look_again(keepers, account, self.blind.get(job, 0))
                held = max(held, more)
            self.blind[job] = blind
            if held > most:
                why = f"its processes held more than {self.limit >> 20} MiB"
            elif blind >= BLIND:
                why = "its processes came and went too fast to be watched"
            else:
                continue
            if self.judges().get(judge) != job:  # the next one's is not to blame
                continue
            self.exceeded[job] = why
            processes.kill(found, now)

    def _look_again(self, keepers: set[int], account: Account, blind: int) -> tuple[int, int]:
        """The most that was held, and how many times in a row nothing was seen of what came and
        went, with `blind` times before."""
        held, known, until = 0, {*account.alive}, time.monotonic() + SECONDS
        for _ in range(SWEEPS):
            account = sweep(keepers, account.ended)
            held = max(held, account.held)
            blind = blind + 1 if account.missed and account.alive <= known else 0
            if not account.missed or held > self.limit + KEEPER or time.monotonic() > until:
                break
        return held, blind
