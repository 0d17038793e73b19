"""Panels and captions that several figures share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from experiments import figures
from experiments.evaluations import ALONG, COPIES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from experiments.contrasts import Asked


def metric(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows.metric == name]


def drafting_panel(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    label: str,
    colour: str,
    marker: str = "o",
    order: Sequence[str] = (),
    shift: float = 0.0,
) -> None:
    """Tokens per forward pass that heads 2 to 4 would give along held-out text, and what head 1's
    own tokens would in their place."""
    along, copies = metric(rows, ALONG), metric(rows, COPIES)
    if len(along):
        figures.spread(axes, along, x, colour, label, marker, order, shift)
    if len(copies) and "repeated" not in str(axes.get_legend_handles_labels()[1]):
        style = {"color": figures.GREY, "linewidth": 1.4, "linestyle": ":"}
        axes.axhline(copies.value.mean(), label="head 1's token, repeated", **style)
    axes.set_title("Drafts along human text")
    axes.set_ylabel("tokens per forward")


def paper_points(
    axes: Axes, paper: pd.DataFrame, x: str, title: str, order: Sequence[str] = ()
) -> None:
    """The paper's pass@1 on HumanEval and MBPP, in a panel marked as the paper's."""
    figures.paper_panel(axes, title)
    away = 0.12 if order else 0.012
    for benchmark, colour, marker, shift in (
        ("MBPP", figures.BLACK, "o", -away),
        ("HumanEval", figures.GREY, "s", away),
    ):
        points = metric(paper, f"{benchmark} pass@1 (%)")
        figures.spread(axes, points, x, colour, benchmark, marker, order, shift)
    axes.set_ylabel("pass@1 (%): higher is better")
    axes.margins(y=0.08)
    axes.set_ylim(bottom=0)
    axes.legend()


LINES = {name: f"bits per byte, {name}" for name in ("bigram", "5-gram", "xz")}


def reference_lines(
    axes: Axes, rows: pd.DataFrame, named: Mapping[str, str] = LINES, upright: bool = False
) -> None:
    """Grey lines at the means of metrics that are levels to compare with, by default what n-gram
    tables and xz make of the same text. `named` has at most four: label -> metric."""
    for (label, name), style in zip(named.items(), ("--", "-.", ":", "-"), strict=False):
        if len(values := metric(rows, name).value):
            draw = axes.axvline if upright else axes.axhline
            draw(values.mean(), label=label, color=figures.GREY, linewidth=1.4, linestyle=style)
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def contrast_panel(axes: Axes, asked: Sequence[Asked], rows: pd.DataFrame) -> None:
    """A line for each contrast: the seeds' differences as points, their mean and its 90% interval,
    and the margin within which differences do not matter."""
    axes.axvline(0, color=figures.GREY, linewidth=1)
    for i, each in enumerate(asked):
        axes.fill_betweenx((i - 0.4, i + 0.4), -each.margin, each.margin, color="#e4e4e4", zorder=0)
        if (found := each.of(rows)) is None:
            continue
        own = list(found.by_seed.values())
        axes.scatter(own, [i + 0.22] * len(own), s=16, color=figures.GREY, zorder=3)
        low, high = found.interval or (found.mean, found.mean)
        axes.plot((low, high), (i, i), color=figures.BLUE, zorder=4)
        axes.plot(found.mean, i, color=figures.BLUE, marker="o", markersize=7, zorder=5)
    after = [each.predicted == "nothing" for each in asked]
    names = [each.name + " *" * late for each, late in zip(asked, after, strict=True)]
    axes.set_yticks(range(len(asked)), names)
    axes.set_ylim(len(asked) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)  # so that numbers with three decimals have room
    unit = f"difference ({asked[0].unit})"
    axes.set_xlabel(unit + "; * asked after the run" * any(after))


def over_training_panel(
    axes: Axes, table: pd.DataFrame, colours: Mapping[str, str], lines: Mapping[str, float]
) -> None:
    """A value against bits per byte at each kept step (equal_likelihood.curves): a line for the
    mean over seeds of each arm that has a colour, from right to left in training, and the seeds'
    last steps as points. lines: names of levels for comparison."""
    for arm, colour in colours.items():
        own = table[table.arm == arm]
        if own.empty:
            continue
        mean = own.groupby("step")[["bits", "value"]].mean()
        axes.plot(mean.bits, mean.value, color=colour, label=arm, zorder=2)
        last = own[own.step == own.step.max()]
        axes.scatter(last.bits, last.value, s=34, color=colour, edgecolor="white", zorder=3)
    for (name, value), style in zip(lines.items(), (":", "--", "-."), strict=False):
        axes.axhline(value, color=figures.GREY, linestyle=style, linewidth=1.4, label=name)
    axes.invert_xaxis()
    axes.set_xlabel("held-out bits per byte")
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


def arm_panel(axes: Axes, rows: pd.DataFrame, colour: str = figures.BLACK) -> None:
    """A line for each arm, in the order of the rows: every seed's value as a point, and the
    mean."""
    arms = list(dict.fromkeys(rows.arm))
    for i, arm in enumerate(arms):
        own = rows[rows.arm == arm].value
        axes.scatter(own, [i] * len(own), s=30, color=colour, edgecolor="white", zorder=3)
        axes.plot((own.mean(),) * 2, (i - 0.3, i + 0.3), color=colour, zorder=2)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)


def in_millions(size: str) -> float:
    """The parameters of a size as study.size_name writes it."""
    return float(size[:-1]) * {"M": 1, "B": 1000}[size[-1]]


def caption(rows: pd.DataFrame, what: str, paper: bool = True, limit: str = "") -> str:
    """Which runs, on what data and machine; the same lines under every figure.

    paper  the figure has a grey panel with the paper's numbers
    limit  what its rows cannot show, in a sentence
    """
    first, seeds = rows.iloc[0], rows.seed.nunique()
    points = f"points are {seeds} seeds, lines their mean" if seeds > 1 else "one seed"
    sizes = ", ".join(sorted(rows["size"].unique()))
    sources, _, tokenizers = zip(*(text.rpartition(", ") for text in rows.data), strict=True)
    data = ", ".join(" and ".join(dict.fromkeys(part)) for part in (sources, tokenizers))
    return (
        f"Ours ({first.scale} scale): {sizes} non-embedding parameters, {data}, {what}; "
        f"{points}; {re.sub(r'(?<= 1 thread)s', '', first.device)}."
        + " Grey panel: the paper's." * paper
        + f"\n{limit}" * bool(limit)
    )
