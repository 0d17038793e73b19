"""Table 1, 313B bytes: predicting n bytes at a time, held against a token model at equal data.

n = 1, 8, 16, 32 on bytes with replicated unembeddings, as the paper's byte models have (Table S13),
and the n=1 token model trained on as much text. Bits per byte compare them: the token model reads
about three bytes at each position, so a byte model takes three times its steps for as much text.
All see as many positions: the token model looks back over three times the text (in the paper, 4096
tokens against 8192 bytes, about 1.4 times).
"""

import dataclasses

import pandas as pd
from matplotlib.figure import Figure

from experiments import figures
from experiments.bases import base, seeds, with_model
from experiments.evaluations import EVALUATIONS
from experiments.panels import caption, decoding_panel, metric, paper_points
from experiments.studies.sweep_n import STUDY as SWEEP_N
from experiments.study import Study
from mtp.config import TrainConfig

N = (1, 8, 16, 32)
BYTE_VOCAB = 258  # 256 bytes, beginning and end of a document


def runs(scale: str) -> list[TrainConfig]:
    # A share of a pass is as much text for every run, whatever its tokenizer.
    epochs = {"smoke": 0.02, "cpu": 0.05, "gpu": 0.5}.get(scale, 0.0)
    tokens = dataclasses.replace(base(scale), tokens=0.0 if epochs else 116e9, epochs=epochs)
    data = dataclasses.replace(tokens.data, tokenizer="bytes")
    context = {"paper": 8192}.get(scale, tokens.model.context)
    byte = dataclasses.replace(
        with_model(tokens, vocab=BYTE_VOCAB, head="replicated", context=context), data=data
    )
    if scale == "paper":  # Table S13: 12 x 2^20 bytes per step; section 3.3: 116B tokens of text
        byte = dataclasses.replace(byte, batch=1536, tokens=25_000 * 1536 * 8192)
    return [
        config
        for seed in seeds(scale)
        for config in [with_model(tokens, seed), *(with_model(byte, seed, n=n) for n in N)]
    ]


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & (paper.unit == "byte")]


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    rows = rows.assign(model=rows.n.map(lambda n: f"n={n}").where(rows.unit == "byte", "tokens"))
    order = ["tokens", *(f"n={n}" for n in N)]
    bits = metric(rows, "bits per byte")
    figures.spread(left, bits, "model", figures.BLUE, "bits per byte", order=order)
    left.set_title("Next-byte model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    decoding_panel(middle, rows[rows.unit == "byte"], "n")
    middle.set_ylabel("ratio, greedy, batch 1 (bytes)")
    paper_points(right, paper_rows(paper), "n", "Paper, 7B on 313B bytes")
    left.set_xlabel("n, future bytes predicted; tokens: n=1")
    for axes in (middle, right):
        axes.set_xlabel("n, future bytes predicted")
    return figures.finish(
        picture,
        caption(rows, "replicated unembeddings, as much text for each"),
    )


STUDY = Study(
    name="sweep-bytes",
    artefact="Table 1, 313B bytes",
    question="can a model that predicts n bytes at a time make up for having no tokenizer?",
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    paper=paper_rows,
    table=SWEEP_N.table,
)
