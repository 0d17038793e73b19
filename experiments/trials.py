"""Learning rates: every arm of a study tried at the same ones, for half of its budget or all of it,
on a seed that the study does not report.

    python -m experiments run sweep-controls/trials
    python -m experiments run sweep-controls/trials --renew      the committed rows

A study that says which rates are tried (Study.rates) has this second study beside it. Rates are a
factor of two apart, and reach far enough that no arm is best at the lowest or the highest: if one
is, the study has to try more, of all arms. What is lowest is the study's own choice of
Study.selects; each arm of the study then uses its own best (bases.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments import figures
from experiments.panels import caption
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
SUFFIX = "/trials"  # of a study's name
SEED = 100  # of trials
MARK = ", lr="  # between an arm's name and the rate


def tried(configs: list[TrainConfig], rates: Sequence[float], share: float) -> list[TrainConfig]:
    """The trials of these arms, with a share of their budget. With all of it they are the runs that
    the study would have with that seed, steps kept for later included."""
    return [
        dataclasses.replace(
            config,
            lr=rate,
            seed=SEED,
            keep_every=config.keep_every if share == 1 else 0,
            tokens=share * config.tokens,
            epochs=share * config.epochs,
        )
        for config in configs
        for rate in rates
    ]


def untried(config: TrainConfig, share: float) -> TrainConfig:
    """The arm of a trial, with its whole budget."""
    tokens, epochs = config.tokens / share, config.epochs / share
    return dataclasses.replace(config, tokens=tokens, epochs=epochs)


def budget_of(share: float) -> str:
    return {0.5: "half of the budget", 1.0: "the whole budget"}[share]


def with_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of trials with the arm and its learning rate (`lr`) in columns of their own."""
    arms, _, rates = zip(*(name.rpartition(MARK) for name in rows.arm), strict=True)
    return rows.assign(arm=arms, lr=[float(rate) for rate in rates])


def best(rows: pd.DataFrame) -> dict[str, tuple[float, bool]]:
    """Arm -> the rate with the lowest value, and whether higher and lower ones were tried. `rows`
    are of one metric."""
    found = dict[str, tuple[float, bool]]()
    for arm, own in with_rates(rows).groupby("arm", sort=False):
        own = own.dropna(subset="value").sort_values("lr")  # a run that diverged has none
        if len(own):
            rate = float(own.lr.iloc[int(own.value.argmin())])
            found[str(arm)] = rate, bool(own.lr.min() < rate < own.lr.max())
    return found


def finding_of(rows: pd.DataFrame, selected: str) -> str:
    """E.g. "Lowest bits per byte: at 0.008 n=1, n=2; at 0.004 n=4. At the edge: n=4.\""""
    chosen = best(rows)
    by_rate = dict[float, list[str]]()
    for arm, (rate, _) in chosen.items():
        by_rate.setdefault(rate, []).append(arm)
    parts = [f"at {rate:g} {'; '.join(arms)}" for rate, arms in sorted(by_rate.items())]
    edge = [arm for arm, (_, inside) in chosen.items() if not inside]
    text = f"Lowest {selected}, one seed: {' | '.join(parts)}."
    return text + f" At the edge of what was tried: {'; '.join(edge)}." * bool(edge)


def figure_of(rows: pd.DataFrame, selected: str, finding: str, share: float) -> Figure:
    """A line for each arm over the learning rate."""
    from matplotlib.ticker import FixedLocator, NullLocator

    picture, (axes,) = figures.panels(1, width=9.6)
    table = with_rates(rows)
    colours = (
        *(figures.BLUE, figures.ORANGE, figures.GREEN, figures.RED),
        *(figures.PURPLE, figures.GREY, figures.BLACK),
    )
    for i, (arm, own) in enumerate(table.groupby("arm", sort=False)):
        own = own.sort_values("lr")
        style, marker = (("-", "o"), ("--", "s"), (":", "^"))[i // len(colours) % 3]
        colour = colours[i % len(colours)]
        axes.plot(own.lr, own.value, color=colour, linestyle=style, marker=marker, label=str(arm))
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(table.lr.unique())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    values = table.value.dropna()
    if len(values) and math.isfinite(values.max()):
        span = max(values.quantile(0.8) - values.min(), 0.01)
        axes.set_ylim(
            values.min() - 0.1 * span, min(values.max(), values.min() + 3 * span) + 0.1 * span
        )
    axes.set_title("Every arm at every learning rate")
    axes.set_xlabel("highest learning rate")
    axes.set_ylabel(f"{selected}, one seed")
    axes.legend()
    budget = budget_of(share)
    what = caption(rows, f"{budget}, seed {SEED}, which is not in the study", paper=False)
    return figures.finish(picture, what, finding)
