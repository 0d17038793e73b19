"""A batch as the objective gets it: windows of tokens, from which it derives what heads learn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORE = -100  # a target that does not count; what torch's cross-entropy skips by default


@dataclass(frozen=True)
class Window:
    """Rows of consecutive tokens: T inputs, and the n tokens after them.

    tokens  (B, T+n) token ids
    valid   (B, T+n), whether each may be a target: it lies in the split, is no padding, and of a
            pair it belongs to the completion
    n       how many tokens ahead the targets reach
    eos     the id that ends a document
    """

    tokens: Tensor
    valid: Tensor
    n: int
    eos: int

    @property
    def inputs(self) -> Tensor:
        """What the trunk reads, (B, T)."""
        return self.tokens[:, : -self.n]

    @property
    def ahead(self) -> Tensor:
        """The tokens after the inputs, (B, n)."""
        return self.tokens[:, -self.n :]

    def targets(self) -> Tensor:
        """x[t+1]..x[t+n] of each position, (n, B, T), as `future_targets` describes them."""
        return future_targets(self.tokens, self.eos, self.n, self.valid)

    def rows(self, first: int, stop: int) -> Window:
        """The rows from `first` to before `stop`."""
        return Window(self.tokens[first:stop], self.valid[first:stop], self.n, self.eos)

    def to(self, device: str | torch.device) -> Window:
        return Window(self.tokens.to(device), self.valid.to(device), self.n, self.eos)


def future_targets(tokens: Tensor, eos: int, n: int, valid: Tensor | None = None) -> Tensor:
    """The n next tokens of each position, up to the end of its document.

    tokens (B, T+n); returns (n, B, T) int64, where [i-1, b, t] is tokens[b, t+i]. It is IGNORE if
    there is an eos among tokens[b, t .. t+i-1] (an eos is a target but has no targets), or if
    `valid` (B, T+n) is False at the target.
    """
    length = tokens.shape[1] - n
    is_eos = (tokens == eos).long()
    document = is_eos.cumsum(1) - is_eos  # eos tokens seen before each position
    kept = tokens if valid is None else tokens.where(valid, IGNORE)
    here = document[:, :length]
    found = [
        kept[:, i : i + length].where(document[:, i : i + length] == here, IGNORE)
        for i in range(1, n + 1)
    ]
    return torch.stack(found)
