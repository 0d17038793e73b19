"""python -m evals, and a figure beside its rows.

    make evaluate CHECKPOINT=runs/mine BENCHMARKS=humaneval,microcode

Groups of bars, one bar per checkpoint, with 90% intervals. Where a temperature was chosen, bars
show the honest choice (by cross-validation) and a small diamond the oracle's.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evals import __main__ as command
from experiments.figures import BLUE, GREEN, ORANGE, RED, finish, panels, save
from mtp.errors import exit_cleanly

COLOURS = (BLUE, ORANGE, GREEN, RED)
HIDDEN = ("skipped", "shots given")


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that are bars: of each metric those at the cross-validated temperature, or at the
    only one; no differences and no groups' pass@10 and pass@100."""
    kept = rows[~rows.metric.isin(HIDDEN) & ~rows.metric.str.contains(" minus ")]
    kept = kept[~kept.metric.str.match(r"pass@1\d+ ")]
    keys = ["benchmark", "variant", "checkpoint", "metric"]
    chosen = kept[kept.temperature == "cross-validated"]
    single = kept.groupby(keys).temperature.transform("nunique") == 1
    return pd.concat([chosen, kept[single & (kept.temperature != "cross-validated")]])


def figure(rows: pd.DataFrame) -> Figure:
    """One panel for each benchmark."""
    bars = shown(rows)
    names = list(dict.fromkeys(zip(bars.benchmark, bars.variant, strict=True)))
    made, axes = panels(len(names))
    for place, (benchmark, variant) in zip(axes, names, strict=True):
        here = (bars.benchmark == benchmark) & (bars.variant == variant)
        all_here = (rows.benchmark == benchmark) & (rows.variant == variant)
        panel(place, bars[here], rows[all_here & (rows.temperature == "oracle")])
        place.set_title(f"{benchmark}, {variant}")
    axes[0].legend(loc="best")
    caption = "Intervals: 90%, bootstrap over problems. Diamonds: oracle temperature. "
    return finish(made, f"{caption}{rows.device.iloc[0]}.")


def panel(axes: Axes, bars: pd.DataFrame, oracle: pd.DataFrame) -> None:
    metrics = list(dict.fromkeys(bars.metric))
    checkpoints = list(dict.fromkeys(bars.checkpoint))
    width = 0.8 / len(checkpoints)
    for i, checkpoint in enumerate(checkpoints):
        own = bars[bars.checkpoint == checkpoint].set_index("metric")
        at = {m: metrics.index(m) + (i - (len(checkpoints) - 1) / 2) * width for m in own.index}
        low = (own.value - own.low).clip(lower=0).fillna(0)
        high = (own.high - own.value).clip(lower=0).fillna(0)
        axes.bar(
            list(at.values()), own.value, width * 0.9, color=COLOURS[i % len(COLOURS)],
            yerr=[low, high], capsize=3, label=checkpoint,
        )  # fmt: skip
        best = oracle[(oracle.checkpoint == checkpoint) & oracle.metric.isin(metrics)]
        axes.scatter([at[m] for m in best.metric], best.value, marker="D", s=18, color="#222222")
    axes.set_xticks(range(len(metrics)), metrics, rotation=30, ha="right", fontsize=9)
    axes.set_ylim(bottom=0)


@exit_cleanly
def main() -> None:
    args = command.parser("python -m experiments.evaluate").parse_args()
    rows = command.evaluate(args)
    for file in save(figure(rows), args.out / "results"):
        print(file)


if __name__ == "__main__":
    main()
