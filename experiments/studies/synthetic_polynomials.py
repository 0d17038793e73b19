"""Figure 8: does n > 1 help a model to learn polynomial arithmetic?

Arms: n = 1, 2, 4, trained from scratch on expressions of a few operations and tested on those and
on longer ones. In the paper n = 2 and 4 are ahead of n = 1 at every length. At `cpu` scale the ring
is F_7[X]/(X^2) instead of F_7[X]/(X^5), and up to 3 operations are trained instead of 5.

No arm has n = 1 with the shorter next-token path of n = 4, or with heavier answers, so a gain need
not come from predicting ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.arithmetic import (
    OPERATORS,
    STYLES,
    accuracy_panel,
    arithmetic,
    base,
    mark_domain,
    task_caption,
)
from experiments.bases import with_model
from experiments.findings import against
from experiments.panels import in_millions, metric
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N = (1, 2, 4)
LIMIT = "Not separated: looking ahead, the shorter next-token path of n > 1, and the learning rate."


def runs(scale: str) -> list[TrainConfig]:
    seeds = range(1 if scale == "smoke" else 3)
    return [with_model(each, seed, n=n) for seed in seeds for each in base(scale) for n in N]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Figure 8"]


def finding(rows: pd.DataFrame) -> str:
    rows = rows[rows["size"] == max(rows["size"], key=in_millions)]
    right = metric(rows, "accuracy, m=1 (%)")
    right = right.assign(arm="n=" + right.n.astype(str))
    what = "Exact answers to one operation (%)"
    return against(right, "arm", "n=1", what, lower=False, digits=1)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    rows = rows[rows["size"] == max(rows["size"], key=in_millions)]
    for n, (colour, marker) in STYLES.items():
        accuracy_panel(left, rows[rows.n == n], colour, marker, f"n={n}")
    mark_domain(left, rows)
    left.set_title("Accuracy by operations")
    left.legend()
    operators(middle, rows)
    paper_panel(right, paper_rows(paper))
    return figures.finish(picture, task_caption(rows, limit=LIMIT), finding(rows))


def operators(axes: Axes, rows: pd.DataFrame) -> None:
    """Accuracy on single operations."""
    names = list(OPERATORS.values())
    for i, (n, (colour, marker)) in enumerate(STYLES.items()):
        for j, name in enumerate(names):
            values = rows[(rows.n == n) & (rows.metric == f"accuracy, one {name} (%)")].value
            at = j + 0.26 * (i - 1)
            axes.bar(at, values.mean(), 0.24, color=colour, alpha=0.55, label=f"n={n}" * (not j))
            axes.scatter([at] * len(values), values, s=22, marker=marker, color=colour, zorder=3)
    axes.set_xticks(range(len(names)), [f"{name[:5]}." for name in names])
    axes.set_title("One operation, by kind")
    axes.set_ylabel("exact answers (%)")
    axes.set_ylim(bottom=0)
    axes.legend()


def paper_panel(axes: Axes, paper: pd.DataFrame) -> None:
    import pandas as pd

    figures.paper_panel(axes, "Paper, 100M, F_7[X]/(X^5)")
    points = paper.assign(m=pd.to_numeric(paper.data.str.extract(r"^(\d+) operations")[0]))
    for n, (colour, marker) in STYLES.items():
        own = points[points.n == n].sort_values("m")
        mean = own[own.metric.str.contains("mean")]
        single = own[~own.metric.str.contains("mean")]
        axes.plot(mean.m, mean.value, color=colour, label=f"n={n}")
        axes.scatter(single.m, single.value, s=22, marker=marker, color=colour, linewidth=0)
    axes.axvline(5.5, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_xlabel("m, operations")
    axes.set_ylabel("exact answers (%), 2 runs")
    axes.set_ylim(bottom=0)
    axes.legend()


STUDY = Study(
    name="synthetic-polynomials",
    artefact="Figure 8",
    question="does n > 1 help a model to learn polynomial arithmetic?",
    limits=LIMIT,
    runs=runs,
    evaluations={"arithmetic": arithmetic},
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=("accuracy, m=1 (%)", "accuracy, m=2 (%)", "accuracy, m=3 (%)", "accuracy, m=4 (%)"),
)
