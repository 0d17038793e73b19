"""Do attention heads that look at a name's earlier mention form when `synthetic-induction`'s models
come to copy?

    ... Ka | rop | was | sad | ... | Ka    how much does each attention head look at "rop"?

Where a name begins again, an induction head on the way to the next token looks at what followed
that beginning before (prefix matching; evals/probes/attention.py). At each kept step of every seed,
the score of the strongest head is set beside the share of names that are right. The runs are those
of `synthetic-induction`; nothing is trained. The paper's figures show no attention.

Written before the run (CONTRASTS, log2 of steps, margin 0.25): in each arm the strongest head
passes 0.5 when copying sets in, at 70% of names. And its interaction of n with the order of roll
calls is that of copying: above 0.

No head is removed, so scores and accuracy that rise together are no proof that these heads copy.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from experiments import figures, name_copying
from experiments.name_copying import (
    ARMS,
    INTERACTION,
    NAMES,
    ONE,
    PLUS,
    RIGHT,
    STYLES,
    arm_of,
    asked_names,
    base,
    share,
)
from experiments.onsets import AskedOfOnsets, Curve, onsets
from experiments.panels import caption, contrast_panel, metric
from experiments.results import Measure
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evals.probes.induction import Question
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

STRONGEST = "prefix matching, strongest head, over training"
EVEN = "prefix matching, even attention"
HEAD = Curve(STRONGEST, 0.5, what=": head")
COPIED = dataclasses.replace(RIGHT, what=": names")
STORIES = {"cpu": 50, "night": 50}  # of those that names are asked of; elsewhere all
COMPARED = tuple(f"{n}, {order}" for order in ("random", "cyclic") for n in ("n=1", "n=2 +1 layer"))


def runs(scale: str) -> list[TrainConfig]:
    """Of `synthetic-induction`, hence shared with it: n=1, and n=2 with a path as long, of the
    largest size."""
    wanted = {(arm.n, arm.extra, False, False) for arm in (ONE, PLUS)}
    if scale == "paper":
        wanted = {(arm.n, arm.extra, False, False) for arm in ARMS[scale]}
    largest = base(scale)[-1].model
    return [
        config
        for config in name_copying.runs(scale)
        if (config.model.n, config.model.extra_layers, "short" in arm_of(config),
            "ramped" in arm_of(config)) in wanted
        and config.model.dim == largest.dim and "no calls" not in arm_of(config)
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------
# scores


def look(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: the prefix matching of the strongest head, and the names right in the same
    stories."""
    from evals.probes import induction

    asked = asked_stories(model, corpus, scale)
    replies = induction.replies(model, asked)
    found, _ = scores(model, asked)
    return [
        Measure(STRONGEST, float(found.max()), len(asked)),
        share(RIGHT.metric, [reply.right for reply in replies]),
    ]


def at_the_end(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the last step: the names right, and the score of each attention head, of the strongest one
    and of even attention."""
    from evals.probes import induction

    asked = asked_stories(model, corpus, scale)
    found, even = scores(model, asked)
    rows = [
        share(f"{NAMES}, last step", [reply.right for reply in induction.replies(model, asked)]),
        Measure("prefix matching, strongest head, last step", float(found.max()), len(asked)),
        Measure(EVEN, even, len(asked)),
    ]
    for i, layer in enumerate(found.tolist()):
        for j, score in enumerate(layer):
            name = f"prefix matching, layer {i + 1} head {j + 1}"
            rows.append(Measure(name, score, len(asked)))
    return rows


def asked_stories(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Question]:
    asked = asked_names(model, corpus, scale)
    kept = list(dict.fromkeys(id(question.tokens) for question in asked))[: STORIES.get(scale)]
    return [question for question in asked if id(question.tokens) in set(kept)]


def scores(model: MultiTokenTransformer, asked: list[Question]) -> tuple[torch.Tensor, float]:
    """Mean prefix matching over the questions: of each attention head on the way to the next token,
    (layers, H), and of even attention to all tokens so far."""
    import torch

    from evals.probes import attention

    stories = {id(question.tokens): question.tokens for question in asked}
    found, even = [], 0.0
    for key, story in stories.items():
        tokens = on(model, story)
        at = on(model, [q.at for q in asked if id(q.tokens) == key])
        weights = attention.maps(model, tokens)  # (layers, H, T, T)
        level = torch.ones_like(weights[:1, :1]).tril()
        level = level / level.sum(-1, keepdim=True)
        found.append(attention.prefix_matching(weights, tokens, at) * len(at))
        even += float(attention.prefix_matching(level, tokens, at)) * len(at)
    return sum(found[1:], found[0]) / len(asked), even / len(asked)


def on(model: MultiTokenTransformer, numbers: list[int]) -> torch.Tensor:
    import torch

    return torch.tensor(numbers[: model.config.context], device=model.embedding.weight.device)


# --------------------------------------------------------------------------------------------------
# what is asked

UNIT = "log2 steps"
TOGETHER = tuple(
    AskedOfOnsets(
        arm, "log2 of the onset, head and names",
        {f"{arm}: head": 1.0, f"{arm}: names": -1.0}, 0.25, "equal", UNIT, (HEAD, COPIED),
    )
    for arm in COMPARED
)  # fmt: skip
CONTRASTS = (
    *TOGETHER,
    AskedOfOnsets(
        "interaction", "log2 of the onset, head",
        {f"{arm}: head": weight for arm, weight in INTERACTION.items()}, 0.2, "larger", UNIT,
        (HEAD,),
    ),
)  # fmt: skip


def finding(rows: pd.DataFrame) -> str:
    """The last step's scores, and how far apart the onsets of head and names are."""
    ends, apart = [], []
    for arm, own in last(rows).groupby("arm", sort=False):
        ends.append(f"{arm}: {between(own.score, 2)} and {between(own.right, 0)}%")
    for each in TOGETHER:
        if found := each.of(rows):
            low, high = found.interval or (math.nan, math.nan)
            interval = f" [{low:+.2f}, {high:+.2f}]" * (not math.isnan(low))
            apart.append(f"{each.name} {found.mean:+.2f}{interval}, {found.verdict}")
    text = f"Strongest head's score and names right at the end: {'; '.join(ends)}."
    if not apart:
        return text
    return f"{text} Onset of the head minus that of copying (log2 steps): {'; '.join(apart)}."


def between(values: pd.Series[float], digits: int) -> str:
    low, high = (f"{value:.{digits}f}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def last(rows: pd.DataFrame) -> pd.DataFrame:
    """Of each run's last kept step: arm, seed, the strongest head's score and the names right."""
    both = points(rows)
    return both[both.step == both.groupby("run_id").step.transform("max")]


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per run and kept step: score, right."""
    keys = ["run_id", "arm", "seed", "step"]
    score = metric(rows, STRONGEST)[[*keys, "value"]].rename(columns={"value": "score"})
    right = metric(rows, RIGHT.metric)[[*keys, "value"]].rename(columns={"value": "right"})
    return score.merge(right, on=keys).sort_values("step", kind="stable")


# --------------------------------------------------------------------------------------------------
# the figure


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, 5.4)
    both = points(rows)
    traces(left, both)
    onset_points(middle, rows)
    contrast_panel(right, CONTRASTS, rows)
    right.set_title("Onset of the head against that of names")
    even = metric(rows, EVEN).value.mean()
    what = f"attention on the way to the next token; even attention would score {even:.3f}"
    short = rows.assign(data=rows.data.str.replace(r",order=\w+", "", regex=True))
    return figures.finish(picture, caption(short, what, paper=False, limit=LIMIT), finding(rows))


def traces(axes: Axes, both: pd.DataFrame) -> None:
    """Accuracy against the strongest head's score, a line per run through its kept steps."""
    for arm, own in both.groupby("arm", sort=False):
        colour, style = STYLES.get(str(arm), (figures.GREY, "-"))
        for i, (_, run) in enumerate(own.groupby("run_id", sort=False)):
            axes.plot(
                run.score, run.right, color=colour, linestyle=style, linewidth=1.2,
                marker="o", markersize=3, label=str(arm) * (not i),
            )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 103)
    axes.set_title("Names right by prefix matching")
    axes.set_xlabel("strongest head's score (lines: seeds)")
    axes.set_ylabel("right (%)")
    axes.legend()


def onset_points(axes: Axes, rows: pd.DataFrame) -> None:
    """Each run's onset of copying over that of its head; hollow where one was not seen by the
    end."""
    head, names = (onsets(rows, dataclasses.replace(c, what="")) for c in (HEAD, COPIED))
    both = head.merge(names, on=["run_id", "arm"], suffixes=("", "_names"))
    end = max([1.0, *both.time, *both.time_names])
    for arm, own in both.groupby("arm", sort=False):
        colour, style = STYLES.get(str(arm), (figures.GREY, "-"))
        for seen in (True, False):
            part = own[(own.seen & own.seen_names) == seen]
            axes.scatter(
                part.time, part.time_names, s=40, color=colour,
                facecolor=colour if seen else "none", marker="o" if style == "-" else "s", zorder=3,
            )  # fmt: skip
    axes.plot((0, end), (0, end), color=figures.GREY, linewidth=1, linestyle="--")
    axes.set_xlim(0, 1.05 * end)
    axes.set_ylim(0, 1.05 * end)
    axes.set_title("Onsets; hollow: not by the end")
    axes.set_xlabel(f"step: head above {HEAD.threshold:g}")
    axes.set_ylabel(f"step: {RIGHT.threshold:g}% of names")


LIMIT = (
    "No head is removed, so a head that forms when copying sets in is no proof that it copies. The "
    "strongest head may be another one at each step."
)
STUDY = Study(
    name="synthetic-induction-heads",
    artefact="beyond the paper",
    question="do heads that look at a name's earlier mention form when models come to copy?",
    limits=LIMIT,
    runs=runs,
    evaluations={"heads": at_the_end},
    figure=figure,
    finding=finding,
    table=("prefix matching, strongest head, last step", f"{NAMES}, last step", EVEN),
    over_training={"look": look},
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
)
