"""Table S4: does the shape of the heads matter?

Arms: n=4 heads of each of the paper's types at equal layers, parallel heads with 3 layers added
instead of moved, replicated unembeddings, and n=1. Three arms have more parameters than the others:
linear heads add 3 maps (d, d), replicated ones 3 unembeddings (V, d), "+3 layers" three layers.

The paper's order by MBPP pass@1 is parallel, linear, parallel +3, causal, anticausal. It has no row
for replicated unembeddings. Written before the run, from models of another size (a fiftieth of the
tokens per parameter): all types but anticausal are within 0.02 bits per byte of parallel heads, and
anticausal ones are worse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.contrasts import Asked, largest
from experiments.controls import (
    ANTICAUSAL,
    CAUSAL,
    DEEP,
    FOUR,
    LINEAR,
    ONE,
    RATES,
    REPLICATED,
    TOKENS,
    arm_of,
    runs_of,
)
from experiments.evaluations import (
    SWEEP_TABLE,
    agreement,
    floors,
    generation,
    likelihood,
    references,
)
from experiments.panels import (
    caption,
    contrast_panel,
    drafting_panel,
    metric,
    paper_points,
    reference_lines,
)
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# arm -> label in the figure
LABELS = {
    ONE: "n=1",
    FOUR: "parallel",
    DEEP: "parallel +3",
    CAUSAL: "causal",
    ANTICAUSAL: "anticausal",
    LINEAR: "linear",
    REPLICATED: "replicated",
}
BITS = "bits per byte"
LIMIT = "One size and one budget. Bits per byte are not pass@k."
PAPER_NAMES = {
    "transformer/parallel/+0 layers": "parallel",
    "transformer/parallel/+3 layers": "parallel +3",
    "transformer/causal/+0 layers": "causal",
    "transformer/anticausal/+0 layers": "anticausal",
    "linear/parallel/+0 layers": "linear",
}
CONTRASTS = (
    *(
        Asked(LABELS[arm], BITS, {arm: 1, FOUR: -1}, 0.02, "equal", BITS)
        for arm in (DEEP, CAUSAL, LINEAR, REPLICATED)
    ),
    Asked("anticausal", BITS, {ANTICAUSAL: 1, FOUR: -1}, 0.02, "larger", BITS),
)


def runs(scale: str) -> list[TrainConfig]:
    return runs_of(tuple(LABELS), scale)


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S4"]


def finding(rows: pd.DataFrame) -> str:
    """What is decided of the contrasts, the largest first."""
    return "; ".join(largest(CONTRASTS, rows, 3) or ["No contrast has all of its arms"]) + "."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    order = list(LABELS.values())
    picture, (left, right, decode, theirs) = figures.grid(2, 2, 5.6, 4.4)
    named = rows.assign(variant=rows.arm.map(LABELS))
    bits = metric(named, BITS)
    figures.spread(left, bits, "variant", figures.BLACK, "n=4 by head type", order=order)
    reference_lines(left, rows)
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    contrast_panel(right, CONTRASTS, rows)
    right.set_title("Minus parallel: 90% intervals, margins")
    drafting_panel(decode, named[named.n > 1], "variant", "n=4", figures.PURPLE, order=order)
    if decode.get_legend_handles_labels()[1]:
        decode.legend()
    paper = paper_rows(paper)
    paper = paper.assign(variant=paper["head"].map(PAPER_NAMES).where(paper.n > 1, "n=1"))
    paper_points(theirs, paper, "variant", "Paper, 7B on 200B tokens", order)
    for axes in (left, decode, theirs):
        axes.tick_params(axis="x", labelrotation=35)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    what = "n=4; larger: +3 layers, linear (by 3 d²), replicated (by 3 V d)"
    return figures.finish(picture, caption(rows, what, limit=LIMIT), finding(rows))


STUDY = Study(
    name="sweep-heads",
    artefact="Table S4",
    question="does the shape of the heads matter?",
    limits=LIMIT,
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references": references(TOKENS),
        "generation": generation,
        "floors": floors(TOKENS),
        "agreement": agreement,
    },
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=SWEEP_TABLE,
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
    rates=RATES,
)
