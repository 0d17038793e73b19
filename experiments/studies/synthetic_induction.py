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

from __future__ import annotations

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


def runs(scale: str) -> list[TrainConfig]:
    return [
        with_model(each, seed, n=n)
        for seed in range(SEEDS.get(scale, 2))
        for each in base(scale)
        for n in N
    ]


# --------------------------------------------------------------------------------------------------
# the figure


def finding(rows: pd.DataFrame) -> str:
    size = max(rows["size"], key=in_millions)
    best = chosen(rows[rows["size"] == size]).rename(columns={"honest": "value"})
    best = best.assign(arm="n=" + best.n.astype(str))
    what = f"Second tokens of names right (%), {size}, step chosen on validation"
    return against(best, "arm", "n=1", what, lower=False, digits=1)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    sizes = sorted(rows["size"].unique(), key=in_millions)
    picture, axes = figures.panels(1 + len(sizes[:2]))
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
    axes[0].set_ylim(bottom=0)
    axes[0].legend()
    for panel, name in zip(axes[1:], (sizes[0], sizes[-1]), strict=False):
        curves(panel, rows[rows["size"] == name], name)
        panel.sharey(axes[0])  # one scale, so that heights can be compared
    what = f"{mentions(rows)}; the paper (Figure 7, no values): n=2 ahead up to 30M"
    what = caption(rows, what, paper=False, limit=few_seeds(rows))
    return figures.finish(picture, what, finding(rows))


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
    limits=(
        "Each run either comes to copy or does not, and two seeds cannot compare that. Roll "
        "calls in random order leave head 2 nothing exact to copy, and n=2 has a layer less to "
        "the next token."
    ),
    runs=runs,
    evaluations={"names": names},
    figure=figure,
    finding=finding,
    table=(f"{NAMES}, last step", f"{NAMES}, n-grams of the training text"),
    over_training={"progress": progress},
)
