"""Figure S14: what do books among the stories do to induction?

`synthetic-induction` with books in the training text, beside its own runs of the same size. The
paper mixes nine bytes of books to one of stories; at `cpu` scale it is one to one, since nine to
one would leave half a million tokens of stories. With books the paper finds induction earlier and
of almost all names, and n = 2 ahead at 1M and 3M parameters only: the model knows the pieces of
random names by then. So both kinds of names are shown here: held-out ones, and names of any pieces,
as in the paper.

The books are yours: texts in data/books, or `--set data.source='mix:9*files:PATH|1*python:...'`.
Ours are 47 children's books of Project Gutenberg, 14 MB.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import with_model
from experiments.findings import against
from experiments.name_copying import (
    NAMES,
    SEEDS,
    STYLES,
    N,
    base,
    chosen,
    few_seeds,
    mentions,
    names,
    progress,
)
from experiments.panels import caption, in_millions, metric
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOOKS = {"smoke": "stdlib"}  # so that the tests need no books
WEIGHTS = {"cpu": "1:1"}


def runs(scale: str) -> list[TrainConfig]:
    """Those without books are `synthetic-induction`'s own."""
    sizes = base(scale)[-1:] if scale == "cpu" else base(scale)
    alone = scale != "paper"  # there the corpus is yours, and --set gives it to all runs
    return [
        with_model(each, seed, n=n)
        for seed in range(SEEDS.get(scale, 2))
        for size in sizes
        for each in (*[size] * alone, with_books(size, scale))
        for n in N
    ]


def with_books(config: TrainConfig, scale: str) -> TrainConfig:
    if scale == "paper":  # Table S13: as many tokens in half the steps
        return dataclasses.replace(config, batch=2 * config.batch)
    books, stories = WEIGHTS.get(scale, "9:1").split(":")
    text = f"mix:{books}*{BOOKS.get(scale, 'files:data/books')}|{stories}*{config.data.source}"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=text))


# --------------------------------------------------------------------------------------------------
# the figure

TEXTS = ("stories", "with books")
MIX = r"^mix:(\d+)\*(?:\w+:)?([^|]+)\|(\d+)\*(.+)(, [^,]+)$"
ANY = f"{NAMES} of any pieces, seen in training, last step"


def with_text(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the kind of text in a column."""
    mixed = rows.data.str.startswith("mix:")
    return rows.assign(text=mixed.map({True: TEXTS[1], False: TEXTS[0]}))


def finding(rows: pd.DataFrame) -> str:
    """With books against without, for each n, and n=2 against n=1 with books."""
    size = max(rows["size"], key=in_millions)
    right = metric(with_text(rows[rows["size"] == size]), f"{NAMES}, last step")
    right = right.assign(arm="n=" + right.n.astype(str) + ", " + right.text)
    what = f"Held-out names right (%), {size}, last step"
    return against(right, "arm", f"n=1, {TEXTS[0]}", what, lower=False, digits=1)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    import pandas as pd

    rows = with_text(rows)
    size = max(rows["size"].unique(), key=in_millions)
    own = rows[rows["size"] == size]
    picture, axes = figures.panels(3)
    best = pd.concat(chosen(part).assign(text=text) for text, part in own.groupby("text"))
    bars(axes[0], best.rename(columns={"best": "value"}), f"Held-out names, {size}")
    axes[0].set_ylabel("right (%), best over training")
    bars(axes[1], metric(own, ANY), f"Any pieces, {size}")
    axes[1].set_ylabel("right (%), last step")
    for n, (colour, _) in STYLES.items():
        for text, line in zip(TEXTS, ("--", "-"), strict=True):
            points = metric(own[(own.n == n) & (own.text == text)], f"{NAMES}, over training")
            for i, (_, run) in enumerate(points.groupby("seed")):
                run = run.sort_values("step")
                axes[2].plot(
                    run.step, run.value, color=colour, linestyle=line, linewidth=1.6,
                    label=f"n={n}, {text}" * (not i),
                )  # fmt: skip
    axes[2].set_title("Held-out names, over training")
    axes[2].set_xlabel("step")
    axes[2].set_ylabel("right (%)")
    axes[2].set_yticks(range(0, 101, 20))
    axes[2].set_ylim(0, 105)
    axes[2].legend()
    what = f"{mentions(rows)}; the paper (Figure S14, no values): almost all names with books"
    named = rows.assign(data=rows.data.str.replace(MIX, r"\2 + \4 (\1:\3 by bytes)\5", regex=True))
    what = caption(named, what, paper=False, limit=few_seeds(rows))
    return figures.finish(picture, what, finding(rows))


def bars(axes: Axes, points: pd.DataFrame, title: str) -> None:
    """Means over seeds, each seed a dot."""
    for i, (n, (colour, _)) in enumerate(STYLES.items()):
        for at, text in enumerate(TEXTS):
            values = points[(points.n == n) & (points.text == text)].value.dropna()
            x = at + 0.38 * (i - 0.5)
            axes.bar(
                x, values.mean() if len(values) else 0, 0.36, color=colour, alpha=0.75,
                label=f"n={n}" * (not at),
            )  # fmt: skip
            axes.plot([x] * len(values), values, "o", color="black", markersize=3.5)
    axes.set_xticks(range(len(TEXTS)), list(TEXTS))
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    axes.legend()


STUDY = Study(
    name="synthetic-induction-books",
    artefact="Figure S14",
    question="what do books among the stories do to induction?",
    limits=(
        "Two seeds. The mix halves the stories at an equal budget, so it does not separate "
        "books from fewer stories; the paper mixes 9:1, here it is 1:1."
    ),
    runs=runs,
    evaluations={"names": names},
    figure=figure,
    finding=finding,
    table=(f"{NAMES}, last step", ANY),
    over_training={"progress": progress},
)
