"""Table 1, 200B tokens: what does n do to the next-token model, and to decoding?

One size, one budget, n = 1, 2, 4, 6, 8 parallel heads; n heads take their layers from the trunk.
The paper scores pass@k on HumanEval and MBPP at 7B. Models of our `cpu` scale solve none of those:
the next-token model is judged by bits per byte, where differences show at any scale.

Section 3.1 predicts what small models show: below about 1B parameters, n > 1 loses.
"""

import pandas as pd
from matplotlib.figure import Figure

from experiments import figures
from experiments.bases import base, seeds, with_model
from experiments.evaluations import EVALUATIONS, SWEEP_TABLE
from experiments.panels import caption, decoding_panel, metric, paper_points
from experiments.study import Study
from mtp.config import TrainConfig

N = (1, 2, 4, 6, 8)


def runs(scale: str) -> list[TrainConfig]:
    return [with_model(base(scale), seed, n=n) for seed in seeds(scale) for n in N]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & paper.data.str.startswith("200B")]


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    figures.spread(left, metric(rows, "bits per byte"), "n", figures.BLUE, "bits per byte")
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows, "n")
    paper_points(right, paper_rows(paper), "n", "Paper, 7B on 200B tokens")
    for axes in (left, middle, right):
        axes.set_xlabel("n, future tokens predicted")
    return figures.finish(picture, caption(rows, "parallel heads, equal parameters"))


STUDY = Study(
    name="sweep-n",
    artefact="Table 1, 200B tokens",
    question="what does n do to the next-token model and to decoding?",
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    paper=paper_rows,
    table=SWEEP_TABLE,
)
