"""Panels and captions that several figures share."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from experiments import figures


def metric(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    return rows[rows.metric == name]


def decoding_panel(axes: Axes, rows: pd.DataFrame, x: str, order: Sequence[str] = ()) -> None:
    """Tokens per forward and measured speedup of self-speculation with all heads."""
    forward, speedup = metric(rows, "tokens per forward"), metric(rows, "speedup over k=1")
    figures.spread(axes, forward, x, figures.GREEN, "tokens per forward", order=order)
    figures.spread(axes, speedup, x, figures.ORANGE, "speedup over k=1", "s", order)
    axes.axhline(1, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_title("Self-speculative decoding")
    axes.set_ylabel("ratio, greedy, batch 1")
    axes.set_ylim(0, 1.3 * max(1.0, forward.value.max()))  # NaN where nothing was decoded
    axes.legend(loc="upper left")


def paper_points(
    axes: Axes, paper: pd.DataFrame, x: str, title: str, order: Sequence[str] = ()
) -> None:
    """The paper's pass@1 on HumanEval and MBPP, in a panel marked as the paper's."""
    figures.paper_panel(axes, title)
    for benchmark, colour, marker in (
        ("MBPP", figures.BLUE, "o"),
        ("HumanEval", figures.RED, "s"),
    ):
        points = metric(paper, f"{benchmark} pass@1 (%)")
        figures.spread(axes, points, x, colour, benchmark, marker, order)
    axes.set_ylabel("pass@1 (%): higher is better")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left")


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
        f"Ours ({first.scale} scale): {sizes} non-embedding parameters, {data}, {what};\n"
        f"{points}; {first.device}."
        + " Grey panel: the paper's." * paper
        + f"\n{limit}" * bool(limit)
    )
