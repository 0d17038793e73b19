"""Signals that ask a run to stop: collected while it trains, obeyed once it has saved."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """A signal asked the run to stop; it has saved. `signum` says which. No `except Exception`
    may take it for a failure."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}; saved")
        self.signum = signum


@contextlib.contextmanager
def catch_signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop, instead of dying of them; a second Ctrl-C is obeyed
    at once. Restores the handlers that were there before."""
    caught: list[int] = []

    def handler(signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGINT and caught:
            raise KeyboardInterrupt
        caught.append(signum)

    before: dict[int, Callable[..., Any] | int | None] = {}
    for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        with contextlib.suppress(ValueError):  # not in the main thread: no signals arrive here
            before[signum] = signal.signal(signum, handler)
    try:
        yield caught
    finally:
        for signum, old in before.items():
            signal.signal(signum, old)
