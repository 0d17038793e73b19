"""Drafts along human text: how often do heads 2..k say what head 1 then says?

    head i at t        says a token for t+i
    head 1 at t+i-1    says a token for t+i too, having read the i-1 tokens between

A draft agrees if the two, each head's most likely token, are the same. That is what verification
asks in greedy self-speculation. Here both heads read a text that the model has not written, so that
a model whose own outputs repeat themselves, and are easy to draft, is not taken for a good drafter.
Decoding differs in one thing: there head 1 reads its own tokens, which are not always the text's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evals.probes.held_out import BATCH_TOKENS
from mtp.data.batches import Tokens, evaluation_batches
from mtp.data.window import IGNORE
from mtp.errors import BadInput
from mtp.model.memory import chunk_rows

if TYPE_CHECKING:
    from mtp.model.model import MultiTokenTransformer


@dataclass(frozen=True)
class Agreement:
    """Over all positions with k tokens of their document behind them.

    heads               shares of the drafts of heads 2, 3, .. that agree
    tokens_per_forward  1, and the mean number of drafts that agree before the first that does not
    copies              tokens per forward of k - 1 drafts that repeat what head 1 says for t+1, as
                        new heads do that are copies of head 1
    constant            tokens per forward of k - 1 drafts of head 1's most frequent token
    positions           counted
    """

    heads: list[float]
    tokens_per_forward: float
    copies: float
    constant: float
    positions: int


def measure(
    model: MultiTokenTransformer, split: Tokens, k: int, limit: int | None = None
) -> Agreement:
    """Of heads 2..k, or as many as the model has, along a split's first `limit` tokens, cut into
    windows of the model's context. Raises BadInput if no position has k tokens after it."""
    said, drafts = along(model, split, k, limit)
    if not len(said):
        raise BadInput(f"no position of the text has {k} tokens of its document after it")
    frequent = torch.bincount(said[:, 0]).argmax()
    own = drafts == said[:, 1 : 1 + drafts.shape[1]]
    return Agreement(
        heads=own.double().mean(0).tolist(),
        tokens_per_forward=tokens_per_forward(own),
        copies=tokens_per_forward(said[:, :1] == said[:, 1:]),
        constant=tokens_per_forward(frequent == said[:, 1:]),
        positions=len(said),
    )


def tokens_per_forward(agrees: Tensor) -> float:
    """1 and the mean length of the unbroken start of each row of (positions, drafts)."""
    return 1 + float(agrees.long().cumprod(1).sum(1).double().mean())


@torch.inference_mode()
def along(
    model: MultiTokenTransformer, split: Tokens, k: int, limit: int | None
) -> tuple[Tensor, Tensor]:
    """What head 1 says for t+1..t+k along the text, (positions, k), and what heads 2, 3, .. at t
    say for t+2, .., (positions, up to k-1)."""
    model.eval()
    context, n = model.config.context, min(k, model.config.n)
    if not 1 <= k <= context:
        raise BadInput(f"k is {k}; it must be from 1 to the context {context}")
    rows = max(1, min(max(16, 4096 // context), BATCH_TOKENS // context))
    said, drafts = list[Tensor](), list[Tensor]()
    for window in evaluation_batches(split, rows, context, k, limit):
        window = window.to(model.embedding.weight.device)
        latents = model.latents(window.inputs, n, ahead=window.ahead)
        best = [_most_likely(model, h, i) for i, h in enumerate(latents, 1)]  # (B, T) each
        places = context - k + 1
        counted = window.targets()[k - 1][:, :places] != IGNORE
        first = torch.stack([best[0][:, j : j + places] for j in range(k)], -1)
        others = [each[:, :places] for each in best[1:]]
        empty = first.new_empty((*counted.shape, 0))
        said.append(first[counted].cpu())
        drafts.append((torch.stack(others, -1) if others else empty)[counted].cpu())
    return torch.cat(said), torch.cat(drafts)


def _most_likely(model: MultiTokenTransformer, latent: Tensor, i: int) -> Tensor:
    """Head i's most likely tokens (B, T) from its latents (B, T, D), a chunk of logits at a
    time."""
    rows = chunk_rows(model.config.vocab, latent.device.type)
    found = [model.logits(x, i).argmax(-1) for x in latent.flatten(0, 1).split(rows)]
    return torch.cat(found).view(latent.shape[:2])
