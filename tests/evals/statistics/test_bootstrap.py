"""Intervals over seeds and problems: they cover the truth whatever deviates, and single values are
those of the definition."""

import numpy as np
import pytest

from evals.statistics import bootstrap
from evals.statistics.bootstrap import (
    deviations,
    difference_of_ratios,
    intervals,
    over_seeds_and_problems,
)
from evals.statistics.intervals import Estimate, student

RUNS = 600
NOISE = 3 * (0.9 * 0.1 / RUNS) ** 0.5  # 3.7 points


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for the coverage of hundreds of simulated studies."""
    monkeypatch.setattr(bootstrap, "TIMES", 500)


def simulated(
    seeds: int, problems: int, of_seeds: float, of_problems: float, single: float
) -> np.ndarray:
    """Scores whose true mean is 1 (RUNS, S, P), with these standard deviations."""
    rng = np.random.default_rng(seeds * problems)
    return (
        1
        + of_seeds * rng.normal(size=(RUNS, seeds, 1))
        + of_problems * rng.normal(size=(RUNS, 1, problems))
        + single * rng.normal(size=(RUNS, seeds, problems))
    )


def covered(above: np.ndarray, below: np.ndarray) -> float:
    _, low, high = intervals([(1, above, below)])
    return float(np.mean((low <= 1) & (high >= 1)))


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize(
    ("of_seeds", "of_problems", "single", "most"),
    [
        pytest.param(1, 0, 1, 0.90, id="seeds"),
        pytest.param(0.01, 1, 0.01, 0.90, id="problems"),
        pytest.param(0, 0, 1, 0.92, id="single answers"),
        pytest.param(1, 5, 1, 0.95, id="seeds and problems"),
    ],
)
def test_nine_in_ten_intervals_cover_the_truth(
    seeds: int, of_seeds: float, of_problems: float, single: float, most: float
) -> None:
    scores = simulated(seeds, 40, of_seeds, of_problems, single)
    found = covered(scores, np.ones_like(scores))
    assert 0.9 - NOISE < found < most + NOISE


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("seeds", [3, 10])
def test_ratios_over_documents_of_unequal_lengths_are_covered(seeds: int) -> None:
    length = np.random.default_rng(0).lognormal(5, 0.8, (RUNS, 1, 100))
    above = length * simulated(seeds, 100, 0.05, 0.5, 0.5)
    assert covered(above, np.broadcast_to(length, above.shape)) == pytest.approx(0.9, abs=0.05)


def test_plain_percentiles_would_cover_less() -> None:
    rng = np.random.default_rng(0)
    scores = simulated(3, 40, 1, 0, 1).mean(2)
    means = scores[:, rng.integers(3, size=(1000, 3))].mean(-1)
    low, high = np.quantile(means, (0.05, 0.95), axis=1)
    assert np.mean((low <= 1) & (high >= 1)) < 0.7


def known(found: Estimate | None) -> Estimate:
    assert found is not None
    return found


def test_if_only_seeds_deviate_the_interval_is_students() -> None:
    by_seed = [0.1, 0.3, 0.2, 0.25]
    found = known(over_seeds_and_problems(np.repeat([by_seed], 30, 0).T))
    assert found.value == pytest.approx(np.mean(by_seed))
    assert found[1:] == pytest.approx(student(by_seed), abs=0.003)


def test_if_only_problems_deviate_further_seeds_add_nothing() -> None:
    score = np.random.default_rng(0).normal(size=200)
    half = 1.653 * score.std(ddof=1) / 200**0.5  # Student's t, 199 degrees of freedom
    for seeds in (2, 9):
        found = known(over_seeds_and_problems(np.tile(score, (seeds, 1))))
        assert found == pytest.approx((score.mean(), score.mean() - half, score.mean() + half),
                                      abs=0.006)  # fmt: skip


def test_the_value_of_a_ratio_is_that_of_the_sums() -> None:
    bits, size = np.array([[8.0, 30.0], [10.0, 32.0]]), np.array([4.0, 16.0])
    found = known(over_seeds_and_problems(bits, size))
    assert found.value == pytest.approx((38 / 20 + 42 / 20) / 2)
    assert found.low < found.value < found.high
    for factor in (1e-6, 1e6):  # the unit does not matter
        scaled = known(over_seeds_and_problems(bits * factor, size))
        assert np.array(scaled) == pytest.approx(np.array(found) * factor)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    size = rng.lognormal(5, 0.5, 50)
    bits = size * (2 + 0.5 * rng.normal(size=50) + 0.1 * rng.normal(size=(4, 1)))
    more = bits + size * (0.1 + 0.01 * rng.normal(size=(4, 50)))
    sizes = np.broadcast_to(size, bits.shape)
    found = known(difference_of_ratios((more, sizes), (bits, sizes)))
    assert found.value == pytest.approx(0.1, abs=0.01) and found.high - found.low < 0.02
    alone = known(over_seeds_and_problems(more, size))
    assert alone.high - alone.low > 0.1
    # With the same denominators it is the ratio of differences.
    assert found == pytest.approx(known(over_seeds_and_problems(more - bits, size)))
    swapped = known(difference_of_ratios((bits, sizes), (more, sizes)))
    assert swapped == pytest.approx((-found.value, -found.high, -found.low), rel=0.02)


def test_it_is_the_same_each_time_and_one_seed_has_no_interval() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 20))
    assert over_seeds_and_problems(scores) == over_seeds_and_problems(scores)
    assert over_seeds_and_problems(scores[:1]) is None
    same = known(over_seeds_and_problems(np.full((3, 20), 0.5)))
    assert same == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("above", "below", "message"),
    [
        (np.ones(4), None, r"\(4,\) is not \(seeds, problems\)"),
        (np.ones((3, 1)), None, "two problems or more"),
        (np.full((3, 4), np.nan), None, "must be numbers"),
        (np.ones((3, 4)), np.zeros(4), "two in each seed above 0"),
        (np.ones((3, 4)), np.array([0, 0, 0, 1]), "two in each seed above 0"),
        (np.ones((3, 4)), np.array([1, 1, -1, 1]), "0 or more"),
    ],
)
def test_unusable_input_is_refused(
    above: np.ndarray, below: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        over_seeds_and_problems(above, below)


def test_unpaired_input_is_refused() -> None:
    pair, other = np.ones((3, 4)), np.ones((3, 5))
    with pytest.raises(ValueError, match="not paired"):
        difference_of_ratios((pair, pair), (other, other))


def test_draws_get_the_jackknifes_error_and_students_tails() -> None:
    drawn = np.concatenate(list(bootstrap.weights(8)))
    items = np.random.default_rng(0).normal(size=8)
    means, without = (drawn @ items) / drawn.sum(1), (items.sum() - items) / 7
    apart = deviations(means, np.array(items.mean()), without)
    # The mean's standard error by t / z, 1.895 / 1.645; the plain draws deviate less.
    error = items.std(ddof=1) / 8**0.5
    assert apart.std() / error == pytest.approx(1.895 / 1.645, rel=1e-3)
    assert 0.8 < means.std() / error < 0.93
