"""Decoding with key-value caches: one token per forward pass, or a block of drafts (section 3.2).

Self-speculative decoding (blockwise, Stern et al. 2018): heads 2..k draft the tokens after next,
and the next forward pass, of which head 1 is the judge, verifies them all at once:

    block fed          [newest token, draft 2, draft 3, draft 4]        k = 4
    head 1 answers     [a            , b      , c      , d      ]
    draft 2 == a, draft 3 == b, draft 4 != c: certain are a, b, c; the next block starts with c,
    and its drafts are what heads 2..4 say at the position of draft 3, the last accepted one.

Every token is head 1's answer after certain tokens only, so the output is that of k = 1, where the
block is the newest token alone and the same loop is plain autoregressive decoding. An answer is the
argmax, or drawn from head 1's distribution at that node: the drafts follow from certain tokens, so
a draw does not know them, and what is accepted is distributed as without them. A draft is accepted
with its probability under the model, the most that any lossless rule can accept of a fixed draft.
A tree verifies several candidates for each place (mtp/decoding/trees.py); a chain is a tree.

Heads 2..n are attention layers with caches of their own. They run once the judge has spoken: keys
and values for all of the accepted path, so that no certain position is missing from any cache, and
an answer at its end alone. A hole would not change the output, only make the drafts worse.

Rows of a batch accept different lengths: slot s of a row's cache holds its position s, and what
lies beyond a row's last certain token is hidden until it is overwritten.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtp.decoding.passes import WINDOW, CachedModel, compiled_verify
from mtp.decoding.sampling import GREEDY, Sampling
from mtp.decoding.trees import Nodes, Tree, chain
from mtp.errors import BadInput
from mtp.hardware import has_compiler
from mtp.model.model import MultiTokenTransformer


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


class Gain(NamedTuple):
    """What one forward pass gave one row: certain tokens, and how many drafts it accepted. All
    `tokens` but the last were drafts, where max_new, end-of-text and the context cut nothing."""

    row: int
    tokens: list[int]
    accepted: int


def generate(
    model: MultiTokenTransformer,
    prompts: list[list[int]],
    max_new: int,
    k: int | None = None,
    eos: int | None = None,
    *,
    tree: Tree | None = None,
    sampling: Sampling = GREEDY,
    compiled: bool = False,
) -> Generation:
    """Continue each prompt by `max_new` tokens, or up to `eos`.

    k heads draft a chain: 1 is autoregressive, None all n. Or a `tree` says what they draft. Greedy
    tokens depend on neither, nor on the other prompts (where two logits are equal up to rounding,
    rounding decides); sampled ones have the model's distribution. BadInput names an unusable
    argument; a prompt with its max_new tokens must fit the model's context.

    `compiled` passes go through torch.compile: a model, tree or shape that is new to the process
    takes seconds to a minute longer, later ones are faster (make bench-decode).
    """
    tokens: list[list[int]] = [[] for _ in prompts]
    row_forwards, forwards = [0] * len(prompts), 0
    counts = torch.zeros(_tree(model, k, tree).k, dtype=torch.long)
    passes = stream(
        model, prompts, max_new, k, eos, tree=tree, sampling=sampling, compiled=compiled
    )
    for row, first, _ in next(passes):  # the prefill
        tokens[row] += first
    for gains in passes:
        forwards += 1
        for row, new, accepted in gains:
            tokens[row] += new
            row_forwards[row] += 1
            counts[: accepted + 1] += 1
    return Generation(tokens, forwards, row_forwards, counts)


@torch.inference_mode()
def stream(
    model: MultiTokenTransformer,
    prompts: list[list[int]],
    max_new: int,
    k: int | None = None,
    eos: int | None = None,
    *,
    tree: Tree | None = None,
    sampling: Sampling = GREEDY,
    compiled: bool = False,
) -> Generator[list[Gain], Iterable[int] | None]:
    """As `generate`, pass by pass: first each prompt's first token, from the prefill; then what
    each forward pass gave the rows that were not finished. `send(rows)` instead of `next` declares
    rows finished."""
    tree = _tree(model, k, tree)
    check_arguments(model, prompts, max_new, eos)
    device, lengths = model.embedding.weight.device, [len(prompt) for prompt in prompts]
    if compiled and device.type == "cpu" and not has_compiler():
        raise BadInput("compiled decoding needs a C++ compiler; install g++, or leave it out")
    size, longest = len(tree.paths), max(lengths)
    # A block may begin at the last token; the window grows in steps.
    slots = longest + max_new + size
    slots += -slots % WINDOW
    cached = CachedModel(model, Nodes(tree, model.embedding.weight), sampling, len(prompts), slots)
    verify = compiled_verify() if compiled else CachedModel.verify

    # Prefill: all prompts in one pass, padded to the longest.
    padded = torch.tensor([p + [0] * (longest - len(p)) for p in prompts], device=device)
    fed = torch.tensor(lengths, device=device)  # (B,) tokens in the caches, all certain
    newest, block = cached.prefill(padded, fed)
    rows = list(range(len(prompts)))  # the prompt that each row of the batch belongs to
    left = [max_new - 1] * len(prompts)  # tokens that each prompt still wants
    gains = [Gain(row, [first], 0) for row, first in enumerate(newest.tolist())]

    while True:
        for row, new, _ in gains:
            left[row] = 0 if new[-1] == eos else left[row]
        for row in (yield gains) or ():
            left[row] = 0
        # Finished rows leave the batch when half of it can: moving the caches costs more than
        # carrying a few idle rows.
        unfinished = [b for b, row in enumerate(rows) if left[row]]
        if not unfinished:
            return
        if len(unfinished) <= len(rows) // 2:
            index = torch.tensor(unfinished, device=device)
            rows, block, fed = [rows[b] for b in unfinished], block[index], fed[index]
            cached.select_rows(index)

        used = max(lengths[row] + max_new - left[row] for row in rows if left[row]) + size
        cached.window = min(slots, used + -used % WINDOW)
        answers, block, fed = verify(cached, block, fed, cached.noise(block))
        gains = []
        for row, (accepted, *path) in zip(rows, answers.tolist(), strict=True):
            if left[row]:
                new = path[: min(accepted + 1, left[row])]
                new = new[: new.index(eos) + 1] if eos in new else new
                left[row] -= len(new)
                gains.append(Gain(row, new, accepted))


def _tree(model: MultiTokenTransformer, k: int | None, tree: Tree | None) -> Tree:
    """The tree of the arguments `k` and `tree`, of which one may be given."""
    n = model.config.n
    if tree is None:
        k = n if k is None else k
        if not 1 <= k <= n:
            raise BadInput(f"k is {k}; it must be from 1 to the model's {n} heads")
        return chain(k)
    if k not in (None, tree.k):
        raise BadInput(f"k is {k} and the tree's is {tree.k}; give one of them")
    if tree.k > n:
        raise BadInput(f"the tree takes {tree.k} heads; the model has {n}")
    if tree.width > model.config.vocab:
        raise BadInput(
            f"the tree takes {tree.width} tokens of a head; the vocabulary has {model.config.vocab}"
        )
    return tree


def check_arguments(
    model: MultiTokenTransformer, prompts: list[list[int]], max_new: int, eos: int | None
) -> None:
    """Raise BadInput for arguments that `generate` cannot use, before anything is computed."""
    c = model.config
    if not prompts:
        raise BadInput("there are no prompts; give at least one list of token ids")
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
