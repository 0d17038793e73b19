"""Figure 8: does predicting n > 1 tokens help a model to learn polynomial arithmetic, and why?

In the paper n = 2 and 4 are ahead of n = 1 at every number of operations. Here each other reason
for that than looking ahead has an arm (of 6 layers at `cpu`):

    n=1, short           n=1 with 3 layers: the path to the next token that n=4 has
    n=1, answers 2.5     n=1 whose answers weigh (n+1)/2 = 2.5 times as much as other text
    n=4, +3 layers       n=4 with the path of n=1
    n=4, linear          heads without layers: the path of n=1 and, but for 3 maps (d, d), its size
    n=4, same target     all four heads predict x[t+1]: parameters and losses, nothing ahead

Two outcomes of the same answers at m=1: nats per digit and exact answers (experiments/arithmetic.py
says of which questions); and when additions appear.

Written before the run (CONTRASTS, ONSETS; margins 0.05 nats per digit and 2 points). Known was a
comparison of n = 1, 2, 4 at d=96 with three operations, two rates and another score, in which n=4
had more exact answers in each of three seeds; none of the controls had been run.

    gain            n=4 is better than n=1, in both outcomes
    path            the shorter path is not why: n=1 with it is level with n=1
    lookahead       looking ahead is: n=4 is better than n=4 with the same target
    depth           three layers more change n=4 little
    weight          n=1 gains from heavier answers
    beyond weight   n=4 gains more than that
    linear          linear heads gain too, with the path of n=1

At `night` n = 1, 2, 4 have two sizes, for Figure S16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from experiments import figures
from experiments.arithmetic import (
    NATS,
    NLL,
    POINTS,
    RATES,
    SCORE,
    SEEDS,
    STYLES,
    arithmetic,
    asked,
    base,
    floors,
    largest,
    length_panel,
    onset_panel,
    onset_sentence,
    progress,
    task_caption,
    tuned,
)
from experiments.bases import with_changes
from experiments.contrasts import sentence
from experiments.panels import arm_panel, contrast_panel, in_millions, metric
from experiments.study import Study
from mtp.config import TrainConfig
from mtp.head_types import DEFAULT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT, WEIGHTED, SAME = "n=1, short", "n=1, answers 2.5", "n=4, same target"
LONG, LINEAR = "n=4, +3 layers", "n=4, linear"
ANSWERS = "labels:answer=2.5"
# arm -> what it changes of the model, and of the objective
ARMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "n=1": ({}, {}),
    SHORT: ({}, {}),  # and 3 layers fewer
    WEIGHTED: ({}, {"token_weights": ANSWERS}),
    "n=2": ({"n": 2}, {}),
    "n=4": ({"n": 4}, {}),
    LONG: ({"n": 4, "extra_layers": 3}, {}),
    LINEAR: ({"n": 4, "head": "linear"}, {}),
    SAME: ({"n": 4}, {"targets": "same"}),
}
PLAIN = ("n=1", "n=2", "n=4")  # the paper's
CPU = [arm for arm in ARMS if arm != "n=2"]


def apart(ours: str, theirs: str) -> dict[str, float]:
    return {ours: 1.0, theirs: -1.0}


CONTRASTS = (
    asked("gain", apart("n=4", "n=1"), "smaller"),
    asked("path", apart(SHORT, "n=1"), "equal"),
    asked("lookahead", apart("n=4", SAME), "smaller"),
    asked("depth", apart(LONG, "n=4"), "equal"),
    asked("weight", apart(WEIGHTED, "n=1"), "smaller"),
    asked("beyond weight", apart("n=4", WEIGHTED), "smaller"),
    asked("linear", apart(LINEAR, "n=1"), "smaller"),
    asked("gain, exact", apart("n=4", "n=1"), "larger", POINTS),
    asked("lookahead, exact", apart("n=4", SAME), "larger", POINTS),
    asked("beyond weight, exact", apart("n=4", WEIGHTED), "larger", POINTS),
)
ONSETS = (("n=4", "n=1"), ("n=4", SAME))  # the first is predicted to be earlier
SAID = ("gain, exact", "lookahead", "linear")
LIMIT = (
    "One ring, whose single operations are tables with 1 pair in 8 held out; at cpu one size, "
    "and each arm has the best learning rate of five on one seed."
)


def with_arm(config: TrainConfig, arm: str, seed: int) -> TrainConfig:
    model, objective = ARMS[arm]
    if arm == SHORT:
        model = {"layers": config.model.layers - 3}
    return with_changes(config, model, objective, seed=seed)


def runs(scale: str) -> list[TrainConfig]:
    """Of each seed every arm; but plain ones alone at the paper's scale and in smaller models."""
    *smaller, own = base(scale)
    arms = {"paper": PLAIN, "night": ARMS, "gpu": ARMS}.get(scale, CPU)
    configs = list[TrainConfig]()
    for seed in range(SEEDS.get(scale, 3)):
        configs += [tuned(with_arm(own, arm, seed), arm, scale) for arm in arms]
        configs += [with_arm(config, arm, seed) for config in smaller for arm in PLAIN]
    return configs


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms. Arms of a smaller
    size say so."""
    m, objective = config.model, config.objective
    own = [base(scale) for scale in ("smoke", "cpu", "night", "gpu", "paper")]
    if m.n == 1:
        short = {start.model.layers - 3 for starts in own for start in starts}
        name = SHORT if m.layers in short else "n=1"
        name = WEIGHTED if objective.token_weights == ANSWERS else name
    else:
        head = f", {m.head}" * (m.head != DEFAULT)
        name = f"n={m.n}{head}" + f", +{m.extra_layers} layers" * bool(m.extra_layers)
        name += ", same target" * (objective.targets == "same")
    for *smaller, largest_one in own:
        if config.data.source == largest_one.data.source:
            name += f", d={m.dim}" * (m.dim in {start.model.dim for start in smaller})
    return name


# --------------------------------------------------------------------------------------------------
# the figure


def finding(rows: pd.DataFrame) -> str:
    """The contrasts that matter most, and whether additions come sooner."""
    own = largest(rows)
    said = {each.name: each for each in CONTRASTS if each.name in SAID}
    found = [(said[name], said[name].of(own)) for name in SAID]
    parts = [sentence(each, contrast) for each, contrast in found if contrast]
    if not parts:
        return "No contrast has all of its arms."
    return " ".join(filter(None, ("; ".join(parts) + ".", onset_sentence(own, ONSETS))))


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    own = largest(rows)
    sizes = rows.arm.str.contains(r", d=\d+").any()
    count = 3 if sizes else 2
    picture, axes = figures.pyplot().subplots(count, 2, figsize=(13, 4.6 * count))
    score, contrasts, onset, length, *others = axes.flat
    arm_panel(score, metric(own, SCORE))
    floors(score, own, SCORE)
    score.set_title("Exact answers to one operation")
    score.set_xlabel("exact answers (%), by seed")
    score.set_xlim(left=0)
    score.legend()
    contrast_panel(contrasts, [each for each in CONTRASTS if each.unit == NATS], own)
    contrasts.set_title("Answers' NLL: 90% intervals, grey margins")
    onset_panel(onset, own)
    onset.set_title("When additions appear")
    length_panel(length, own, PLAIN)
    length.set_title("By number of operations")
    if sizes:
        size_panel(others[0], rows)
        others[1].remove()
    return figures.finish(picture, task_caption(rows, LIMIT), finding(rows))


def size_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """NLL against n, a line for each size: Figure S16."""
    own = metric(rows[rows.arm.str.match(r"n=\d+(, d=\d+)?$")], NLL)
    sizes = sorted(own["size"].unique(), key=in_millions)
    for i, size in enumerate(sizes):
        colour, marker = [*STYLES.values()][i % 3]
        shift = 0.02 * (i - (len(sizes) - 1) / 2)
        figures.spread(axes, own[own["size"] == size], "n", colour, size, marker, shift=shift)
    axes.set_title("Two sizes (Figure S16)")
    axes.set_xlabel("n")
    axes.set_ylabel("answers' NLL (nats per digit)")
    if sizes:
        axes.legend()


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Figure 8"]


STUDY = Study(
    name="synthetic-polynomials",
    artefact="Figure 8",
    question="does n > 1 help a model to learn polynomial arithmetic, and why?",
    limits=LIMIT,
    runs=runs,
    evaluations={"arithmetic": arithmetic},
    over_training={"progress": progress},
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(SCORE, NLL, "exact answers, m=2 (%)", "exact answers, m=3 (%)"),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
    rates=RATES,
    trial_share=1.0,  # in half of the budget no arm learns to add
    selects=("arithmetic", NLL),
)
