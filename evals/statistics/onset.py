"""When an ability appears that appears suddenly, and whether one arm has it earlier.

The score at the end of such runs is near 0 or near 1, and its mean over seeds says how many were
through. So the outcome is the time to onset, in steps or tokens. A run that ends without it is
censored: its onset is later than its end, and how much later is unknown.

Arms are compared by the log-rank test (Mantel 1966, Evaluation of survival data and two new rank
order statistics arising in its consideration), which compares the whole course and uses censored
runs. With few seeds its distribution is counted, not approximated: every division of the runs among
the arms is as likely if the arms do not differ. For this, runs of both arms must end alike. Seeds
need not be the same. If onsets within a seed are alike, the test is conservative.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from evals.statistics.intervals import Estimate

LEVEL = 0.1  # of two-sided tests, as that of 90% intervals
HOLD = 2  # kept steps in a row above the threshold
COUNTED = 200_000  # divisions of the runs; if there are more, DRAWN random ones stand for all
DRAWN = 20_000


class Onset(NamedTuple):
    """A run's onset at `time`; or, if it was not seen, the time of the last score, before which it
    is not."""

    time: float
    seen: bool


def onset(times: Sequence[float], scores: Sequence[float], threshold: float) -> Onset:
    """The first kept step whose score, and that of the next kept step, reach the threshold.

    times   steps or tokens of the kept steps, increasing
    scores  at these, in the threshold's unit

    One score alone may be luck, so the last step cannot be an onset. A score that falls again later
    does not matter: the time depends on no score after the onset, so longer runs do not change it.
    Nothing is interpolated: the onset lies between the kept step before and this one.
    """
    if len(times) != len(scores) or len(times) < HOLD:
        raise ValueError(f"{len(times)} times and {len(scores)} scores; {HOLD} or more of each")
    if any(after <= before for before, after in pairwise(times)):
        raise ValueError("the times of a curve must increase")
    if not all(map(math.isfinite, scores)):
        raise ValueError("scores must be numbers; some are not")
    row = 0
    for i, score in enumerate(scores):
        row = row + 1 if score >= threshold else 0
        if row == HOLD:
            return Onset(float(times[i - HOLD + 1]), True)
    return Onset(float(times[-1]), False)


def survival(runs: Sequence[Onset]) -> list[tuple[float, float]]:
    """Kaplan and Meier's estimate (1958, Nonparametric estimation from incomplete observations): at
    each time of an onset, the share of runs that are still without."""
    share, course = 1.0, list[tuple[float, float]]()
    for time in sorted({run.time for run in runs if run.seen}):
        here = sum(run.seen and run.time == time for run in runs)
        share *= 1 - here / sum(run.time >= time for run in runs)
        course.append((time, share))
    return course


def median(runs: Sequence[Onset]) -> Estimate:
    """The median onset, in the unit of the times: when Kaplan and Meier's estimate falls to one
    half; inf if it does not.

    The interval covers the true median in at least 90% of cases, whatever the onsets' distribution:
    from the r-th earliest to the r-th latest, where r is the largest rank that the sign test allows
    (Thompson 1936, On confidence ranges for the median). A censored run counts as if it had its
    onset at its end for the lower bound, and never for the upper one. Fewer than five seeds have no
    such interval: 0 to inf. A bootstrap would give one, which covers 75% with three.
    """
    if not runs:
        raise ValueError("a median needs one run or more")
    value = next((time for time, share in survival(runs) if share <= 0.5 + 1e-9), math.inf)
    count, rank, tail = len(runs), 0, 0.0
    while (tail := tail + math.comb(count, rank) / 2**count) <= LEVEL / 2:
        rank += 1  # the chance that fewer than `rank` onsets are before the median
    if not rank:
        return Estimate(value, 0.0, math.inf)
    low = sorted(run.time for run in runs)[rank - 1]
    high = sorted(run.time if run.seen else math.inf for run in runs)[count - rank]
    return Estimate(value, low, high)


def log_rank(ours: Sequence[Onset], theirs: Sequence[Onset]) -> tuple[float, float]:
    """How many more onsets we have than were expected if both arms were alike (above 0: we are
    earlier), and the two-sided p-value over all divisions of the runs among the arms. Above
    `COUNTED` divisions (11 seeds in each arm), it is estimated from `DRAWN`, the same each time."""
    if not ours or not theirs:
        raise ValueError("the log-rank test needs one run or more in each arm")
    runs = [*ours, *theirs]
    # A run's share of "seen minus expected": its onset less the hazard that it was exposed to.
    hazard = {
        time: sum(r.seen and r.time == time for r in runs) / sum(r.time >= time for r in runs)
        for time in {r.time for r in runs if r.seen}
    }
    parts = np.array([r.seen - sum(h for t, h in hazard.items() if t <= r.time) for r in runs])
    more = float(parts[: len(ours)].sum())
    if math.comb(len(runs), len(ours)) <= COUNTED:
        divisions = _all_divisions(len(runs), len(ours))
    else:
        order = np.random.default_rng(0).random((DRAWN, len(runs))).argsort(1)
        divisions = order[:, : len(ours)]
        divisions[0] = range(len(ours))  # with the real one the test is exact (Phipson and Smyth)
    sums = parts[divisions].sum(1)
    return more, float(np.mean(np.abs(sums) >= abs(more) - 1e-9))


@lru_cache(maxsize=4)
def _all_divisions(runs: int, ours: int) -> np.ndarray:
    return np.array(list(combinations(range(runs), ours)))


def fisher(ours: tuple[int, int], theirs: tuple[int, int]) -> float:
    """Fisher's exact test (1935, The logic of inductive inference) of two shares, each (how many,
    of how many): the two-sided p-value, which adds up all tables that are no likelier."""
    for some, count in (ours, theirs):
        if not 0 <= some <= count or count < 1:
            raise ValueError(f"{some} of {count} is no share")
    (a, n), (b, m) = ours, theirs
    ways = [math.comb(n, i) * math.comb(m, a + b - i) for i in range(a + b + 1)]
    return sum(w for w in ways if w <= ways[a]) / sum(ways)


@dataclass(frozen=True)
class OnsetContrast:
    """Our onsets against theirs, a run for each seed; `median`s are in the unit of the times."""

    ours: Sequence[Onset]
    theirs: Sequence[Onset]
    more: float  # onsets than were expected if both arms were alike
    p: float  # of the log-rank test
    end: float  # until which all runs were followed
    p_by_end: float  # Fisher's, of the shares that have it by then

    @property
    def verdict(self) -> str:
        """In words: "earlier" or "later" if the log-rank test's p is 0.1 or less, else "undecided
        with 5 and 5 seeds". Three seeds in each arm are just enough: if all of one are before all
        of the other, p is 0.1."""
        if self.p <= LEVEL + 1e-9:
            return "earlier" if self.more > 0 else "later"
        return f"undecided with {len(self.ours)} and {len(self.theirs)} seeds"

    def sentence(self, unit: str) -> str:
        """E.g. "earlier: median 300 against 900 steps, log-rank p = 0.008; 5 of 5 seeds against 2
        of 5 have it by 1000 steps, Fisher's p = 0.17"."""
        ours, theirs = (_median_text(runs) for runs in (self.ours, self.theirs))
        (a, n), (b, m) = (by_end(runs, self.end) for runs in (self.ours, self.theirs))
        return (
            f"{self.verdict}: median {ours} against {theirs} {unit}, log-rank p = {self.p:.2g}; "
            f"{a} of {n} seeds against {b} of {m} have it by {self.end:g} {unit}, "
            f"Fisher's p = {self.p_by_end:.2g}"
        )


def _median_text(runs: Sequence[Onset]) -> str:
    value = median(runs).value
    return f"{value:g}" if math.isfinite(value) else "not reached"


def by_end(runs: Sequence[Onset], end: float) -> tuple[int, int]:
    """How many runs have it by this time, of how many."""
    return sum(run.seen and run.time <= end for run in runs), len(runs)


def compare(ours: Sequence[Onset], theirs: Sequence[Onset]) -> OnsetContrast:
    """Runs of two arms, one for each seed, which were to end at the same time. Shares are compared
    at the end of the censored run that is shortest; if none is censored, all have it."""
    more, p = log_rank(ours, theirs)
    runs = [*ours, *theirs]
    censored = [run.time for run in runs if not run.seen]
    end = min(censored) if censored else max(run.time for run in runs)
    return OnsetContrast(
        tuple(ours), tuple(theirs), more, p, end, fisher(by_end(ours, end), by_end(theirs, end))
    )
