"""How many tokens a baseline needs for an arm's loss.

kappa is the baseline's tokens at which it has the arm's loss, divided by the tokens that the arm
had: 0.8 says that the arm lags, as a run of the baseline with a fifth fewer tokens would do, and
1.25 that it learns as much as one with a quarter more. Differences of loss mean little by
themselves; kappa says what they cost.

The baseline is trained with several budgets, each to its end, since runs that stop in the middle of
their schedule are worse than shorter ones that have ended. Between budgets the loss is taken as a
parabola in the logarithm of the tokens, through three of them. Beyond them nothing is guessed:
"more than 2.00". So the baseline's budgets should reach beyond the arm's where the arm may be
better.

The interval asks of each kappa whether the data refute it: whether the differences within seeds,
the arm's loss minus the baseline's at kappa times the tokens, deviate from 0 (Student's t, as in
Fieller 1954, Some problems in interval estimation). So no seed needs a kappa of its own, which does
not exist where a seed's loss lies beyond the budgets, and budgets of one seed may depend on each
other, as they do if the longer run continues the shorter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evals.statistics.intervals import t90

EACH = 200  # places between two budgets

Losses = Mapping[int, Mapping[float, float]]  # seed -> tokens -> loss


@dataclass(frozen=True)
class Lag:
    """kappa of an arm at one budget.

    tokens    of the arm
    value     of the means over seeds; 0 if their loss is above that of the smallest budget of the
              baseline, inf if it is below that of the largest
    interval  90%; 0 and inf stand for what no budget tells. None of one seed
    told      the smallest and the largest kappa that the baseline's budgets tell
    """

    tokens: float
    value: float
    interval: tuple[float, float] | None
    told: tuple[float, float]
    seeds: int

    def __str__(self) -> str:
        """E.g. "0.81 (0.74 to 0.90)", "more than 2.00 (more than 1.60)", "0.81 (one seed)"."""
        if self.interval is None:
            return f"{self._text(self.value)} (one seed)"
        low, high = self.interval
        if not low and math.isinf(high):
            return f"{self._text(self.value)} (the budgets tell no bound)"
        if not low:
            return f"{self._text(self.value)} (less than {high:.2f})"
        bound = f"{low:.2f} to {high:.2f}" if math.isfinite(high) else f"more than {low:.2f}"
        return f"{self._text(self.value)} ({bound})"

    def _text(self, value: float) -> str:
        low, high = self.told
        if not value:
            return f"less than {low:.2f}"
        return f"{value:.2f}" if math.isfinite(value) else f"more than {high:.2f}"


def lags(baseline: Losses, arm: Losses) -> list[Lag]:
    """The lag at each of the arm's budgets that all common seeds have, in their order of size.
    Raises ValueError without a common seed, and for a baseline of fewer than two budgets."""
    seeds = [seed for seed in arm if seed in baseline]
    if not seeds:
        raise ValueError(f"no seed in common: {sorted(arm)} and {sorted(baseline)}")
    budgets = _common(baseline, seeds)
    before = np.array([[baseline[seed][tokens] for tokens in budgets] for seed in seeds])
    return [
        lag(budgets, before, tokens, [arm[seed][tokens] for seed in seeds])
        for tokens in _common(arm, seeds)
    ]


def _common(losses: Losses, seeds: Sequence[int]) -> list[float]:
    return sorted(set.intersection(*(set(losses[seed]) for seed in seeds)))


def lag(
    budgets: Sequence[float] | np.ndarray,
    before: np.ndarray,
    tokens: float,
    losses: Sequence[float] | np.ndarray,
) -> Lag:
    """kappa of an arm that had `tokens` and ended with these losses (S,), a seed each.

    budgets  of the baseline in tokens, rising (K,); two or more
    before   its losses (S, K), of the same seeds

    If the baseline's mean loss rises with the budget somewhere, the value is the smallest kappa,
    and the interval reaches from the first to the last that is not refuted. In simulations of
    losses that fall as tokens^-0.3, with three budgets a factor of 2 apart and 3 to 10 seeds, the
    interval covers the truth in 88 to 92% of cases. Between two budgets alone the loss is taken as
    a line, which lies above such a curve: kappa is then too large, by up to 2% at a factor of 2 and
    7% at a factor of 4.
    """
    x, before = np.log(np.asarray(budgets, float)), np.asarray(before, float)
    ours = np.asarray(losses, float)
    if before.shape != (len(ours), len(x)) or len(ours) < 1 or len(x) < 2:
        raise ValueError(f"losses {before.shape} are not of {len(ours)} seeds, {len(x)} budgets")
    if not (np.diff(x) > 0).all() or not tokens > 0:
        raise ValueError(f"budgets {list(budgets)} and tokens {tokens} must be above 0 and rise")
    if not (np.isfinite(before).all() and np.isfinite(ours).all()):
        raise ValueError("losses must be numbers; some are not")
    places, weights = between(x)
    apart = ours[:, None] - before @ weights.T  # (S, P), from below 0 to above it
    mean = apart.mean(0)
    value = -math.inf if mean[0] > 0 else _first(places, mean, math.inf)
    interval = None
    if len(ours) > 1:
        half = t90(len(ours) - 1) * apart.std(0, ddof=1) / len(ours) ** 0.5
        # the first kappa that is not too small, and the last that is not too large
        small, large = mean + half, half - mean
        low = -math.inf if small[0] >= 0 else _first(places, small, places[-1])
        high = math.inf if large[-1] >= 0 else _first(places[::-1], large[::-1], places[0])
        interval = math.exp(low) / tokens, math.exp(high) / tokens
    told = float(budgets[0]) / tokens, float(budgets[-1]) / tokens
    return Lag(tokens, math.exp(value) / tokens, interval, told, len(ours))


def between(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (P,) from the first of x (K,) to the last, and the weights (P, K) of values at x that
    give those there: of a parabola through three of them, or the mean of two parabolas where the
    place lies within both; of a line through two."""
    steps = np.arange(EACH) / EACH
    places, weights = list[np.ndarray](), list[np.ndarray]()
    for i in range(len(x) - 1):
        inside = x[i] + steps * (x[i + 1] - x[i])
        own = np.zeros((EACH, len(x)))
        firsts = [first for first in (i - 1, i) if 0 <= first <= len(x) - 3]
        for knots in [range(first, first + 3) for first in firsts] or [range(2)]:
            for k in knots:  # Lagrange's weights
                others = [x[j] for j in knots if j != k]
                own[:, k] += np.prod([(inside - o) / (x[k] - o) for o in others], 0)
        places.append(inside)
        weights.append(own / max(1, len(firsts)))
    last = np.eye(len(x))[-1:]
    return np.concatenate([*places, x[-1:]]), np.concatenate([*weights, last])


def _first(places: np.ndarray, values: np.ndarray, otherwise: float) -> float:
    """The place at which values become 0 or more for the first time; `otherwise` if they do not."""
    above = np.flatnonzero(values >= 0)
    if not len(above):
        return otherwise
    i = int(above[0])
    if i == 0:
        return float(places[0])
    share = -values[i - 1] / (values[i] - values[i - 1])
    return float(places[i - 1] + share * (places[i] - places[i - 1]))
