"""Token shards -> batches of windows, resumable at any window.

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
    from mtp.data.window import Window

ORDER = 2  # version of the order of windows


class Tokens(Protocol):
    """What batches need from a split (mtp.data.shards.Split): its size, eos id and a reader."""

    @property
    def tokens(self) -> int: ...
    @property
    def eos(self) -> int: ...
    def read(self, start: int, stop: int) -> np.ndarray: ...


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


def _batch(split: Tokens, indices: Iterator[int] | range, context: int, n: int, end: int) -> Window:
    tokens, valid = map(
        np.stack, zip(*(_window(split, i, context, n, end) for i in indices), strict=True)
    )
    import torch

    from mtp.data.window import Window

    return Window(torch.from_numpy(tokens), torch.from_numpy(valid), n, split.eos)


def _windows(split: Tokens, context: int, end: int) -> int:
    """How many windows the first `end` tokens fill."""
    if isinstance(split, Pairs):
        return split.records_within(end)
    return max(-(-(end - 1) // context), 0)  # the last token is an input to nothing


def epoch_tokens(split: Tokens, context: int) -> int:
    """Tokens in a pass over the split. For pairs, padding counts: each record is a whole window."""
    return split.records * context if isinstance(split, Pairs) else split.tokens


def check_divides(batch: int, world: int) -> None:
    """Raise BadInput unless every rank gets as many sequences of a step."""
    if batch % world:
        raise BadInput(f"batch {batch} does not divide over {world} ranks; choose a multiple")


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
        check_divides(batch, world)
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

    def next(self) -> Window:
        """This rank's windows for the next step, (b, context + n) tokens."""
        batch = self.at(self.windows)
        self.windows += self.batch
        return batch

    def at(self, windows: int) -> Window:
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
        self.check_state(state)
        self.windows = int(state["windows"])

    def check_state(self, state: dict[str, Any]) -> None:
        """Raise BadInput if `state` belongs to other data."""
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

    def _identity(self) -> dict[str, int]:
        tokens = self.split.tokens
        return {"tokens": tokens, "context": self.context, "seed": self.seed, "order": ORDER}


def evaluation_batches(
    split: Tokens, batch: int, context: int, n: int, limit_tokens: int | None = None
) -> Iterator[Window]:
    """Windows in order; each token is a target of head 1 once. All batches have one shape,
    b <= batch: rows without targets fill up the last one, for which torch.compile would compile
    anew.

    If `limit_tokens` is set, only so many first tokens are scored. Raises BadInput for an empty
    split.
    """
    import torch

    from mtp.data.window import Window

    end = split.tokens if limit_tokens is None else min(limit_tokens, split.tokens)
    if end < 2:
        raise BadInput(
            f"there is nothing to evaluate in {end} tokens; choose a larger corpus, share of "
            "validation documents or limit_tokens"
        )
    windows = _windows(split, context, end)
    rows = min(batch, windows)
    for first in range(0, windows, rows):
        found = _batch(split, range(first, min(first + rows, windows)), context, n, end)
        if missing := rows - len(found.tokens):
            tokens = torch.cat([found.tokens, found.tokens.new_zeros(missing, context + n)])
            valid = torch.cat([found.valid, found.valid.new_zeros(missing, context + n)])
            found = Window(tokens, valid, n, split.eos)
        yield found
