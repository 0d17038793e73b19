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
A tree verifies several candidates for each place (mtp/trees.py); a chain is a tree.

Heads 2..n are attention layers with caches of their own. They run once the judge has spoken: keys
and values for all of the accepted path, so that no certain position is missing from any cache, and
an answer at its end alone. A hole would not change the output, only make the drafts worse.

Rows of a batch accept different lengths: slot s of a row's cache holds its position s, and what
lies beyond a row's last certain token is hidden until it is overwritten.
"""

import argparse
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from mtp import heads
from mtp.checkpoint import load_model
from mtp.config import TRANSFORMER_HEADS
from mtp.errors import BadInput, exit_cleanly
from mtp.model import MultiTokenTransformer
from mtp.parallel import has_compiler
from mtp.sampling import GREEDY, Sampling, choose_token
from mtp.tokenizer import load
from mtp.transformer import Block, Place
from mtp.trees import Nodes, Tree, chain

WINDOW = 64  # attention looks at a multiple of so many slots, so that shapes change rarely


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
    cached = Cached(model, Nodes(tree, model.embedding.weight), sampling, len(prompts), slots)
    verify = compiled_verify() if compiled else Cached.verify

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
            cached.keep(index)

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


class Cached:
    """A model with its caches, for the passes of `stream` over B rows of `slots` slots.

    The shapes of a pass (B, nodes, window) change rarely: B at least halves, the window grows by
    WINDOW.
    """

    def __init__(
        self, model: MultiTokenTransformer, nodes: Nodes, sampling: Sampling, rows: int, slots: int
    ) -> None:
        self.model, self.nodes, self.sampling = model, nodes, sampling
        self.order = heads.order(model.config, nodes.k)
        self.judges = heads.order(model.config, 1)  # the heads that head 1's answer needs
        self.caches = model.new_caches(rows, slots, nodes.k)
        device = model.embedding.weight.device
        self.slot = torch.arange(slots, device=device)
        self.window = slots  # how many of them a pass looks at
        self.generator = torch.Generator(device).manual_seed(sampling.seed)
        with torch.inference_mode(False):
            for layer in (*model.trunk, *model.heads):
                if isinstance(layer, Block):
                    layer.prepare()

    def keep(self, index: Tensor) -> None:
        """Keep the rows `index` alone."""
        for cache in self.caches:
            cache.keep(index)

    def prefill(self, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Padded prompts (B, T) -> the first new token of each (B,), the block (B, M) to verify."""
        (B, T), last = tokens.shape, lengths[:, None] - 1  # (B, 1)
        slots = self.slot[:T].expand(B, T)
        mask = self.model.embedding.weight.new_full((T, T), -torch.inf).triu(1).expand(B, 1, T, T)
        place = self.place(slots, slots, mask)
        found = self.judge(tokens, place)
        end = found[1].take_along_dim(last[..., None], 1)  # (B, 1, D)
        newest = choose_token(self.model.logits(end), self.sampling, self.noise(last))[:, 0]
        return newest, self.block(newest, self.drafts(found, place, last))

    def verify(
        self, block: Tensor, fed: Tensor, noise: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One forward pass over a block (B, M) that follows `fed` (B,) certain tokens. `noise` is
        what `self.noise` makes for it.

        -> (B, 1 + k): how many drafts were accepted, and the answers along the accepted path, the
        one after the newest token first; the next block (B, M); the certain tokens now fed (B,).
        """
        model, nodes, M, start = self.model, self.nodes, block.shape[1], fed[:, None]
        positions, slots = start + nodes.depth, start + self.slot[:M]  # (B, M)
        inside = positions < model.config.context  # no token beyond it is wanted
        seen = self.slot[: self.window]
        relative = (seen - start).clamp(-1, M) + 1  # (B, W) 0: certain, 1..M: a node, M + 1: none
        mask = nodes.mask[:, relative].transpose(0, 1)[:, None]  # (B, 1, M, W)
        place = self.place(slots, positions.clamp(max=model.config.context - 1), mask)
        found = self.judge(block, place)
        # The answer after each node.
        answers = choose_token(model.logits(found[1]), self.sampling, noise)  # (B, M)

        # A node is accepted where it and all its ancestors are the answers at their parents.
        right = (block == answers[:, nodes.parent]) & inside | (nodes.depth == 0)  # (B, M)
        good = (right[:, None] | nodes.others).all(-1)  # (B, M)
        end = (good * (nodes.depth + 1)).argmax(1)  # (B,) the deepest of them
        accepted, path = nodes.depth[end], nodes.path[end]  # (B,), (B, k)
        newest = answers.gather(1, end[:, None])[:, 0]  # (B,)

        # From here on only the accepted path: its keys and values move to their positions' slots.
        if not nodes.chain:
            self.move(start + path, slots[:, : nodes.k])
            found = {i: h.take_along_dim(path[..., None], 1) for i, h in found.items()}
            slots = slots[:, : nodes.k]  # (B, k)
            mask = torch.where(seen <= slots[..., None], 0.0, -torch.inf)[:, None]  # (B, 1, k, W)
            ahead = slots.clamp(max=model.config.context - 1)
            place = self.place(slots, ahead, mask.to(nodes.mask.dtype))
        drafts = self.drafts(found, place, accepted[:, None])
        # Rows that are finished go on; they must not leave the cache.
        fed = (fed + accepted + 1).clamp(max=len(self.slot) - M)
        along = torch.cat([accepted[:, None], answers.gather(1, path)], 1)
        return along, self.block(newest, drafts), fed

    def judge(self, tokens: Tensor, place: Place) -> dict[int, Tensor]:
        """Latents of the trunk (0) and of the heads that head 1's answer needs."""
        z = self.model.embedding(tokens)  # (B, T, D)
        for layer, cache in zip(self.model.trunk, self.caches, strict=False):
            assert isinstance(layer, Block)
            z = layer.extend(z, cache, place)
        found = {0: z}
        for i in self.judges:
            found[i] = self.head(i, found, place)
        return found

    def head(
        self, i: int, found: dict[int, Tensor], place: Place, at: Tensor | None = None
    ) -> Tensor:
        """Latent of head i (B, T, D), or (B, 1, D) at one index."""
        head, source = self.model.heads[i - 1], found[heads.parent(self.model.config, i)]
        if isinstance(head, Block):
            return head.extend(source, self.caches[len(self.model.trunk) + i - 1], place, at)
        return head(source if at is None else source.take_along_dim(at[..., None], 1))

    def drafts(self, found: dict[int, Tensor], place: Place, at: Tensor) -> Tensor:
        """The best `width` tokens of heads 2..k at index `at` (B, 1) -> (B, k - 1, width).

        Heads whose latents others read run over all T positions, the rest answer at `at` alone.
        """
        model, nodes, found = self.model, self.nodes, dict(found)
        last: dict[int, Tensor] = {}
        for i in self.order:
            if i not in found:
                if any(j in self.order for j in heads.children(model.config, i)):
                    found[i] = self.head(i, found, place)
                else:
                    last[i] = self.head(i, found, place, at)
        for i in range(2, nodes.k + 1):
            if i not in last:
                last[i] = found[i].take_along_dim(at[..., None], 1)  # (B, 1, D)
        latents = [last[i] for i in range(2, nodes.k + 1)]
        if not latents:
            return at.new_empty(len(at), 0, nodes.width)
        if len(model.unembeddings) == 1:  # read the big matrix once, not once per head
            logits = model.logits(torch.cat(latents, 1))  # (B, k - 1, V)
        else:
            logits = torch.cat([model.logits(h, i) for i, h in enumerate(latents, 2)], 1)
        return logits.topk(nodes.width).indices if nodes.width > 1 else logits.argmax(-1, True)

    def noise(self, tokens: Tensor) -> Tensor | None:
        """What it takes to draw a token after each of `tokens` (B, M): (B, M, V), or None."""
        if self.sampling.temperature == 0:
            return None
        noise = torch.empty(*tokens.shape, self.model.config.vocab, device=tokens.device)
        return noise.exponential_(generator=self.generator)

    def block(self, newest: Tensor, drafts: Tensor) -> Tensor:
        """The tokens of the nodes (B, M) from the newest token (B,) and the heads' candidates."""
        return torch.cat([newest[:, None], drafts.flatten(1)], 1)[:, self.nodes.source]

    def place(self, slots: Tensor, positions: Tensor, mask: Tensor) -> Place:
        """Where new tokens (B, T) stand, from their slots and positions."""
        return Place(self.flat(slots), mask, self.model.rope(positions))

    def flat(self, slots: Tensor) -> Tensor:
        """Slots (B, T) of each row -> (B K T,) among all B K S of a layer's keys."""
        B, K, S, _ = self.caches[0].k.shape
        first = torch.arange(B * K, device=slots.device).view(B, K, 1) * S
        return (first + slots[:, None]).flatten()

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy the judges' keys and values at slots `source` (B, k) to slots `target`."""
        own = len(self.judges) if self.model.config.head in TRANSFORMER_HEADS else 0
        source, target = self.flat(source), self.flat(target)
        for cache in self.caches[: len(self.model.trunk) + own]:
            cache.move(source, target)


@functools.cache
def compiled_verify() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """`Cached.verify` through torch.compile: it compiles when called with a model, a tree or a
    shape that is new to this process; beyond the limit torch goes on without compiling."""
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # pyright: ignore[reportPrivateImportUsage]
    return torch.compile(Cached.verify)


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


# --------------------------------------------------------------------------------------------------
# the command line


@exit_cleanly
def main() -> None:
    """Continue a prompt; on a terminal, accepted drafts are green."""
    parser = argparse.ArgumentParser(prog="python -m mtp.decode", description=main.__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="a run's folder")
    parser.add_argument("--prompt", required=True, help="the text to continue; - reads stdin")
    parser.add_argument("--max-new", type=int, default=128, help="tokens (default: 128)")
    parser.add_argument("--k", type=int, help="heads to draft with (default: all; 1: none)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: greedy (default)")
    parser.add_argument("--top-k", type=int, default=0, help="of the best tokens only; 0: all")
    parser.add_argument("--top-p", type=float, default=1.0, help="of the nucleus only")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sampling = Sampling(args.temperature, args.top_k, args.top_p, args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = load_model(args.checkpoint, device), load(args.checkpoint)
    try:
        text = sys.stdin.read() if args.prompt == "-" else args.prompt
        text.encode()
    except UnicodeError:
        raise BadInput("the prompt is not UTF-8") from None
    prompt = [tokenizer.bos, *tokenizer.encode(text)]
    start, made, accepted, count = time.perf_counter(), list[int](), 0, -1
    passes = stream(model, [prompt], args.max_new, args.k, tokenizer.eos, sampling=sampling)
    first = next(passes)  # bad arguments are told before anything is printed
    shown = tokenizer.decode(prompt)
    green = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def show(draft: bool, end: bool = False) -> None:
        nonlocal shown
        new = tokenizer.decode(prompt + made)[len(shown) :]
        if end or not new.endswith("\ufffd"):  # else a character of several tokens, not whole yet
            print(f"\033[32m{new}\033[0m" if draft and green and new else new, end="", flush=True)
            shown += new

    print(text, end="", flush=True)
    for ((_, tokens, drafts),) in itertools.chain([first], passes):
        for i, token in enumerate(tokens):
            made.append(token)
            show(draft=i < drafts)
        accepted, count = accepted + drafts, count + 1
    show(draft=False, end=True)
    seconds = time.perf_counter() - start
    print()
    print(
        f"{len(made)} tokens in {seconds:.2f} s ({len(made) / seconds:.0f} tokens/s), "
        f"{count} forward passes after the prompt's, "
        f"{1 + accepted / max(count, 1):.2f} tokens per forward",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
