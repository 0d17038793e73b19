"""pass@k over problems and temperatures: means, choices of a temperature, bootstrap intervals.

The paper chooses the temperature for each model, data set and k by the score it reports (an oracle,
Table S12). That is too high wherever scores are noisy, so beside it stands an honest choice: in
each of five parts of the problems, the temperature that is best on the other four.

Intervals are of 90%, over problems drawn anew with replacement, the temperature chosen anew in each
draw. The draws depend on the number of problems alone, so that two models meet the same ones and
differences are paired. An oracle's interval does not cover the true value of any one temperature:
it is too high by as much as the oracle is, and more.

Problems that all score the same, such as none solved, are no proof that others would: where draws
do not differ, Wilson's bound tells how many of another score may have been missed.
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
    """pass@k of each problem (T, P), from (samples, of which passed) at each temperature."""
    return np.array([[pass_at_k(n, c, k) for n, c in problems] for problems in passed])


def resamples(problems: int) -> Iterator[np.ndarray]:
    """Problems drawn anew (TIMES, P), the same for the same number, in parts that fit in memory."""
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
    """The mean of what each problem has at the temperature chosen without its part."""
    return held_out(scores, draws).mean(-1)


def held_out(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(T, P) and draws (R, P) -> (R, P), the scores of drawn problems. In each draw a temperature
    is chosen for each part by the others. A problem keeps its part, so that it has no say in its
    own temperature however often it is drawn. The first of equally good temperatures is taken, also
    where there is nothing to choose by."""
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
    """`cross_validated` for the mean of some problems (P,); all choose. nan where none is drawn."""

    def choice(scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
        drawn = inside[draws]
        sums, counts = (held_out(scores, draws) * drawn).sum(-1), drawn.sum(-1)
        return np.divide(sums, counts, out=np.full(len(draws), np.nan), where=counts > 0)

    return choice


CHOICES: dict[str, Choice] = {"oracle": oracle, "cross-validated": cross_validated}


def estimate(scores: np.ndarray, choice: Choice, count: int | None = None) -> Estimate:
    """A statistic of shares (T, P) and its interval. count: problems it is of, if not all."""
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
    """count: problems that a value is the mean of; their scores are from `lowest` to 1."""
    value = float(statistic(np.arange(problems)[None])[0])
    values = np.concatenate([statistic(draws) for draws in resamples(problems)])
    low, high = map(float, np.nanquantile(values, (0.05, 0.95)))
    if high - low < SAME:
        unseen = wilson(0, count)[1]
        low, high = value - unseen * (value - lowest), value + unseen * (1 - value)
    return Estimate(value, low, high)
