"""How far a long evaluation is."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from mtp.command_line import has_terminal

SECONDS = 20.0  # between lines of progress where there is no terminal


class Counter:
    """Progress with the time left: a bar on a terminal, a line now and then in a log."""

    def __init__(self, title: str, total: int, say: Callable[[str], None] | None = None) -> None:
        self.title, self.total, self.done, self.new = title, total, 0, 0
        self.start = self.printed = time.monotonic()
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self.bar = tqdm(desc=title, total=total, disable=not has_terminal(), leave=False)

    def skip(self, count: int) -> None:
        """So many are done already."""
        self.done += count
        self.bar.update(count)

    def add(self, count: int) -> None:
        self.skip(count)
        self.new += count
        now = time.monotonic()
        if self.bar.disable and (now - self.printed > SECONDS or self.done == self.total):
            rate = self.new / max(now - self.start, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            self.say(f"{self.title}: {self.done}/{self.total}, {rate:.1f}/s, ETA {left:.0f} s")
            self.printed = now

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
