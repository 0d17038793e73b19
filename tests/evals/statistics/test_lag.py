"""kappa, the tokens that a baseline needs for an arm's loss: on curves whose truth is known."""

import math

import numpy as np
import pytest

from evals.statistics.contrast import paired
from evals.statistics.lag import Lag, between, lag, lags

BUDGETS = np.array([1.0, 2.0, 4.0])


def curve(tokens: np.ndarray | float) -> np.ndarray:
    """A loss that falls as in scaling laws."""
    return 2 + 3 * np.asarray(tokens, float) ** -0.3


def line(tokens: np.ndarray | float) -> np.ndarray:
    """A loss between whose budgets nothing is to be guessed."""
    return 3 - 0.5 * np.log(tokens)


def test_of_one_seed_it_is_where_the_line_has_the_loss() -> None:
    for kappa in (0.5, 0.7, 1.0, 1.4, 2.0):
        found = lag(BUDGETS, line(BUDGETS)[None], 2, [float(line(2 * kappa))])
        assert found.value == pytest.approx(kappa) and found.interval is None
        assert found.told == (0.5, 2.0) and found.seeds == 1
    assert str(lag(BUDGETS, line(BUDGETS)[None], 2, [float(line(1.62))])) == "0.81 (one seed)"


def test_what_lies_beyond_the_budgets_is_not_guessed() -> None:
    more = lag(BUDGETS, line(BUDGETS)[None], 2, [float(line(4.1))])
    less = lag(BUDGETS, line(BUDGETS)[None], 2, [float(line(0.9))])
    assert (more.value, less.value) == (math.inf, 0.0)
    assert [str(each) for each in (more, less)] == [
        "more than 2.00 (one seed)",
        "less than 0.50 (one seed)",
    ]


def of(kappa: float, deviations: list[float], tokens: float = 2.0) -> Lag:
    """Three seeds whose arm deviates by so much from the loss at kappa."""
    ours = [float(line(kappa * tokens)) + each for each in deviations]
    return lag(BUDGETS, np.tile(line(BUDGETS), (3, 1)), tokens, ours)


@pytest.mark.parametrize(
    ("kappa", "deviation", "text"),
    [
        (0.8, 0.02, "0.80 (0.75 to 0.86)"),
        (1.9, 0.05, "1.90 (more than 1.61)"),
        (0.55, 0.1, "0.55 (less than 0.77)"),
        (1.0, 1.0, "1.00 (the budgets tell no bound)"),
        (2.5, 0.02, "more than 2.00 (more than 2.00)"),
        (2.05, 0.05, "more than 2.00 (more than 1.73)"),
        (0.4, 0.02, "less than 0.50 (less than 0.50)"),
    ],
)
def test_the_interval_may_be_open(kappa: float, deviation: float, text: str) -> None:
    assert str(of(kappa, [-deviation, 0, deviation])) == text


def test_where_the_baseline_is_certain_it_is_students_interval_of_the_loss() -> None:
    """The bounds are where the line has the bounds of the arm's loss."""
    deviations = [-0.03, 0.01, 0.02]
    found = of(0.9, deviations)
    ours = {i: float(line(1.8)) + each for i, each in enumerate(deviations)}
    low, high = paired(ours, dict.fromkeys(ours, 0.0), 1).interval or (0, 0)
    assert found.interval == pytest.approx(
        (math.exp((3 - high) / 0.5) / 2, math.exp((3 - low) / 0.5) / 2)
    )


def test_what_seeds_share_does_not_widen_it() -> None:
    base, own = line(BUDGETS), float(line(1.7))
    rng = np.random.default_rng(0)
    seeds, noise = rng.normal(0, 0.5, 4), rng.normal(0, 0.01, 4)
    alike = lag(
        BUDGETS,
        base + seeds[:, None],
        2,
        [float(own + a + b) for a, b in zip(seeds, noise, strict=True)],
    )
    apart = lag(BUDGETS, np.tile(base, (4, 1)), 2, [float(own + b) for b in noise])
    assert alike.interval == pytest.approx(apart.interval) and alike.value == pytest.approx(
        apart.value
    )


def test_it_does_not_depend_on_units() -> None:
    ours = [2.5, 2.52, 2.51]
    before = line(BUDGETS) + np.random.default_rng(1).normal(0, 0.01, (3, 3))
    found = lag(BUDGETS, before, 2, ours)
    scaled = lag(1e6 * BUDGETS, 8 * before + 1, 2e6, [8 * each + 1 for each in ours])
    assert scaled.value == pytest.approx(found.value)
    assert scaled.interval == pytest.approx(found.interval)


def test_between_budgets_lies_a_parabola_or_the_mean_of_two() -> None:
    rng = np.random.default_rng(2)
    for count in (2, 3, 5):
        x = np.cumsum(rng.uniform(0.5, 1.5, count))
        places, weights = between(x)
        assert places[0] == x[0] and places[-1] == x[-1] and (np.diff(places) > 0).all()
        for power in range(min(3, count)):
            assert weights @ x**power == pytest.approx(places**power)
    x, y = np.arange(4.0), rng.normal(size=4)
    places, weights = between(x)
    parabolas = [np.polyval(np.polyfit(x[i : i + 3], y[i : i + 3], 2), places) for i in (0, 1)]
    inside = np.select([places < 1, places > 2], parabolas, np.mean(parabolas, 0))
    assert weights @ y == pytest.approx(inside)


def test_a_curve_is_met_closely_and_with_two_budgets_from_above() -> None:
    for kappa in np.linspace(0.5, 2, 20):
        ours = [float(curve(2 * kappa))]
        assert lag(BUDGETS, curve(BUDGETS)[None], 2, ours).value == pytest.approx(kappa, rel=4e-3)
        ends = BUDGETS[[0, 2]]
        over = lag(ends, curve(ends)[None], 2, ours).value / kappa
        assert 1 - 1e-9 <= over < 1.08


def test_a_baseline_that_gets_worse_gives_the_smallest_kappa_and_a_wide_interval() -> None:
    before = np.tile([3.0, 2.0, 2.4], (3, 1))  # it overfits
    found = lag(BUDGETS, before, 2, [2.19, 2.2, 2.21])
    parabola = np.polyfit(np.log(BUDGETS), before[0] - 2.2, 2)
    first, last = sorted(np.exp(np.roots(parabola)) / 2)
    assert found.value == pytest.approx(first, rel=1e-4) and found.interval is not None
    low, high = found.interval
    assert low < first < last < high


def test_seeds_and_budgets_that_both_have_are_compared() -> None:
    baseline = {s: {b: float(line(b)) + 0.01 * s for b in BUDGETS} for s in (0, 1, 2)}
    baseline[1][8.0] = 0.0
    arm = {s: {2.0: float(line(1.6)) + 0.01 * s, 4.0: float(line(3.2))} for s in (2, 1, 5)}
    del arm[5][4.0]
    first, second = lags(baseline, arm)
    assert (first.tokens, second.tokens, first.seeds) == (2.0, 4.0, 2)
    assert first.value == pytest.approx(0.8) and first.interval == pytest.approx((0.8, 0.8))
    with pytest.raises(ValueError, match=r"no seed in common: \[5\] and \[0, 1, 2\]"):
        lags(baseline, {5: arm[5]})
    with pytest.raises(ValueError, match="1 budgets"):
        lags({0: {1.0: 2.0}}, {0: {1.0: 2.0}})


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="rise"):
        lag([2.0, 1.0], np.zeros((1, 2)), 1, [0.0])
    with pytest.raises(ValueError, match="rise"):
        lag([1.0, 2.0], np.zeros((1, 2)), 0, [0.0])
    with pytest.raises(ValueError, match="not of 2 seeds"):
        lag([1.0, 2.0], np.zeros((1, 2)), 1, [0.0, 0.0])
    with pytest.raises(ValueError, match="numbers"):
        lag([1.0, 2.0], np.zeros((1, 2)), 1, [math.nan])


# --------------------------------------------------------------------------------------------------
# coverage

TIMES = 500
NOISE = 3 * (0.9 * 0.1 / TIMES) ** 0.5  # of a share of the simulations, if it is 0.9 in truth


def simulated(kappa: float, seeds: int, deviation: float, rng: np.random.Generator) -> Lag:
    """Seeds that deviate much, and budgets and arms of a seed little; budgets of a seed depend on
    each other, as if the longer run continued the shorter."""
    common = rng.normal(0, 0.05, (seeds, 1))
    steps = rng.normal(0, deviation, (seeds, 3))
    before = curve(BUDGETS) + common + 0.5 * np.cumsum(steps, 1) + 0.5 * steps
    ours = curve(2 * kappa) + common[:, 0] + rng.normal(0, deviation, seeds)
    return lag(BUDGETS, before, 2, list(ours))


def holds(found: Lag, kappa: float) -> bool:
    """Whether the interval has the truth inside. An interval that begins at the largest budget says
    that kappa is larger."""
    assert found.interval is not None
    low, high = found.interval
    return low <= kappa <= high


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("deviation", [0.01, 0.2], ids=["sharp", "blurred"])
def test_the_truth_is_covered_nine_times_in_ten(seeds: int, deviation: float) -> None:
    rng = np.random.default_rng(seeds)
    for kappa in (0.55, 1.0, 1.9):
        found = [simulated(kappa, seeds, deviation, rng) for _ in range(TIMES)]
        covered = np.mean([holds(each, kappa) for each in found])
        assert covered == pytest.approx(0.9, abs=NOISE), (kappa, covered)
        inside = [each.value for each in found if 0 < each.value < math.inf]
        if deviation == 0.01:
            assert np.median(inside) == pytest.approx(kappa, rel=0.03)


@pytest.mark.parametrize("kappa", [0.4, 2.5])
def test_a_truth_beyond_the_budgets_is_excluded_in_one_case_in_twenty(kappa: float) -> None:
    rng = np.random.default_rng(0)
    found = [simulated(kappa, 4, 0.05, rng) for _ in range(TIMES)]
    assert np.mean([holds(each, kappa) for each in found]) >= 0.95 - NOISE
