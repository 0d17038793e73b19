"""Losses of many rows, a piece of them alive at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Piece = tuple[slice, Callable[..., Tensor]]  # rows; their loss () from x[rows] and the weights


def split(count: int, size: int) -> list[slice]:
    """`count` rows in slices of `size`, at least 1; the last one may be smaller."""
    size = max(1, size)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def wide(x: Tensor) -> Tensor:
    """In float32, or wider if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def sum_of_pieces(pieces: list[Piece], x: Tensor, *weights: Tensor) -> Tensor:
    """The sum of the losses () of rows of x (N, D)."""
    found = SumOfPieces.apply(pieces, x, *weights)
    assert isinstance(found, Tensor)
    return found


class SumOfPieces(torch.autograd.Function):
    """As ChunkedCrossEntropy (mtp/objective/cross_entropy.py): the gradients are computed piece by
    piece in the forward pass, while the piece's graph exists, and only scaled in the backward pass.
    Those of the weights are summed in float32 or wider."""

    @staticmethod
    def forward(ctx: Any, pieces: list[Piece], x: Tensor, *weights: Tensor) -> Tensor:
        wanted: tuple[bool, ...] = ctx.needs_input_grad[1:]
        weights = tuple(
            w.detach().requires_grad_(wants) for w, wants in zip(weights, wanted[1:], strict=True)
        )
        total = wide(x.new_zeros(()))
        dx = torch.zeros_like(x) if wanted[0] else None
        dweights = [torch.zeros_like(wide(w)) for w in weights if w.requires_grad]
        for rows, loss_of in pieces:
            with torch.enable_grad():
                part = x[rows].detach().requires_grad_(wanted[0])
                loss = loss_of(part, *weights)
            total += loss.detach()
            inputs = [t for t in (*weights, part) if t.requires_grad]
            found = list(torch.autograd.grad(loss, inputs)) if inputs else []
            if dx is not None:
                dx[rows] += found[-1]
            for d, own in zip(dweights, found, strict=False):
                d += own
        ctx.save_for_backward(*([] if dx is None else [dx]), *dweights)
        ctx.dtypes = [
            t.dtype if wants else None for t, wants in zip((x, *weights), wanted, strict=True)
        ]
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        scaled = [None if t is None else next(saved).mul_(grads[0]).to(t) for t in ctx.dtypes]
        return None, *scaled
