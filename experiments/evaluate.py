"""python -m evals, and a figure beside its rows.

    make evaluate CHECKPOINT=runs/mine BENCHMARKS=humaneval,microcode

A panel for each kind of score, a line for each score, a point for each checkpoint with its 90%
interval, from all rows in OUT, also those of earlier commands. Where a temperature was chosen,
points show the honest choice (by cross-validation) and small diamonds the oracle's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from evals import __main__ as command
from experiments.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, finish, save, stack
from mtp.command_line import out_of
from mtp.errors import exit_cleanly

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, "#56b4e9", GREY)


class Kind(NamedTuple):
    """metrics: a pattern for those that are drawn; short: the part of their names that is not
    repeated."""

    title: str
    metrics: str
    short: str
    axis: str


KINDS = (
    Kind("Answers", r"pass@\d+$|pass@1 level", "", "% of problems"),
    Kind("Choices", r"accuracy(?: per character)?$", "accuracy ?", "% of questions"),
    Kind(
        "Summaries",
        r"ROUGE-[12L] F1, unicode$",
        " F1, unicode",
        "F1, %, unstemmed",
    ),
)
KEYS = ["benchmark", "variant", "metric"]
LINE, REST = 0.25, 1.0  # inches: a score; a panel's title and axis


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that become points: of each metric those at the cross-validated temperature, or at
    the only one."""
    import pandas as pd

    kept = rows[rows.metric.str.match("|".join(kind.metrics for kind in KINDS))]
    chosen = kept[kept.temperature == "cross-validated"]
    single = kept.groupby([*KEYS, "checkpoint"]).temperature.transform("nunique") == 1
    return pd.concat([chosen, kept[single & (kept.temperature != "cross-validated")]])


def figure(rows: pd.DataFrame) -> Figure:
    """One panel for each kind of score in the rows."""
    points = shown(rows)
    parts = [(kind, points[points.metric.str.match(kind.metrics)]) for kind in KINDS]
    parts = [(kind, part) for kind, part in parts if len(part)]
    checkpoints = list(dict.fromkeys(rows.checkpoint))
    line = LINE + 0.07 * len(checkpoints)
    heights = [REST + line * max(2, len(part.drop_duplicates(KEYS))) for _, part in parts]
    picture, axes = stack(heights, 7.2)
    for place, (kind, part) in zip(axes, parts, strict=True):
        panel(place, kind, part, rows, checkpoints)
    axes[0].legend()
    counts = sorted(set(points["count"]))
    few = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    caption = f"{few} problems each; 90% intervals over problems."
    if (rows.temperature == "oracle").any():
        caption += " Diamonds: oracle temperature."
    if (rows.metric == "chance").any():
        caption += " Grey: chance."
    text = "\n".join(filter(None, [caption, skipped(rows), "; ".join(rows.device.unique())]))
    return finish(picture, text)


def skipped(rows: pd.DataFrame) -> str:
    """Problems that did not fit the context, in a sentence; "" if all did."""
    rows = rows[(rows.metric == "skipped") & (rows.value > 0)]
    counts = [f"{name} {each.value.max() * each['count'].max():.0f} of {each['count'].max()}"
              for name, each in rows.groupby("benchmark", sort=False)]  # fmt: skip
    return f"Too long for the context, counted as wrong: {', '.join(counts)}." if counts else ""


def panel(
    axes: Axes, kind: Kind, points: pd.DataFrame, rows: pd.DataFrame, checkpoints: list[str]
) -> None:
    """Scores from top to bottom, in the order of the rows."""
    import pandas as pd

    order = points.sort_index().drop_duplicates(KEYS)
    first = {name: i for i, name in enumerate(dict.fromkeys(order.benchmark))}
    order = order.sort_values("benchmark", key=lambda names: names.map(first), kind="stable")
    order = order.set_index(KEYS).index
    place = {key: i for i, key in enumerate(order)}
    gap = 0.6 / len(checkpoints)

    def at(own: pd.DataFrame, number: int) -> pd.Series:
        """Heights of points: those of one score are close together."""
        lines = [place[key] for key in own[KEYS].itertuples(index=False, name=None)]
        return pd.Series(lines, own.index, float) + (number - (len(checkpoints) - 1) / 2) * gap

    kinds = [without_seed(without_hash(name, checkpoints)) for name in checkpoints]
    for i, checkpoint in enumerate(checkpoints):
        own = points[points.checkpoint == checkpoint]
        kind_of = list(dict.fromkeys(kinds)).index(kinds[i])
        colour = COLOURS[kind_of % len(COLOURS)]
        label = kinds[i] if kinds.index(kinds[i]) == i else None  # once
        errors = [100 * (own.value - own.low), 100 * (own.high - own.value)]
        axes.errorbar(
            100 * own.value, at(own, i), xerr=[e.clip(lower=0) for e in errors], fmt="o",
            markersize=6, color=colour, elinewidth=2, label=label,
        )  # fmt: skip
        oracle = rows[(rows.temperature == "oracle") & (rows.checkpoint == checkpoint)]
        oracle = oracle[oracle[KEYS].apply(tuple, axis=1).isin(list(place))]
        if len(oracle):
            axes.scatter(100 * oracle.value, at(oracle, i), marker="D", s=16, color="#222222")
    chance = rows[rows.metric == "chance"].drop_duplicates("benchmark").set_index("benchmark").value
    guessed = [(100 * chance[key[0]], i) for key, i in place.items() if key[0] in chance.index]
    for value, i in guessed:
        axes.plot([value] * 2, [i - 0.45, i + 0.45], color="#bbbbbb", linewidth=4, zorder=1.8)
    axes.set_yticks(range(len(order)), labels(list(order), kind))
    axes.set_ylim(len(order) - 0.4, -0.6)
    right = max(1, axes.get_xlim()[1])
    axes.set_xlim(-0.02 * right, right)  # points at 0 are whole
    axes.set_xlabel(kind.axis)
    axes.set_title(kind.title)


def without_seed(checkpoint: str) -> str:
    """Runs that differ in their seed alone have one colour and one name."""
    return re.sub(r"-s\d+$", "", checkpoint)


def without_hash(checkpoint: str, among: list[str]) -> str:
    """A run's name without its id, if the rest tells it from the others."""
    short = [re.sub(r"-[0-9a-f]{12}$", "", name) for name in among]
    own = short[among.index(checkpoint)]
    return own if short.count(own) == 1 else checkpoint


def labels(order: list[tuple[str, str, str]], kind: Kind) -> list[str]:
    """The label of each line; the benchmark is before its first score."""
    names, before = list[str](), ("", "")
    for benchmark, variant, metric in order:
        name = re.sub(kind.short, "", metric)
        first = f"{benchmark}, {variant}  " if (benchmark, variant) != before else ""
        names.append((first + name).rstrip())
        before = benchmark, variant
    return names


@exit_cleanly
def main() -> None:
    args = command.parser("experiments.evaluate").parse_args()
    rows = command.evaluate(args)
    for file in save(figure(rows), out_of(args) / "results"):
        print(file)


if __name__ == "__main__":
    main()
