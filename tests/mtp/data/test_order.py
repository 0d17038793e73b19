"""The shuffled order is a permutation for any size, and one for each seed and epoch."""

import numpy as np
import pytest

from mtp.data.order import shuffled


def whole(size: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return shuffled(np.arange(size), size, seed, epoch).tolist()


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 255, 256, 257, 4095, 4096, 65_537])
def test_every_number_comes_once(size: int) -> None:
    assert sorted(whole(size)) == list(range(size))


def test_a_place_is_the_same_alone_and_among_others() -> None:
    order = whole(1000, 3, 5)
    for places in ([7], [999, 0, 7], [7, 7]):
        assert shuffled(np.array(places), 1000, 3, 5).tolist() == [order[i] for i in places]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = [whole(500, seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert sum(x == y for x, y in zip(a, b, strict=True)) < 15  # one is expected
    assert whole(500, 1, 2) == whole(500, 1, 2)


def test_neighbours_are_scattered() -> None:
    """As in a uniform permutation, a number is a third of the size from its place on average, and
    from its neighbour."""
    size = 10_000
    order = np.array(whole(size))
    assert np.abs(order - np.arange(size)).mean() == pytest.approx(size / 3, rel=0.05)
    assert np.abs(np.diff(order)).mean() == pytest.approx(size / 3, rel=0.05)
    assert (np.diff(order) > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(order, np.arange(size))[0, 1]) < 0.04


def test_the_order_does_not_change_between_versions() -> None:
    assert whole(10, 1, 2) == [9, 7, 8, 1, 0, 5, 6, 4, 2, 3]


def test_a_vast_corpus_costs_no_table() -> None:
    size = 10**14
    found = shuffled(np.arange(1000), size, 0, 0)
    assert len(set(found.tolist())) == 1000 and (found < size).all() and found.min() >= 0
