"""Table S4: does the shape of the heads matter?

Arms: n=4 heads of each type at equal layers, parallel heads with 3 layers added instead of moved,
and n=1. Three arms have more parameters than the others: linear heads add 3 maps (d, d), replicated
ones 3 unembeddings (V, d), "+3 layers" three layers (0.6M at `cpu` scale).

The paper's order by MBPP pass@1 is parallel, linear, parallel +3, causal, anticausal. It has no row
for replicated unembeddings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import base, seeds, with_model
from experiments.evaluations import EVALUATIONS, SWEEP_TABLE
from experiments.findings import BITS, against
from experiments.panels import caption, decoding_panel, metric, paper_points
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# label in the figure -> what changes in the model
VARIANTS: dict[str, dict[str, object]] = {
    "n=1": {"n": 1},
    "parallel": {"n": 4},
    "parallel +3 layers": {"n": 4, "extra_layers": 3},
    "causal": {"n": 4, "head": "causal"},
    "anticausal": {"n": 4, "head": "anticausal"},
    "linear": {"n": 4, "head": "linear"},
    "replicated": {"n": 4, "head": "replicated"},
}
LIMIT = "The rows are of one learning rate and one budget (cpu: 0.16 tokens per parameter)."
PAPER_NAMES = {
    "transformer/parallel/+0 layers": "parallel",
    "transformer/parallel/+3 layers": "parallel +3 layers",
    "transformer/causal/+0 layers": "causal",
    "transformer/anticausal/+0 layers": "anticausal",
    "linear/parallel/+0 layers": "linear",
}


def runs(scale: str) -> list[TrainConfig]:
    return [
        with_model(base(scale), seed, **changes)
        for seed in seeds(scale)
        for changes in VARIANTS.values()
    ]


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S4"]


def with_variant(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(variant=rows["head"].where(rows.n > 1, "n=1"))


def finding(rows: pd.DataFrame) -> str:
    bits = metric(with_variant(rows), "bits per byte")
    return against(bits, "variant", "n=1", f"{BITS}, n=4", lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    order = list(VARIANTS)
    picture, (left, middle, right) = figures.panels(3, height=4.8)
    rows = with_variant(rows)
    bits = metric(rows, "bits per byte")
    figures.spread(left, bits, "variant", figures.BLACK, "bits per byte", order=order)
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows, "variant", order)
    paper = paper_rows(paper)
    paper = paper.assign(variant=paper["head"].map(PAPER_NAMES).where(paper.n > 1, "n=1"))
    paper_points(right, paper, "variant", "Paper, 7B on 200B tokens", order)
    for axes in (left, middle, right):
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
    evaluations=EVALUATIONS,
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=SWEEP_TABLE,
)
