"""Table 1, 313B bytes: predicting n bytes at a time, beside a token model at equal data.

Arms: n = 1, 8, 16, 32 on bytes with replicated unembeddings, as the paper's byte models have
(Table S13), and the n=1 token model trained on as much text (experiments/bases.py: byte_sweep).
Bits per byte compare them. The token model reads about three bytes at each position, so a byte
model takes three times its steps for as much text. All see as many positions: the token model looks
back over three times the text (in the paper, 4096 tokens against 8192 bytes, about 1.4 times).

The paper's question is whether n bytes at a time make up for having no tokenizer. At `cpu` scale,
585 kB of text for each model, the rows cannot answer it: they say what n costs there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import BYTE_N, byte_sweep
from experiments.evaluations import EVALUATIONS, SWEEP_TABLE
from experiments.findings import BITS, against
from experiments.panels import caption, decoding_panel, metric, paper_points
from experiments.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LIMIT = "The rows are of one learning rate and one budget (cpu: 0.3 bytes per parameter)."


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & (paper.unit == "byte")]


def with_model_name(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(model=rows.n.map(lambda n: f"n={n}").where(rows.unit == "byte", "tokens"))


def finding(rows: pd.DataFrame) -> str:
    bits = metric(with_model_name(rows), "bits per byte")
    return against(bits, "model", "n=1", f"{BITS}, byte models", lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    rows = with_model_name(rows)
    order = ["tokens", *(f"n={n}" for n in BYTE_N)]
    bits = metric(rows, "bits per byte")
    figures.spread(left, bits, "model", figures.BLACK, "bits per byte", order=order)
    left.set_title("Next-byte model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows[rows.unit == "byte"], "n")
    middle.set_ylabel("ratio, greedy, batch 1 (bytes)")
    paper_points(right, paper_rows(paper), "n", "Paper, 7B on 313B bytes")
    left.set_xlabel("n, future bytes predicted; tokens: n=1")
    for axes in (middle, right):
        axes.set_xlabel("n, future bytes predicted")
    what = "replicated unembeddings, as much text for each"
    return figures.finish(picture, caption(rows, what, limit=LIMIT), finding(rows))


STUDY = Study(
    name="sweep-bytes",
    artefact="Table 1, 313B bytes",
    question="what does predicting n bytes at a time cost or gain, beside a token model?",
    limits=LIMIT,
    runs=byte_sweep,
    evaluations=EVALUATIONS,
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=SWEEP_TABLE,
)
