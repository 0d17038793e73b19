"""What the study of choices shares: evaluations, and the weight that rows give a choice.

    steps to half     when the loss at the choices of a kind falls below ln(16) / 2, by arm and seed
    B/A               B's steps over A's: how much sooner consequential choices are learned
    measured weight   the weight w on A's choices with which n=1 has the same B/A, read off the
                      arms with n=1 and explicit weights of the same seed
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from experiments.panels import metric
from experiments.results import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

HALF = math.log(16) / 2  # nats; a model that knows the place of a choice alone has ln 16
LOSS = {kind: f"loss at the choices of kind {kind} (nats)" for kind in "AB"}
KL = "KL from the process (nats per block)"
VALID = {kind: f"valid blocks of kind {kind}, sampled (%)" for kind in "AB"}
ALL_VALID = "valid blocks, sampled (%)"


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: head 1's loss at the choices of both kinds, over all questions."""
    from evals.probes import choices

    times = 1 if scale == "smoke" else 2
    losses = choices.choice_losses(model, corpus, times)
    return [Measure(LOSS[kind], nats, 256 * times) for kind, nats in losses.items()]


def generation(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the last step: how far head 1 is from the process, and how many of the blocks drawn from
    it the process can make."""
    from evals.probes import choices

    times, documents = (1, 4) if scale == "smoke" else (2, 128)
    drawn = choices.sampled(model, corpus, documents)
    blocks, valid = drawn.blocks, drawn.valid
    rows = [Measure(KL, choices.divergence(model, corpus, times), 512 * times)]
    rows.append(share(ALL_VALID, sum(valid.values()), sum(blocks.values())))
    return rows + [share(VALID[kind], valid[kind], blocks[kind]) for kind in "AB"]


def share(name: str, part: int, whole: int) -> Measure:
    return Measure(name, 100 * part / whole if whole else None, whole)


# --------------------------------------------------------------------------------------------------
# what the paper's argument counts


def counted(n: int, m: int) -> float:
    """The paper's count (section 5.1): of the loss terms that a choice and its m correlates give
    to n heads, those before the choice, relative to the n terms of a choice without correlates.

    >>> [counted(n, 3) for n in (1, 2, 4, 8)], counted(4, 0)
    ([1.0, 1.5, 2.5, 3.25], 1.0)
    """
    return 1 + sum(n - k for k in range(1, min(m, n - 1) + 1)) / n


def informed(n: int, m: int, gap: int) -> float:
    """The same count over those places alone that know the question, the last gap + 1 before the
    choice: elsewhere a head cannot tell choices apart, and its terms are noise.

    >>> [informed(n, 3, 0) for n in (1, 2, 4, 8)]
    [1.0, 2.0, 4.0, 4.0]
    """
    places = range(1, min(n, gap + 1) + 1)
    return sum(1 + min(m, n - place) for place in places) / len(places)


# --------------------------------------------------------------------------------------------------
# from rows to weights


def steps_to_half(curve: pd.Series[float]) -> float:
    """Where a loss, by step, first falls below HALF: on the line between two kept steps, the first
    of which has ln 16. nan if it never does."""
    before = (0.0, 2 * HALF)
    for step, loss in curve.sort_index().items():
        if loss < HALF:
            part = (before[1] - HALF) / (before[1] - loss)
            return before[0] + part * (float(str(step)) - before[0])
        before = (float(str(step)), loss)
    return math.nan


def onsets(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: size, n, head, seed, what its data and weights are (m, gap, weight), steps
    to half (A, B) and their ratio B/A (`ratio`)."""
    import pandas as pd

    columns = ["run_id", "size", "n", "head", "seed", "data"]
    found = []
    for key, run in rows.groupby(columns, sort=False):
        run_of = dict(zip(columns, key, strict=True)) if isinstance(key, tuple) else {}
        at = {k: steps_to_half(metric(run, LOSS[k]).set_index("step").value) for k in "AB"}
        found.append(run_of | at | {"ratio": at["B"] / at["A"]})
    table = pd.DataFrame(found, columns=[*columns, "A", "B", "ratio"])
    for name, default in (("m", 3), ("gap", 0)):
        table[name] = table.data.str.extract(rf"\b{name}=(\d+)")[0].fillna(default).astype(int)
    weight = table["head"].str.extract(r"choice_A=([\d.]+)")[0]
    return table.assign(weight=weight.fillna(1).astype(float))


def with_weights(table: pd.DataFrame) -> pd.DataFrame:
    """`onsets` with the measured weight of each run as `measured`; nan where it, or runs that it
    is compared with, have not learned both kinds."""
    measured = [measured_weight(run, table) for _, run in table.iterrows()]
    return table.assign(measured=measured)


def measured_weight(run: pd.Series[float], table: pd.DataFrame) -> float:
    """The weight with which n=1 has this run's B/A, both relative to n=1 without weights, so that
    luck of the seed's two tables cancels. The scale is of the same seed and gap, and of the same m
    if it has a scale. On the scale logarithms are joined by lines; beyond its last weight it ends.
    """
    alike = table[(table.seed == run.seed) & (table.gap == run.gap) & (table.n == 1)]
    weighted = alike[alike.weight > 1]
    m = run.m if run.m in set(weighted.m) else weighted.m.min()
    plain, origin = (ratio_of(alike[(alike.m == each) & (alike.weight == 1)]) for each in (run.m, m))
    scale = weighted[weighted.m == m].sort_values("weight")
    places = [math.log(ratio / origin) for ratio in scale.ratio]
    if math.isnan(run.ratio / plain * origin) or not places or any(map(math.isnan, places)):
        return math.nan
    return read_off(math.log(run.ratio / plain), places, [*scale.weight])


def ratio_of(rows: pd.DataFrame) -> float:
    return float(rows.ratio.iloc[0]) if len(rows) else math.nan


def read_off(place: float, places: Sequence[float], weights: Sequence[float]) -> float:
    """The weight at a place of the scale from (0, weight 1) over (places, weights); since the kinds
    can be exchanged, -place has one over the weight. A place that is not above those of smaller
    weights is noise: it is taken as the highest of them.

    >>> round(read_off(-0.3, [0.2, 0.4], [2, 8]), 6)
    0.25
    """
    import numpy as np

    xs = np.maximum.accumulate([0.0, *places])
    found = np.interp(abs(place), xs, np.log([1.0, *weights]))
    return math.exp(math.copysign(found, place))
