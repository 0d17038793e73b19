"""An arm against a baseline over seeds: how far apart, and whether that far matters.

The two share their seeds (data order, questions), so a contrast is the mean of the differences
within seeds. Its interval is Student's, 90%. A margin is written down before the run: differences
below it do not matter. So "no effect" can be concluded too: if the whole interval lies within the
margin, a one-sided test at 5% on each side says so (Schuirmann 1987, A comparison of the two
one-sided tests procedure and the power approach for assessing the equivalence of average
bioavailability). Zero is excluded by a two-sided test at 10%.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from evals.statistics.intervals import Z90, student, t90


@dataclass(frozen=True)
class Contrast:
    """The arm minus the baseline.

    by_seed  the difference within each seed that both have, in the measure's unit
    margin   differences nearer to 0 than this do not matter; the same unit
    """

    by_seed: Mapping[int, float]
    margin: float

    def __post_init__(self) -> None:
        if not (self.margin > 0 and math.isfinite(self.margin)):
            raise ValueError(f"the margin is {self.margin}; it must be a number above 0")
        if not self.by_seed:
            raise ValueError("a contrast needs one seed or more that both arms have")
        for seed, value in self.by_seed.items():
            if not math.isfinite(value):
                raise ValueError(f"the difference in seed {seed} is {value}, not a number")

    @property
    def mean(self) -> float:
        return fmean(self.by_seed.values())

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """90%, of the mean over all seeds there might be, if differences are about normal; None of
        one seed. If all seeds differ alike it has no width, which is right for outcomes without
        chance alone."""
        return student(list(self.by_seed.values()))

    @property
    def sign(self) -> int:
        """1 if the interval is above 0, -1 if it is below, 0 if neither or if there is none."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high < 0)

    @property
    def within_margin(self) -> bool:
        """The whole interval is nearer to 0 than the margin."""
        return self.interval is not None and max(map(abs, self.interval)) < self.margin

    @property
    def beyond_margin(self) -> bool:
        """The whole interval is on one side of 0 and further away than the margin."""
        return bool(self.sign) and min(map(abs, self.interval or ())) > self.margin

    @property
    def verdict(self) -> str:
        """In words. What matters comes first: an interval within the margin is never plainly
        "larger". In this order, with a margin of 0.01:

        "equal within 0.01"                 within the margin, with 0 inside
        "larger, but by less than 0.01"     within the margin, without 0
        "larger by more than 0.01"          all beyond the margin
        "larger"                            without 0; how it compares with the margin is open
        "undecided with 3 seeds"            the rest, and always one seed
        """
        side = {1: "larger", -1: "smaller", 0: ""}[self.sign]
        if self.within_margin:
            less = f"by less than {self.margin:g}"
            return f"{side}, but {less}" if side else f"equal within {self.margin:g}"
        if self.beyond_margin:
            return f"{side} by more than {self.margin:g}"
        seeds = len(self.by_seed)
        return side or f"undecided with {seeds} seed{'s' * (seeds > 1)}"

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds in all would surely decide it, if they deviate as these do: half the
        interval's width is then less than half the margin, so that it cannot have both 0 and the
        margin inside. None of one seed."""
        return seeds_needed(list(self.by_seed.values()), self.margin / 2)


def paired(arm: Mapping[int, float], baseline: Mapping[int, float], margin: float) -> Contrast:
    """The contrast of two arms' values by seed, over the seeds that both have, in the arm's order.
    Raises ValueError if they have none, of a margin that is not above 0 and of values that are no
    numbers."""
    common = [seed for seed in arm if seed in baseline]
    if not common:
        raise ValueError(f"no seed in common: {sorted(arm)} and {sorted(baseline)}")
    return Contrast({seed: arm[seed] - baseline[seed] for seed in common}, margin)


def seeds_needed(differences: Sequence[float], half: float) -> int | None:
    """The fewest seeds, 2 or more, at which half the width of Student's 90% interval is less than
    `half`, if the standard deviation of the paired differences stays as it is; None of one seed.

    Half a margin decides every contrast (`Contrast.seeds_needed`). A whole margin shows a true
    difference of twice the margin in 19 of 20 cases or so, and "equal" hardly ever.

    The standard deviation of few seeds is a rough one: of 3
    seeds it is between 0.6 and 4.4 times what the data say (90%), so plan again after more.
    """
    if not half > 0:
        raise ValueError(f"half the width is {half}; it must be above 0")
    if len(differences) < 2:
        return None
    apart = stdev(differences) / half
    seeds = max(2, math.floor((Z90 * apart) ** 2))  # t is above the normal's, so no fewer will do
    while t90(seeds - 1) * apart >= math.sqrt(seeds):
        seeds += 1
    return seeds
