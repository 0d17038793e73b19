"""Table S6: does a trained model gain from more heads?

The paper continues to train Llama 2 on 200B tokens of code: as it is, with three linear heads more,
with heads made of the trunk's last layers (+0), and with three layers more (+3). It finds no clear
gain. It says neither how the heads begin (here: as copies of what head 1 says,
mtp/model/surgery.py) nor which rates it uses (here: the rates of its own 7B models).

At `paper` scale the base is the Llama 2 7B of Hugging Face's format, imported to runs/llama-2-7b.
At the others it is the n=1 model of `sweep-n`, which continues with batches that it has not seen:
those of the other base's seed. So at `cpu` scale the two replicates see much of the same data, and
a row's seed is the continuation's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import base as sweep_base
from experiments.bases import seeds, with_model
from experiments.evaluations import likelihood
from experiments.findings import BITS, against
from experiments.panels import caption, metric, paper_points
from experiments.study import Study, run_name
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONTINUED = {"smoke": 2_560, "cpu": 3e5, "gpu": 65e6}  # tokens; at `paper` scale the base's
LLAMA = "llama-2-7b"

# label in the figure -> what changes in the model
VARIANTS: dict[str, dict[str, object]] = {
    "n=1": {"n": 1},
    "linear": {"n": 4, "head": "linear"},
    "parallel": {"n": 4},
    "parallel +3 layers": {"n": 4, "extra_layers": 3},
}
PAPER_NAMES = {
    "linear/+0 layers": "linear",
    "transformer/+0 layers": "parallel",
    "transformer/+3 layers": "parallel +3 layers",
}
COLOURS = dict(
    zip(VARIANTS, (figures.GREY, figures.ORANGE, figures.BLUE, figures.GREEN), strict=True)
)


def runs(scale: str) -> list[TrainConfig]:
    """The bases, then what is made of them."""
    bases = [with_model(sweep_base(scale), seed, n=1) for seed in seeds(scale)]
    if scale == "paper":
        (llama,) = (with_model(config, hidden=11_008, kv_heads=32) for config in bases)
        data = dataclasses.replace(llama.data, tokenizer=f"run:runs/{LLAMA}")
        llama = dataclasses.replace(llama, data=data, init=LLAMA)
        return [with_model(llama, 0, **changes) for changes in VARIANTS.values()]
    made = [
        dataclasses.replace(
            # the other base's seed: batches that this base has not seen
            with_model(each, (each.seed + 1) % len(bases), **changes),
            tokens=CONTINUED[scale],
            lr=each.lr / 2,
            init=run_name(each),
        )
        for each in bases
        for changes in VARIANTS.values()
    ]
    return bases + made


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S6"]


CONTINUED_MARK = ", continued"


def continued(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the runs that start from another, with the variant in a column."""
    rows = rows[rows["head"].str.endswith(CONTINUED_MARK)]
    names = rows["head"].str.removesuffix(CONTINUED_MARK)
    return rows.assign(variant=names.where(rows.n > 1, "n=1"))


def finding(rows: pd.DataFrame) -> str:
    bits = metric(continued(rows), "bits per byte")
    return against(bits, "variant", "n=1", f"{BITS}, n=4 grown from n=1", lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    bases = rows[~rows["head"].str.endswith(CONTINUED_MARK)]
    rows = continued(rows)
    bits = metric(rows, "bits per byte")
    figures.spread(left, bits, "variant", figures.BLACK, "bits per byte", order=list(VARIANTS))
    for value in metric(bases, "bits per byte").value:
        left.axhline(value, color=figures.GREY, linewidth=1, linestyle=":")
    left.set_title("Next-token model: lower is better")
    left.set_ylabel("held-out bits per byte, head 1")
    heads_panel(middle, rows)
    paper = paper_rows(paper)
    paper = paper.assign(variant=paper["head"].map(PAPER_NAMES).where(paper.n > 1, "n=1"))
    paper_points(right, paper, "variant", "Paper, Llama 2, 200B tokens of code", list(VARIANTS))
    for axes in (left, right):
        axes.set_xticks(range(len(VARIANTS)), [name.replace(" ", "\n", 1) for name in VARIANTS])
    what = "n=4 but for n=1; dotted: the models before they continue"
    limit = "The replicates share most of their data, so their spread is too small."
    return figures.finish(picture, caption(rows, what, limit=limit), finding(rows))


def heads_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Every head's loss, in bits per byte by the ratio that head 1 has of both."""
    ratio = metric(rows, "bits per byte").set_index("run_id").value
    ratio = ratio / metric(rows, "loss, head 1 (nats)").set_index("run_id").value
    losses = rows.assign(i=rows.metric.str.extract(r"^loss, head (\d+)", expand=False))
    losses = losses.dropna(subset="i").astype({"i": int})
    losses = losses.assign(value=losses.value * losses.run_id.map(ratio))
    for variant, colour in COLOURS.items():
        shift = 0.02 * (list(COLOURS).index(variant) - 2)
        if variant != "n=1":
            own = losses[losses.variant == variant]
            figures.spread(axes, own, "i", colour, variant, shift=shift)
    axes.set_title("All heads: lower is better")
    axes.set_xlabel("head i, predicts token t+i")
    axes.set_ylabel("held-out bits per byte")
    axes.legend()


STUDY = Study(
    name="grow-heads",
    artefact="Table S6",
    question="does a trained model gain from more heads?",
    limits=(
        "The two seeds see almost the same tokens and are no independent replicates, so their "
        "spread is too small a measure of chance. 293 steps are short, and the base has seen "
        "0.16 tokens per parameter."
    ),
    runs=runs,
    evaluations={"likelihood": likelihood},
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(
        "bits per byte",
        "accuracy, head 1 (%)",
        "loss, head 2 (nats)",
        "loss, head 4 (nats)",
    ),
)
