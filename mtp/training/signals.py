"""Signals that ask a run to stop, collected while it trains and obeyed once it has saved."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """The signal `signum` asked the run to stop, and the run has saved. This is a BaseException, so
    that no `except Exception` takes it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}; saved")
        self.signum = signum


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect the signals that ask the run to stop, instead of dying from them. A second Ctrl-C is
    obeyed at once. Restores the previous handlers at the end."""
    caught: list[int] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before: dict[int, Callable[..., Any] | int | None] = {}
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        with contextlib.suppress(ValueError):  # outside the main thread, where no signals arrive
            before[signum] = signal.signal(signum, handler)
    try:
        yield caught
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
