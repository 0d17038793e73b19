"""Greedy decoding with key-value caches: one token per forward pass, or a block of k (section 3.2).

Self-speculative decoding (blockwise, Stern et al. 2018): heads 2..k draft the tokens after next,
and the next forward pass, of which head 1 is the judge, verifies them all at once:

    block fed          [newest token, draft 2, draft 3, draft 4]        k = 4
    head 1 answers     [a            , b      , c      , d      ]
    draft 2 == a, draft 3 == b, draft 4 != c: certain are a, b, c; the next block starts with c,
    and its drafts are what heads 2..4 say at the position of draft 3, the last accepted one.

Every token is head 1's argmax after certain tokens only, so the output is that of k = 1, where the
block is the newest token alone and the same loop is plain autoregressive decoding.

Heads 2..n are attention layers with caches of their own. Every pass runs heads 1..k over the whole
block (the prefill: over the whole prompts), so that no accepted position is missing from any cache.
A hole would not change the output, only make the drafts worse.

Rows of a batch accept different lengths: slot s of a row's cache holds its position s, and a query
at position p sees the slots s <= p. Slots beyond a row's last certain token hold padding or
rejected drafts; no query sees them before they are written again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer


@dataclass(frozen=True)
class Generation:
    """What `generate` made of each prompt, and how.

    tokens        new tokens per row, the end-of-text token included where it was produced
    forwards      forward passes over the batch after the prefill
    row_forwards  of these, how many each row took part in before it was finished
    accepted      (k,) row-forwards in which draft i was accepted, at index i - 1; index 0 counts
                  the verified token that every row-forward yields, hence the row-forwards

    A row's first token comes from the prefill and counts neither as a token nor as a forward here.
    The last block of a row counts in full, before it is cut at max_new or end-of-text (only what
    lies beyond the model's context never counts). So tokens_per_forward is exactly 1 + the sum of
    the drafts' acceptances.
    """

    tokens: list[list[int]]
    forwards: int
    row_forwards: list[int]
    accepted: Tensor

    @property
    def acceptance(self) -> Tensor:
        """(k,) share of row-forwards in which draft i was accepted (index i - 1; index 0 is 1)."""
        return self.accepted.double() / self.accepted[0]

    @property
    def tokens_per_forward(self) -> float:
        """Verified and accepted tokens per row-forward, as in Table S2; nan without a forward."""
        return float(self.acceptance.sum())


@torch.inference_mode()
def generate(
    model: MultiTokenTransformer,
    prompts: list[list[int]],
    max_new: int,
    k: int | None = None,
    eos: int | None = None,
) -> Generation:
    """Greedy continuation of each prompt by `max_new` tokens, or up to `eos`.

    k heads are used: 1 is autoregressive, None all n. The tokens do not depend on k, nor on the
    other prompts (where two logits are equal up to rounding, rounding decides). BadInput names an
    unusable argument; a prompt with its max_new tokens must fit the model's context.
    """
    k = model.config.n if k is None else k
    check_arguments(model, prompts, max_new, k, eos)
    device, lengths = model.embedding.weight.device, [len(p) for p in prompts]
    # A row's last block reaches at most k - 2 slots beyond its last token, if the context does.
    slots = min(model.config.context, max(lengths) + max_new + k - 2)
    slot, ahead = torch.arange(slots, device=device), torch.arange(k, device=device)
    caches = model.new_caches(len(prompts), slots)

    # Prefill: all prompts in one pass, padded to the longest.
    used = max(lengths)
    padded = torch.tensor([p + [0] * (used - len(p)) for p in prompts], device=device)  # (B, T)
    mask = slot[:used] <= slot[:used, None]  # (T, T)
    latents = model.latents(padded, k, caches, slot[:used].expand_as(padded), mask[None, None])
    fed = torch.tensor(lengths, device=device)  # (B,) tokens in the caches, all certain
    last = latents[0].gather(1, (fed - 1)[:, None, None].expand_as(latents[0][:, :1]))  # (B, 1, D)
    newest = model.logits(last).argmax(-1)  # (B, 1)
    block = torch.cat([newest, _drafts(model, latents, fed - 1)], dim=1)  # (B, k)

    rows = list(range(len(prompts)))  # the prompt that each row of the batch belongs to
    tokens = [[first] for first in newest.flatten().tolist()]
    row_forwards, by_drafts, forwards = [0] * len(prompts), [0] * k, 0
    while True:
        # Finished rows leave the batch.
        kept = [b for b, r in enumerate(rows) if len(tokens[r]) < max_new and tokens[r][-1] != eos]
        if not kept:
            break
        if len(kept) < len(rows):
            rows, index = [rows[b] for b in kept], torch.tensor(kept, device=device)
            block, fed = block[index], fed[index]
            for cache in caches:
                cache.k, cache.v = cache.k[index], cache.v[index]

        # One forward pass over the blocks, each at its row's own positions, as wide as the context
        # leaves room for in any row. In the others the last slot takes what lies beyond: no token
        # that is still wanted depends on it.
        ends = [lengths[r] + len(tokens[r]) for r in rows]  # the newest token is at end - 1
        used, width = min(slots, max(ends) - 1 + k), min(k, slots - min(ends) + 1)
        block = block[:, :width]  # (B, k)
        positions = fed[:, None] + ahead[:width]  # (B, k)
        inside, positions = positions < slots, positions.clamp(max=slots - 1)
        mask = slot[:used] <= positions[:, None, :, None]  # (B, 1, k, S)
        latents = model.latents(block, k, caches, positions, mask)

        # Head 1 judges the drafts, and the last one that it accepts is where the next ones start.
        answers = model.logits(latents[0]).argmax(-1)  # (B, k) the token after each of the block
        right = (block[:, 1:] == answers[:, :-1]) & inside[:, 1:]
        accepted = right.cumprod(1).sum(1)  # (B,) drafts before the first wrong one
        newest = answers.gather(1, accepted[:, None])  # (B, 1)
        block = torch.cat([newest, _drafts(model, latents, accepted)], dim=1)  # (B, k)
        fed = fed + accepted + 1

        forwards += 1
        for r, drafts, row in zip(rows, accepted.tolist(), answers.tolist(), strict=True):
            row_forwards[r] += 1
            by_drafts[drafts] += 1
            new = row[: min(drafts + 1, max_new - len(tokens[r]))]
            tokens[r] += new[: new.index(eos) + 1] if eos is not None and eos in new else new

    # Draft i was accepted in the row-forwards that accepted at least i - 1 drafts.
    counts = torch.tensor(by_drafts).flip(0).cumsum(0).flip(0)  # (k,)
    return Generation(tokens, forwards, row_forwards, counts)


def _drafts(model: MultiTokenTransformer, latents: list[Tensor], at: Tensor) -> Tensor:
    """Argmax of heads 2..k at index `at` (B,) of their latents (B, T, D) -> (B, k - 1)."""
    row = torch.arange(len(at), device=at.device)
    found = [latent[row, at] for latent in latents[1:]]  # (B, D) each
    if not found:
        return at.new_empty(len(at), 0)
    if len(model.unembeddings) == 1:  # read the big matrix once, not once per head
        return model.logits(torch.stack(found, dim=1)).argmax(-1)
    return torch.stack([model.logits(h, i).argmax(-1) for i, h in enumerate(found, 2)], dim=1)


def check_arguments(
    model: MultiTokenTransformer, prompts: list[list[int]], max_new: int, k: int, eos: int | None
) -> None:
    """Raise BadInput for arguments that `generate` cannot use, before anything is computed."""
    c = model.config
    if not prompts:
        raise BadInput("there are no prompts; give at least one list of token ids")
    if not 1 <= k <= c.n:
        raise BadInput(f"k is {k}; it must be from 1 to the model's {c.n} heads")
    if max_new < 1:
        raise BadInput(f"max_new is {max_new}; it must be at least 1")
    if eos is not None and not 0 <= eos < c.vocab:
        raise BadInput(f"eos {eos} is not a token; token ids go from 0 to {c.vocab - 1}")
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise BadInput(f"prompt {i} is empty; it must have at least one token")
        if wrong := [t for t in prompt if not 0 <= t < c.vocab]:
            raise BadInput(
                f"prompt {i} has token id {wrong[0]}; token ids go from 0 to {c.vocab - 1}"
            )
        if len(prompt) + max_new > c.context:
            raise BadInput(
                f"prompt {i} of {len(prompt)} tokens and max_new {max_new} make "
                f"{len(prompt) + max_new}, more than the model's context of {c.context}"
            )
