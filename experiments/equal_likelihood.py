"""Arms at equal likelihood: a metric of kept steps, against bits per byte over training.

An arm that learns more slowly is worse at everything in the end, which says nothing of what it
learns. So an arm's value at a kept step is compared with the baseline's at the step, between two
kept steps, where the baseline has the same bits per byte:

    value  |           o arm at its step t            the difference there, mean over the kept
           |     ..---'                               steps of the arm's second half
           |    x baseline, on the line between
           +-------------------------- bits per byte  two of its kept steps
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.statistics.contrast import Contrast
from experiments.contrasts import Asked
from experiments.evaluations import PROGRESS_BITS

if TYPE_CHECKING:
    import pandas as pd


def curves(rows: pd.DataFrame, metric: str, bits: str = PROGRESS_BITS) -> pd.DataFrame:
    """One row per run and kept step: arm, seed, step, `bits` and `value`."""
    index = ["arm", "seed", "run_id", "step"]
    own = rows[rows.metric.isin([metric, bits])]
    wide = own.groupby([*index, "metric"]).value.mean().unstack("metric")
    wide = wide.reindex(columns=[metric, bits]).dropna()
    return wide.rename(columns={metric: "value", bits: "bits"}).reset_index()


class AskedAtEqualLikelihood(Asked):
    """A contrast of two arms, the first minus the second, where both have the same bits per byte.
    Steps at which the second never had the first's bits per byte are left out, and seeds without
    others."""

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        (arm, one), (baseline, other) = self.arms.items()
        if (one, other) != (1, -1):
            raise ValueError(f"contrast {self.name}: one arm minus another, not {self.arms}")
        table = curves(rows[rows.arm.isin([arm, baseline])], self.metric)
        by_seed = dict[int, float]()
        for seed, own in table.groupby("seed"):
            theirs = own[own.arm == baseline]
            late = own[(own.arm == arm) & (own.step > own.step.max() / 2)]
            if found := self._difference(late, theirs):
                by_seed[int(seed)] = found[0]  # pyright: ignore[reportArgumentType]
        return Contrast(by_seed, self.margin) if by_seed else None

    @staticmethod
    def _difference(late: pd.DataFrame, theirs: pd.DataFrame) -> tuple[float, ...]:
        import numpy as np

        late = late[late.bits.between(theirs.bits.min(), theirs.bits.max())]
        if late.empty:
            return ()
        line = theirs.sort_values("bits")
        apart = late.value - np.interp(late.bits, line.bits, line.value)
        return (float(apart.mean()),)
