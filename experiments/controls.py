"""The arms of the sweeps over n and head types. They share one base and differ in one thing each,
so that studies share runs too: `sweep-n`, `sweep-heads`, `sweep-controls` and those that look at
their models again.

    n=4                   parallel heads, which take a layer each from the trunk
    n=1, short            n=1 with 3 layers less: the path to the next token that n=4 has
    n=4, +3 layers        n=4 with the path of n=1
    n=4, linear           heads without layers: the path of n=1, and 3 maps (d, d) more
    .., ramped            heads 2..4 join between 20 and 40% of the run
    .., same target       heads 2..4 predict x[t+1] too: parameters and losses, nothing ahead
    .., shuffled          heads 2..4 predict x[t+i] of another text: losses without information
    .., 25%               a quarter of the budget
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from experiments.bases import base, with_changes
from mtp.config import TrainConfig
from mtp.head_types import DEFAULT, short_name

ONE, SHORT, FOUR, DEEP = "n=1", "n=1, short", "n=4", "n=4, +3 layers"
LINEAR, RAMPED = "n=4, linear", "n=4, linear, ramped"
SAME, SHUFFLED = "n=4, linear, same target", "n=4, linear, shuffled"
CAUSAL, ANTICAUSAL, REPLICATED = "n=4, causal", "n=4, anticausal", "n=4, replicated"
_HEADS: dict[str, Any] = {"n": 4, "head": "linear"}
# arm -> what it changes of the model, and of the objective
ARMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    ONE: ({}, {}),
    SHORT: ({}, {}),  # and 3 layers fewer
    "n=2": ({"n": 2}, {}),
    FOUR: ({"n": 4}, {}),
    "n=6": ({"n": 6}, {}),
    "n=8": ({"n": 8}, {}),
    DEEP: ({"n": 4, "extra_layers": 3}, {}),
    CAUSAL: ({"n": 4, "head": "causal"}, {}),
    ANTICAUSAL: ({"n": 4, "head": "anticausal"}, {}),
    REPLICATED: ({"n": 4, "head": "replicated"}, {}),
    "n=2, linear": ({"n": 2, "head": "linear"}, {}),
    LINEAR: (_HEADS, {}),
    "n=8, linear": ({"n": 8, "head": "linear"}, {}),
    RAMPED: (_HEADS, {"schedule": "ramp:0.2:0.4"}),
    SAME: (_HEADS, {"targets": "same"}),
    SHUFFLED: (_HEADS, {"targets": "shuffled"}),
}
CONTROLS = (ONE, SHORT, FOUR, DEEP, LINEAR, RAMPED, SAME, SHUFFLED)
SCALES = ("smoke", "cpu", "night", "gpu", "paper")
TOKENS = {scale: base(scale).tokens for scale in SCALES}
RATES = (8e-3, 16e-3, 32e-3, 64e-3)  # tried for every arm (experiments/trials.py)
SEEDS = {"cpu": 3, "night": 5, "gpu": 2}
SHARES = (0.25, 0.5)  # of the budget, for arms that are trained for less too


def with_arm(config: TrainConfig, arm: str, seed: int) -> TrainConfig:
    model, objective = ARMS[arm]
    if arm == SHORT:
        model = {"layers": config.model.layers - 3}
    return with_changes(config, model, objective, seed=seed)


def runs_of(arms: Sequence[str], scale: str) -> list[TrainConfig]:
    """The arms of every seed."""
    own = base(scale)
    return [with_arm(own, arm, seed) for seed in range(SEEDS.get(scale, 1)) for arm in arms]


def shorter(config: TrainConfig, share: float) -> TrainConfig:
    """The run of an arm with a share of its budget."""
    return dataclasses.replace(config, tokens=share * config.tokens)


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms."""
    m, objective = config.model, config.objective
    ends = {"ramp:0.2:0.4": ", ramped"}.get(objective.schedule, "")
    ends += {"same": ", same target", "shuffled": ", shuffled"}.get(objective.targets, "")
    whole = (TOKENS["cpu"], TOKENS["night"])  # the scales with shorter runs
    shares = {share * tokens: f", {share:.0%}" for tokens in whole for share in SHARES}
    ends += shares.get(config.tokens, "")
    if m.n == 1:
        short = {base(scale).model.layers - 3 for scale in TOKENS}
        return (SHORT if m.layers in short else ONE) + ends
    head = f", {short_name(m.head)}" * (m.head != DEFAULT)
    return f"n={m.n}{head}" + f", +{m.extra_layers} layers" * bool(m.extra_layers) + ends
