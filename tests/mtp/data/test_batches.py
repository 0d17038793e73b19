"""Batches lose no target, cross no document, and resume exactly."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtp.data.batches import Batches, evaluation_batches
from mtp.data.window import IGNORE, future_targets
from mtp.errors import BadInput
from tests.mtp.data.helpers import both

EOS = 1


class Memory:
    """A split in memory."""

    def __init__(self, documents: list[list[int]]) -> None:
        self.stream = np.array([i for d in documents for i in [0, *d, EOS]], dtype=np.int64)
        self.tokens, self.eos = len(self.stream), EOS

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.tokens
        return self.stream[start:stop]


def numbered(lengths: list[int]) -> Memory:
    """Documents of distinct tokens, so that a token identifies its position."""
    ids = iter(range(10, 10**6))
    return Memory([[next(ids) for _ in range(length)] for length in lengths])


def reference(stream: list[int], n: int) -> list[list[int]]:
    """targets[i-1][t], document by document, from the definition."""
    targets = [[IGNORE] * len(stream) for _ in range(n)]
    start = 0
    while start < len(stream):
        end = stream.index(EOS, start) if EOS in stream[start:] else len(stream) - 1
        for t in range(start, end + 1):
            for i in range(1, n + 1):
                if t + i <= end:
                    targets[i - 1][t] = stream[t + i]
        start = end + 1
    return targets


documents = st.lists(st.lists(st.integers(2, 9), max_size=12), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None)
@given(documents, st.integers(1, 6))
def test_targets_follow_the_definition(texts: list[list[int]], n: int) -> None:
    stream = Memory(texts).stream
    length = len(stream)
    window = torch.from_numpy(np.concatenate([stream, np.full(n, EOS)])[None])
    assert future_targets(window, EOS, n)[:, 0, :length].tolist() == reference(list(stream), n)


def test_targets_of_documents_shorter_than_n() -> None:
    window = torch.tensor([[0, 5, EOS, 0, EOS, 0, 7, 8]])
    got = future_targets(window, EOS, 3)[:, 0]
    x = IGNORE
    assert got.tolist() == [[5, EOS, x, EOS, x], [EOS, x, x, x, x], [x, x, x, x, x]]


def test_invalid_tokens_are_not_targets() -> None:
    window = torch.tensor([[0, 5, 6, 7]])
    valid = torch.tensor([[True, True, False, True]])
    assert future_targets(window, EOS, 1, valid)[0, 0].tolist() == [5, IGNORE, 7]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 15), min_size=3, max_size=12),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_an_epoch_has_every_target_once(
    lengths: list[int], context: int, n: int, seed: int
) -> None:
    """Head i has one target for every token of a document but its first i, and no other."""
    split = numbered(lengths)
    batches = Batches(split, 1, context, n, seed)
    seen = [Counter() for _ in range(n)]
    while batches.epoch < 1:
        inputs, targets = both(batches.next())
        assert inputs.shape == (1, context) and targets.shape == (n, 1, context)
        for head in range(n):
            seen[head].update(targets[head][targets[head] != IGNORE].tolist())
    whole = [reference(split.stream.tolist(), n)[head] for head in range(n)]
    for head in range(n):
        assert seen[head] == Counter(i for i in whole[head] if i != IGNORE)
    assert seen[0].total() == split.tokens - len(lengths)  # all but each document's bos


def test_epochs_are_shuffled_differently_and_by_the_seed() -> None:
    split = numbered([40] * 10)

    def epoch(batches: Batches) -> list[list[int]]:
        return [row for _ in range(10) for row in batches.next().inputs.tolist()]

    one, again, other = (Batches(split, 4, 11, 2, seed) for seed in (0, 0, 1))
    assert one.windows_per_epoch == 39  # so that a batch straddles two epochs
    first, second = epoch(one), epoch(one)
    assert first != second and first != epoch(other)
    assert [first, second] == [epoch(again), epoch(again)]
    assert sorted(first[:39]) == sorted(first[39:] + second[:38])
    assert one.epoch == pytest.approx(80 / 39)


@pytest.mark.parametrize("steps", [0, 1, 9, 25])
def test_resume_gives_the_same_batches(steps: int) -> None:
    split = numbered([30] * 10)
    whole, part, resumed = (Batches(split, 4, 8, 3, seed=5) for _ in range(3))
    for _ in range(steps):
        whole.next()
        part.next()
    resumed.load_state(part.state())
    assert resumed.epoch == whole.epoch
    for _ in range(12):
        for ours, theirs in zip(both(resumed.next()), both(whole.next()), strict=True):
            assert torch.equal(ours, theirs)


def test_ranks_share_a_batch() -> None:
    split = numbered([30] * 10)
    ranks = [Batches(split, 6, 8, 2, seed=0, rank=rank, world=3) for rank in range(3)]
    whole = Batches(split, 6, 8, 2, seed=0)
    for _ in range(15):
        inputs, targets = zip(*(both(rank.next()) for rank in ranks), strict=True)
        expected = both(whole.next())
        assert torch.equal(torch.cat(inputs), expected[0])
        assert torch.equal(torch.cat(targets, dim=1), expected[1])


def test_bad_input() -> None:
    split = numbered([30] * 3)
    with pytest.raises(BadInput, match="12 windows of 8 tokens, fewer than one batch of 13"):
        Batches(split, 13, 8, 2, seed=0)
    with pytest.raises(BadInput, match="batch 4 does not divide over 3"):
        Batches(split, 4, 8, 2, seed=0, world=3)
    with pytest.raises(BadInput, match="seed is -1"):
        Batches(split, 4, 8, 2, seed=-1)
    saved = Batches(split, 4, 8, 2, seed=0).state()
    for other in (
        Batches(numbered([30] * 4), 4, 8, 2, seed=0),
        Batches(split, 4, 4, 2, seed=0),
        Batches(split, 4, 8, 2, seed=1),
    ):
        with pytest.raises(BadInput, match="saved data order"):
            other.load_state(saved)
    with pytest.raises(BadInput, match="nothing to evaluate"):
        next(evaluation_batches(Memory([]), 2, 8, 1))


@pytest.mark.parametrize("limit", [None, 2, 33, 64, 10**6])
def test_evaluation_scores_each_token_once_in_order(limit: int | None) -> None:
    split = numbered([5, 0, 40, 17, 1])
    n, scored = 3, [[] for _ in range(3)]
    for inputs, targets in map(both, evaluation_batches(split, 2, 8, n, limit)):
        assert inputs.shape[0] <= 2 and targets.shape == (n, *inputs.shape)
        for head in range(n):
            scored[head] += targets[head][targets[head] != IGNORE].tolist()
    stop = min(limit or split.tokens, split.tokens)
    expected = reference(split.stream.tolist(), n)
    for head in range(n):
        kept = [t for at, t in enumerate(expected[head]) if t != IGNORE and at + head + 1 < stop]
        assert scored[head] == kept
