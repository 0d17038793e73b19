"""Losses of many rows, a piece of them alive at a time."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.model.memory import chunk_rows
from mtp.objective.cross_entropy import add_product_, set_product_

# (logits (N, V), rows) -> their loss () and its gradient (N, V) in the type of the logits
Gradient = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
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


def sum_over_logits(gradient: Gradient, x: Tensor, matrix: Tensor, share: int = 1) -> Tensor:
    """The sum of the losses () of the logits of rows x (N, D) with a matrix (V, D). `share`: take
    that part of the usual number of rows at a time, for gradients that keep more than a head's."""
    rows = chunk_rows(len(matrix), x.device.type) // share
    found = SumOverLogits.apply(gradient, rows, x, matrix)
    assert isinstance(found, Tensor)
    return found


class SumOverLogits(torch.autograd.Function):
    """The same for a loss whose gradient at the logits is known, so that as few logits are alive as
    in ChunkedCrossEntropy."""

    @staticmethod
    def forward(ctx: Any, gradient: Gradient, size: int, x: Tensor, matrix: Tensor) -> Tensor:
        dx = torch.empty_like(x) if ctx.needs_input_grad[2] else None
        dmatrix = torch.zeros_like(wide(matrix)) if ctx.needs_input_grad[3] else None
        total = wide(x.new_zeros(()))
        for rows in split(len(x), size):
            loss, d = gradient(F.linear(x[rows], matrix), rows)
            total += loss
            if dx is not None:
                set_product_(dx[rows], d, matrix)
            if dmatrix is not None:
                add_product_(dmatrix, d.T, x[rows])
            del d  # before the next logits
        ctx.save_for_backward(dx, dmatrix)
        ctx.dtypes = x.dtype, matrix.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return None, None, *(None if d is None else d.mul_(grads[0]).to(t) for d, t in saved)


def firsts(ids: Tensor, counts: Tensor, vocab: int) -> Tensor:
    """Which of the tokens of each row, ids (N, K), are those that count, without repetitions."""
    place = torch.arange(ids.shape[1], dtype=torch.int32, device=ids.device)
    place = place.where(counts, ids.shape[1])  # (N, K)
    first = place.new_full((len(ids), vocab), ids.shape[1])
    first.scatter_reduce_(1, ids, place, "amin")  # (N, V)
    return counts & (first.gather(1, ids) == place)
