"""Table 1, 313B bytes: predicting n bytes at a time, held against a token model at equal data.

n = 1, 8, 16, 32 on bytes with replicated unembeddings, as the paper's byte models have (Table S13),
and the n=1 token model trained on the same text. Bits per byte compare them: the token model reads
about three bytes at each position, so a byte model takes three times its steps for the same text.
"""

import dataclasses

import pandas as pd
from matplotlib.figure import Figure

from experiments import figures
from experiments.study import Study
from experiments.sweep_n import (
    EVALUATIONS,
    base,
    caption,
    decoding_panel,
    metric,
    paper_points,
    seeds,
    with_model,
)
from experiments.sweep_n import STUDY as SWEEP_N
from mtp.config import TrainConfig

N = (1, 8, 16, 32)
BYTE_VOCAB = 258  # 256 bytes, beginning and end of a document


def runs(scale: str) -> list[TrainConfig]:
    # Passes over the text give every run the same text, whatever its tokenizer. The paper: 314
    # billion bytes are half a pass.
    epochs = {"smoke": 0.02, "cpu": 0.05, "gpu": 0.5}.get(scale, 0.5)
    tokens = dataclasses.replace(base(scale), tokens=0.0, epochs=epochs)
    data = dataclasses.replace(tokens.data, tokenizer="bytes")
    context = {"paper": 8192}.get(scale, tokens.model.context)
    byte = dataclasses.replace(
        with_model(tokens, vocab=BYTE_VOCAB, head="replicated", context=context), data=data
    )
    if scale == "paper":  # Table S13: 12 x 2^20 bytes per step
        byte = dataclasses.replace(byte, batch=1536)
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
    return figures.finish(picture, caption(rows, "replicated unembeddings, equal text"))


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
