"""Figure 7: does n = 2 help small models to form induction heads?

Arms: n = 1, 2 at several sizes, trained on short children's stories and asked for the second token
of invented names (evals/probes/induction.py). In the paper n = 2 is far ahead up to 30M parameters,
and no better from 100M on. It takes each run's best value over training, chosen on the test metric
itself; beside it we show the value at the step with the lowest validation loss.

The paper does not name its stories. Ours are generated (synthetic/stories.py); with others, for
instance `--set data.source=hf:roneneldan/TinyStories`, the test stories stay ours.

40% of our documents are roll calls with names in random order. They teach copying, and they leave
head 2 nothing to copy: it predicts the beginning of a random next name.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments import figures
from experiments.bases import with_model
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


def runs(scale: str) -> list[TrainConfig]:
    return [
        with_model(each, seed, n=n)
        for seed in range(SEEDS.get(scale, 2))
        for each in base(scale)
        for n in N
    ]


# --------------------------------------------------------------------------------------------------
# what is measured


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Figure 7"]


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    sizes = sorted(rows["size"].unique(), key=in_millions)
    picture, axes = figures.panels(1 + len(sizes[:2]), 4.6)
    best = chosen(rows)
    for n, (colour, marker) in STYLES.items():
        points, shift = best[best.n == n].rename(columns={"best": "value"}), 0.3 * n - 0.45
        figures.spread(
            axes[0], points, "size", colour, f"n={n}, best over training", marker, sizes, shift
        )
        honest = best[best.n == n].groupby("size", sort=False).honest.mean()
        at = [sizes.index(name) + shift for name in honest.index]
        axes[0].plot(
            at, honest, linestyle="", marker="D", fillstyle="none",
            color=colour, markersize=9, label=f"n={n}, step chosen on validation",
        )  # fmt: skip
    baselines(axes[0], rows)
    axes[0].set_title("Second token of names")
    axes[0].set_xlabel("non-embedding parameters")
    axes[0].set_ylabel("right (%)")
    axes[0].set_ylim(0, 1.7 * max(10.0, best.best.max()))
    axes[0].set_yticks([t for t in axes[0].get_yticks() if t <= 100])
    axes[0].legend(loc="upper left", fontsize=8.5)
    for panel, name in zip(axes[1:], (sizes[0], sizes[-1]), strict=False):
        curves(panel, rows[rows["size"] == name], name)
    what = f"{mentions(rows)};\nthe paper (Figure 7, no values): n=2 ahead up to 30M"
    return figures.finish(picture, caption(rows, what, paper=False, limit=few_seeds(rows)))


def baselines(axes: Axes, rows: pd.DataFrame) -> None:
    value = metric(rows, f"{NAMES}, n-grams of the training text").value.mean()
    axes.axhline(
        value, color=figures.GREY, linewidth=1.2, linestyle="--", label="n-grams, any pieces"
    )


def curves(axes: Axes, rows: pd.DataFrame, name: str) -> None:
    """Accuracy on names over training, a line per seed."""
    for n, (colour, _) in STYLES.items():
        points = metric(rows[rows.n == n], f"{NAMES}, over training")
        for i, (_, run) in enumerate(points.groupby("seed")):
            run = run.sort_values("step")
            axes.plot(run.step, run.value, color=colour, linewidth=1.6, label=f"n={n}" * (not i))
    axes.set_title(f"Over training, {name}")
    axes.set_xlabel("step")
    axes.set_ylabel("right (%)")
    axes.set_ylim(bottom=0)
    axes.legend()


STUDY = Study(
    name="synthetic-induction",
    artefact="Figure 7",
    question="does n = 2 help small models to form induction heads?",
    runs=runs,
    evaluations={"names": names},
    figure=figure,
    paper=paper_rows,
    table=(f"{NAMES}, last step", f"{NAMES}, n-grams of the training text"),
    over_training={"progress": progress},
)
