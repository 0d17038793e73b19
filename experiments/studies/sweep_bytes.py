"""Table 1, 313B bytes: what does predicting n bytes at a time cost, and why? Beside a token model.

The paper asks whether n bytes at a time make up for having no tokenizer: 7B models of 314 GB, n =
1, 8, 16, 32 with replicated unembeddings. `gpu` and `paper` have that design (experiments/bases.py:
byte_sweep). The others ask what n costs the next-byte model, with linear heads, so that every model
has the same layers up to the next byte:

    n=1, 2, 4, 8         heads 2..n have the weight 1 in all, 1 / (n-1) each, as much as head 1
    n=8, plain sum       weight 1 each: head 1 is one loss of eight
    n=1, FLOPs of n=8    n=1 with more text, so that it takes as many FLOPs as n=8
    tokens               n=1 on BPE tokens: as much text, and a context of as many bytes

Two reasons why n bytes could cost are told apart. If bytes further ahead are useless to the trunk,
then n=8 costs more than n=2 at the same weight of all heads but the first ("distance"). If head 1
gets too small a share of the gradient, then the plain sum costs more ("starving"). `night` has n =
16 too, and each n with the auxiliary weight 1, with the plain sum, and with a plain sum whose heads
2..n join between 20 and 40% of the run.

Written before the run (CONTRASTS; margin 0.02 bits per byte). No rows of models as small as these
were known; those of larger ones after 0.3 bytes per parameter had n=8 with the plain sum far behind
n=1, and tokens ahead of bytes. Predicted: every n > 1 costs, at equal text and at equal FLOPs, so
that n=8 is no substitute for a tokenizer; the cost does not grow with distance at equal weight; and
the plain sum costs more than twice as much.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import BYTE_VOCAB, base, byte_sweep
from experiments.contrasts import Asked, sentence
from experiments.controls import RATES
from experiments.evaluations import REFERENCES, likelihood, lines_of
from experiments.findings import against
from experiments.panels import (
    arm_panel,
    caption,
    contrast_panel,
    metric,
    paper_points,
    reference_lines,
)
from experiments.results import Measure
from experiments.study import Study
from mtp.config import TrainConfig
from mtp.model.sizes import flops_per_token
from mtp.objective_config import ObjectiveConfig, base_weights

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

TEXT = {"smoke": 0.02, "cpu": 0.04, "night": 0.3}  # shares of the training text
SEEDS = {"cpu": 3, "night": 3}
N = {"smoke": (2, 8), "cpu": (2, 4, 8), "night": (2, 4, 8, 16)}  # besides 1
LONGER = {"smoke": (8,), "cpu": (8,), "night": (8, 16)}  # n=1 with the FLOPs of these
BYTES_PER_TOKEN = 2  # of context: 128 tokens of the BPE of 512 stand for 257 bytes on average
RAMP = "ramp:0.2:0.4"
BITS = "bits per byte"
WORK = "training GFLOP per window"
LIMIT = "One size, one learning rate, which is tuned for no arm, and one budget."


# --------------------------------------------------------------------------------------------------
# the runs


def runs(scale: str) -> list[TrainConfig]:
    if scale not in TEXT:
        return byte_sweep(scale)
    return [
        dataclasses.replace(config, seed=seed)
        for seed in range(SEEDS.get(scale, 1))
        for config in arms(scale)
    ]


def arms(scale: str) -> list[TrainConfig]:
    """One run of each arm."""
    night = scale == "night"
    tokens = token_model(scale)
    one = byte_model(tokens)
    found = [tokens, one]
    if night:
        found.insert(1, dataclasses.replace(tokens, epochs=longer(scale, tokens, one)))
    for n in LONGER[scale]:
        found.append(dataclasses.replace(one, epochs=longer(scale, one, byte_model(tokens, n))))
    for n in N[scale]:
        found.append(byte_model(tokens, n, auxiliary_one(n)))
        if n > 2 and (night or n == 8):  # for n=2 the two are the same
            found.append(byte_model(tokens, n))
        if night:
            found.append(byte_model(tokens, n, schedule=RAMP))
    return found


def token_model(scale: str) -> TrainConfig:
    own = base("smoke" if scale == "smoke" else "cpu")
    batch = own.batch if scale == "smoke" else 8
    return dataclasses.replace(own, tokens=0.0, epochs=TEXT[scale], batch=batch, keep_every=0)


def byte_model(
    tokens: TrainConfig, n: int = 1, weights: str = "equal", schedule: str = "constant"
) -> TrainConfig:
    """What n linear heads on bytes are to a token model: a context of as many bytes, as many
    windows in a step, and hence as much text in a step."""
    context = BYTES_PER_TOKEN * tokens.model.context
    return dataclasses.replace(
        tokens,
        model=dataclasses.replace(
            tokens.model, n=n, head="linear", vocab=BYTE_VOCAB, context=context
        ),
        data=dataclasses.replace(tokens.data, tokenizer="bytes"),
        objective=ObjectiveConfig(weights=weights, schedule=schedule),
    )


def auxiliary_one(n: int) -> str:
    """The weights 1 of head 1 and 1 / (n-1) of each other.

    >>> auxiliary_one(5)
    '1,0.25,0.25,0.25,0.25'
    """
    return ",".join(["1", *[f"{1 / (n - 1):.6g}"] * (n - 1)])


def longer(scale: str, config: TrainConfig, other: TrainConfig) -> float:
    """The share of the text with which a model takes as many FLOPs as another with the scale's."""
    return round(TEXT[scale] * per_window(other) / per_window(config), 5)


def per_window(config: TrainConfig) -> float:
    """Training FLOPs of a window, which is as much text for bytes and for tokens."""
    return flops_per_token(config.model) * config.model.context


@functools.cache
def longer_names() -> dict[tuple[bool, float], str]:
    """The names of the arms with more text, by whether they are of bytes, and by their share."""
    found = {}
    for scale in TEXT:
        tokens = token_model(scale)
        one = byte_model(tokens)
        found[False, longer(scale, tokens, one)] = "tokens, FLOPs of n=1"
        for n in LONGER[scale]:
            share = longer(scale, one, byte_model(tokens, n))
            found[True, share] = f"n=1, FLOPs of n={n}"
    return found


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms."""
    model, weights = config.model, config.objective.weights
    is_bytes = config.data.tokenizer == "bytes"
    if model.n == 1:
        name = f"n={model.n}" if is_bytes else "tokens"
        return longer_names().get((is_bytes, config.epochs), name)
    name = f"n={model.n}"
    if model.head != "linear":
        return f"{name} {model.head}"
    if config.objective.schedule == RAMP:
        return f"{name}, ramped"
    if abs(sum(base_weights(weights, model.n)[1:]) - 1) < 1e-3:
        return name
    return name + (", plain sum" if weights == "equal" else f", weights {weights}")


# --------------------------------------------------------------------------------------------------
# what is asked


def between(n: int, far: int = 8) -> float:
    """How far the FLOPs of n lie between those of n=1 and of n=`far` on a logarithmic scale, to two
    digits, at equal text and `cpu` scale."""
    tokens = token_model("cpu")
    first, own, last = (math.log(per_window(byte_model(tokens, k))) for k in (1, n, far))
    return round((own - first) / (last - first), 2)


LONG, PLAIN = "n=1, FLOPs of n=8", "n=8, plain sum"
FOUR = between(4)
EQUAL_FLOPS = {"n=4": 1, "n=1": round(FOUR - 1, 2), LONG: -FOUR}
MARGIN = 0.02
CONTRASTS = (
    Asked("two bytes", BITS, {"n=2": 1, "n=1": -1}, MARGIN, "larger", BITS),
    Asked("eight bytes", BITS, {"n=8": 1, "n=1": -1}, MARGIN, "larger", BITS),
    Asked("distance", BITS, {"n=8": 1, "n=2": -1}, MARGIN, "equal", BITS),
    Asked("starving", BITS, {PLAIN: 1, "n=8": -1}, MARGIN, "larger", BITS),
    Asked("half", BITS, {"n=8": 1, PLAIN: -0.5, "n=1": -0.5}, MARGIN, "smaller", BITS),
    Asked("FLOPs, n=4", BITS, EQUAL_FLOPS, MARGIN, "larger", BITS),
    Asked("FLOPs, n=8", BITS, {"n=8": 1, LONG: -1}, MARGIN, "larger", BITS),
    Asked("tokenizer", BITS, {"tokens": 1, "n=1": -1}, MARGIN, "smaller", BITS),
    Asked("n for tokens", BITS, {"n=8": 1, "tokens": -1}, MARGIN, "larger", BITS),
)
SAID = ("eight bytes", "starving", "n for tokens")  # in the finding


# --------------------------------------------------------------------------------------------------
# measuring

LINES = {name: f"{BITS}, {name}" for name in ("7-gram of bytes", "5-gram of tokens", "xz")}


def references(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """What n-gram tables of as much training text, and xz, make of the held-out text; of n=1 models
    alone, as it does not depend on the model."""
    if model.config.n > 1 or scale not in TEXT:
        return []
    is_bytes = corpus.tokenizer.name == "bytes"
    orders, unit = (
        REFERENCES | {7: "7-gram"} if is_bytes else REFERENCES,
        "bytes" if is_bytes else "tokens",
    )
    budget = TEXT[scale] * corpus.train.tokens
    found = lines_of(corpus, scale, model.config.vocab, budget, orders)
    return [
        Measure(f"{BITS}, {name}" + f" of {unit}" * (name != "xz"), value)
        for name, value in found.items()
    ]


def work(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Counted, not measured: training FLOPs of a window, to place runs by what they took."""
    config = model.config
    return [Measure(WORK, flops_per_token(config) * config.context / 1e9, 1)]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & (paper.unit == "byte")]


def finding(rows: pd.DataFrame) -> str:
    """The costs of eight bytes, with interval and verdict."""
    found = [
        sentence(each, contrast)
        for each in CONTRASTS
        if each.name in SAID and (contrast := each.of(rows))
    ]
    if found:
        return "; ".join(found) + "."
    return against(metric(rows, BITS), "arm", "n=1", "Held-out bits per byte", lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    arms_ = rows.arm.nunique()
    picture, (top, right, low, last) = figures.grid(2, 2, 7.2, max(4.4, 0.36 * arms_))
    arm_panel(top, metric(rows, BITS))
    reference_lines(top, rows, LINES, upright=True)
    top.set_title("Head 1: lower is better")
    top.set_xlabel("held-out bits per byte")
    contrast_panel(right, CONTRASTS, rows)
    right.set_title("Contrasts: 90% intervals, grey margins")
    flops_panel(low, rows)
    paper_points(last, paper_rows(paper), "n", "Paper, 7B on 313B bytes")
    last.set_xlabel("n, future bytes predicted")
    what = "as much text for each but those with the FLOPs of another"
    return figures.finish(picture, caption(rows, what, limit=LIMIT), finding(rows))


KINDS = (  # of byte models: label, colour, marker, and how the arm's name ends
    ("n=1, by budget", figures.BLACK, "D", r"^n=1\b"),
    ("heads 2..n: 1 in all", figures.BLUE, "o", r"^n=(?!1$)\d+$"),
    ("plain sum", figures.ORANGE, "s", r"(?:plain sum|replicated)$"),
    ("plain sum, ramped", figures.GREEN, "^", r"ramped$"),
)


def flops_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Bits per byte against training FLOPs, those of n=1 as the unit; means over seeds of n=1's
    budgets are joined. The byte models of a scale have windows of one length and as many in a
    step."""
    own = rows[(rows.unit == "byte") & rows.metric.isin([BITS, WORK])]
    table = own.pivot_table(index=["arm", "run_id", "step"], columns="metric", values="value")
    table = table.reset_index()
    if not len(table) or WORK not in table or BITS not in table or "n=1" not in set(table.arm):
        axes.set_visible(False)
        return
    took = table[WORK] * table.step
    table = table.assign(x=took / took[table.arm == "n=1"].mean())
    for label, colour, marker, pattern in KINDS:
        of_it = table[table.arm.str.contains(pattern)]
        if not len(of_it):
            continue
        axes.scatter(
            of_it.x, of_it[BITS], s=34, color=colour, marker=marker, edgecolor="white", zorder=3,
            label=label,
        )  # fmt: skip
        means = of_it.groupby("arm")[["x", BITS]].mean().sort_values("x")
        if label.startswith("n=1"):
            axes.plot(means.x, means[BITS], color=colour, linewidth=1.2)
            continue
        for arm, (x, y) in zip(means.index, means.to_numpy(), strict=True):
            name = str(arm).split()[0].rstrip(",")
            axes.annotate(name, (x, y), (7, -4), textcoords="offset points", color=colour)
    axes.set_title("At equal FLOPs: below the line is better")
    axes.set_xlabel("training FLOPs over those of n=1 at equal text")
    axes.set_ylabel("held-out bits per byte, head 1")
    axes.margins(x=0.12)
    axes.legend()


STUDY = Study(
    name="sweep-bytes",
    artefact="Table 1, 313B bytes",
    question="what does predicting n bytes at a time cost or gain, beside a token model?",
    limits=LIMIT,
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references-bytes": references,
        "work": work,
    },
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(BITS, "accuracy, head 1 (%)"),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
    rates=RATES,
)
