"""How long optimizer steps take, for tokens/s, MFU and ETA."""

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """The seconds that optimizer steps take. It leaves out validation and saving, and the first
    step, in which kernels are compiled and memory is first touched."""

    def __init__(self) -> None:
        self.paused_seconds = 0.0
        self.first: tuple[int, float] | None = None  # the first step, and `_running` at its end
        self.last = (0, 0.0)  # the same of the step that ended the last lap

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent inside does not count."""
        before = time.monotonic()
        yield
        self.paused_seconds += time.monotonic() - before

    def step_done(self, step: int) -> None:
        """Start the clock when the first step of this process has ended."""
        if self.first is None:
            self.first = self.last = (step, self._running())

    def lap(self, step: int) -> float | None:
        """Mean seconds of the steps since the last lap; None before the second step."""
        last, self.last = self.last, (step, self._running())
        return self._mean(last, step)

    def mean(self, step: int) -> float | None:
        """Mean seconds of all steps so far; None before the second step."""
        return self._mean(self.first, step)

    def _mean(self, since: tuple[int, float] | None, step: int) -> float | None:
        if self.first is None or since is None or step == since[0]:
            return None
        return max(1e-9, self._running() - since[1]) / (step - since[0])

    def _running(self) -> float:
        return time.monotonic() - self.paused_seconds
