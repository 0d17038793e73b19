"""The shared look of every figure, and how it is saved: SVG and PNG with the same bytes each time.

A figure is a pure function of committed rows. The paper's numbers are in panels of their own on a
grey ground, because their scale (7B parameters, 200B tokens) is not ours.
"""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtp.files import write_atomically

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "mtp",
    "svg.fonttype": "path",
}
BLUE, ORANGE, GREEN, RED, GREY = (
    "#0072b2",  # Okabe and Ito's colours, told apart by everyone
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#666666",
)
CHARACTERS = 13  # of a caption, to the inch


def panels(count: int, width: float = 4.2, height: float = 3.9) -> tuple[Figure, list[Axes]]:
    """A row of panels in the suite's style."""
    plt.style.use(["default", STYLE])
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False)
    return figure, list(axes[0])


def stack(heights: Sequence[float], width: float) -> tuple[Figure, list[Axes]]:
    """A column of panels in the suite's style, of these heights in inches."""
    plt.style.use(["default", STYLE])
    size = (width, sum(heights))
    figure, axes = plt.subplots(len(heights), 1, figsize=size, squeeze=False, height_ratios=heights)
    return figure, [row[0] for row in axes]


def paper_panel(axes: Axes, title: str) -> None:
    """Mark a panel as the paper's own numbers, at another scale than ours."""
    axes.set_facecolor("#f3f1ea")
    axes.set_title(title)


def spread(
    axes: Axes,
    rows: pd.DataFrame,
    x: str,
    colour: str,
    label: str,
    marker: str = "o",
    order: Sequence[str] = (),
    shift: float = 0.0,
) -> None:
    """Every seed's `value` as a point, and their mean: a line along a numeric `x`, or a dash for
    each category if their `order` is given. shift: to the right, in widths of a category."""
    ticks = list(order) or sorted(rows[x].unique())
    place = {value: i + shift for i, value in enumerate(ticks)}
    mean = rows.groupby(x).value.mean()
    at = [i for value, i in place.items() if value in mean.index]
    means = [mean[value] for value in place if value in mean.index]
    line = {"linestyle": "", "marker": "_", "markersize": 17} if order else {}
    axes.plot(at, means, color=colour, label=label, markeredgewidth=2, zorder=2, **line)
    axes.scatter(
        rows[x].map(place), rows.value, s=34, marker=marker, color=colour,
        edgecolor="white", linewidth=0.7, zorder=3,
    )  # fmt: skip
    axes.set_xticks(range(len(ticks)), [t if order else f"{t:g}" for t in ticks])
    axes.set_xlim(-0.4, len(ticks) - 0.6)


def finish(figure: Figure, caption: str, scale: float = 1.0) -> Figure:
    """Place the caption under the panels; its lines are no wider than they are. scale: of the
    caption's share of the height, less than 1 if the figure is taller than a row of panels."""
    wide = int(CHARACTERS * figure.get_figwidth())
    lines = [part for line in caption.splitlines() for part in textwrap.wrap(line, wide)]
    caption = "\n".join(lines)
    room = scale * (0.02 + 0.045 * (caption.count("\n") + 1))
    figure.tight_layout(rect=(0, room, 1, 1), w_pad=2.0)
    figure.text(
        0.01, scale * 0.015, caption, fontsize=9.5, color="#333333", va="bottom", linespacing=1.35
    )
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.svg and STEM.png, free of dates and versions."""
    files = []
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=metadata)
        files.append(stem.with_name(f"{stem.name}.{kind}"))
        write_atomically(files[-1], drawn.getvalue())
    plt.close(figure)
    return files
