"""pass@k over problems and temperatures: means, choices of a temperature, bootstrap intervals.

The paper chooses the temperature for each model, data set and k by the score that it reports (an
oracle, Table S12). This is too high where scores are noisy. So an honest choice is given beside it:
in each of five parts of the problems, the temperature that is best on the other four.

Intervals are 90%, over problems drawn anew with replacement; the temperature is chosen anew in each
draw. The draws depend on the number of problems only, so that two models get the same ones and
differences are paired. An oracle's interval does not cover the true value of any one temperature:
it is at least as much too high as the oracle.

If all problems score the same, such as none solved, this does not prove that others would. Where
draws do not differ, Wilson's bound says how many of another score may have been missed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from evals.statistics.intervals import wilson

TIMES, FOLDS = 1000, 5
PART = 2**22  # problems drawn at a time
SAME = 1e-9  # draws that differ by less do so by rounding
KS = (1, 10, 100, 1000)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate from n programs of which c passed (Chen et al. 2021): the share of the
    subsets of k that have one which passed, 1 - C(n-c, k) / C(n, k). nan if n < k."""
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@{k} of {c} passed among {n}")
    if n < k:
        return math.nan
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def table(passed: Sequence[Sequence[tuple[int, int]]], k: int) -> np.ndarray:
    """pass@k of each problem (T, P), from (samples, passed samples) at each temperature."""
    return np.array([[pass_at_k(n, c, k) for n, c in problems] for problems in passed])


def resamples(problems: int) -> Iterator[np.ndarray]:
    """Problems drawn anew (TIMES, P), the same for the same number of problems, in parts that fit
    in memory."""
    rng, rows = np.random.default_rng(problems), max(1, PART // problems)
    for start in range(0, TIMES, rows):
        yield rng.integers(problems, size=(min(rows, TIMES - start), problems))


def mean(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """At the first temperature: (T, P) and draws (R, P) -> (R,)."""
    return scores[0][draws].mean(-1)


def oracle(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The best temperature's mean, chosen anew in each draw."""
    return np.max([row[draws].mean(-1) for row in scores], 0)


def cross_validated(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The mean of each problem's score at the temperature that was chosen without its part."""
    return held_out(scores, draws).mean(-1)


def held_out(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(T, P) and draws (R, P) -> (R, P), the scores of drawn problems. In each draw, each part's
    temperature is chosen by the other parts. A problem keeps its part, so that it has no influence
    on its own temperature however often it is drawn. Of equally good temperatures the first is
    taken, also if there is nothing to choose by."""
    temperatures, problems = scores.shape
    part = np.random.default_rng(0).permutation(problems) % FOLDS
    others = part != np.arange(FOLDS)[:, None]
    rows = problems * np.arange(len(draws))[:, None]
    times = np.bincount((draws + rows).ravel(), minlength=draws.size).reshape(draws.shape)
    # Sums choose as means do: all temperatures have the same problems. Rounded, so that equal ones
    # are equal in whatever order they are added.
    sums = times @ (scores[:, None] * others).reshape(-1, problems).T
    chosen = sums.round(9).reshape(len(draws), temperatures, FOLDS).argmax(1)
    return scores[chosen[np.arange(len(draws))[:, None], part[draws]], draws]


def held_out_in(inside: np.ndarray) -> Choice:
    """`cross_validated` for the mean of some problems (P,); all problems choose. nan where none of
    them is drawn."""

    def choice(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
        drawn = inside[draws]
        sums, counts = (held_out(scores, draws) * drawn).sum(-1), drawn.sum(-1)
        return np.divide(sums, counts, out=np.full(len(draws), np.nan), where=counts > 0)

    return choice


CHOICES: dict[str, Choice] = {"oracle": oracle, "cross-validated": cross_validated}


def estimate(scores: np.ndarray, choice: Choice, count: int | None = None) -> Estimate:
    """A statistic of shares (T, P) and its interval. count: the number of problems it is of, if not
    all."""
    problems = scores.shape[1]
    return _interval(lambda draws: choice(scores, draws), problems, count or problems, 0)


def difference(ours: np.ndarray, theirs: np.ndarray, choice: Choice) -> Estimate:
    """`ours` minus `theirs` on the same problems, in the same draws."""
    problems = ours.shape[1]
    if problems != theirs.shape[1]:
        raise ValueError(f"{problems} problems and {theirs.shape[1]} are not paired")

    def both(draws: np.ndarray) -> np.ndarray:
        return choice(ours, draws) - choice(theirs, draws)

    return _interval(both, problems, problems, -1)


def _interval(
    statistic: Callable[[np.ndarray], np.ndarray], problems: int, count: int, lowest: float
) -> Estimate:
    """count: the number of problems whose mean a value is; their scores are between `lowest` and
    1."""
    value = float(statistic(np.arange(problems)[None])[0])
    values = np.concatenate([statistic(draws) for draws in resamples(problems)])
    low, high = map(float, np.nanquantile(values, (0.05, 0.95)))
    if high - low < SAME:
        unseen = wilson(0, count)[1]
        low, high = value - unseen * (value - lowest), value + unseen * (1 - value)
    return Estimate(value, low, high)
