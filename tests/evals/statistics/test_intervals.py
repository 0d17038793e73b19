"""Confidence intervals: Wilson's by its textbook and its quadratic, the bootstrap over groups."""

import random
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics.intervals import Z90, bootstrap, wilson


def test_wilsons_interval_has_the_textbooks_values() -> None:
    assert pytest.approx(NormalDist().inv_cdf(0.95), rel=1e-12) == Z90
    for right, low, high in [(0, 0, 0.2775), (1, 0.0179, 0.4042), (5, 0.2366, 0.7634)]:
        assert wilson(right / 10, 10, 1.959964) == pytest.approx((low, high), abs=5e-5)
    # the shares p for which |0.5 - p| = z sqrt(p (1 - p) / 100)
    assert wilson(0.5, 100) == pytest.approx((0.418848, 0.581152), abs=2e-6)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_solves_its_quadratic(trials: tuple[int, int]) -> None:
    right, count = trials
    share, w = right / count, Z90**2 / count
    low, high = wilson(share, count)
    solved = np.sort(np.roots([1 + w, -(2 * share + w), share * share]).real)
    assert (low, high) == pytest.approx(tuple(solved), abs=1e-7)
    assert 0 <= low <= share + 1e-12 and share - 1e-12 <= high <= 1 and low < high
    mirrored = wilson(1 - share, count)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_wilsons_interval_shrinks_with_the_trials(share: float) -> None:
    widths = [high - low for low, high in (wilson(share, n) for n in (4, 20, 100, 2000, 10**6))]
    assert widths == sorted(widths, reverse=True) and widths[-1] < 0.002


@pytest.mark.parametrize("count", [20, 100, 500])
def test_wilsons_interval_covers_the_truth_nine_times_in_ten(count: int) -> None:
    rng = np.random.default_rng(0)
    truths = rng.uniform(0.05, 0.95, 10_000)
    seen = rng.binomial(count, truths)
    bounds = [wilson(right / count, count) for right in range(count + 1)]
    low, high = np.array(bounds)[seen].T
    assert np.mean((low <= truths) & (truths <= high)) == pytest.approx(0.9, abs=0.015)


def test_the_bootstrap_draws_whole_groups() -> None:
    # one group right and one wrong, ten questions each: a draw of two groups has 0, 10 or 20 right
    assert bootstrap([[True] * 10, [False] * 10]) == (0.0, 1.0)
    # as single questions the same twenty are far more certain
    low, high = bootstrap([[True]] * 10 + [[False]] * 10)
    near = wilson(0.5, 20)
    assert (low, high) == pytest.approx(near, abs=0.06)
    assert bootstrap([[True, False]] * 30) == (0.5, 0.5)
    assert bootstrap([]) == bootstrap([[]]) == (0.0, 1.0)
    some = [[True] * 3, [False] * 2]
    assert bootstrap(some) == bootstrap([some[0], [], some[1]])


def test_the_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    draw, inside = random.Random(1), 0
    for _ in range(300):
        groups = [[draw.random() < 0.3] * draw.randint(1, 4) for _ in range(60)]
        low, high = bootstrap(groups, 200)
        inside += low <= 0.3 <= high
    assert 0.82 < inside / 300 < 0.95
