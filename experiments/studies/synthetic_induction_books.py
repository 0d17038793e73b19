"""Figure S14: what do books among the stories do to induction?

`synthetic-induction` with nine bytes of books to one of stories, as in the paper, beside stories
alone. The books are added on top: all arms read as many bytes of stories, so an arm with books
reads ten times as much.

    stories      |ssssssss|
    with books   |bbbbbbbbbsbbbbbbbbbsbbbbbbbbbs .. |    as many s, nine times as many b

With books the paper finds induction earlier and of almost all names, and n = 2 ahead at 1M and 3M
parameters only: the model knows the pieces of random names by then. So both kinds of names are
asked: held-out ones, and names of any pieces, as in the paper.

The outcome is the onset of copying, 70% of the second tokens of held-out names, counted in stories
read. Written before the run (CONTRASTS, log2; margin 0.2): with books copying takes fewer stories,
for n=1 as for n=2; and n=2 takes more of them than n=1, with books and without.

The books are yours: texts in data/books, nine times the stories' bytes, or `--set
data.source='mix:9*files:PATH|1*python:...'`. There is no `cpu` scale: one run with books costs as
much as ten without.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from evals.statistics.onset import Onset
from experiments import figures
from experiments.name_copying import (
    ARMS,
    NAMES,
    ONE,
    PLUS,
    RIGHT,
    TWO_PLUS,
    arm_of,
    base,
    mentions,
    names,
    onset_panel,
    progress,
    stories,
    with_arm,
)
from experiments.onsets import AskedOfOnsets, compared, of_arm
from experiments.panels import caption, contrast_panel, metric
from experiments.results import Measure
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

BOOKS = {"smoke": "stdlib"}  # so that the tests need no books
RATIO = 9  # bytes of books to one of stories
SEEDS = {"smoke": 1, "night": 3}
TEXTS = ("stories", "with books")
ANY = f"{NAMES} of any pieces, seen in training, last step"
BYTES = "bytes of text per token"
STORIES_SEEN = "log2 of bytes of stories"


def runs(scale: str) -> list[TrainConfig]:
    arms = ARMS[scale] if scale == "paper" else [ONE, PLUS]
    return [
        with_arm(each, arm, seed)
        for seed in range(SEEDS.get(scale, 2))
        for size in sizes(scale)
        for each in ((size, with_books(size, scale)) if scale != "paper" else (size,))
        for arm in arms
    ]


def sizes(scale: str) -> list[TrainConfig]:
    """With so many books, names stay in two tokens only if there are more of them. At the paper's
    scale the corpus is the user's, and --set gives it to all runs: as many tokens in half the
    steps (Table S13)."""
    found = base(scale)
    if scale == "night":
        (own,) = found
        model, data = dataclasses.replace(own.model, vocab=2048), stories(16_000, 2048)
        return [dataclasses.replace(own, model=model, data=data, tokens=2.5e6, save_every=2100)]
    if scale == "gpu":  # with books, as many tokens as other runs of the scale
        changes = {"batch": 16, "tokens": 2e7, "keep_every": 40}
        return [dataclasses.replace(config, **changes) for config in found]
    if scale == "paper":
        return [dataclasses.replace(config, batch=2 * config.batch) for config in found]
    return found


def with_books(config: TrainConfig, scale: str) -> TrainConfig:
    """As many stories, and books on top: ten times the tokens, kept as often for each story."""
    text = f"mix:{RATIO}*{BOOKS.get(scale, 'files:data/books')}|1*{config.data.source}"
    data = dataclasses.replace(config.data, source=text)
    if scale == "smoke":
        return dataclasses.replace(config, data=data)
    times = RATIO + 1
    every = max(1, config.keep_every * times // 2)  # half as often, as there is more to keep
    return dataclasses.replace(config, data=data, tokens=times * config.tokens, keep_every=every)


def arm_with_text(config: TrainConfig) -> str:
    """E.g. "n=2 +1 layer, with books"; without a text where the corpus is the user's."""
    name = arm_of(config).split(",")[0]
    if not config.data.source:
        return name
    return f"{name}, {TEXTS[config.data.source.startswith('mix:')]}"


def text(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """What the training text is: bytes of a token, and how many tokens there are, so that a reader
    sees how often a run passed over it."""
    own = corpus.train
    return [
        Measure(BYTES, own.bytes / own.tokens, own.tokens),
        Measure("tokens of the training text", own.tokens, own.tokens),
    ]


# --------------------------------------------------------------------------------------------------
# what is asked


class AskedOfStories(AskedOfOnsets):
    """A contrast of onsets in bytes of stories."""

    def table(self, rows: pd.DataFrame) -> pd.DataFrame:
        return in_stories(super().table(rows), rows)


def in_stories(table: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A table of onsets with times that count stories: a step with books has a tenth of its bytes
    from stories, and other tokens. The unit is a step of stories alone. All runs count as followed
    until the first of them ends."""
    own = metric(rows, BYTES).groupby("run_id").value.mean()
    alone = metric(rows[~rows.arm.str.endswith(TEXTS[1])], BYTES).value.mean()
    share = table.arm.str.endswith(TEXTS[1]).map({True: 1 / (RATIO + 1), False: 1.0})
    factor = share.astype(float) * (table.run_id.map(own) / alone).fillna(1.0)
    last = metric(rows, RIGHT.metric).groupby("run_id").step.max()
    end = (table.run_id.map(last) * factor).min()
    time = table.time * factor
    return table.assign(time=time.clip(upper=end), seen=table.seen & (time <= end))


def asked(
    name: str, arm: str, other: str, predicted: Literal["larger", "smaller"]
) -> AskedOfStories:
    arms = {arm: 1.0, other: -1.0}
    return AskedOfStories(name, STORIES_SEEN, arms, 0.2, predicted, STORIES_SEEN, (RIGHT,))


CONTRASTS = (
    asked("books, n=1", f"n=1, {TEXTS[1]}", f"n=1, {TEXTS[0]}", "smaller"),
    asked("books, n=2", f"{TWO_PLUS}, {TEXTS[1]}", f"{TWO_PLUS}, {TEXTS[0]}", "smaller"),
    asked("n=2, stories", f"{TWO_PLUS}, {TEXTS[0]}", f"n=1, {TEXTS[0]}", "larger"),
    asked("n=2, with books", f"{TWO_PLUS}, {TEXTS[1]}", f"n=1, {TEXTS[1]}", "larger"),
)


def finding(rows: pd.DataFrame) -> str:
    """With books against without, for each n, and n=2 against n=1."""
    table, parts = of_stories(rows), []
    for each in CONTRASTS:
        ours, theirs = (rounded(of_arm(table, arm)) for arm in each.arms)
        if ours and theirs:
            parts.append(f"{each.name}: {compared(ours, theirs, 'steps of stories')}")
    return f"Onset of copying. {'; '.join(parts)}." if parts else "Onset: no two arms to compare."


def rounded(runs_: list[Onset]) -> list[Onset]:
    return [Onset(float(round(run.time)), run.seen) for run in runs_]


def of_stories(rows: pd.DataFrame) -> pd.DataFrame:
    return CONTRASTS[0].table(rows)


# --------------------------------------------------------------------------------------------------
# the figure

STYLES = {
    f"{n}{end}": (colour, style)
    for n, colour in (("n=1", figures.BLUE), (TWO_PLUS, figures.ORANGE), ("n=2", figures.RED))
    for end, style in ((f", {TEXTS[0]}", "--"), (f", {TEXTS[1]}", "-"), ("", "-"))
}
MIX = r"^mix:(\d+)\*(?:\w+:)?([^|]+)\|(\d+)\*(.+)(, [^,]+)$"


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, 5.4)
    onset_panel(left, of_stories(rows), STYLES)
    left.set_title(f"Onset, {RIGHT.threshold:g}% of held-out names")
    left.set_xlabel("steps of stories (triangles: none by then)")
    any_panel(middle, rows)
    contrast_panel(right, CONTRASTS, rows)
    right.set_title("Contrasts: 90% intervals, grey margins")
    named = rows.data.str.replace(MIX, r"\2 + \4 (\1:\3 by bytes)\5", regex=True)
    what = f"{mentions(rows)}; the paper (Figure S14, no values): almost all names with books"
    short = rows.assign(data=named)
    return figures.finish(picture, caption(short, what, paper=False, limit=LIMIT), finding(rows))


def any_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Names of any pieces at the last step, by arm."""
    points = metric(rows, ANY).dropna(subset="value")
    arms = [arm for arm in STYLES if (points.arm == arm).any()]
    for i, arm in enumerate(arms):
        own, colour = points[points.arm == arm].value, STYLES[arm][0]
        axes.scatter(own, [i] * len(own), s=36, color=colour, zorder=3)
        axes.plot((own.mean(),) * 2, (i - 0.25, i + 0.25), color=colour)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(max(len(arms), 1) - 0.5, -0.5)
    axes.set_xlim(0, 103)
    axes.set_title("Names of any pieces, last step")
    axes.set_xlabel("right (%)")


LIMIT = (
    "With books a run has ten times the steps, so books and longer training are not told apart. "
    "Bytes of a story are other tokens where the tokenizer is trained on books too."
)
STUDY = Study(
    name="synthetic-induction-books",
    artefact="Figure S14",
    question="what do books among the stories do to induction?",
    limits=LIMIT,
    runs=runs,
    evaluations={"names": names, "text": text},
    figure=figure,
    finding=finding,
    table=(f"{NAMES}, last step", ANY),
    over_training={"progress": progress},
    arm=arm_with_text,
    contrasts=CONTRASTS,
    scales=("smoke", "night", "gpu", "paper"),
)
