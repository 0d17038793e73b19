"""Times to onset: textbook values of the estimators, sizes and powers of the tests."""

import math

import numpy as np
import pytest

from evals.statistics.onset import (
    Onset,
    compare,
    fisher,
    log_rank,
    median,
    onset,
    survival,
)


def runs(*times: float, end: float = math.inf) -> list[Onset]:
    """Onsets at these times, censored at the end."""
    return [Onset(min(time, end), time <= end) for time in times]


# Weeks of remission of 21 patients with 6-mercaptopurine and 21 with a placebo (Freireich et al.
# 1963), of whom textbooks of survival analysis give the estimates; the second row is censored.
MERCAPTOPURINE = [
    *runs(6, 6, 6, 7, 10, 13, 16, 22, 23),
    *(Onset(t, False) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)),
]
PLACEBO = runs(1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)


# --------------------------------------------------------------------------------------------------
# the onset of a curve


STEPS = [100, 200, 300, 400, 500]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.2, 0.9, 0.95, 0.9], Onset(300, True)),
        ([0.1, 0.9, 0.2, 0.9, 0.9], Onset(400, True)),  # one alone is luck
        ([0.9, 0.9, 0.2, 0.1, 0.1], Onset(100, True)),  # what comes later does not matter
        ([0.1, 0.2, 0.3, 0.9, 0.9], Onset(400, True)),
        ([0.1, 0.2, 0.3, 0.1, 0.9], Onset(500, False)),  # the last step alone is not enough
        ([0.1, 0.2, 0.3, 0.1, 0.2], Onset(500, False)),
    ],
)
def test_an_onset_is_the_first_of_two_steps_that_reach_the_threshold(
    scores: list[float], expected: Onset
) -> None:
    assert onset(STEPS, scores, 0.9) == expected


def test_a_longer_run_has_the_same_onset() -> None:
    scores = [0.1, 0.2, 0.9, 0.95, 0.9]
    found = {onset(STEPS[:k], scores[:k], 0.9) for k in (4, 5)}
    assert found == {Onset(300, True)}
    assert onset(STEPS[:3], scores[:3], 0.9) == Onset(300, False)


def test_unusable_curves_are_refused() -> None:
    with pytest.raises(ValueError, match="increase"):
        onset([1, 1], [0, 0], 0.5)
    with pytest.raises(ValueError, match="2 times and 1 scores"):
        onset([1, 2], [0], 0.5)
    with pytest.raises(ValueError, match="numbers"):
        onset([1, 2], [0, math.nan], 0.5)


# --------------------------------------------------------------------------------------------------
# one arm


def test_the_course_is_that_of_the_textbook() -> None:
    course = dict(survival(MERCAPTOPURINE))
    known = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    assert course == pytest.approx(known, abs=0.0006)
    assert median(MERCAPTOPURINE).value == 23 and median(PLACEBO).value == 8


def test_the_median_is_open_where_runs_are_censored() -> None:
    assert median(runs(1, 2, 3, 9, 9, end=5)) == (3, 1, math.inf)
    assert median(runs(1, 2, 9, 9, 9, end=5)) == (math.inf, 1, math.inf)
    assert median(runs(9, 9, 9, 9, 9, end=5)) == (math.inf, 5, math.inf)
    assert median(runs(1, 2, 3, 4)) == (2, 0, math.inf)  # four seeds have no interval
    assert median(runs(5, 1, 4, 2, 3)) == (3, 1, 5)
    # Eight: fewer than two below the median have the chance (1 + 8) / 256 = 3.5%.
    assert median(runs(*range(1, 9)))[1:] == (2, 7)
    with pytest.raises(ValueError, match="one run"):
        median([])


@pytest.mark.parametrize("seeds", [5, 8, 20])
@pytest.mark.parametrize("lasting", [3.0, 1.0, 0.5])
def test_the_medians_interval_covers_the_truth(seeds: int, lasting: float) -> None:
    rng, covered, count = np.random.default_rng(seeds), 0, 500
    for row in rng.exponential(1, (count, seeds)):
        # Runs end at about this time, some before they reach the median, log 2.
        ends = lasting * rng.uniform(0.5, 1.5, seeds)
        seen = [Onset(min(t, e), t <= e) for t, e in zip(row, ends, strict=True)]
        found = median(seen)
        assert found.low <= found.value <= found.high
        covered += found.low <= math.log(2) <= found.high
    assert covered / count > 0.88


# --------------------------------------------------------------------------------------------------
# two arms


def test_the_log_rank_test_is_that_of_the_textbook() -> None:
    more, p = log_rank(MERCAPTOPURINE, PLACEBO)
    assert more == pytest.approx(9 - 19.25, abs=0.005)  # 9 relapses, 19.25 expected
    assert p < 0.001
    assert log_rank(PLACEBO, MERCAPTOPURINE)[0] == pytest.approx(-more)
    assert compare(PLACEBO, MERCAPTOPURINE).verdict == "earlier"


def test_divisions_are_counted() -> None:
    # All of one arm first: it and its mirror image, among 20, 252 and 6 divisions.
    assert log_rank(runs(1, 2, 3), runs(4, 5, 6))[1] == pytest.approx(2 / 20)
    assert log_rank(runs(*range(5)), runs(*range(5, 10)))[1] == pytest.approx(2 / 252)
    assert log_rank(runs(1, 2), runs(3, 4))[1] == pytest.approx(2 / 6)
    # Onsets in all of one arm, in none of the other: the same, though all of these are tied.
    assert log_rank(runs(1, 1, 1), runs(9, 9, 9, end=5))[1] == pytest.approx(2 / 20)
    assert log_rank(runs(9, 9, end=5), runs(9, 9, end=5)) == (0, 1)
    with pytest.raises(ValueError, match="each arm"):
        log_rank([], runs(1))


def test_counted_and_drawn_divisions_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = runs(1, 2, 4, 6, 7), runs(3, 5, 8, 9, 12, end=11)
    counted = log_rank(ours, theirs)
    monkeypatch.setattr("evals.statistics.onset.COUNTED", 1)
    drawn = log_rank(ours, theirs)
    assert drawn == pytest.approx(counted, abs=0.01) and drawn != counted
    assert drawn == log_rank(ours, theirs)


@pytest.mark.parametrize(("seeds", "kept"), [(3, 0.05), (5, 0.05), (5, 0.5), (8, 0.05)])
@pytest.mark.parametrize("end", [math.inf, 1.0])
def test_equal_arms_are_told_apart_as_seldom_as_stated(seeds: int, kept: float, end: float) -> None:
    """Onsets are seen at kept steps alone, so some are tied."""
    count = 100 if seeds == 8 else 400
    drawn = np.random.default_rng(seeds).lognormal(0, 0.7, (count, 2, seeds))
    drawn = np.ceil(drawn / kept) * kept
    p = [log_rank(runs(*a, end=end), runs(*b, end=end))[1] for a, b in drawn]
    assert np.mean(np.array(p) <= 0.1 + 1e-9) < 0.1 + 3 * (0.09 / count) ** 0.5
    if count == 400 and kept < 0.1 and end == math.inf:  # few ties, so not much below either
        assert np.mean(np.array(p) <= 0.1 + 1e-9) > 0.05


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.3), (5, 0.7), (8, 0.9)])
def test_arms_a_factor_of_two_apart_are_told_apart(seeds: int, least: float) -> None:
    """If seeds deviate by 40% or so and a sixth of the later arm's runs are censored."""
    count = 40 if seeds == 8 else 200
    drawn = np.random.default_rng(seeds).lognormal(0, 0.4, (count, 2, seeds)) * [[[1], [2]]]
    found = [compare(runs(*a, end=3), runs(*b, end=3)).verdict for a, b in drawn]
    assert found.count("earlier") / count > least and found.count("later") / count < 0.03


def test_fishers_test_is_that_of_the_textbooks() -> None:
    assert fisher((3, 4), (1, 4)) == pytest.approx(34 / 70)  # the lady tasting tea, two-sided
    assert fisher((1, 12), (9, 12)) == pytest.approx(0.002759, abs=1e-6)
    assert fisher((5, 5), (0, 5)) == pytest.approx(2 / 252)
    assert fisher((0, 3), (0, 7)) == fisher((3, 3), (7, 7)) == 1
    assert fisher((2, 5), (1, 7)) == fisher((1, 7), (2, 5)) == fisher((3, 5), (6, 7))
    for wrong in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="no share"):
            fisher(wrong, (1, 3))


def test_the_sentence_says_what_was_compared() -> None:
    ours, theirs = runs(100, 200, 300, 400, 500), runs(800, 900, 2000, 2000, 2000, end=1000)
    found = compare(ours, theirs)
    assert found.sentence("steps") == (
        "earlier: median 300 against not reached steps, log-rank p = 0.0079; 5 of 5 seeds against "
        "2 of 5 have it by 1000 steps, Fisher's p = 0.17"
    )
    assert compare(theirs, ours).verdict == "later"
    assert compare(ours, ours).verdict == "undecided with 5 and 5 seeds"
    assert compare(ours[:1], theirs[:1]).verdict == "undecided with 1 and 1 seeds"
    # A run that was cut short says nothing of later times.
    short = compare([*ours, Onset(250, False)], theirs)
    assert short.end == 250 and "2 of 6 seeds against 0 of 5 have it by 250" in short.sentence("x")
    assert compare(runs(1, 2), runs(3, 4)).p_by_end == 1
