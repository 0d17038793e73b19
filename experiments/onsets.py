"""When runs come to do something, from their curves over training, and contrasts of these times.

An onset is the first kept step at which, and at the next one, a curve reaches a threshold
(evals/statistics/onset.py). A run that ends without one is censored: its onset is later than its
end. So a difference of logarithms that such a run is part of is a bound. Bounds decide on the side
to which they are safe, by the signs of the seeds instead of Student's t, and never for "equal". A
seed whose runs are censored on both sides of the difference says nothing and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar

from evals.statistics.contrast import Contrast
from evals.statistics.onset import HOLD, LEVEL, Onset, by_end, compare, median, onset
from experiments.contrasts import Asked

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Curve:
    """metric: of the rows over training; threshold: in its unit; falling: reached from above; what:
    behind an arm's name where several curves are compared."""

    metric: str
    threshold: float
    falling: bool = False
    what: str = ""


def onsets(rows: pd.DataFrame, curve: Curve) -> pd.DataFrame:
    """One row per run that has two points of the curve or more: its identity, and its `onset` as
    `time` in steps and `seen`."""
    import pandas as pd

    own = rows[rows.metric == curve.metric].dropna(subset="value")
    sign = -1 if curve.falling else 1
    found = []
    for _, run in own.groupby("run_id", sort=False):
        if len(run) < HOLD:
            continue
        run = run.sort_values("step")
        at = onset([*run.step], [*(sign * run.value)], sign * curve.threshold)
        first = run.iloc[0]
        found.append(
            {"run_id": first.run_id, "arm": first.arm + curve.what, "seed": first.seed,
             "n": first.n, "size": first["size"], "time": at.time, "seen": at.seen}
        )  # fmt: skip
    columns = ["run_id", "arm", "seed", "n", "size", "time", "seen"]
    return pd.DataFrame(found, columns=columns)


def of_arm(table: pd.DataFrame, arm: str) -> list[Onset]:
    own = table[table.arm == arm]
    return [Onset(float(t), bool(s)) for t, s in zip(own.time, own.seen, strict=True)]


def compared(ours: Sequence[Onset], theirs: Sequence[Onset], unit: str) -> str:
    """E.g. "later, median 900 against 300 steps, log-rank p = 0.1, 2 of 3 seeds against 3 of 3 by
    2100"."""
    found = compare(ours, theirs)
    at = [median(runs).value for runs in (ours, theirs)]
    texts = [f"{value:g}" if math.isfinite(value) else "none" for value in at]
    (a, n), (b, m) = (by_end(runs, found.end) for runs in (ours, theirs))
    return (
        f"{found.verdict}, median {texts[0]} against {texts[1]} {unit}, log-rank p = "
        f"{found.p:.2g}, {a} of {n} seeds against {b} of {m} by {found.end:g}"
    )


# --------------------------------------------------------------------------------------------------
# contrasts


@dataclass(frozen=True)
class Bounded(Contrast):
    """A contrast of which some differences are bounds.

    at_least, at_most  how many of the seeds' differences are larger, or smaller, than what is
                       counted
    left_out           seeds that say nothing
    """

    at_least: int = 0
    at_most: int = 0
    left_out: int = 0

    @property
    def sign(self) -> int:
        """With bounds, that of the sign test over the seeds (two-sided, 10%), which takes five
        seeds or more. A bound on the wrong side may have the other sign, so it counts against."""
        if not self.at_least + self.at_most:
            return super().sign
        for side, wrong in ((1, self.at_most), (-1, self.at_least)):
            right = sum(value * side > 0 for value in self.by_seed.values()) - wrong
            if sign_test(right, len(self.by_seed)) <= LEVEL:
                return side
        return 0

    @property
    def within_margin(self) -> bool:
        return not self.at_least + self.at_most and super().within_margin

    @property
    def beyond_margin(self) -> bool:
        """With bounds, if those seeds that show a side are beyond the margin, and enough of
        them."""
        if not self.at_least + self.at_most:
            return super().beyond_margin
        side = self.sign
        wrong = self.at_most if side > 0 else self.at_least
        right = sum(value * side > self.margin for value in self.by_seed.values()) - wrong
        return bool(side) and sign_test(right, len(self.by_seed)) <= LEVEL

    @property
    def verdict(self) -> str:
        """As of a contrast; then how many differences are bounds, and how many seeds have none."""
        notes = []
        if bounds := self.at_least + self.at_most:
            notes.append(f"{bounds} of {len(self.by_seed)} differences are bounds")
        if self.left_out:
            notes.append(f"{self.left_out} seed{'s' * (self.left_out > 1)} left out")
        return super().verdict + (f" ({', '.join(notes)})" if notes else "")

    @property
    def seeds_needed(self) -> int | None:
        """None with bounds: longer runs may help more than further seeds."""
        return None if self.at_least + self.at_most else super().seeds_needed


def sign_test(right: int, count: int) -> float:
    """The chance of so many or more of one sign among this many, doubled."""
    if right * 2 <= count:
        return 1.0
    return 2 * sum(math.comb(count, k) for k in range(right, count + 1)) / 2**count


@dataclass(frozen=True)
class AskedOfOnsets(Asked):
    """A contrast of log2 of onset times. Arms are those of the rows, with `what` of the curve
    behind them. With several sizes of model, a seed's value is the mean over them."""

    curves: tuple[Curve, ...] = ()
    missing: ClassVar[str] = "no seed has its arms and an onset that says something"

    def table(self, rows: pd.DataFrame) -> pd.DataFrame:
        import pandas as pd

        return pd.concat([onsets(rows, curve) for curve in self.curves], ignore_index=True)

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        return bounded(self.table(rows), self.arms, self.margin)


def bounded(table: pd.DataFrame, arms: Mapping[str, float], margin: float) -> Bounded | None:
    """The contrast of log2 of the times in `onsets`, over the seeds in which every arm has as many
    runs; None if there is no such seed, or if all of them say nothing."""
    found, at_least, at_most, left_out = dict[int, float](), 0, 0, 0
    for seed, own in table.groupby("seed"):
        runs = {arm: of_arm(own, arm) for arm in arms}
        counts = {len(each) for each in runs.values()}
        if len(counts) > 1 or 0 in counts:
            continue
        # the true difference is on these sides of what is counted
        sides = {arms[arm] > 0 for arm, each in runs.items() if not all(r.seen for r in each)}
        if len(sides) == 2:
            left_out += 1
            continue
        at_least, at_most = at_least + (sides == {True}), at_most + (sides == {False})
        found[int(seed)] = sum(  # pyright: ignore[reportArgumentType]
            weight * fmean(math.log2(run.time) for run in runs[arm]) for arm, weight in arms.items()
        )
    return Bounded(found, margin, at_least, at_most, left_out) if found else None
