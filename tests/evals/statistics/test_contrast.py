"""Contrasts over seeds: what each verdict says, how often it is right, how many seeds it needs."""

import math
from collections import Counter
from statistics import stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics.contrast import Contrast, paired, seeds_needed
from evals.statistics.intervals import student


def of(*differences: float, margin: float = 0.01) -> Contrast:
    return Contrast(dict(enumerate(differences)), margin)


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((-0.001, 0.000, 0.001), "equal within 0.01"),
        ((0.004, 0.005, 0.006), "larger, but by less than 0.01"),
        ((-0.004, -0.005, -0.006), "smaller, but by less than 0.01"),
        ((0.019, 0.020, 0.021), "larger by more than 0.01"),
        ((-0.019, -0.020, -0.021), "smaller by more than 0.01"),
        ((0.010, 0.012, 0.014), "larger"),
        ((-0.010, -0.012, -0.014), "smaller"),
        ((-0.010, 0.012, 0.014), "undecided with 3 seeds"),
        ((0.5,), "undecided with 1 seed"),
        ((0.0,), "undecided with 1 seed"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_the_margin(
    differences: tuple[float, ...], verdict: str
) -> None:
    assert of(*differences).verdict == verdict


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=6), st.floats(0.01, 1))
def test_the_baseline_against_the_arm_is_the_mirror_image(
    values: list[float], margin: float
) -> None:
    one, other = of(*values, margin=margin), of(*(-v for v in values), margin=margin)
    swap = {"larger": "smaller", "smaller": "larger"}
    first, *rest = one.verdict.replace(",", " ,").split()
    assert other.verdict.replace(",", " ,").split() == [swap.get(first, first), *rest]
    assert other.mean == -one.mean and other.sign == -one.sign


def test_arms_are_paired_by_seed() -> None:
    arm, baseline = {3: 10.0, 1: 2.1, 2: 3.0}, {1: 2.0, 2: 3.1, 7: 0.0}
    found = paired(arm, baseline, 0.5)
    assert found.by_seed == {1: pytest.approx(0.1), 2: pytest.approx(-0.1)}
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.interval == student(list(found.by_seed.values()))
    # Seeds that differ by far more than the arms do not hide the arms' difference.
    base = {seed: 10.0 * seed for seed in range(4)}
    assert paired({s: v + 1 + 0.01 * (s % 2) for s, v in base.items()}, base, 0.5).beyond_margin


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no seed in common: \[1\] and \[2\]"):
        paired({1: 0.0}, {2: 0.0}, 0.1)
    with pytest.raises(ValueError, match="seed 2 is nan"):
        paired({1: 0.0, 2: math.nan}, {1: 0.0, 2: 0.0}, 0.1)
    for margin in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="margin"):
            of(1.0, margin=margin)
    with pytest.raises(ValueError, match="one seed or more"):
        of()


def shares(truth: float, seeds: int, margin: float = 1.0) -> dict[str, float]:
    """How often each verdict's first word is given, of 2000 sets of seeds that deviate by 1."""
    rng = np.random.default_rng(seeds)
    drawn = rng.normal(truth, 1, (2000, seeds))
    counts = Counter(of(*row, margin=margin).verdict.split()[0].strip(",") for row in drawn)
    return {word: count / 2000 for word, count in counts.items()}


def test_verdicts_are_wrong_as_seldom_as_stated() -> None:
    # No difference: "larger" and "smaller" by chance in 5% each, with three seeds as with ten.
    for seeds in (3, 10):
        found = shares(0, seeds, margin=0.001)
        assert found["larger"] == pytest.approx(0.05, abs=0.015)
        assert found["smaller"] == pytest.approx(0.05, abs=0.015)
    # A difference of just the margin is called equal, or less than the margin, in 5% at most.
    rng = np.random.default_rng(0)
    within = [of(*row, margin=1).within_margin for row in rng.normal(1, 1, (2000, 10))]
    assert 0.03 < np.mean(within) < 0.065


def test_the_seeds_that_are_needed_suffice_and_one_fewer_does_not() -> None:
    # Paired differences of 0.004 bits per byte: three seeds give an interval of +-0.0067.
    three = [-0.004, 0.0, 0.004]
    assert stdev(three) == pytest.approx(0.004) and seeds_needed(three, 0.0068) == 3
    assert seeds_needed(three, 0.0067) == 4
    # t(6) 0.004 / sqrt(7) = 1.943 * 0.001512 = 0.00294, t(5) 0.004 / sqrt(6) = 0.00329
    assert seeds_needed(three, 0.0030) == 7
    # Far beyond the table the normal's quantile is right: (1.645 * 0.004 / 0.0001)^2 = 4329.
    assert seeds_needed(three, 0.0001) == pytest.approx(4331, abs=1)
    assert seeds_needed([0.1, 0.1], 0.01) == 2
    assert seeds_needed([0.1], 0.01) is None and of(0.1).seeds_needed is None
    assert of(*three).seeds_needed == seeds_needed(three, 0.005) == 4
    with pytest.raises(ValueError, match="above 0"):
        seeds_needed(three, 0)


def test_half_the_margin_leaves_nothing_undecided() -> None:
    """So an undecided contrast always needs more seeds than it has."""
    rng = np.random.default_rng(1)
    narrow = 0
    for row in rng.normal(rng.uniform(-2, 2, 2000)[:, None], 1, (2000, 13)):
        found = of(*row, margin=1.2)
        low, high = found.interval or (-9.0, 9.0)
        if high - low < found.margin:
            narrow += 1
            assert not found.verdict.startswith("undecided")
        elif found.verdict.startswith("undecided"):
            assert (found.seeds_needed or 0) > 13
    assert narrow > 1000
