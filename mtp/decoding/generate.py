"""Decoding with key-value caches: one token per forward pass, or a block of drafts (section 3.2).

Self-speculative decoding (blockwise, Stern et al. 2018): heads 2..k draft the tokens after the next
one, and the next forward pass verifies all drafts at once, with head 1 as the verifier:

    block fed          [newest token, draft 2, draft 3, draft 4]        k = 4
    head 1 answers     [a            , b      , c      , d      ]
    draft 2 == a, draft 3 == b, draft 4 != c: a, b and c are certain. The next block starts with c;
    its drafts come from heads 2..4 at the position of draft 3, the last accepted one.

Every token is head 1's answer after certain tokens only, so the output is the same as for k = 1,
where the block is only the newest token and this loop is plain autoregressive decoding. An answer
is the argmax, or is drawn from head 1's distribution at that node. The drafts follow from certain
tokens, even where heads are fed with drafts (mtp/decoding/readers.py), and the draws do not depend
on them, so accepted tokens have the same distribution as without drafts. A draft is accepted with
its probability under the model, which is the most that any lossless rule can accept of a fixed
draft. A tree verifies several candidates for each position (mtp/decoding/trees.py); a chain is a
special tree.

Heads that are attention layers have caches of their own. Heads that only draft run after the
verification: they compute keys and values for the whole accepted path, so that no certain position
is missing from a cache, and an answer only at its end. A gap would not change the output, but would
make the drafts worse.

The rows of a batch accept different lengths. Slot s of a row's cache holds the row's position s,
and what lies beyond a row's last certain token is hidden until it is overwritten.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mtp.decoding.graphs import GRAPH_WINDOW, GraphedVerify
from mtp.decoding.passes import WINDOW, CachedModel, compiled_verify
from mtp.decoding.readers import cached_model
from mtp.decoding.sampling import GREEDY, Sampling
from mtp.decoding.trees import Nodes, Tree, chain
from mtp.errors import BadInput
from mtp.hardware import has_compiler
from mtp.model.model import MultiTokenTransformer


@dataclass(frozen=True)
class Generation:
    """The new tokens of each prompt, and how many forward passes they took.

    tokens        new tokens per row, with the end-of-text token if it was produced
    forwards      forward passes over the batch after the prefill
    row_forwards  how many of these passes each row took part in before it was finished
    accepted      (k,) row-forwards in which draft i was accepted, at index i - 1; index 0 counts
                  the token that every row-forward verifies, so it is the number of row-forwards

    A row's first token comes from the prefill; the statistics count neither that token nor that
    pass. The last block of a row counts in full, before it is cut at max_new or end-of-text (only
    what lies beyond the model's context never counts). So tokens_per_forward is exactly 1 plus the
    sum of the drafts' acceptances.
    """

    tokens: list[list[int]]
    forwards: int
    row_forwards: list[int]
    accepted: Tensor

    @property
    def acceptance(self) -> Tensor:
        """(k,) the share of row-forwards that accepted draft i, at index i - 1; index 0 is 1."""
        return self.accepted.double() / self.accepted[0]

    @property
    def tokens_per_forward(self) -> float:
        """Verified and accepted tokens per row-forward, as in Table S2; nan if there was none."""
        return float(self.acceptance.sum())


class Gain(NamedTuple):
    """What one forward pass gave one row: certain tokens, and how many drafts were accepted. All
    `tokens` but the last were drafts, unless max_new, end-of-text or the context cut them."""

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

    k heads draft a chain: 1 is autoregressive, None uses all n. A `tree` instead says what they
    draft. Greedy tokens depend neither on k or the tree nor on the other prompts (if two logits are
    equal up to rounding, rounding decides); sampled tokens have the model's distribution. Raises
    BadInput for an unusable argument; a prompt with its max_new tokens must fit in the context.

    `compiled` passes launch less. On a CPU they go through torch.compile: a model, tree or shape
    that is new to the process takes seconds to a minute longer, and later passes are faster (make
    bench-decode). On a GPU they are replayed as CUDA graphs (mtp/decoding/graphs.py), which takes
    each call a few passes' time.
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
    """As `generate`, but yields pass by pass: first each prompt's first token, from the prefill;
    then what each forward pass gave the rows that were not finished. `send(rows)` instead of `next`
    declares rows finished."""
    tree = _tree(model, k, tree)
    check_arguments(model, prompts, max_new, eos)
    device, lengths = model.embedding.weight.device, [len(prompt) for prompt in prompts]
    if compiled and device.type == "cpu" and not has_compiler():
        raise BadInput("compiled decoding needs a C++ compiler; install g++ or do not compile")
    size, longest = len(tree.paths), max(lengths)
    # A block may begin at the last token, and the window grows in steps.
    slots = max(longest + max_new, tree.k) + size
    slots += -slots % WINDOW
    # Several answers to one prompt share its prefill.
    numbers: dict[tuple[int, ...], int] = {}
    which = [numbers.setdefault(tuple(prompt), len(numbers)) for prompt in prompts]
    cached = cached_model(model, Nodes(tree, model.embedding.weight), sampling, len(numbers), slots)
    verify, step = CachedModel.verify, WINDOW
    if compiled and device.type == "cuda":
        verify, step = GraphedVerify(), GRAPH_WINDOW
    elif compiled:
        verify = compiled_verify()

    # Prefill: all prompts in one pass, padded to the longest.
    padded = torch.tensor([[*p, *[0] * (longest - len(p))] for p in numbers], device=device)
    ends = torch.tensor([len(p) for p in numbers], device=device)
    newest, block = cached.prefill(padded, ends, torch.tensor(which, device=device))
    fed = torch.tensor(lengths, device=device)  # (B,) certain tokens in the caches
    rows = list(range(len(prompts)))  # the prompt that each row of the batch belongs to
    left = [max_new - 1] * len(prompts)  # tokens that each prompt still needs
    gains = [Gain(row, [first], 0) for row, first in enumerate(newest.tolist())]

    while True:
        for row, new, _ in gains:
            left[row] = 0 if new[-1] == eos else left[row]
        for row in (yield gains) or ():
            left[row] = 0
        # Finished rows leave the batch when half of the rows are finished: moving the caches costs
        # more than carrying a few idle rows.
        unfinished = [b for b, row in enumerate(rows) if left[row]]
        if not unfinished:
            return
        if len(unfinished) <= len(rows) // 2:
            index = torch.tensor(unfinished, device=device)
            rows, block, fed = [rows[b] for b in unfinished], block[index], fed[index]
            cached.select_rows(index)

        used = max(lengths[row] + max_new - left[row] for row in rows if left[row]) + size
        cached.window = min(slots, used + -used % step)
        answers, block, fed = verify(cached, block, fed, cached.uniform(block))
        gains = []
        for row, (accepted, *path) in zip(rows, answers.tolist(), strict=True):
            if left[row]:
                new = path[: min(accepted + 1, left[row])]
                new = new[: new.index(eos) + 1] if eos in new else new
                left[row] -= len(new)
                gains.append(Gain(row, new, accepted))


def _tree(model: MultiTokenTransformer, k: int | None, tree: Tree | None) -> Tree:
    """The tree that the arguments `k` or `tree` ask for."""
    n = model.config.n
    if tree is None:
        k = n if k is None else k
        if not 1 <= k <= n:
            raise BadInput(f"k is {k}; it must be from 1 to the model's {n} heads")
        return chain(k)
    if k not in (None, tree.k):
        raise BadInput(f"k is {k} and the tree's is {tree.k}; give one of them")
    if tree.k > n:
        raise BadInput(f"the tree needs {tree.k} heads; the model has {n}")
    if tree.width > model.config.vocab:
        raise BadInput(
            f"the tree needs {tree.width} tokens of a head; the vocabulary has {model.config.vocab}"
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
