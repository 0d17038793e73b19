"""Intervals over problems cover the truth nine times in ten and do not collapse, by simulation."""

import itertools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics import pass_at_k
from evals.statistics.pass_at_k import Estimate, bounds

SAMPLES, RUNS = 10, 600
NOISE = 2.5 * (0.9 * 0.1 / RUNS) ** 0.5  # of a share of the runs, if it is 0.9 in truth
RATES = (0.0, 0.01, 0.05, 0.5)
COUNTS = (20, 50, 164)


def truths(rng: np.random.Generator, kind: str, rate: float, problems: int) -> np.ndarray:
    """The rates at which problems are solved (RUNS, P), `rate` in the mean: all alike, some easier
    than others, or each solved always or never."""
    shape = (RUNS, problems)
    if rate == 0 or kind == "alike":
        return np.full(shape, rate)
    if kind == "mixed":
        return rng.beta(2 * rate, 2 * (1 - rate), shape)
    return (rng.random(shape) < rate).astype(float)


def solved(rng: np.random.Generator, kind: str, rate: float, problems: int) -> np.ndarray:
    return rng.binomial(SAMPLES, truths(rng, kind, rate, problems)) / SAMPLES


def intervals(scores: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """Of the mean of each row (M, P)."""
    sums, shares = list[np.ndarray](), list[np.ndarray]()
    for drawn, unseen in pass_at_k.weights(scores.shape[1]):
        whole = (drawn.sum(1) + unseen)[:, None]
        sums.append(drawn @ scores.T / whole)
        shares.append(unseen[:, None] / whole)
    return bounds(np.concatenate(sums), np.concatenate(shares), lowest)


def one(row: np.ndarray) -> Estimate:
    return pass_at_k.estimate(row[None], pass_at_k.mean)


def test_intervals_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (solved(rng, "mixed", 0.3, 30)[:3] for _ in "ab")
    low, high = intervals(ours, 0)
    for i, row in enumerate(ours):
        assert one(row)[1:] == pytest.approx((low[i], high[i]), abs=1e-12)
    low, high = intervals(ours - theirs, -1)
    for i in range(3):
        found = pass_at_k.difference(ours[[i]], theirs[[i]], pass_at_k.mean)
        assert found[1:] == pytest.approx((low[i], high[i]), abs=1e-12)


@pytest.mark.parametrize("kind", ["alike", "mixed", "all or nothing"])
@pytest.mark.parametrize("problems", COUNTS)
def test_rates_are_covered_nine_times_in_ten(problems: int, kind: str) -> None:
    rng = np.random.default_rng(problems)
    for rate in RATES:
        low, high = intervals(solved(rng, kind, rate, problems), 0)
        covered = np.mean((low <= rate) & (rate <= high))
        assert covered >= 0.9 - NOISE, (rate, covered)
        if problems == 164 and rate == 0.5:  # and no more than it should
            assert covered <= 0.97, covered


@pytest.mark.parametrize("kind", ["alike", "mixed", "all or nothing"])
@pytest.mark.parametrize("problems", COUNTS)
def test_differences_are_covered_nine_times_in_ten(problems: int, kind: str) -> None:
    rng = np.random.default_rng(1 + problems)
    for ours, theirs in [*zip(RATES, RATES, strict=True), *itertools.pairwise(RATES)]:
        scores = solved(rng, kind, ours, problems) - solved(rng, kind, theirs, problems)
        low, high = intervals(scores, -1)
        covered = np.mean((low <= ours - theirs) & (ours - theirs <= high))
        assert covered >= 0.9 - NOISE, (ours, theirs, covered)


@pytest.mark.parametrize("problems", COUNTS)
def test_problems_solved_always_or_never_have_clopper_and_pearsons_interval(problems: int) -> None:
    """Its bounds are the rates at which so many, or so few, are solved one time in twenty."""

    def at_least(count: int, rate: float) -> float:
        return sum(
            comb(problems, i) * rate**i * (1 - rate) ** (problems - i)
            for i in range(count, problems + 1)
        )

    for count in (0, 1, problems // 2, problems):
        value, low, high = one((np.arange(problems) < count).astype(float))
        assert value == pytest.approx(count / problems)
        assert at_least(count, low) == pytest.approx(0.05, abs=0.012) if count else low == 0
        fewer = 1 - at_least(count + 1, high)
        assert fewer == pytest.approx(0.05, abs=0.012) if count < problems else high > 1 - 1e-9


@pytest.mark.parametrize("problems", COUNTS)
def test_one_solved_sample_does_not_narrow_the_interval(problems: int) -> None:
    none = np.zeros(problems)
    some = none.copy()
    widths = list[float]()
    for _ in range(SAMPLES):
        found = one(some)
        widths.append(found.high - found.low)
        some[problems // 2] += 1 / SAMPLES
    assert all(b >= a * 0.99 for a, b in itertools.pairwise(widths))
    zero = none[None]
    one_more = zero.copy()
    one_more[0, 0] = 1 / SAMPLES
    same = pass_at_k.difference(zero, zero, pass_at_k.mean)
    other = pass_at_k.difference(one_more, zero, pass_at_k.mean)
    assert other.high - other.low > 0.95 * (same.high - same.low)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, SAMPLES), min_size=1, max_size=30), st.data())
def test_a_sample_more_moves_no_bound_backwards(passed: list[int], data: st.DataObject) -> None:
    which = data.draw(st.integers(0, len(passed) - 1))
    row = np.array(passed) / SAMPLES
    more = row.copy()
    more[which] = min(1, row[which] + 1 / SAMPLES)
    before, after = one(row), one(more)
    assert after.low >= before.low - 1e-12 and after.high >= before.high - 1e-12
    assert 0 <= before.low <= before.value + 1e-9 and before.value - 1e-9 <= before.high <= 1 + 1e-9


def test_more_problems_make_the_interval_narrower() -> None:
    for rate in (0.0, 0.2, 1.0):
        widths = list[float]()
        for problems in (20, 100, 500, 2500):
            found = one((np.arange(problems) < rate * problems).astype(float))
            widths.append(found.high - found.low)
        assert widths == sorted(widths, reverse=True) and widths[-1] < 0.03


def test_many_problems_are_drawn_in_parts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.random.default_rng(0).random(50)
    whole = one(row)
    monkeypatch.setattr(pass_at_k, "PART", 50 * 300)
    assert one(row) == pytest.approx(whole, abs=1e-12)
