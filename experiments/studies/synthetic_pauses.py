"""Figure S15: do pause tokens, which give a model time to compute, do what n > 1 does?

`synthetic-polynomials` with 0, 5 or 10 constant tokens between question and equality sign, in
training and in the test. If n > 1 helps because later heads share computation with earlier
positions, pauses should help n = 1. The paper finds that the gain of n > 1 stays. Every run sees as
many problems as the runs without pauses, hence more tokens.

Pauses change n > 1 in another way too: at the end of a question, heads 2 to n then predict pauses
instead of the answer, so there is nothing to look ahead to.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.arithmetic import (
    STYLES,
    accuracy_panel,
    arithmetic,
    base,
    mark_domain,
    task_caption,
    with_pause,
)
from experiments.bases import with_model
from experiments.findings import against
from experiments.panels import metric
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PAUSES = (0, 5, 10)
SEEDS = {"smoke": 1}
# Tokens of a problem without pauses, newline included: at cpu scale F_7[X]/(X^2) and up to 3
# operations, elsewhere (but for smoke, where it does not matter) F_7[X]/(X^5) and up to 5.
PROBLEM = {"cpu": 15.0, "gpu": 32.2, "paper": 32.2}


def heads(scale: str) -> tuple[int, ...]:
    return (1, 4) if scale == "cpu" else (1, 2, 4)


def runs(scale: str) -> list[TrainConfig]:
    """Those without pauses are `synthetic-polynomials`'s own."""
    return [
        with_model(paused(base(scale)[-1], pause, scale), seed, n=n)
        for seed in range(SEEDS.get(scale, 3))
        for pause in PAUSES
        for n in heads(scale)
    ]


def paused(config: TrainConfig, pause: int, scale: str) -> TrainConfig:
    problem = PROBLEM.get(scale, 15.0)
    tokens = round(config.tokens * (problem + pause) / problem)
    return dataclasses.replace(with_pause(config, pause), tokens=float(tokens))


def pause_of(rows: pd.DataFrame) -> pd.Series[int]:
    return rows.data.str.extract(r"pause=(\d+)")[0].fillna("0").astype(int)


def finding(rows: pd.DataFrame) -> str:
    right = metric(rows, "accuracy, m=1 (%)")
    pause, arm = pause_of(right), "n=" + right.n.astype(str)
    arm = arm.where(pause == 0, arm + " with " + pause.astype(str) + " pauses")
    what = "Exact answers to one operation (%)"
    return against(right.assign(arm=arm), "arm", "n=1", what, lower=False, digits=1)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, axes = figures.panels(len(PAUSES))
    pause = pause_of(rows)
    top = rows[rows.metric.str.match(r"^accuracy, m=")].value.max()
    for panel, count in zip(axes, PAUSES, strict=True):
        own = rows[pause == count]
        if not len(own):  # its runs are not finished
            continue
        for n, (colour, marker) in STYLES.items():
            if (own.n == n).any():
                accuracy_panel(panel, own[own.n == n], colour, marker, f"n={n}")
        mark_domain(panel, own)
        panel.set_title(f"{count} pause tokens" if count else "No pause")
        panel.set_ylim(0, 1.08 * max(top, 1))
    for panel in axes:
        if panel.has_data():
            panel.legend()
    limit = (
        "With pauses: as many problems, more steps; after a question heads 2 to n predict pauses."
    )
    what = task_caption(rows, paper=False, limit=limit)
    return figures.finish(picture, what, finding(rows))


STUDY = Study(
    name="synthetic-pauses",
    artefact="Figure S15",
    question="do pause tokens do what n > 1 does?",
    limits=(
        "One learning rate, three seeds. The rows do not tell pauses as computing time from "
        "pauses that stand in the way of the other heads."
    ),
    runs=runs,
    evaluations={"arithmetic": arithmetic},
    figure=figure,
    finding=finding,
    table=("accuracy, m=1 (%)", "accuracy, m=2 (%)"),
)
