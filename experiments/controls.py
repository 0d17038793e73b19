"""The arms that `sweep-controls` trains, which other studies look at again. They differ in one
thing each (docs/studies/sweep-controls.md).

    n=1, short            n=1 with 3 layers: the path to the next token that n=4 has
    n=4, +3 layers        n=4 with the path of n=1
    n=4, linear           heads without layers: the path of n=1, and 3 maps (d, d) more
    .., ramped            heads 2..4 join between 20 and 40% of the run
    .., same target       heads 2..4 predict x[t+1] too: parameters and losses, nothing ahead
    .., shuffled          heads 2..4 predict x[t+i] of another text: losses without information
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.bases import base, with_model
from mtp.config import TrainConfig
from mtp.head_types import DEFAULT

ONE, SHORT, FOUR, DEEP = "n=1", "n=1, short", "n=4", "n=4, +3 layers"
LINEAR, RAMPED = "n=4, linear", "n=4, linear, ramped"
SAME, SHUFFLED = "n=4, linear, same target", "n=4, linear, shuffled"
_HEADS: dict[str, Any] = {"n": 4, "head": "linear"}
# arm -> what it changes of the model, and of the objective
ARMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    ONE: ({}, {}),
    SHORT: ({}, {}),  # and 3 layers fewer
    FOUR: ({"n": 4}, {}),
    DEEP: ({"n": 4, "extra_layers": 3}, {}),
    LINEAR: (_HEADS, {}),
    RAMPED: (_HEADS, {"schedule": "ramp:0.2:0.4"}),
    SAME: (_HEADS, {"targets": "same"}),
    SHUFFLED: (_HEADS, {"targets": "shuffled"}),
}
TOKENS = {"smoke": 2_560, "cpu": 1.4e6, "night": 5e6, "gpu": 65e6}
RATES = (4e-3, 8e-3, 16e-3)  # tried for every arm (experiments/trials.py)
SEEDS = {"cpu": 3, "night": 5, "gpu": 2}


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


def runs(scale: str, arms: tuple[str, ...] = tuple(ARMS)) -> list[TrainConfig]:
    """The arms of every seed; a study that asks for fewer shares their runs."""
    own = start(scale)
    return [with_arm(own, arm, seed) for seed in range(SEEDS.get(scale, 1)) for arm in arms]


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms."""
    m, objective = config.model, config.objective
    ends = {"ramp:0.2:0.4": ", ramped"}.get(objective.schedule, "")
    ends += {"same": ", same target", "shuffled": ", shuffled"}.get(objective.targets, "")
    if m.n == 1:
        short = {start(scale).model.layers - 3 for scale in TOKENS}
        return SHORT if m.layers in short else ONE
    head = f", {m.head}" * (m.head != DEFAULT)
    return f"n={m.n}{head}" + f", +{m.extra_layers} layers" * bool(m.extra_layers) + ends
