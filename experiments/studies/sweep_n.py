"""Table 1, 200B tokens: what does n do to the next-token model, and to decoding?

Arms: n = 1, 2, 4, 6, 8 parallel heads at one size and one budget; n heads take their layers from
the trunk. The paper scores pass@k on HumanEval and MBPP with 7B models. Models of our `cpu` scale
solve none of those problems, so bits per byte of held-out code judge the next-token model.

The paper finds that n > 1 loses pass@k below about 1B parameters (Table S7). Our rows measure
another quantity, at `cpu` scale after 0.16 tokens per parameter, so they neither confirm nor
contradict it (docs/studies/sweep-n.md).
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

N = (1, 2, 4, 6, 8)
LIMIT = "The rows are of one learning rate and one budget (cpu: 0.16 tokens per parameter)."


def runs(scale: str) -> list[TrainConfig]:
    return [with_model(base(scale), seed, n=n) for seed in seeds(scale) for n in N]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & paper.data.str.startswith("200B")]


def finding(rows: pd.DataFrame) -> str:
    bits = metric(rows, "bits per byte")
    bits = bits.assign(arm="n=" + bits.n.astype(str))
    return against(bits, "arm", "n=1", BITS, lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    figures.spread(left, metric(rows, "bits per byte"), "n", figures.BLACK, "bits per byte")
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows, "n")
    paper_points(right, paper_rows(paper), "n", "Paper, 7B on 200B tokens")
    for axes in (left, middle, right):
        axes.set_xlabel("n, future tokens predicted")
    what = caption(rows, "parallel heads, equal parameters", limit=LIMIT)
    return figures.finish(picture, what, finding(rows))


STUDY = Study(
    name="sweep-n",
    artefact="Table 1, 200B tokens",
    question="what does n do to the next-token model and to decoding?",
    limits=LIMIT,
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=SWEEP_TABLE,
)
