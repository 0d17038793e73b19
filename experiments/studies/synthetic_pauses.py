"""Figure S15: do pause tokens, which give a model time to compute, do what n > 1 does?

`synthetic-polynomials` with p = 0, 1 or 3 constant tokens (at `night` 0, 1, 2, 3, 5) between
question and equality sign, in training and in the test. Every run sees as many problems, hence more
tokens with more pauses. Those with p = 0 are `synthetic-polynomials`'s own.

    question   p pauses   answer        p = 0: from ")" heads 2 and 3 see the answer's two digits
    (20+61)    ...        =11           p = 3: they see pauses; from the last pause head 2 sees one

Three accounts of a gain of n > 1 differ in what pauses do to it:

    from the question    the gain is heads 2..n seeing answers from within the question: for n=2
                         it is gone at p=1, for n=4 it shrinks with p and is gone at p=3
    more loss terms      answers count more; pauses are places that know the question too, and
                         heads 2..n see answers from them: the gain stays
    shared computation   (the paper's) n=1 lacks places to compute: the more pauses, the better n=1,
                         until it has what n=4 has

Predicted is the first, before the run (CONTRASTS), with the margins of `synthetic-polynomials`.
Known were runs with p = 0, 5, 10 at d=96, three seeds and another score: five pauses helped n=1 and
harmed n=4, ten left no difference. Hence n=1 is predicted to gain from three. At `night` random
letters replace the constant: to heads 2..n they are noise to predict, and to the first account just
as much in the way.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.arithmetic import (
    NLL,
    POINTS,
    SCORE,
    SEEDS,
    STYLES,
    arithmetic,
    asked,
    base,
    floors,
    progress,
    task_caption,
    tuned,
)
from experiments.bases import with_model
from experiments.contrasts import sentence
from experiments.panels import contrast_panel, metric
from experiments.study import Study
from mtp.config import TrainConfig
from mtp.data.sources import generator_options

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LETTERS = 20  # different ones of a random filler
PAUSES = {"smoke": (0, 3), "cpu": (0, 1, 3)}
EVERY = (0, 1, 2, 3, 5)  # at night and beyond
RANDOM = 3  # pauses with a random filler, at night
# Tokens of a problem without pauses, newline included: F_7[X]/(X^2) and up to 2 or 3 operations, or
# F_7[X]/(X^5) and up to 5. At smoke scale it does not matter.
PROBLEM = {"cpu": 12.83, "night": 15.08, "gpu": 32.2, "paper": 32.2}


def heads(scale: str) -> tuple[int, ...]:
    return (1, 4) if scale in ("smoke", "cpu") else (1, 2, 4)


def runs(scale: str) -> list[TrainConfig]:
    own = base(scale)[-1]
    configs = list[TrainConfig]()
    for seed in range(SEEDS.get(scale, 3)):
        for p in PAUSES.get(scale, EVERY):
            runs_ = [with_model(paused(own, p, scale), seed, n=n) for n in heads(scale)]
            configs += [tuned(run, f"n={run.model.n}", scale) for run in runs_]
        if scale == "night":
            random = paused(own, RANDOM, scale, LETTERS)
            configs += [with_model(random, seed, n=n) for n in (1, 4)]
    return configs


def paused(config: TrainConfig, p: int, scale: str, fillers: int = 1) -> TrainConfig:
    """As many problems with so many pauses before each "=" (0: the config itself)."""
    if not p:
        return config
    problem = PROBLEM.get(scale, 15.0)
    source = f"{config.data.source},pause={p}" + f",fillers={fillers}" * (fillers > 1)
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, source=source),
        tokens=float(round(config.tokens * (problem + p) / problem)),
    )


def arm_of(config: TrainConfig) -> str:
    """E.g. "n=4", "n=4, 1 pause", "n=4, 3 random pauses"."""
    options = generator_options(config.data.source)[1]
    p, random = int(options.get("pause", 0)), "fillers" in options
    return arm_name(config.model.n, p, random)


def arm_name(n: int, p: int, random: bool = False) -> str:
    return f"n={n}" + f", {p} {'random ' * random}pause{'s' * (p > 1)}" * bool(p)


def gain(n: int, p: int) -> dict[str, float]:
    """What n changes at p pauses."""
    return {arm_name(n, p): 1.0, arm_name(1, p): -1.0}


LOST = gain(4, 0) | {arm: -weight for arm, weight in gain(4, 3).items()}
FILLER = {arm_name(4, RANDOM, True): 1.0, arm_name(4, RANDOM): -1.0}
CONTRASTS = (
    asked("gain, no pause", gain(4, 0), "smaller"),
    asked("gain, 1 pause", gain(4, 1), "smaller"),
    asked("gain, 3 pauses", gain(4, 3), "equal"),
    asked("gain lost by 3", LOST, "smaller"),
    asked("3 pauses, n=1", {arm_name(1, 3): 1.0, "n=1": -1.0}, "smaller"),
    asked("3 pauses, n=4", {arm_name(4, 3): 1.0, "n=4": -1.0}, "larger"),
    asked("gain lost by 3, exact", LOST, "larger", POINTS),
    asked("gain of n=2, 1 pause (night)", gain(2, 1), "equal"),
    asked("random filler (night)", FILLER, "equal"),
)
SHOWN = CONTRASTS[:6]
SAID = ("gain, no pause", "gain, 3 pauses", "gain lost by 3, exact")
LIMIT = (
    "Each n has the learning rate that is best without pauses; as many problems, so more steps "
    "with more pauses. From the last pauses heads 2 to n still see answers."
)


# --------------------------------------------------------------------------------------------------
# the figure


def pause_of(rows: pd.DataFrame) -> pd.Series[int]:
    return rows.data.str.extract(r"\bpause=(\d+)")[0].fillna("0").astype(int)


def finding(rows: pd.DataFrame) -> str:
    said = {each.name: each for each in CONTRASTS if each.name in SAID}
    found = [(said[name], said[name].of(rows)) for name in SAID]
    parts = [sentence(each, contrast) for each, contrast in found if contrast]
    if not parts:
        return "No contrast has all of its arms."
    return "; ".join(parts) + "."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, width=5.2)
    for axes, name, title in (
        (left, SCORE, "Exact answers to one operation (%)"),
        (middle, NLL, "Answers' NLL (nats per digit)"),
    ):
        dose_panel(axes, metric(rows, name))
        floors(axes, rows, name, level=True)
        axes.set_title(title)
        axes.legend()
    contrast_panel(right, SHOWN, rows)
    right.set_title("NLL: 90% intervals, grey margins")
    return figures.finish(picture, task_caption(rows, LIMIT), finding(rows))


def dose_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """A metric against the number of pauses, a line for each n; hollow: a random filler."""
    rows = rows.assign(pause=pause_of(rows))
    random = rows.arm.str.contains("random")
    doses = sorted(rows.pause.unique())
    for n, (colour, marker) in STYLES.items():
        own = rows[(rows.n == n) & ~random]
        mean = own.groupby("pause").value.mean()
        if len(own):
            axes.plot(mean.index, mean, color=colour, marker=marker, markersize=6, label=f"n={n}")
            axes.scatter(own.pause, own.value, s=26, marker=marker, color=colour, linewidth=0)
        other = rows[(rows.n == n) & random]
        if len(other):
            axes.scatter(
                other.pause + 0.15, other.value, s=40, marker=marker, facecolor="none",
                edgecolor=colour, label="random" if n == 4 else None,
            )  # fmt: skip
    axes.set_xticks(doses)
    axes.set_xlabel("pauses before the equality sign")
    axes.set_ylim(bottom=0)


STUDY = Study(
    name="synthetic-pauses",
    artefact="Figure S15",
    question="do pause tokens do what n > 1 does, or undo it?",
    limits=LIMIT,
    runs=runs,
    evaluations={"arithmetic": arithmetic},
    over_training={"progress": progress},
    figure=figure,
    finding=finding,
    table=(SCORE, NLL, "exact answers, m=2 (%)"),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
)
