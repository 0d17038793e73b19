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
import os
import sys
import time
from collections.abc import Iterator
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
from mtp.sampling import GREEDY, Sampling, choose_token
from mtp.tokenizer import load
from mtp.transformer import LayerCache
from mtp.trees import Nodes, Tree, chain

WINDOW = 64  # attention looks at a multiple of so many slots: few shapes for compiled steps


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
    rounding decides); sampled ones have the model's distribution. `compiled` has torch compile the
    forward pass, which takes seconds once per model shape, k and tree. BadInput names an unusable
    argument; a prompt with its max_new tokens must fit the model's context.
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
) -> Iterator[list[Gain]]:
    """As `generate`, pass by pass: first each prompt's first token, from the prefill; then what
    each forward pass gave the rows that were not finished."""
    tree = _tree(model, k, tree)
    check_arguments(model, prompts, max_new, eos)
    device, nodes = model.embedding.weight.device, Nodes(tree, model.embedding.weight)
    lengths = [len(prompt) for prompt in prompts]
    size = len(tree.paths)
    slots = max(lengths) + max_new + size  # of the cache: a block may begin at the last token
    slots += -slots % WINDOW
    cache = model.new_cache(len(prompts), slots, tree.k)
    generator = torch.Generator(device).manual_seed(sampling.seed)
    verify = _compiled if compiled else _verify

    def noise(*shape: int) -> Tensor | None:
        if sampling.temperature == 0:
            return None
        empty = torch.empty(*shape, model.config.vocab, device=device)
        return empty.exponential_(generator=generator)

    # Prefill: all prompts in one pass, padded to the longest.
    longest = max(lengths)
    padded = torch.tensor([p + [0] * (longest - len(p)) for p in prompts], device=device)
    fed = torch.tensor(lengths, device=device)  # (B,) tokens in the caches, all certain
    newest, block = _prefill(model, nodes, padded, fed, cache, sampling, noise(len(prompts)))
    rows = list(range(len(prompts)))  # the prompt that each row of the batch belongs to
    left = [max_new - 1] * len(prompts)  # tokens that each prompt still wants
    gains = [Gain(row, [first], 0) for row, first in enumerate(newest.tolist())]

    while True:
        for row, new, _ in gains:
            left[row] = 0 if new[-1] == eos else left[row]
        yield gains
        # Finished rows leave the batch when half of it can: moving the caches costs more than
        # carrying a few idle rows.
        open_rows = [b for b, row in enumerate(rows) if left[row]]
        if not open_rows:
            return
        if len(open_rows) <= len(rows) // 2:
            index = torch.tensor(open_rows, device=device)
            rows = [rows[b] for b in open_rows]
            block, fed, cache = block[index], fed[index], cache[:, :, index]

        used = max(lengths[row] + max_new - left[row] for row in rows if left[row]) + size
        window = min(slots, used + -used % WINDOW)
        answers, block, fed = verify(
            model, nodes, block, fed, cache, window, sampling, noise(len(rows), size)
        )
        gains = []
        for row, (accepted, *path) in zip(rows, answers.tolist(), strict=True):
            if left[row]:
                new = path[: min(accepted + 1, left[row])]
                new = new[: new.index(eos) + 1] if eos in new else new
                left[row] -= len(new)
                gains.append(Gain(row, new, accepted))


def _prefill(
    model: MultiTokenTransformer,
    nodes: Nodes,
    tokens: Tensor,
    lengths: Tensor,
    cache: Tensor,
    sampling: Sampling,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Padded prompts (B, T) -> the first new token of each (B,), and the block (B, M) to verify."""
    T, last = tokens.shape[1], lengths[:, None] - 1  # (B, 1)
    slots = torch.arange(T, device=tokens.device).expand_as(tokens)
    mask = cache.new_full((T, T), -torch.inf).triu(1).expand(len(tokens), 1, T, T)
    caches = _caches(cache, slots, mask)
    found, rope = _judge(model, tokens, slots, caches)
    best = model.logits(found[1].take_along_dim(last[..., None], 1))[:, 0]  # (B, V)
    newest = choose_token(best, sampling, noise)
    drafts = _drafts(model, found, rope, caches, last, nodes)
    return newest, _block(nodes, newest, drafts)


def _verify(
    model: MultiTokenTransformer,
    nodes: Nodes,
    block: Tensor,
    fed: Tensor,
    cache: Tensor,
    window: int,
    sampling: Sampling,
    noise: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One forward pass over a block (B, M) that follows `fed` (B,) certain tokens.

    -> (B, 1 + k): how many drafts were accepted, and the answers along the accepted path, the one
    after the newest token first; the next block (B, M); and the certain tokens now fed (B,).
    """
    M, slot = block.shape[1], torch.arange(window, device=fed.device)
    start = fed[:, None]  # (B, 1)
    positions = (start + nodes.depth).clamp(max=model.config.context - 1)  # beyond: see `inside`
    slots = start + slot[:M]
    relative = (slot - start).clamp(-1, M) + 1  # (B, W) 0: certain, 1..M: a node, M + 1: nothing
    mask = nodes.mask[:, relative].transpose(0, 1)[:, None]  # (B, 1, M, W)
    caches = _caches(cache, slots, mask)
    found, rope = _judge(model, block, positions, caches)
    answers = choose_token(model.logits(found[1]), sampling, noise)  # (B, M) after each node

    # A node is accepted where it and all its ancestors are the answers at their parents.
    inside = start + nodes.depth < model.config.context
    right = (block == answers[:, nodes.parent]) & inside | (nodes.depth == 0)  # (B, M)
    good = (right[:, None] | ~nodes.ancestors).all(-1)  # (B, M)
    end = (good * (nodes.depth + 1)).argmax(1)  # (B,) the deepest of them
    accepted, path = nodes.depth[end], nodes.path[end]  # (B,), (B, k)
    along = answers.gather(1, path)  # (B, k)
    newest = answers.gather(1, end[:, None])[:, 0]  # (B,)

    # From here on only the accepted path: its keys and values move to their positions' slots.
    steps = slots[:, : nodes.k]  # (B, k)
    if not nodes.chain:
        _move(cache[: len(model.trunk) + _judges(model)], start + path, steps)
        found = {i: h.take_along_dim(path[..., None], 1) for i, h in found.items()}
        rope = rope.take_along_dim(path[None, :, :, None, None], 2)
    mask = torch.where(slot <= steps[..., None], 0.0, -torch.inf)[:, None]  # (B, 1, k, W)
    caches = _caches(cache, steps, mask.to(cache.dtype))
    drafts = _drafts(model, found, rope, caches, accepted[:, None], nodes)
    # Rows that are finished go on; they must not leave the cache.
    fed = (fed + accepted + 1).clamp(max=cache.shape[3] - M)
    return torch.cat([accepted[:, None], along], 1), _block(nodes, newest, drafts), fed


_compiled = torch.compile(_verify)


def _judge(
    model: MultiTokenTransformer, tokens: Tensor, positions: Tensor, caches: list[LayerCache]
) -> tuple[dict[int, Tensor], Tensor]:
    """Latents of the trunk (0) and of the heads that head 1's answer needs; the rotary table."""
    z, rope = model.run_trunk(tokens, positions, caches)
    found = {0: z}
    for i in heads.order(model.config, 1):
        source = found[heads.parent(model.config, i)]
        found[i] = model.heads[i - 1](source, rope, *caches[len(model.trunk) + i - 1 :][:1])
    return found, rope


def _judges(model: MultiTokenTransformer) -> int:
    """The head layers with caches that `_judge` runs; they come first (HEADS)."""
    config = model.config
    return len(heads.order(config, 1)) if config.head in TRANSFORMER_HEADS else 0


def _drafts(
    model: MultiTokenTransformer,
    found: dict[int, Tensor],
    rope: Tensor,
    caches: list[LayerCache],
    at: Tensor,
    nodes: Nodes,
) -> Tensor:
    """The best `width` tokens of heads 2..k at index `at` (B, 1) -> (B, k - 1, width).

    Heads whose latents others attend to run over all T positions, the rest answer at `at` alone.
    """
    config, wanted = model.config, heads.order(model.config, nodes.k)
    one = at[..., None]
    last = {i: h.take_along_dim(one, 1) for i, h in found.items()}  # (B, 1, D) each
    for i in wanted:
        if i in found:
            continue
        above, head = heads.parent(config, i), model.heads[i - 1]
        if config.head not in TRANSFORMER_HEADS:
            last[i] = head(last[above])
        elif any(j in wanted for j in heads.children(config, i)):
            found[i] = head(found[above], rope, caches[len(model.trunk) + i - 1])
            last[i] = found[i].take_along_dim(one, 1)
        else:
            last[i] = head(found[above], rope, caches[len(model.trunk) + i - 1], at)
    latents = [last[i] for i in range(2, nodes.k + 1)]
    if not latents:
        return at.new_empty(len(at), 0, nodes.width)
    if len(model.unembeddings) == 1:  # read the big matrix once, not once per head
        logits = model.logits(torch.cat(latents, 1))  # (B, k - 1, V)
    else:
        logits = torch.cat([model.logits(h, i) for i, h in enumerate(latents, 2)], 1)
    return logits.topk(nodes.width).indices if nodes.width > 1 else logits.argmax(-1, True)


def _block(nodes: Nodes, newest: Tensor, drafts: Tensor) -> Tensor:
    """The tokens of a tree's nodes (B, M) from the newest token (B,) and each head's candidates."""
    return torch.cat([newest[:, None], drafts.flatten(1)], 1)[:, nodes.source]


def _flat(slots: Tensor, cache: Tensor) -> Tensor:
    """Slots of each row (B, T) -> their places among all B S slots (B T)."""
    rows = torch.arange(len(slots), device=slots.device)[:, None]
    return (rows * cache.shape[3] + slots).flatten()


def _caches(cache: Tensor, slots: Tensor, mask: Tensor) -> list[LayerCache]:
    """Every layer's part of the cache, to write at `slots` (B, T) and look where `mask` says."""
    places = _flat(slots, cache)
    return [LayerCache(k, v, places, mask) for k, v in cache]


def _move(cache: Tensor, source: Tensor, target: Tensor) -> None:
    """Copy the keys and values at slots `source` (B, k) to slots `target`, in every layer."""
    flat = cache.flatten(0, 1).flatten(1, 2)  # (layers 2, B S, K, E)
    moved = flat.index_select(1, _flat(source, cache))
    flat.index_copy_(1, _flat(target, cache), moved)


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
    text = sys.stdin.read() if args.prompt == "-" else args.prompt
    prompt = [tokenizer.bos, *tokenizer.encode(text)]
    passes = stream(model, [prompt], args.max_new, args.k, tokenizer.eos, sampling=sampling)
    start, made, shown, accepted, count = time.perf_counter(), [], "", 0, -1
    green = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    print(text, end="", flush=True)
    for ((_, tokens, drafts),) in passes:
        for token, draft in zip(tokens, [True] * drafts + [False] * len(tokens), strict=False):
            made.append(token)
            new = tokenizer.decode(made)[len(shown) :]
            if new.endswith("\ufffd") and len(made) < args.max_new:
                continue  # a character of several tokens, not whole yet
            shown += new
            print(f"\033[32m{new}\033[0m" if draft and green else new, end="", flush=True)
        accepted, count = accepted + drafts, count + 1
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
