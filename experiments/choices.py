"""What the study of choices shares: evaluations, and the weight that rows give a choice.

steps to half     when the loss at the choices of a kind falls below ln(16) / 2, by arm and seed
B/A               B's steps over A's: how much sooner consequential choices are learned
measured weight   the weight w on A's choices with which n=1 has the same B/A, read off the
                  arms with n=1 and explicit weights of the same seed
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from experiments.contrasts import Asked
from experiments.results import Measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from evals.statistics.contrast import Contrast
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

HALF = math.log(16) / 2  # nats; a model that knows the place of a choice alone has ln 16
LOSS = {kind: f"loss at the choices of kind {kind} (nats)" for kind in "AB"}
KL = "KL from the process (nats per block)"
VALID = {kind: f"valid blocks of kind {kind}, sampled (%)" for kind in "AB"}
ALL_VALID = "valid blocks, sampled (%)"
RATIO = "log2 of B/A"
STEPS = {kind: f"log2 of steps to half, {kind}" for kind in "AB"}


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: head 1's loss at the choices of both kinds, over all questions."""
    from evals.probes import choices

    losses = choices.choice_losses(model, corpus, times=1)
    return [Measure(LOSS[kind], nats, 256) for kind, nats in losses.items()]


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


def steps_to_half(steps: Sequence[float], losses: Sequence[float]) -> float:
    """Where a loss first falls below HALF: on the line between two kept steps, which begins with
    ln 16 at step 0. nan if it never does."""
    before, there = 0.0, 2 * HALF
    for step, loss in sorted(zip(steps, losses, strict=True)):
        if loss < HALF:
            return before + (step - before) * (there - HALF) / (there - loss)
        before, there = step, loss
    return math.nan


def onsets(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run: what it is (m, gap and weight among it), its steps to half (A, B; nan if
    never) and their ratio B/A."""
    import pandas as pd

    own = rows[rows.metric.isin([*LOSS.values()])]
    columns = ["run_id", "arm", "n", "head", "seed", "data", "scale"]
    table = own.drop_duplicates("run_id")[columns].reset_index(drop=True)
    for kind, name in LOSS.items():
        curves = own[own.metric == name].groupby("run_id")
        at = {run: steps_to_half([*c.step], [*c.value]) for run, c in curves}
        table[kind] = table.run_id.map(at)
    for name, default in (("m", 3), ("gap", 0)):
        table[name] = table.data.str.extract(rf"\b{name}=(\d+)")[0].fillna(default).astype(int)
    weight = pd.to_numeric(table.arm.str.extract(r"weight ([\d.]+)")[0])
    return table.assign(weight=weight.fillna(1.0), ratio=table.B / table.A)


class AskedOfCurves(Asked):
    """A contrast of what follows from whole curves: the metrics RATIO and STEPS."""

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        return super().of(derived(rows))


def derived(rows: pd.DataFrame) -> pd.DataFrame:
    """What contrasts ask of a run's whole curve, as rows: logarithms of B/A and of the steps."""
    import numpy as np
    import pandas as pd

    table = onsets(rows).assign(step=0)
    made = [
        table.assign(metric=name, value=np.log2(table[column]))
        for name, column in ((RATIO, "ratio"), (STEPS["A"], "A"), (STEPS["B"], "B"))
    ]
    return pd.concat(made, ignore_index=True)


def with_weights(table: pd.DataFrame) -> pd.DataFrame:
    """`onsets` with each run's measured weight as `measured`: the weight with which n=1 has its
    B/A, both relative to n=1 without weights, so that luck of the seed's two tables cancels. The
    scale is of the same seed and gap, and of the same m if there is one. nan where the run, or one
    that it is compared with, has not learned both kinds."""
    plain = dict[tuple[int, int, int], float]()
    scales = dict[tuple[int, int], dict[int, dict[float, float]]]()
    for run in table[table.n == 1].to_dict("records"):
        seed, gap, m = run["seed"], run["gap"], run["m"]
        if run["weight"] == 1:
            plain[seed, gap, m] = run["ratio"]
        else:
            found = scales.setdefault((seed, gap), {}).setdefault(m, {})
            found[run["weight"]] = run["ratio"]

    def weight(run: dict[Any, Any]) -> float:
        seed, gap, m = run["seed"], run["gap"], run["m"]
        of_m = scales.get((seed, gap), {})
        own = m if m in of_m else min(of_m, default=m)
        scale, origin = sorted(of_m.get(own, {}).items()), plain.get((seed, gap, own), math.nan)
        place = math.log(run["ratio"] / plain.get((seed, gap, m), math.nan))
        places = [math.log(ratio / origin) for _, ratio in scale]
        if not scale or math.isnan(place + sum(places)):
            return math.nan
        return read_off(place, places, [weight for weight, _ in scale])

    return table.assign(measured=[weight(run) for run in table.to_dict("records")])


def read_off(place: float, places: Sequence[float], weights: Sequence[float]) -> float:
    """The weight at a place (log of B/A) of a scale that begins with weight 1 at place 0.
    Logarithms of weights are joined by lines; the scale ends with its last weight. Since the kinds
    can be exchanged, -place has one over the weight. A place that is not above those of smaller
    weights is noise: it is taken as the highest of them.

    >>> round(read_off(-0.3, [0.2, 0.4], [2, 8]), 6)
    0.25
    """
    import numpy as np

    xs = np.maximum.accumulate([0.0, *places])
    found = np.interp(abs(place), xs, np.log([1.0, *weights]))
    return math.exp(math.copysign(found, place))


def mean_and_interval(weights: Sequence[float]) -> tuple[float, float, float] | None:
    """Geometric mean of weights over seeds and its 90% interval, Student's of their logarithms;
    without an interval (nan) for one seed, None for none."""
    from evals.statistics.intervals import student

    logs = [math.log(weight) for weight in weights if not math.isnan(weight)]
    if not logs:
        return None
    low, high = student(logs) or (math.nan, math.nan)
    return math.exp(sum(logs) / len(logs)), math.exp(low), math.exp(high)


def in_words(weights: Sequence[float], highest: float) -> str:
    """E.g. "2.40 (1.90 to 3.00)", and how many seeds it is of if some have not learned both kinds;
    "at least 6.10" if some are at the end of the scale, so that the mean is a bound."""
    found = mean_and_interval(weights)
    if found is None:
        return "not learned"
    mean, low, high = found
    learned = [weight for weight in weights if not math.isnan(weight)]
    if max(learned) > 0.999 * highest:
        text = f"at least {mean:.2f}"
    else:
        text = f"{mean:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")
    return text + f" in {len(learned)} of {len(weights)} seeds" * (len(learned) < len(weights))
