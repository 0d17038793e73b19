"""What tests of batches share."""

from torch import Tensor

from mtp.data.window import Window


def both(window: Window) -> tuple[Tensor, Tensor]:
    """The inputs (B, T) and targets (n, B, T) of a window."""
    return window.inputs, window.targets()
