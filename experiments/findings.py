"""What rows say, in one sentence with numbers: the headline of a figure and the end of a run.

An arm is compared with a study's baseline by the difference within each seed, which the two share
(data order, questions). "undecided" is a difference whose 90% interval over seeds (Student's t)
covers zero, or one of a single seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from evals.statistics.intervals import student

if TYPE_CHECKING:
    import pandas as pd


BITS = "Held-out bits per byte"


@dataclass(frozen=True)
class Difference:
    """An arm's value minus the baseline's, for each seed that both have."""

    arm: str
    by_seed: list[float]

    @property
    def mean(self) -> float:
        return sum(self.by_seed) / len(self.by_seed)

    @property
    def interval(self) -> tuple[float, float] | None:
        return student(self.by_seed)

    @property
    def decided(self) -> bool:
        bounds = self.interval
        return bounds is not None and (bounds[0] > 0 or bounds[1] < 0)


def differences(rows: pd.DataFrame, arm: str, baseline: str) -> list[Difference]:
    """Of every other arm from the baseline. `rows` have one value per seed and arm, in the column
    named `arm`; arms are in the order of the rows."""
    values = rows.dropna(subset="value").groupby([arm, "seed"], sort=False).value.mean()
    if baseline not in values.index.get_level_values(0):
        return []
    base = values[baseline]
    found = []
    for name in dict.fromkeys(rows[arm]):
        if name == baseline or name not in values.index.get_level_values(0):
            continue
        apart = [float(v) for v in (values[name] - base).dropna()]
        if apart:
            found.append(Difference(str(name), apart))
    return found


def mean_and_range(values: pd.Series[float], digits: int = 2) -> str:
    """The mean, and the lowest and highest seed if there are several: "1.77 (1.75 to 1.79)"."""
    values = values.dropna()
    if not len(values):
        return "not measured"
    mean = f"{values.mean():.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def against(
    rows: pd.DataFrame, arm: str, baseline: str, what: str, lower: bool, digits: int = 3
) -> str:
    """One sentence: the baseline's value, then which arms are better, worse or undecided.

    E.g. "Bits per byte (lower is better): n=1 has 1.905; worse: n=2 by 0.065, n=4 by 0.248. 90%
    intervals over 2 seeds."
    """
    rows = rows.dropna(subset="value")
    own = rows[rows[arm] == baseline].value
    found = differences(rows, arm, baseline)
    if not found:
        return f"{what}: one arm, nothing to compare."
    better = "lower" if lower else "higher"
    text = f"{what} ({better} is better): {baseline} has {own.mean():.{digits}f}"
    groups: dict[str, list[str]] = {"better": [], "worse": [], "undecided": []}
    for d in found:
        if not d.decided:
            by_seed = f"{min(d.by_seed):+.{digits}f}"
            if len(d.by_seed) > 1:
                by_seed += f" to {max(d.by_seed):+.{digits}f} by seed"
            groups["undecided"].append(f"{d.arm} ({by_seed})")
        else:
            side = "better" if (d.mean < 0) == lower else "worse"
            groups[side].append(f"{d.arm} by {abs(d.mean):.{digits}f}")
    text += "".join(f"; {side}: {', '.join(arms)}" for side, arms in groups.items() if arms)
    seeds = max(len(d.by_seed) for d in found)
    if seeds == 1:
        return f"{text}. One seed decides nothing."
    return f"{text}. 90% intervals over {seeds} seeds."
