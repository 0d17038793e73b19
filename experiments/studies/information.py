"""Sections 5.2 and L.2: what neighbouring tokens say of each other, and what n=4 learns of it.

No run is trained here: the models are those of `sweep-controls`. Two questions are asked of each.

How much do two neighbours x and y say of each other, under the model? Their relative mutual
information I is the loss of head 2 at y less that of head 1 one place later. It is also computed
from head 1 alone (evals/probes/relevance.py), so that n=1 has it. The paper's Lemma L.3,
H(x) + H(y) = H(x|y) + 2 I + H(y|x), is an identity; the rows have all its terms.

The argument of section 5.2 goes on: the losses of n=2 have I twice, so looking ahead should make a
model learn the tokens that say much about what follows. A 5-gram table of the training text gives
each held-out token its relevance, how much better the next token is predicted by knowing this one:

    r[t] = -log P(y[t+1] | .., y[t-1]) + log P(y[t+1] | .., y[t-1], y[t])

and the slope says by how much an arm's loss at a token, less that of n=1 of the same seed, rises
with r[t], where the table's loss at the token, its square, the unigram loss and the class of the
token are the same. The argument says: it falls. A model that is worse may be worse at tokens of
some relevance for other reasons. So n=4 is also compared with n=1 earlier in training, at the same
bits per byte, and with heads that predict the same token four times.

Written before any run of `sweep-controls` at this scale, and before any slope of a difference was
computed (margin: 0.01 nats of loss per nat of relevance; the slope of an n=1 pilot's own loss was
0.02):

    relevance          n=4 linear less n=1                                      smaller
    with layers        n=4 less n=1: heads with a layer did not weight choices  equal
                       in pilots of `synthetic-choices`
    same target        four losses, none ahead, less n=1                        equal
    lookahead          n=4 linear less the same                                 smaller
    at equal bits      n=4 linear less n=1 with as many bits per byte           smaller
    information        I from head 1, n=4 linear less n=1: its head 1 is worse  smaller by 0.1 nats
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.contrasts import Asked, sentence
from experiments.controls import FOUR, LINEAR, ONE, SAME, SHUFFLED, arm_of, runs_of
from experiments.equal_likelihood import AskedAtEqualLikelihood
from experiments.evaluations import likelihood, progress
from experiments.panels import caption, contrast_panel, metric
from experiments.results import Measure
from experiments.study import Study

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evals.probes.relevance import Information, Reference
    from evals.statistics.intervals import Estimate
    from mtp.config import TrainConfig
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

ARMS = (ONE, FOUR, LINEAR, SAME, SHUFFLED)
AHEAD = (FOUR, LINEAR)  # of these, head 2 predicts y
# by scale; elsewhere the last
HELD_OUT = {"smoke": 4_000, "": 256_000}  # tokens that are scored at the end
FEWER = {"smoke": 2_000, "": 32_000}  # and at each kept step
TRAINING = {"smoke": 20_000, "cpu": 6_000_000, "": 20_000_000}  # tokens that the tables count
PLACES = {"smoke": 8, "": 96}  # at which I is computed from head 1 alone

SLOPE = "slope of the loss on relevance"
EARLIER = f"{SLOPE}, first documents"
TERMS = ("H(x)", "H(y)", "H(y|x)", "H(x|y)", "I")
MUTUAL = {way: f"I, {way} (nats)" for way in ("heads", "head 1", "5-gram")}
UNIT = "nats per nat"
SLOPES = (
    Asked("relevance", SLOPE, {LINEAR: 1, ONE: -1}, 0.01, "smaller", UNIT),
    Asked("with layers", SLOPE, {FOUR: 1, ONE: -1}, 0.01, "equal", UNIT),
    Asked("same target", SLOPE, {SAME: 1, ONE: -1}, 0.01, "equal", UNIT),
    Asked("lookahead", SLOPE, {LINEAR: 1, SAME: -1}, 0.01, "smaller", UNIT),
    AskedAtEqualLikelihood("at equal bits", EARLIER, {LINEAR: 1, ONE: -1}, 0.01, "smaller", UNIT),
)
CONTRASTS = (
    *SLOPES,
    Asked("information", MUTUAL["head 1"], {LINEAR: 1, ONE: -1}, 0.1, "smaller", "nats"),
)
LIMIT = "Relevance is what a 5-gram table knows of it. One size, budget and learning rate."


def runs(scale: str) -> list[TrainConfig]:
    """Of `sweep-controls`, hence shared with it."""
    return runs_of(ARMS, scale)


# --------------------------------------------------------------------------------------------------
# evaluations


def reference_of(
    model: MultiTokenTransformer, corpus: Corpus, scale: str, held_out: dict[str, int], heads: int
) -> tuple[Reference, np.ndarray]:
    """The reference of the scale's held-out tokens, and the heads' losses there."""
    from evals.probes import relevance

    tokens = min(held_out.get(scale, held_out[""]), corpus.validation.tokens)
    budget = TRAINING.get(scale, TRAINING[""])
    own = relevance.reference(corpus, model.config.vocab, tokens, budget)
    return own, relevance.token_losses(model, corpus, tokens, heads)


def slopes(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: the slope of head 1's loss on relevance, on fewer tokens."""
    own, (losses,) = reference_of(model, corpus, scale, FEWER, 1)
    return [Measure(EARLIER, own.slope(losses), len(own.places))]


def information(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the end: the terms of Lemma L.3; the slope, its parts by document and the loss by tenths
    of relevance. What depends on the text alone is of n=1 models."""
    from evals.probes import relevance

    own, losses = reference_of(model, corpus, scale, HELD_OUT, min(2, model.config.n))
    rows = [Measure(SLOPE, own.slope(losses[0]), len(own.places))]
    rows += by_document("numerator", own.numerators(losses[0]))
    middle, level = own.by_tenth(losses[0])
    rows += by_tenth("loss", level)
    if model.config.n == 1:
        rows += by_document("denominator", own.denominators) + by_tenth("relevance", middle)
        rows.append(Measure(MUTUAL["5-gram"], float(own.relevance.mean()), len(own.places)))
    else:
        rows += terms("heads", relevance.of_heads(losses))
    if model.config.vocab <= relevance.LARGEST:
        past = model.config.context // 2
        found = relevance.exact(model, corpus, PLACES.get(scale, PLACES[""]), past)
        rows += terms("head 1", found)
    return rows


def terms(way: str, found: Information) -> list[Measure]:
    values = (found.x, found.y, found.y_given_x, found.x_given_y, found.mutual)
    pairs = zip(TERMS, values, strict=True)
    return [Measure(f"{term}, {way} (nats)", value, found.pairs) for term, value in pairs]


def by_document(part: str, values: np.ndarray) -> list[Measure]:
    return [Measure(f"{part}, document {i}", float(v)) for i, v in enumerate(values, 1)]


def by_tenth(what: str, values: np.ndarray) -> list[Measure]:
    return [Measure(f"{what}, tenth {i} (nats)", float(v)) for i, v in enumerate(values, 1)]


# --------------------------------------------------------------------------------------------------
# from rows to what is said


def numbered(rows: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """Rows whose metric is the pattern with a number for {}, which becomes the column `number`."""
    import re

    found = rows.metric.str.extract("^" + re.escape(pattern).replace(r"\{\}", r"(\d+)") + "$")[0]
    return rows.assign(number=found).dropna(subset="number").astype({"number": int})


def over_documents(rows: pd.DataFrame, arm: str, baseline: str) -> Estimate | None:
    """The slope of the arm's loss less the baseline's, over seeds and documents; None of fewer than
    two seeds or documents."""
    from evals.statistics.bootstrap import over_seeds_and_problems

    parts = numbered(rows, "numerator, document {}")
    whole = numbered(rows, "denominator, document {}").groupby("number").value.mean()
    by_arm = [
        parts[parts.arm == name].pivot_table("value", "seed", "number") for name in (arm, baseline)
    ]
    apart = (by_arm[0] - by_arm[1]).dropna()
    if len(apart) < 2 or len(whole) < 2 or [*apart.columns] != [*whole.index]:
        return None
    return over_seeds_and_problems(apart.to_numpy(), whole.to_numpy())


def lemma_gap(rows: pd.DataFrame) -> float:
    """By how much the rows are away from H(x) = H(x|y) + I and from
    H(x) + H(y) = H(x|y) + 2 I + H(y|x), at most; nan if they have no terms."""
    gaps = [float("nan")]
    for way in ("heads", "head 1"):
        names = [f"{term}, {way} (nats)" for term in TERMS]
        own = rows[rows.metric.isin(names)].pivot_table("value", "run_id", "metric")
        if set(own.columns) == set(names):
            x, y, given_x, given_y, mutual = (own[name] for name in names)
            gaps += [*(x - given_y - mutual).abs()]
            gaps += [*(x + y - given_y - 2 * mutual - given_x).abs()]
    known = [gap for gap in gaps if gap == gap]
    return max(known) if known else gaps[0]


def finding(rows: pd.DataFrame) -> str:
    """The slope with its intervals, the information of neighbours, and the lemma."""
    parts = []
    for asked in (SLOPES[0], SLOPES[-1]):
        if found := asked.of(rows):
            parts.append(sentence(asked, found))
            if asked is SLOPES[0] and (both := over_documents(rows, LINEAR, ONE)):
                parts[-1] += f" (over seeds and documents [{both.low:+.3f}, {both.high:+.3f}])"
    if found := CONTRASTS[-1].of(rows):
        parts.append(sentence(CONTRASTS[-1], found))
    gap = lemma_gap(rows)
    if gap == gap:
        parts.append("Lemma L.3 holds " + (f"to {gap:.0e} nats" if gap else "exactly"))
    return ("; ".join(parts) or "No run has been measured") + "."


COLOURS = {
    FOUR: figures.BLUE,
    LINEAR: figures.GREEN,
    SAME: figures.ORANGE,
    SHUFFLED: figures.PURPLE,
}


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, width=6.0, height=4.8)
    information_panel(left, rows)
    tenths_panel(middle, rows)
    contrast_panel(right, SLOPES, rows)
    right.set_title("Slopes: 90% intervals, margins")
    what = "relevance from 5-gram tables of the training text"
    return figures.finish(picture, caption(rows, what, paper=False, limit=LIMIT), finding(rows))


def information_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """I of each arm, a point for each seed: from head 1 alone, and from heads 1 and 2 where head 2
    predicts y."""
    arms = list(dict.fromkeys(rows.arm))
    for way, colour, marker, shift in (
        ("head 1", figures.BLACK, "o", -0.15),
        ("heads", figures.RED, "s", 0.15),
    ):
        own = metric(rows, MUTUAL[way])
        own = own[own.arm.isin(ARMS if way == "head 1" else AHEAD)]
        at = [arms.index(arm) + shift for arm in own.arm]
        label = "head 1 alone" if way == "head 1" else "heads 1 and 2"
        axes.scatter(
            own.value, at, s=34, marker=marker, color=colour, edgecolor="white", label=label
        )
    if len(table := metric(rows, MUTUAL["5-gram"]).value):
        axes.axvline(table.mean(), color=figures.GREY, linestyle="--", label="5-gram tables")
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_title("Information between neighbours")
    axes.set_xlabel("nats")
    axes.legend()


def tenths_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """The loss of each arm less that of n=1 by tenths of relevance: points for seeds, a line for
    their mean."""
    relevance = numbered(rows, "relevance, tenth {} (nats)").groupby("number").value.mean()
    loss = numbered(rows, "loss, tenth {} (nats)")
    one = loss[loss.arm == ONE].set_index(["seed", "number"]).value
    for arm, colour in COLOURS.items():
        own = loss[loss.arm == arm].set_index(["seed", "number"]).value
        apart = (own - one).dropna()
        if apart.empty or relevance.empty:
            continue
        mean = apart.groupby("number").mean()
        axes.plot(relevance.loc[mean.index], mean, color=colour, label=arm)
        at = relevance.loc[apart.index.get_level_values("number")]
        axes.scatter(at, apart, s=14, color=colour, edgecolor="white", linewidth=0.5, zorder=3)
    axes.axhline(0, color=figures.GREY, linewidth=1)
    axes.set_title("Loss less that of n=1, by relevance")
    axes.set_xlabel("relevance beyond the controls (nats), tenths")
    axes.set_ylabel("difference (nats)")
    if axes.get_legend_handles_labels()[1]:
        axes.legend()


STUDY = Study(
    name="information",
    artefact="Section 5.2, L.2",
    question="does n=4 learn the tokens that say much about what follows?",
    runs=runs,
    evaluations={"likelihood": likelihood, "information": information},
    figure=figure,
    finding=finding,
    table=("bits per byte", MUTUAL["head 1"], SLOPE),
    over_training={"progress": progress, "slopes": slopes},
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu"),
    limits=LIMIT,
)
