"""pass@k over problems and temperatures: means, choices of a temperature, their intervals.

The paper chooses the temperature for each model, data set and k by the score that it reports (an
oracle, Table S12). This is too high where scores are noisy. So an honest choice is given beside it:
in each of five parts of the problems, the temperature that is best on the other four.

Intervals are 90%, over problems: those asked stand for others of their kind. The method is Gaffke's
(2005, Three test statistics for a nonparametric one-sided hypothesis on the mean of a nonnegative
variable; also Learned-Miller and Thomas 2019, arXiv:1905.06208). In each draw, the problems get
random weights, as in the Bayesian bootstrap, and one more problem does that was not seen. For the
upper bound the unseen one is solved, for the lower bound it is not; of differences it counts 1 and
-1. The bounds are the 95th and the 5th percentile. Where each problem is solved always or never,
this is Clopper and Pearson's interval. It covers the truth at least nine times in ten, at few and
many problems, solved often, rarely or never (tests/evals/statistics/test_coverage.py), and it does
not collapse: nothing solved is no special case, and one sample more moves no bound backwards.

The temperature is chosen anew in each draw. The draws depend on the number of problems only, so
that two models get the same ones and differences are paired. An oracle's interval does not cover
the true value of any one temperature: it is at least as much too high as the oracle.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from evals.statistics.intervals import Estimate

TIMES, FOLDS = 2000, 5
PART = 2**22  # weights drawn at a time
KS = (1, 10, 100, 1000)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate from n programs of which c passed (Chen et al. 2021): the share of the
    subsets of k that have one which passed, 1 - C(n-c, k) / C(n, k). nan if n < k."""
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@{k} of {c} passed among {n}")
    if n < k:
        return math.nan
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))


# Scores (T, P) and weights of draws (R, P) -> the score of each problem at the temperature that is
# chosen for it, (R, P), or (1, P) if all draws have the same.
Choice = Callable[[np.ndarray, np.ndarray], np.ndarray]


def table(passed: Sequence[Sequence[tuple[int, int]]], k: int) -> np.ndarray:
    """pass@k of each problem (T, P), from (samples, passed samples) at each temperature."""
    return np.array([[pass_at_k(n, c, k) for n, c in problems] for problems in passed])


def weights(problems: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random weights of the problems seen (TIMES, P) and of one unseen (TIMES,), in parts that fit
    in memory; the same for the same number of problems. They are exponential, so that their shares
    are uniform among all shares. The unseen problem's are evenly spread: where little is solved,
    the interval is made of them."""
    rng, rows = np.random.default_rng(problems), max(1, PART // problems)
    unseen = -np.log1p(-(rng.permutation(TIMES) + 0.5) / TIMES)
    for start in range(0, TIMES, rows):
        part = unseen[start : start + rows]
        yield rng.standard_exponential((len(part), problems)), part


def mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """At the first temperature."""
    return scores[:1]


def oracle(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """At the best temperature, chosen anew in each draw."""
    return scores[(weights @ scores.T).argmax(1)]


def cross_validated(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """At the temperature that was chosen without a problem's own part. In each draw, each part's
    temperature is chosen by the other parts. A problem keeps its part, so that it has no influence
    on its own temperature. Of equally good temperatures the first is taken, also if there is
    nothing to choose by."""
    temperatures, problems = scores.shape
    part = np.random.default_rng(0).permutation(problems) % FOLDS
    others = part != np.arange(FOLDS)[:, None]
    # Sums choose as means do: all temperatures have the same problems. Rounded, so that equal ones
    # are equal in whatever order they are added.
    sums = weights @ (scores[:, None] * others).reshape(-1, problems).T
    chosen = sums.round(9).reshape(len(weights), temperatures, FOLDS).argmax(1)
    return scores[chosen[:, part], np.arange(problems)]


CHOICES: dict[str, Choice] = {"oracle": oracle, "cross-validated": cross_validated}


def estimate(scores: np.ndarray, choice: Choice, inside: np.ndarray | None = None) -> Estimate:
    """The mean of shares (T, P), each problem's at its chosen temperature, and its interval.
    inside: of these problems (P,) alone; all problems choose."""
    return _interval(lambda drawn: choice(scores, drawn), scores.shape[1], inside, 0)


def difference(ours: np.ndarray, theirs: np.ndarray, choice: Choice) -> Estimate:
    """`ours` minus `theirs` on the same problems, in the same draws."""
    problems = ours.shape[1]
    if problems != theirs.shape[1]:
        raise ValueError(f"{problems} problems and {theirs.shape[1]} are not paired")
    return _interval(lambda drawn: choice(ours, drawn) - choice(theirs, drawn), problems, None, -1)


def _interval(
    score: Callable[[np.ndarray], np.ndarray],
    problems: int,
    inside: np.ndarray | None,
    lowest: float,
) -> Estimate:
    """score: of each problem in draws with these weights, from `lowest` to 1."""
    kept = np.ones(problems, bool) if inside is None else inside
    value = float(score(np.ones((1, problems)))[0, kept].mean())
    sums, shares = list[np.ndarray](), list[np.ndarray]()
    for drawn, unseen in weights(problems):
        own = drawn[:, kept]
        whole = own.sum(1) + unseen
        each = np.broadcast_to(score(drawn)[:, kept], own.shape)
        sums.append(np.einsum("rp,rp->r", own, each) / whole)
        shares.append(unseen / whole)
    low, high = bounds(np.concatenate(sums), np.concatenate(shares), lowest)
    return Estimate(value, float(low), float(high))


def bounds(sums: np.ndarray, unseen: np.ndarray, lowest: float) -> tuple[np.ndarray, np.ndarray]:
    """The interval's, from the weighted sum of the problems seen (R,) and the weight of the unseen
    one (R,), whose score is between `lowest` and 1; all weights of a draw together are 1. Of many
    means at once: (R, M) and (R, 1) -> (M,)."""
    return np.quantile(sums + lowest * unseen, 0.05, 0), np.quantile(sums + unseen, 0.95, 0)
