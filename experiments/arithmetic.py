"""What the studies of polynomial arithmetic share: bases, their evaluation, panels."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING

from experiments import figures
from experiments.panels import caption
from experiments.results import Measure
from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

BYTES = 258  # of the bytes tokenizer: 256, bos, eos


def data(options: str) -> CorpusConfig:
    return CorpusConfig(f"python:synthetic.polynomials?{options}", "bytes", validation=0.01)


def base(scale: str) -> list[TrainConfig]:
    """The n=1 run of each size of a scale."""
    if scale == "smoke":
        return [
            TrainConfig(
                model=ModelConfig(dim=32, layers=5, attn_heads=2, vocab=BYTES, context=64),
                data=data("p=5,d=2,ops=2,count=4000"),
                batch=4, tokens=2_560, lr=3e-3, warmup=5, log_every=5,
            )
        ]  # fmt: skip
    if scale == "cpu":
        return [
            TrainConfig(
                model=ModelConfig(dim=96, layers=8, attn_heads=4, vocab=BYTES, context=128),
                data=data("p=7,d=2,ops=3,count=600000"),
                batch=8, tokens=2.5e6, lr=2e-3, warmup=100, log_every=25, save_every=1000,
            )
        ]  # fmt: skip
    if scale == "gpu":
        return [
            TrainConfig(
                model=size("30M", vocab=BYTES, context=1024),
                data=data("p=7,d=5,ops=5,count=10000000"),
                batch=256, tokens=3e8, lr=5e-4, warmup=100, log_every=20, save_every=200,
            )
        ]  # fmt: skip
    return [  # Table S13; the corpus is passed eight times
        TrainConfig(
            model=size(name, vocab=BYTES, context=context),
            data=data("p=7,d=5,ops=5,count=100000000"),
            batch=262_144 // context, tokens=100_000 * 262_144, lr=1e-4, warmup=2000,
            log_every=100, save_every=1000,
        )
        for name, context in (("30M", 1024), ("100M", 2048))
    ]  # fmt: skip


def with_pause(config: TrainConfig, pause: int) -> TrainConfig:
    """The same problems with so many pause tokens before each "=" (0: the config itself)."""
    if not pause:
        return config
    source = f"{config.data.source},pause={pause}"
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))


OPERATORS = {"-": "negation", "+": "addition", "*": "multiplication", "o": "composition"}


def arithmetic(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Exact match by number of operations, up to twice those of training; and by operator for
    single operations."""
    from evals.probes import polynomials

    task, count = polynomials.task_of(corpus), 40 if scale == "smoke" else 2000
    rows = []
    for m in range(1, 2 * task.ops + 1):
        found = polynomials.right_answers(model, corpus, m, count)
        share = sum(right for _, right in found) / count
        rows.append(Measure(f"accuracy, m={m} (%)", 100 * share, effective(found)))
        share = polynomials.commonest_answer(task, m, count)
        constant = f"accuracy of the commonest answer, m={m} (%)"
        rows.append(Measure(constant, 100 * share, effective(found)))
        if m == 1:
            for sign, name in OPERATORS.items():
                of_it = [each for each in found if sign in each[0]]
                share = 100 * sum(right for _, right in of_it) / len(of_it) if of_it else None
                rows.append(Measure(f"accuracy, one {name} (%)", share, effective(of_it)))
    return rows


def effective(found: list[tuple[str, bool]]) -> int:
    """How many answers an interval may count: in a small ring questions repeat, and w answers to
    the same question count as one (Kish's effective sample size)."""
    times = Counter(question for question, _ in found).values()
    return round(sum(times) ** 2 / sum(w * w for w in times)) if found else 0


STYLES = {1: (figures.BLUE, "o"), 2: (figures.ORANGE, "s"), 4: (figures.GREEN, "^")}


def by_length(rows: pd.DataFrame, metric: str = "accuracy") -> pd.DataFrame:
    """The rows of a metric that is measured by number of operations, with that number as a column
    m."""
    import pandas as pd

    m = rows.metric.str.extract(rf"^{metric}, m=(\d+) \(%\)$")[0]
    return rows[m.notna()].assign(m=pd.to_numeric(m.dropna()))


def option(rows: pd.DataFrame, name: str, default: int) -> int:
    """An option of the rows' task."""
    found = rows.data.str.extract(rf"\b{name}=(\d+)")[0].dropna()
    return int(found.iloc[0]) if len(found) else default


def accuracy_panel(axes: Axes, rows: pd.DataFrame, colour: str, marker: str, label: str) -> None:
    """Each seed's accuracy by m and their mean; of one seed, its 90% interval over problems."""
    from evals.statistics.intervals import wilson

    points = by_length(rows)
    if not len(points):  # its runs are not finished
        return
    mean = points.groupby("m").value.mean()
    if points.seed.nunique() == 1:  # several show the spread that matters
        trials = points.groupby("m")["count"].max()
        bounds = [wilson(mean[m] / 100, int(trials[m])) for m in mean.index]
        low, high = zip(*bounds, strict=True)
        axes.fill_between(
            mean.index, [100 * v for v in low], [100 * v for v in high], color=colour, alpha=0.2,
            linewidth=0,
        )  # fmt: skip
    axes.plot(mean.index, mean, color=colour, label=label)
    axes.scatter(points.m, points.value, s=22, marker=marker, color=colour, linewidth=0, zorder=3)


def mark_domain(axes: Axes, rows: pd.DataFrame) -> None:
    """Mark where training ends, and what a constant answer gets."""
    axes.axvline(option(rows, "ops", 5) + 0.5, color=figures.GREY, linewidth=1, linestyle=":")
    constant = by_length(rows, "accuracy of the commonest answer").groupby("m").value.mean()
    axes.plot(
        constant.index, constant, color=figures.GREY, linestyle="--", linewidth=1.2,
        label="commonest answer",
    )  # fmt: skip
    axes.set_xlabel("m, operations (dotted: end of those trained)")
    axes.set_ylabel("exact answers (%)")
    axes.set_ylim(bottom=0)


def task_caption(rows: pd.DataFrame, paper: bool = True, limit: str = "") -> str:
    """The caption: the task in words, then the usual line."""
    ring = f"F_{option(rows, 'p', 7)}[X]/(X^{option(rows, 'd', 5)})"
    ops = option(rows, "ops", 5)
    task = f"{ring}, 1 to {ops} operations trained (paper: F_7[X]/(X^5), 1 to 5)"
    short = rows.assign(data=f"{task}, bytes")
    one = rows.seed.nunique() == 1
    return caption(short, "band: 90% over problems" if one else "parallel heads", paper, limit)
