"""Token shards -> batches of inputs and n shifted targets, resumable at any window.

A split is cut into windows of `context` inputs. Window w covers tokens [w context, (w+1) context)
and reads n tokens further for its targets, so that no target is lost at a window's edge. In a split
of prompts and completions each record is a window (mtp/data/pairs.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mtp.data.order import shuffled
from mtp.data.pairs import Pairs
from mtp.errors import BadInput

if TYPE_CHECKING:
    import torch

ORDER = 2  # version of the order of windows
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
        epochs, places = np.divmod(windows + np.array(self.rows), self.windows_per_epoch)
        indices = np.empty_like(places)
        for epoch in set(epochs.tolist()):  # a batch may lie across the end of one
            here = epochs == epoch
            size = self.windows_per_epoch
            indices[here] = shuffled(places[here], size, self.seed, epoch)
        found = iter(indices.tolist())
        return _batch(self.split, found, self.context, self.n, self.split.tokens)

    def state(self) -> dict[str, int]:
        """The position in the stream and what identifies the stream, for JSON."""
        return {"windows": self.windows} | self._identity()

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state`. Raises BadInput if it belongs to other data."""
        if state.get("order") != ORDER:
            raise BadInput(
                "this run was begun by a version that shuffled in another order; finish it with "
                "that one, or start a new run"
            )
        for key, ours in self._identity().items():
            if state.get(key) != ours:
                raise BadInput(
                    f"the saved data order is for {key} {state.get(key)}, this run has {ours}; "
                    "resume with the same corpus, context and seed, or start a new run"
                )
        self.windows = int(state["windows"])

    def _identity(self) -> dict[str, int]:
        tokens = self.split.tokens
        return {"tokens": tokens, "context": self.context, "seed": self.seed, "order": ORDER}


def evaluation_batches(
    split: Tokens, batch: int, context: int, n: int, limit_tokens: int | None = None
) -> Iterator[tuple[torch.LongTensor, torch.LongTensor]]:
    """Inputs (b, context) and targets (n, b, context) in order; each token comes once. All batches
    have one shape, b <= batch: rows without targets fill up the last one, for which torch.compile
    would compile anew.

    If `limit_tokens` is set, only so many first tokens are scored. Raises BadInput for an empty
    split.
    """
    import torch

    end = split.tokens if limit_tokens is None else min(limit_tokens, split.tokens)
    if end < 2:
        raise BadInput(
            f"there is nothing to evaluate in {end} tokens; choose a larger corpus, share of "
            "validation documents or limit_tokens"
        )
    windows = _windows(split, context, end)
    rows = min(batch, windows)
    for first in range(0, windows, rows):
        found = range(first, min(first + rows, windows))
        inputs, targets = _batch(split, found, context, n, end)
        if missing := rows - len(inputs):
            inputs = torch.cat([inputs, inputs.new_zeros(missing, context)])
            nothing = targets.new_full((n, missing, context), IGNORE)
            targets = torch.cat([targets, nothing], 1)
        yield inputs, targets  # pyright: ignore[reportReturnType]
