"""What the studies of decoding ask of rows: ways as arms of contrasts, the band of the A/A control,
and the panels of their figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments import figures
from experiments.contrasts import Asked
from experiments.decoding_speed import AGAIN, ENDS, HALF, SINGLE
from experiments.panels import metric

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from evals.statistics.contrast import Contrast

BITS = "bits per byte"
ALONG = "tokens per forward along text"
CHAIN = r"^speedup, (?P<domain>\w+), chain, k=(?P<k>\d+), batch (?P<batch>\d+)$"
WAY = r"^speedup, (?P<domain>\w+), (?P<way>.*), batch (?P<batch>\d+)$"
TEXT = r"^tokens per forward, (?P<domain>\w+), (?P<kind>human|own) text, k=(?P<k>\d+)$"


def split_metric(rows: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The rows whose metric matches, with the pattern's groups as columns, numbers as numbers."""
    import pandas as pd

    found = rows.metric.str.extract(pattern)
    kept = rows[found.notna().all(axis=1)]
    for name in found.columns:
        values = found[name][kept.index]
        kept = kept.assign(**{name: pd.to_numeric(values) if name in ("k", "batch") else values})
    return kept


# --------------------------------------------------------------------------------------------------
# contrasts


def speed(domain: str, batch: int) -> str:
    """The metric of contrasts between ways that were timed side by side: k=1 has 1."""
    return f"speed over k=1, {domain}, batch {batch}"


class AskedOfWays(Asked):
    """A contrast of ways of decoding, or of texts, within a run; of arms otherwise.

    Of metric `speed(..)` the arms are "n=4, k=2" and the like, "n=4, k=1 again", and for the models
    timed beside it "n=1 beside n=4" and "half n=1 beside n=4". Of ALONG they are
    "n=4, k=2, code, human text".
    """

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        return super().of(by_way(rows))


def by_way(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, and their speedups and drafts along texts once more by way, as AskedOfWays names
    them."""
    import pandas as pd

    ways, texts = split_metric(rows, WAY), split_metric(rows, TEXT)
    timed = zip(ways.domain, ways.batch, strict=True)
    ways = ways.assign(
        metric=[speed(domain, batch) for domain, batch in timed],
        arm=[_of_way(arm, way) for arm, way in zip(ways.arm, ways.way, strict=True)],
    )
    texts = texts.assign(
        metric=ALONG,
        arm=[
            f"{arm}, k={k}, {domain}, {kind} text"
            for arm, k, domain, kind in zip(
                texts.arm, texts.k, texts.domain, texts.kind, strict=True
            )
        ],
    )
    return pd.concat([rows, ways[rows.columns], texts[rows.columns]], ignore_index=True)


def _of_way(arm: str, way: str) -> str:
    beside = {SINGLE: "n=1", HALF: "half n=1"}
    return (
        f"{beside[way]} beside {arm}" if way in beside else f"{arm}, {way.removeprefix('chain, ')}"
    )


# --------------------------------------------------------------------------------------------------
# the A/A control


@dataclass(frozen=True)
class Band:
    """Within which speedups say nothing."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"

    def judge(self, value: float) -> str:
        return "above" if value > self.high else "below" if value < self.low else "within"


def bands(rows: pd.DataFrame) -> dict[int, Band]:
    """By batch size, the ends of the A/A control's interval, geometric means over runs and kinds
    of text."""
    found: dict[int, dict[str, float]] = {}
    for end in ENDS:
        ratio = rf"speedup, (?P<domain>\w+), {AGAIN}, batch (?P<batch>\d+)"
        own = split_metric(rows, rf"^{ratio}, {end} of \d+ repeats$")
        for batch, values in own.groupby("batch").value:
            found.setdefault(int(str(batch)), {})[end] = math.exp(fmean(map(math.log, values)))
    return {batch: Band(each["lowest"], each["highest"]) for batch, each in found.items()}


# --------------------------------------------------------------------------------------------------
# panels


BESIDE = {SINGLE: (figures.BLACK, "s"), HALF: (figures.GREY, "^")}  # colour and marker
K_COLOURS = (figures.BLUE, figures.GREEN, figures.ORANGE, figures.RED, figures.PURPLE)


def speed_panel(
    axes: Axes, rows: pd.DataFrame, domain: str, heads: Sequence[int], others: Mapping[str, str]
) -> None:
    """Measured speedup over k=1 by batch size, and the band of the A/A control.

    heads   k of the chains that are shown
    others  further ways -> their labels
    """
    ways = split_metric(rows, WAY)
    ways = ways[ways.domain == domain]
    if ways.empty:
        return
    shown = {f"chain, k={k}": f"k={k}" for k in heads} | dict(others)
    place = figures.places(sorted(ways.batch.unique()))
    found = {batch: band for batch, band in bands(rows).items() if batch in place}
    if found:
        at = [place[batch] for batch in sorted(found)]
        low = [found[batch].low for batch in sorted(found)]
        high = [found[batch].high for batch in sorted(found)]
        if len(at) == 1:  # a band needs a width
            at, low, high = [at[0] - 0.1, at[0] + 0.1], low * 2, high * 2
        axes.fill_between(at, low, high, color="#d8d8d8", label="k=1 again (A/A)")
    looks = dict(zip(shown, ((colour, "o") for colour in K_COLOURS), strict=False)) | BESIDE
    present = [way for way in shown if (ways.way == way).any()]
    for i, way in enumerate(present):
        colour, marker = looks[way]
        shift = 0.012 * (i - len(present) / 2)
        own = ways[ways.way == way]
        figures.spread(axes, own, "batch", colour, shown[way], marker, shift=shift)
    axes.axhline(1, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_title(f"Measured speedup, {domain}")
    axes.set_xlabel("batch size")
    axes.set_ylabel("tokens/s over those of k=1")
    axes.set_ylim(bottom=0)
    axes.legend()


def text_panel(axes: Axes, series: Sequence[tuple[str, str, str, pd.DataFrame]]) -> None:
    """Tokens per forward by k along own text (solid) and human text (dashed), with the share of
    distinct 4-grams of that text in the legend. series: name, colour, kind of text and rows."""
    ticks = set[float]()
    for name, colour, domain, rows in series:
        found = split_metric(rows, TEXT)
        found = found[found.domain == domain]
        for kind, style, face in (("own", "-", colour), ("human", "--", "white")):
            own = found[found.kind == kind]
            if own.empty:
                continue
            four = metric(rows, f"distinct 4-grams (%), {domain}, {kind} text").value.mean()
            label = f"{name}, {kind} ({four:.0f}% distinct)"
            mean = own.groupby("k").value.mean()
            axes.plot(mean.index, mean, style, color=colour, zorder=2)
            axes.scatter(
                own.k, own.value, s=36, facecolor=face, edgecolor=colour, linewidth=1.4, zorder=3
            )
            axes.plot([], [], style, color=colour, marker="o", markerfacecolor=face, label=label)
            ticks |= set(own.k)
    axes.set_title("Tokens per forward, own and human text")
    axes.set_xlabel("k, heads used")
    axes.set_ylabel("verified and accepted tokens")
    axes.set_xticks(sorted(ticks))
    if ticks:
        axes.legend(handlelength=2.4)


class Point(NamedTuple):
    """Of the panel of likelihood against speed.

    timed   the arm whose runs timed the way
    arm     whose bits per byte count
    """

    timed: str
    way: str
    arm: str
    label: str
    colour: str
    marker: str = "o"


def pareto_panel(
    axes: Axes,
    rows: pd.DataFrame,
    points: Sequence[Point],
    where: tuple[str, int],
    baseline: tuple[str, str],
    lines: Sequence[str] = (),
) -> None:
    """Held-out bits per byte against speed: small points are seeds, large ones their mean.

    where     kind of text and batch size
    baseline  the way whose speed is 1, and its name
    lines     reference lines of bits per byte, by the end of their metrics
    """
    for i, point in enumerate(points):
        ways = by_way_and_seed(rows[rows.arm == point.timed], *where)
        bits = metric(rows[rows.arm == point.arm], BITS).set_index("seed").value
        if point.way not in ways or baseline[0] not in ways:
            continue
        speeds = (ways[point.way] / ways[baseline[0]]).dropna()
        seeds = [seed for seed in speeds.index if seed in bits.index]
        if not seeds:
            continue
        x, y = speeds[seeds], bits[seeds]
        look: dict[str, Any] = {"marker": point.marker, "color": point.colour}
        axes.scatter(x, y, s=16, alpha=0.5, zorder=3, **look)
        axes.scatter(x.mean(), y.mean(), s=60, edgecolor="white", zorder=4, **look)
        at, away = (x.mean(), y.mean()), (0, 9 if i % 2 else -20)
        axes.annotate(point.label, at, away, textcoords="offset points", ha="center")
    for name, style in zip(lines, (":", "--", "-."), strict=False):
        if len(values := metric(rows, f"{BITS}, {name}").value):
            axes.axhline(values.mean(), color=figures.GREY, linestyle=style, label=name)
    axes.margins(0.15, 0.18)
    axes.set_title("Likelihood against speed")
    axes.set_xlabel(f"tokens/s, {where[0]}, batch {where[1]}; {baseline[1]}: 1")
    axes.set_ylabel("held-out bits per byte")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(handlelength=2.4)


def by_way_and_seed(rows: pd.DataFrame, domain: str, batch: int) -> dict[str, pd.Series[float]]:
    """Each way's speedup over k=1, by seed."""
    found = split_metric(rows, WAY)
    found = found[(found.domain == domain) & (found.batch == batch)]
    return {str(way): own.set_index("seed").value for way, own in found.groupby("way")}
