"""What does predicting n tokens cost the next-token model, and why? Controls for Tables 1 and S4.

`sweep-n` and `sweep-heads` compare n and head types. Here arms differ in one thing each, so that
differences between them say where the cost of n=4 comes from (of 6 layers at `cpu`):

    n=1, short            n=1 with 3 layers: the path to the next token that n=4 has
    n=4, +3 layers        n=4 with the path of n=1
    n=4, linear           heads without layers: the path of n=1, and 3 maps (d, d) more
    .., ramped            heads 2..4 join between 20 and 40% of the run
    .., same target       heads 2..4 predict x[t+1] too: parameters and losses, nothing ahead
    .., shuffled          heads 2..4 predict x[t+i] of another text: losses without information

The data have 9 tokens per parameter, and n-gram tables of the same text say what bits per byte are
worth. Predictions, from trials at another size and before any run of this study: depth matters
little (within 0.02 bits per byte), with n=1 as with n=4. The losses of heads 2..4 cost more than
0.1, of which a ramp takes half. It is looking ahead that costs: more than predicting the same
token four times, and more than losses that cannot be learned.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from experiments import figures
from experiments.bases import base, with_model
from experiments.contrasts import Asked, sentence
from experiments.evaluations import REFERENCES, likelihood, references
from experiments.panels import arm_panel, caption, contrast_panel, metric
from experiments.study import Study
from mtp.config import TrainConfig
from mtp.head_types import DEFAULT

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LINEAR: dict[str, Any] = {"n": 4, "head": "linear"}
SHORT = "n=1, short"
# arm -> what it changes of the model, and of the objective
ARMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "n=1": ({}, {}),
    SHORT: ({}, {}),  # and 3 layers fewer
    "n=4": ({"n": 4}, {}),
    "n=4, +3 layers": ({"n": 4, "extra_layers": 3}, {}),
    "n=4, linear": (LINEAR, {}),
    "n=4, linear, ramped": (LINEAR, {"schedule": "ramp:0.2:0.4"}),
    "n=4, linear, same target": (LINEAR, {"targets": "same"}),
    "n=4, linear, shuffled": (LINEAR, {"targets": "shuffled"}),
}
BITS = "bits per byte"
LOOKAHEAD = {"n=4, linear": 1, "n=4, linear, same target": -1}
INFORMATION = {"n=4, linear": 1, "n=4, linear, shuffled": -1}
HALF = {"n=4, linear, ramped": 1, "n=4, linear": -0.5, "n=1": -0.5}
INTERACTION = {"n=4": 1, SHORT: -1, "n=4, +3 layers": -1, "n=1": 1}
CONTRASTS = (
    Asked("depth", BITS, {SHORT: 1, "n=1": -1}, 0.02, "equal", BITS),
    Asked("loss", BITS, {"n=4, linear": 1, "n=1": -1}, 0.1, "larger", BITS),
    Asked("interaction", BITS, INTERACTION, 0.02, "equal", BITS),
    Asked("half by ramp", BITS, HALF, 0.05, "equal", BITS),
    Asked("lookahead", BITS, LOOKAHEAD, 0.05, "larger", BITS),
    Asked("information", BITS, INFORMATION, 0.05, "larger", BITS),
)
LINES = tuple(f"{BITS}, {name}" for name in (*REFERENCES.values(), "xz"))
TOKENS = {"smoke": 2_560, "cpu": 1.4e6, "night": 5e6, "gpu": 65e6}
RATES = (4e-3, 8e-3, 16e-3)
SEEDS = {"cpu": 3, "night": 5, "gpu": 2}
LIMIT = "One size, one learning rate, which is tuned for no arm, and one budget."


def start(scale: str) -> TrainConfig:
    """The n=1 run."""
    if scale == "smoke":
        return with_model(base(scale), layers=6)
    return base(scale)


def with_arm(config: TrainConfig, arm: str, seed: int) -> TrainConfig:
    model, objective = ARMS[arm]
    if arm == SHORT:
        model = {"layers": config.model.layers - 3}
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model),
        objective=dataclasses.replace(config.objective, **objective),  # pyright: ignore
        seed=seed,
    )


def runs(scale: str) -> list[TrainConfig]:
    own = start(scale)
    return [with_arm(own, arm, seed) for seed in range(SEEDS.get(scale, 1)) for arm in ARMS]


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms."""
    m, objective = config.model, config.objective
    ends = {"ramp:0.2:0.4": ", ramped"}.get(objective.schedule, "")
    ends += {"same": ", same target", "shuffled": ", shuffled"}.get(objective.targets, "")
    if m.n == 1:
        short = {start(scale).model.layers - 3 for scale in TOKENS}
        return SHORT if m.layers in short else "n=1"
    head = f", {m.head}" * (m.head != DEFAULT)
    return f"n={m.n}{head}" + f", +{m.extra_layers} layers" * bool(m.extra_layers) + ends


def finding(rows: pd.DataFrame) -> str:
    """What is decided of the contrasts, the largest first."""
    found = [(each, contrast) for each in CONTRASTS if (contrast := each.of(rows))]
    if not found:
        return "No contrast has all of its arms."
    decided = [pair for pair in found if pair[0].outcome(pair[1]) != "open"]
    shown = sorted(decided or found, key=lambda pair: -abs(pair[1].mean))[:2]
    return "; ".join(sentence(*pair) for pair in shown) + "."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, right) = figures.panels(2, width=7.2, height=4.8)
    arm_panel(left, metric(rows, BITS))
    for name, style in zip(LINES, (":", "--", "-.", "-"), strict=True):
        if len(values := metric(rows, name).value):
            label = name.removeprefix(f"{BITS}, ")
            left.axvline(values.mean(), color=figures.GREY, linestyle=style, label=label)
    left.set_title("Head 1: lower is better")
    left.set_xlabel("held-out bits per byte")
    left.legend()
    contrast_panel(right, CONTRASTS, rows)
    right.set_title("Contrasts: 90% intervals, grey margins")
    what = caption(
        rows, "n-gram tables of the same text and xz for comparison", paper=False, limit=LIMIT
    )
    return figures.finish(picture, what, finding(rows))


STUDY = Study(
    name="sweep-controls",
    artefact="Tables 1 and S4, controls",
    question="where does the cost of n=4 come from?",
    runs=runs,
    evaluations={"likelihood": likelihood, "references": references(TOKENS)},
    figure=figure,
    finding=finding,
    table=(BITS, "accuracy, head 1 (%)"),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu"),
    limits=LIMIT,
    rates=RATES,
)
