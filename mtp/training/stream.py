"""A rank's batches on its device: one copy for each step, made one step ahead on a GPU."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from mtp.data.batches import Batches
from mtp.data.window import Window


class Stream:
    """The batches of a rank.

    ahead  build the next batch in a thread meanwhile, in pinned memory, so that neither building
           nor copying it holds the device up; for GPUs
    """

    def __init__(self, batches: Batches, device: str, ahead: bool) -> None:
        self.batches, self.device = batches, device
        self.pool: ThreadPoolExecutor | None = None
        if ahead and torch.cuda.is_available():  # a new thread would work with the first GPU
            own = (torch.cuda.current_device(),)
            self.pool = ThreadPoolExecutor(1, "batches", torch.cuda.set_device, own)
        elif ahead:
            self.pool = ThreadPoolExecutor(1, "batches")
        self.coming: tuple[int, Future[Tensor]] | None = None  # of so many windows consumed

    def next(self) -> Window:
        windows = self.batches.windows
        if self.coming and self.coming[0] == windows:
            found = self.coming[1].result()
        else:
            found = self._build(windows)
        self.batches.windows += self.batches.batch
        if self.pool:
            windows = self.batches.windows
            self.coming = windows, self.pool.submit(self._build, windows)
        tokens, valid = found.to(self.device, non_blocking=True)
        return Window(tokens, valid.bool(), self.batches.n, self.batches.split.eos)

    def _build(self, windows: int) -> Tensor:
        """Tokens, and whether each may be a target, as one tensor (2, b, T+n)."""
        window = self.batches.at(windows)
        found = torch.stack([window.tokens, window.valid.long()])
        return found.pin_memory() if self.pool and torch.cuda.is_available() else found
