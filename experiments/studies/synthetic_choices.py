"""Sections 5.1 and L.3: does predicting n tokens weight consequential choices more?

    A3fkQGT    a choice (k) with consequences: the letters behind it are its code word
    B3fnHRG    a choice (n) without: the letters behind it are random

Both choices are equally predictable, and all that differs is what follows (synthetic/choices.py).
The paper counts loss terms: a choice with correlates behind it gets up to n (n+1) / 2 of them, one
without gets n. With m correlates, A's weight relative to B's is then

    r = 1 + sum over k = 1 .. min(m, n-1) of (n-k)/n        1.5, 2.5, 3.25 for n = 2, 4, 8 and m = 3

Measured is how many steps head 1 needs to halve its loss at A's and at B's choices, in the same
model. B/A of an arm with n > 1 is compared with B/A of arms with n = 1 and an explicit weight on
A's choices: its measured weight is the one that does the same. The arms:

    n = 1, 2, 4, 8 linear heads, m = 3    all layers are in the trunk, 3 to the next token
    the same, m = 0                       nothing behind a choice, so nothing to weight it by
    n = 4 heads of a layer, +3 layers     the same path; a head has a layer to itself
    n = 1, weights 1.5, 2.5, 4 and 8      the scale

A rival count looks from the one place before the choice that knows the question: earlier terms
cannot teach the table. From there all n heads have targets that depend on A's choice, if m >= n-1,
and one has such a target for B's: 1 + min(m, n-1), which is 2, 4, 4 for n = 2, 4, 8 and m = 3.

Written before the run (CONTRASTS; margin 0.1 in log2 of B/A, 7%). Pilots of single runs were known,
and favour the rival count:

    looking ahead       n=4 linear has a larger B/A than n=1                    larger
    no letters behind   with m = 0 it has not                                   equal
    paper's count       it does more than a weight of 2.5                       larger
    informed count      it does what a weight of 4 does                         equal
    more heads          n=8 does what n=4 does (the paper's count: more)        equal
    heads with a layer  n=4 with a layer in each head has n=1's B/A             equal
    the price           n=4 linear needs more steps than n=1 even for A         larger

Not varied: width, learning rate, the number of choices. The learning rate is constant after the
warm-up, so that it is the same for what is learned early and late.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from experiments import choices, figures
from experiments.choices import (
    KL,
    RATIO,
    STEPS,
    VALID,
    AskedOfCurves,
    counted,
    generation,
    progress,
)
from experiments.panels import caption
from experiments.study import Study, head_name
from mtp.config import CorpusConfig, ModelConfig, TrainConfig
from mtp.data.sources import generator_options
from mtp.head_types import HEADS
from mtp.objective_config import ObjectiveConfig
from synthetic.choices import Task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Arm:
    """What differs between arms: the model's heads, the weight of A's choices, the task, and the
    weight of heads 2..n."""

    n: int = 1
    head: str = "linear"
    weight: float = 1.0
    m: int = 3
    gap: int = 0
    others: float = 1.0


WEIGHTS = (1.5, 2.5, 4.0, 8.0)
LINEAR = [Arm(n) for n in (1, 2, 4, 8)]
CPU = [
    *LINEAR,
    *(dataclasses.replace(arm, m=0) for arm in LINEAR),
    Arm(4, "parallel"),
    *(Arm(weight=weight) for weight in WEIGHTS),
]
# Each m and gap has a scale of its own.
NIGHT = [
    *CPU,
    *(Arm(n, m=m) for m in (1, 7) for n in (1, 2, 4, 8)),
    *(Arm(weight=weight, m=m) for m in (1, 7) for weight in WEIGHTS),
    *(Arm(n, gap=gap) for gap in (1, 3, 8) for n in (1, 4)),
    *(Arm(weight=weight, gap=gap) for gap in (1, 3, 8) for weight in WEIGHTS),
    *(Arm(4, head) for head in HEADS if head not in ("linear", "parallel")),
    *(Arm(4, others=others) for others in (0.1, 0.3)),
]
ARMS = {"smoke": [Arm(), Arm(2), Arm(weight=2.5)], "cpu": CPU, "night": NIGHT}
SEEDS = {"smoke": 1, "cpu": 3, "night": 8}
BLOCKS = {"smoke": 8}  # of a document


def runs(scale: str) -> list[TrainConfig]:
    return [
        config_of(arm, scale, seed)
        for seed in range(SEEDS.get(scale, 3))
        for arm in ARMS.get(scale, CPU)
    ]


def config_of(arm: Arm, scale: str, seed: int) -> TrainConfig:
    """A run of an arm. Every run of a scale sees as many blocks, in windows of one document; those
    of a seed share their tables."""
    task = Task(arm.m, arm.gap, seed, BLOCKS.get(scale, 16))
    dim, layers, heads, batch, steps = {"smoke": (32, 2, 2, 4, 10)}.get(scale, (64, 3, 4, 8, 800))
    if scale in ("gpu", "paper"):  # the paper has no such task
        dim, layers, heads, batch, steps = 256, 6, 8, 32, 2000
    options = f"m={task.m}" + f",gap={task.gap}" * (task.gap > 0) + f",tables={seed}"
    options += f",blocks={task.blocks}" * (task.blocks != Task.blocks)
    source = f"python:synthetic.choices?{options},count={batch * steps * 21 // 20 + 100}"
    extra = max(0, HEADS[arm.head].layers(arm.n) - 1)  # so that the trunk keeps its layers
    objective = ObjectiveConfig()
    if arm.weight != 1:
        objective = ObjectiveConfig(token_weights=f"labels:choice_A={arm.weight:g}")
    if arm.others != 1:
        others = ",".join(["1", *[f"{arm.others:g}"] * (arm.n - 1)])
        objective = dataclasses.replace(objective, weights=others)
    return TrainConfig(
        model=ModelConfig(
            dim, layers, heads, vocab=258, n=arm.n, head=arm.head if arm.n > 1 else "parallel",
            extra_layers=extra, context=task.context,
        ),
        data=CorpusConfig(source, "bytes", validation=0.01), objective=objective, batch=batch,
        tokens=float(batch * steps * task.context), lr=1e-3 if dim > 64 else 4e-3, min_lr=1.0,
        warmup=2 if scale == "smoke" else 50, log_every=steps // 10, seed=seed,
        keep_every=5 if scale == "smoke" else 25,
    )  # fmt: skip


def arm_of(config: TrainConfig) -> str:
    """E.g. "n=4 linear, m=3" and "n=1, weight 2.5, m=3"; a gap and weights of heads if there are
    any."""
    model, objective = config.model, config.objective
    name = f"n={model.n}" + (f" {head_name(config)}" if model.n > 1 else "")
    if weight := objective.token_weights.removeprefix("labels:choice_A="):
        name += f", weight {weight}"
    options = generator_options(config.data.source)[1]
    name += f", m={options.get('m', 3)}"
    if gap := int(options.get("gap", 0)):
        name += f", gap={gap}"
    return name + f", heads {objective.weights}" * (objective.weights != "equal")


MARGIN = 0.1  # of log2 of B/A and of steps
ONE, FOUR = "n=1, m=3", "n=4 linear, m=3"


def asked(
    name: str,
    arms: tuple[str, str],
    predicted: Literal["larger", "equal"],
    metric: str = RATIO,
) -> AskedOfCurves:
    """The first arm minus the second."""
    unit = "of log2 B/A" if metric == RATIO else "of log2 steps"
    return AskedOfCurves(name, metric, {arms[0]: 1, arms[1]: -1}, MARGIN, predicted, unit)


CONTRASTS = (
    asked("looking ahead", (FOUR, ONE), "larger"),
    asked("no letters behind", ("n=4 linear, m=0", "n=1, m=0"), "equal"),
    asked("paper's count", (FOUR, "n=1, weight 2.5, m=3"), "larger"),
    asked("informed count", (FOUR, "n=1, weight 4, m=3"), "equal"),
    asked("more heads", ("n=8 linear, m=3", FOUR), "equal"),
    asked("heads with a layer", ("n=4 parallel +3 layers, m=3", ONE), "equal"),
    asked("the price", (FOUR, ONE), "larger", STEPS["A"]),
)


# --------------------------------------------------------------------------------------------------
# the figure


def measured(table: pd.DataFrame) -> pd.DataFrame:
    """Of `choices.onsets`, the runs with n > 1 and their measured and counted weights."""
    table = choices.with_weights(table)
    table = table[table.n > 1]
    pairs = zip(table.n, table.m, strict=True)
    return table.assign(counted=[counted(int(n), int(m)) for n, m in pairs])


def finding(rows: pd.DataFrame) -> str:
    """Measured weight with its interval, and counted weight, of each arm with letters behind a
    choice; those of all the others together."""
    table = choices.onsets(rows)
    highest = max([1.0, *table.weight])
    parts, none = [], list[float]()
    for name, runs_ in measured(table).groupby("arm", sort=False):
        if runs_.m.iloc[0] == 0:
            none.append(float(runs_.measured.mean()))
            continue
        text = choices.in_words([*runs_.measured], highest)
        parts.append(f"{name}: {text}, counted {runs_.counted.iloc[0]:g}")
    if none:
        spread = " to ".join(dict.fromkeys((f"{min(none):.2f}", f"{max(none):.2f}")))
        parts.append(f"with no letters behind a choice {spread}")
    if not parts:
        return "Weight of consequential choices: no run with n > 1."
    seeds = rows.seed.nunique()
    over = f"90% over {seeds} seeds" if seeds > 1 else "one seed decides nothing"
    return f"Weight of choices with consequences ({over}). {'; '.join(parts)}."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    table = choices.onsets(rows)
    weight_panel(left, measured(table))
    curves(middle, rows)
    steps_panel(right, table)
    short = rows.assign(data="choices with and without consequences, bytes")
    limit = (
        f"Bars: 90% over seeds. Weights are read off arms of n=1 with explicit weights, up to "
        f"{table.weight.max():g}. One width and one learning rate."
    )
    what = "3 letters behind a choice unless m says otherwise"
    text = caption(short, what, paper=False, limit=limit)
    return figures.finish(picture, text, finding(rows))


def groups(table: pd.DataFrame) -> list[tuple[str, str, str, pd.DataFrame]]:
    """Label, colour, marker and rows of each kind of arm."""
    usual = (table.gap == 0) & ~table.arm.str.contains(", heads ")
    linear = usual & (table["head"] == "linear")
    layer = usual & (table["head"].str.startswith("parallel"))
    none = linear & (table.m == 0)
    return [
        ("linear heads", figures.BLUE, "o", table[linear & ~none]),
        ("linear, no letters behind", figures.GREY, "s", table[none]),
        ("heads with a layer", figures.ORANGE, "^", table[layer]),
        ("other arms", figures.PURPLE, "D", table[~linear & ~layer]),
    ]


TICKS = (0.5, 1.0, 1.5, 2.5, 4.0, 8.0)


def weight_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Measured against counted weight, a point for each seed and a bar for the interval."""
    from matplotlib.ticker import FixedLocator, NullLocator

    shift = 1.0  # so that arms of one count do not hide each other
    for label, colour, marker, own in groups(table):
        for i, (_, arm) in enumerate(own.groupby("arm", sort=False)):
            shift = 1.05 if shift == 1 else 1.0 if shift < 1 else 0.95
            at = arm.counted.iloc[0] * shift
            axes.scatter(
                [at] * len(arm), arm.measured, s=34, marker=marker, color=colour, zorder=3,
                edgecolor="white", linewidth=0.7, label=label if i == 0 else None,
            )  # fmt: skip
            if found := choices.mean_and_interval([*arm.measured]):
                mean, low, high = found
                axes.plot(at, mean, marker="_", markersize=17, color=colour, markeredgewidth=2)
                axes.plot([at, at], [low, high], color=colour, linewidth=1.6)
    axes.plot([0.8, 4.5], [0.8, 4.5], color=figures.BLACK, linewidth=1.2, linestyle="--",
              label="as counted")  # fmt: skip
    linear = groups(table)[0][3].drop_duplicates("arm")
    pairs = zip(linear.n, linear.m, strict=True)
    axes.scatter(
        linear.counted, [choices.informed(n, m, 0) for n, m in pairs],
        marker="x", s=50, color=figures.RED, label="counted where the question is known",
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(0.8, 4.5), ylim=(0.45, 9))
    for axis, ticks in ((axes.xaxis, TICKS[1:5]), (axes.yaxis, TICKS)):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:g}")
    axes.set_title("Weight of A's choices")
    axes.set_xlabel("counted weight (1: none)")
    axes.set_ylabel("measured weight, by seed")
    axes.legend()


SHOWN = ((ONE, figures.BLUE, "n=1"), (FOUR, figures.GREEN, "n=4 linear"))


TOP = 3.2  # nats


def curves(axes: Axes, rows: pd.DataFrame) -> None:
    """Head 1's loss at A's and B's choices over training, a line for each seed."""
    for arm, colour, name in SHOWN:
        for kind, style in (("A", "-"), ("B", "--")):
            of_it = rows[(rows.arm == arm) & (rows.metric == choices.LOSS[kind])]
            for i, (_, run) in enumerate(of_it.groupby("seed")):
                run = run[run.value < TOP].sort_values("step")  # the first steps are far above
                axes.plot(run.step, run.value, color=colour, linestyle=style, linewidth=1.5,
                          label=f"{name}, {kind}" * (not i))  # fmt: skip
    axes.axhline(choices.HALF, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_title("Loss at choices, m=3")
    axes.set_xlabel("step (lines: seeds)")
    axes.set_ylabel("head 1's loss (nats)")
    axes.set_ylim(0, TOP)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def steps_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Steps to half of the loss at A's and B's choices."""
    names = {f"n={n} linear, m=3": f"n={n}" for n in (2, 4, 8)} | {ONE: "n=1"}
    names["n=4 parallel +3 layers, m=3"] = "n=4 L"
    order = [name for name in ("n=1", "n=2", "n=4", "n=8", "n=4 L") if name in names.values()]
    own = table.assign(name=table.arm.map(names)).dropna(subset="name")
    order = [name for name in order if name in set(own.name)]
    for kind, colour, marker, shift in (
        ("A", figures.RED, "o", -0.14),
        ("B", figures.BLACK, "s", 0.14),
    ):
        values = own.assign(value=own[kind]).dropna(subset="value")
        if order:
            figures.spread(axes, values, "name", colour, f"kind {kind}", marker, order, shift)
    axes.set_title("Steps to half of the loss")
    axes.set_xlabel("heads (linear; L: with a layer each)")
    axes.set_ylabel("steps, by seed")
    axes.set_ylim(bottom=0)
    if order:
        axes.legend()


STUDY = Study(
    name="synthetic-choices",
    artefact="Section 5.1",
    question="does predicting n tokens weight consequential choices more?",
    runs=runs,
    evaluations={"generation": generation},
    figure=figure,
    finding=finding,
    table=(VALID["A"], VALID["B"], KL),
    over_training={"progress": progress},
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
)
