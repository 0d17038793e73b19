"""The shared look of every figure, and how it is saved: SVG and PNG with the same bytes each time.

A figure is a pure function of rows. It has a headline that says what the rows show, panels, and a
caption that says which runs they are of. The paper's numbers are in panels of their own on a grey
ground, because their scale (7B parameters, 200B tokens) is not ours.

A figure is legible at half its width: no text is below 12 points. A legend lies above its panel, so
it covers no point and stretches no axis (tests/experiments/test_figures.py).
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtp.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 12  # the size of all text
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": POINTS,
    "axes.titlesize": POINTS,
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
    "legend.fontsize": POINTS,
    "legend.handlelength": 1.3,
    "legend.columnspacing": 0.9,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "mtp",
    "svg.fonttype": "path",
}
# Okabe and Ito's colours, told apart by everyone. Blue, orange and green stand for n, or for k
# where a panel compares the heads in use; the others for a metric or a benchmark.
BLUE, ORANGE, GREEN, RED, PURPLE, GREY, BLACK = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#666666",
    "#222222",
)
CHARACTERS = 11.0  # of 12-point text, to the inch


def pyplot() -> Any:
    """matplotlib.pyplot without a display, in the suite's style. It takes half a second to import,
    so only drawing does."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.style.use(["default", STYLE])
    return pyplot


def panels(count: int, width: float = 4.8, height: float = 4.4) -> tuple[Figure, list[Axes]]:
    """A row of panels in the suite's style."""
    size = (width * count, height)
    figure, axes = pyplot().subplots(1, count, figsize=size, squeeze=False)
    return figure, list(axes[0])


def stack(heights: Sequence[float], width: float) -> tuple[Figure, list[Axes]]:
    """A column of panels in the suite's style, of these heights in inches."""
    size = (width, sum(heights))
    figure, axes = pyplot().subplots(
        len(heights), 1, figsize=size, squeeze=False, height_ratios=heights
    )
    return figure, [row[0] for row in axes]


def grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Rows of panels in the suite's style, each panel so many inches wide and high."""
    size = (width * columns, height * rows)
    figure, axes = pyplot().subplots(rows, columns, figsize=size, squeeze=False)
    return figure, [*axes.flat]


def paper_panel(axes: Axes, title: str) -> None:
    """Mark a panel as the paper's own numbers, at another scale than ours."""
    axes.set_facecolor("#f3f1ea")
    axes.set_title(title)


def places(values: Sequence[float]) -> dict[float, float]:
    """Where numbers stand on an axis: by their logarithm if the largest is at least four times the
    smallest, so that 1, 2, 4 and 32 are told apart; else as they are.

    >>> places([1, 2, 8])
    {1: 0.0, 2: 1.0, 8: 3.0}
    """
    if min(values) > 0 and max(values) >= 4 * min(values):
        return {value: math.log2(value) for value in values}
    return {value: float(value) for value in values}


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
    each category if their `order` is given.

    shift  to the right, as a share of the axis or in widths of a category, so that series of one
           panel do not hide each other
    """
    ticks: list[Any] = list(order) or sorted(rows[x].unique())
    if not ticks:
        return
    if order:
        place: dict[Any, float] = {value: float(i) for i, value in enumerate(ticks)}
        low, high = -0.4, len(ticks) - 0.6
    else:
        place = places(ticks)
        margin = 0.08 * (max(place.values()) - min(place.values()) or 1.0)
        low, high = min(place.values()) - margin, max(place.values()) + margin
        shift *= high - low
    axes.set_xticks(list(place.values()), [t if order else f"{t:g}" for t in ticks])
    axes.set_xlim(low, high)
    place = {value: at + shift for value, at in place.items()}
    mean = rows.groupby(x).value.mean()
    at = [i for value, i in place.items() if value in mean.index]
    means = [mean[value] for value in place if value in mean.index]
    line = {"linestyle": "", "marker": "_", "markersize": 17} if order else {}
    axes.plot(at, means, color=colour, markeredgewidth=2, zorder=2, **line)
    style = "" if order else "-"
    axes.plot([], [], color=colour, marker=marker, markersize=6, linestyle=style, label=label)
    axes.scatter(
        rows[x].map(place), rows.value, s=34, marker=marker, color=colour,
        edgecolor="white", linewidth=0.7, zorder=3,
    )  # fmt: skip


def finish(figure: Figure, caption: str, headline: str = "") -> Figure:
    """Place the headline above the panels, the caption under them, and each legend above its
    panel. Their lines are no wider than the figure, which grows by what they need."""
    wide = int(CHARACTERS * figure.get_figwidth())
    above, below = _wrap(headline, wide), _wrap(caption, wide)
    figure.tight_layout(w_pad=2.0)
    legends = max((_place_legend(axes) for axes in figure.axes), default=0.0)
    line = 1.35 * POINTS / 72
    top, bottom = line * len(above) + 0.1 * bool(above), line * len(below) + 0.12
    inches = figure.get_figheight() + top + bottom + legends
    figure.set_figheight(inches)
    figure.tight_layout(rect=(0, bottom / inches, 1, 1 - top / inches), w_pad=2.0)
    style = {"fontsize": POINTS, "linespacing": 1.35}
    figure.text(0.01, 0.06 / inches, "\n".join(below), color="#333333", va="bottom", **style)
    if above:
        figure.text(0.01, 1 - 0.06 / inches, "\n".join(above), va="top", **style)
    return figure


def _wrap(text: str, wide: int) -> list[str]:
    return [part for line in text.splitlines() for part in textwrap.wrap(line, wide)]


def _place_legend(axes: Axes) -> float:
    """Put a panel's legend, in as few rows as fit, between the panel and its title, which is
    wrapped. Returns the inches that they add to a panel with a title of one line."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = axes.get_figure(root=True)
    assert figure
    renderer, width = FigureCanvasAgg(figure).get_renderer(), axes.get_window_extent().width
    pad = 0.0
    if old := axes.get_legend():
        handles, labels = axes.get_legend_handles_labels()
        heading, length = old.get_title().get_text() or None, old.handlelength
        size = old.get_window_extent(renderer)
        for columns in range(len(labels), 0, -1):
            legend = axes.legend(
                handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns,
                borderaxespad=0.1, title=heading, alignment="left", handlelength=length,
            )  # fmt: skip
            size = legend.get_window_extent(renderer)
            if size.width <= width:
                break
        pad = size.height / figure.dpi
    title = textwrap.wrap(axes.get_title(loc="left"), int(0.85 * CHARACTERS * width / figure.dpi))
    axes.set_title("\n".join(title), loc="left", pad=6 + 72 * pad)  # bold, hence 0.85
    return pad + 1.2 * POINTS / 72 * max(0, len(title) - 1)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write STEM.svg and STEM.png, free of dates and versions."""
    files = []
    for kind, metadata in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=kind, metadata=metadata)
        files.append(stem.with_name(f"{stem.name}.{kind}"))
        write_atomically(files[-1], drawn.getvalue())
    pyplot().close(figure)
    return files
