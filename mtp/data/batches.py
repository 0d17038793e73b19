"""Token shards -> batches of inputs and n shifted targets, resumable at any window.

A split is cut into windows of `context` inputs. Window w covers tokens [w context, (w+1) context)
and reads n tokens further for its targets, so that no target is lost at a window's edge. In a split
of prompts and completions each record is a window (mtp/data/pairs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mtp.errors import BadInput
from mtp.data.pairs import Pairs

if TYPE_CHECKING:
    import torch

IGNORE = -100  # what torch's cross-entropy skips by default


class Tokens(Protocol):
    """What batches need from a split (mtp.data.shards.Split): its size, eos id and a reader."""

    @property
    def tokens(self) -> int: ...
    @property
    def eos(self) -> int: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...


def future_targets(
    window: np.ndarray, eos: int, n: int, valid: np.ndarray | None = None
) -> np.ndarray:
    """The n next tokens of each position, up to the end of its document.

    window (B, T+n) token ids; returns (n, B, T) int64, where [i-1, b, t] is window[b, t+i]. It is
    IGNORE if there is an eos among window[b, t .. t+i-1] (an eos is a target but has no targets),
    or if `valid` (B, T+n) is False at the target.
    """
    length = window.shape[1] - n
    is_eos = (window == eos).astype(np.int64)
    document = np.cumsum(is_eos, axis=1) - is_eos  # eos tokens seen before each position
    kept = window if valid is None else np.where(valid, window, IGNORE)
    targets = np.empty((n, len(window), length), dtype=np.int64)
    for i in range(1, n + 1):
        same = document[:, i : i + length] == document[:, :length]
        targets[i - 1] = np.where(same, kept[:, i : i + length], IGNORE)
    return targets


def _window(split: Tokens, index: int, context: int, n: int, end: int) -> tuple[np.ndarray, ...]:
    """The tokens (context+n,) of a window, padded with eos, and whether each may be a target: it
    must be before `end`."""
    if isinstance(split, Pairs):
        return split.window(index, context, n)
    start = index * context
    tokens = np.full(context + n, split.eos, dtype=np.int64)
    found = split.read(start, min(start + context + n, end))
    tokens[: len(found)] = found
    return tokens, np.arange(context + n) < len(found)


def _batch(
    split: Tokens, indices: Iterator[int] | range, context: int, n: int, end: int
) -> tuple[torch.LongTensor, torch.LongTensor]:
    windows, valid = map(
        np.stack, zip(*(_window(split, i, context, n, end) for i in indices), strict=True)
    )
    targets = future_targets(windows, split.eos, n, valid)
    inputs = np.ascontiguousarray(windows[:, :context])
    import torch

    return torch.from_numpy(inputs), torch.from_numpy(targets)  # pyright: ignore[reportReturnType]


def _windows(split: Tokens, context: int, end: int) -> int:
    """How many windows the first `end` tokens fill."""
    if isinstance(split, Pairs):
        return split.records_within(end)
    return max(-(-(end - 1) // context), 0)  # the last token is an input to nothing


def epoch_tokens(split: Tokens, context: int) -> int:
    """Tokens in a pass over the split. For pairs, padding counts: each record is a whole window."""
    return split.records * context if isinstance(split, Pairs) else split.tokens


class Batches:
    """Endless shuffled training batches, a pure function of the seed and the windows consumed.

    batch    windows per step over all ranks; this rank gets a contiguous batch / world of them
    context  inputs per window
    n        targets per input

    Raises BadInput if the split has fewer windows than a batch.
    """

    def __init__(
        self,
        split: Tokens,
        batch: int,
        context: int,
        n: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % world:
            raise BadInput(f"batch {batch} does not divide over {world} ranks; choose a multiple")
        if seed < 0:
            raise BadInput(f"seed is {seed}; it must be at least 0")
        self.split, self.batch, self.context, self.n, self.seed = split, batch, context, n, seed
        self.rows = range(rank * batch // world, (rank + 1) * batch // world)
        self.windows = 0  # consumed so far, over all ranks
        self.windows_per_epoch = _windows(split, context, split.tokens)
        if self.windows_per_epoch < batch:
            raise BadInput(
                f"the corpus has {self.windows_per_epoch} windows of {context} tokens, fewer than "
                f"one batch of {batch}; choose a smaller batch or context, or a larger corpus"
            )
        self._order = lru_cache(2)(self._permutation)

    @property
    def epoch(self) -> float:
        """Passes over the split so far."""
        return self.windows / self.windows_per_epoch

    def next(self) -> tuple[torch.LongTensor, torch.LongTensor]:
        """This rank's inputs (b, context) and targets (n, b, context) for the next step."""
        batch = self.at(self.windows)
        self.windows += self.batch
        return batch

    def at(self, windows: int) -> tuple[torch.LongTensor, torch.LongTensor]:
        """The batch after `windows` consumed windows, as `next` returns it there."""
        indices = [self._index(windows + row) for row in self.rows]
        return _batch(self.split, iter(indices), self.context, self.n, self.split.tokens)

    def state(self) -> dict[str, int]:
        """The position in the stream and what identifies the stream, for JSON."""
        return {"windows": self.windows} | self._identity()

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises BadInput if it belongs to other data."""
        for key, ours in self._identity().items():
            if state.get(key) != ours:
                raise BadInput(
                    f"the saved data order is for {key} {state.get(key)}, this run has {ours}; "
                    "resume with the same corpus, context and seed, or start a new run"
                )
        self.windows = int(state["windows"])

    def _identity(self) -> dict[str, int]:
        return {"tokens": self.split.tokens, "context": self.context, "seed": self.seed}

    def _index(self, consumed: int) -> int:
        epoch, place = divmod(consumed, self.windows_per_epoch)
        return int(self._order(epoch)[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        # raw bits, unlike Generator.permutation, are the same in every version of numpy
        bits = np.random.PCG64([self.seed, epoch]).random_raw(self.windows_per_epoch)
        return np.argsort(bits, kind="stable")


def evaluation_batches(
    split: Tokens, batch: int, context: int, n: int, limit_tokens: int | None = None
) -> Iterator[tuple[torch.LongTensor, torch.LongTensor]]:
    """Inputs (b, context) and targets (n, b, context) in order, b <= batch; each token comes once.

    If `limit_tokens` is set, only so many first tokens are scored. Raises BadInput for an empty
    split.
    """
    end = split.tokens if limit_tokens is None else min(limit_tokens, split.tokens)
    if end < 2:
        raise BadInput(
            f"there is nothing to evaluate in {end} tokens; choose a larger corpus, share of "
            "validation documents or limit_tokens"
        )
    windows = _windows(split, context, end)
    for first in range(0, windows, batch):
        yield _batch(split, range(first, min(first + batch, windows)), context, n, end)
