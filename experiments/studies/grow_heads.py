"""Table S6 and section 3.2: does a trained model gain from more heads, and do they draft as well?

Section 3.2 says, without a table, that heads which are pretrained with the model draft better than
heads that are added to a trained model later. Table S6 asks what added heads do to the next-token
model: Llama 2 goes on with 200B tokens of code, and the paper finds no clear gain. It says neither
how its heads begin (here: as copies of what head 1 says, mtp/model/surgery.py) nor at which rates.

Two bases of each seed are those of `sweep-n` and `sweep-heads`: n=1, and n=4 with linear heads.
Every arm goes on from one of them, with the batches of another seed, the base's + 100:

    n=1                        without new heads
    linear                     with three linear heads more, which add 4% of the parameters
    +3                         with three heads of a layer each
    +3, frozen                 the same, the trunk and head 1 frozen, half as long (Medusa's way);
    +3, frozen first           then all of it for the other half, with the seed + 200
    +3, detached               new heads learn, and the trunk and head 1 do not learn from them
    linear, from the start     goes on from n=4, so that its heads are as old as its trunk

`night` adds heads that take their layers from the trunk (+0, as in Table S6), detached linear heads
and +3 from the start. At `paper` scale the base is the Llama 2 7B of Hugging Face's format,
imported to runs/llama-2-7b, with the arms of the table.

Drafting is measured along human text (evals/probes/agreement.py), with k=4. Written before the run
(CONTRASTS; margins of 0.02 bits per byte, 0.01 for detached heads, and 0.02 tokens per forward):
heads from the start draft better than added ones, and cost the next-token model more; every way to
add heads that teach the trunk costs it more than going on alone; a trunk that learns from its heads
makes them draft better; and freezing first changes nothing in the end.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Literal

from experiments import figures
from experiments.bases import base, with_model
from experiments.contrasts import Asked, sentence
from experiments.evaluations import (
    ALONG,
    CONSTANT,
    COPIES,
    DRAFTED,
    REFERENCES,
    agreement,
    likelihood,
    lines_of,
)
from experiments.findings import against
from experiments.panels import arm_panel, caption, contrast_panel, metric, reference_lines
from experiments.results import Measure
from experiments.study import STREAM, Study, run_name
from mtp.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from evals.statistics.contrast import Contrast
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

CONTINUED = {"smoke": 2_560, "cpu": 1e6, "night": 5e6, "gpu": 65e6}  # tokens; at `paper` the base's
SEEDS = {"cpu": 3, "night": 5, "gpu": 2}
LLAMA = "llama-2-7b"
K = DRAFTED

LINEAR: dict[str, Any] = {"n": K, "head": "linear"}
ADDED: dict[str, Any] = {"n": K, "extra_layers": K - 1}
# of Table S6
VARIANTS: dict[str, dict[str, Any]] = {"n=1": {}, "linear": LINEAR, "+0": {"n": K}, "+3": ADDED}
LIMIT = "One size, one learning rate for each half of a run, and one budget."


# --------------------------------------------------------------------------------------------------
# the runs


def runs(scale: str) -> list[TrainConfig]:
    """For each seed the bases, then what goes on from them."""
    if scale == "paper":
        return llamas()
    found = [of_seed(scale, seed) for seed in range(SEEDS.get(scale, 1))]
    return [config for of_one in found for config in of_one]


def llamas() -> list[TrainConfig]:
    own = with_model(base("paper"), 0, n=1, hidden=11_008, kv_heads=32)
    data = dataclasses.replace(own.data, tokenizer=f"run:runs/{LLAMA}")
    own = dataclasses.replace(own, data=data, init=LLAMA)
    return [with_model(own, 0, **changes) for changes in VARIANTS.values()]


def of_seed(scale: str, seed: int) -> list[TrainConfig]:
    night = scale == "night"
    one, linear = (with_model(base(scale), seed, **own) for own in ({"n": 1}, LINEAR))
    bases = [one, linear]
    if night:
        bases.append(with_model(base(scale), seed, **ADDED))

    def go_on(config: TrainConfig, share: float = 1.0, **model: Any) -> TrainConfig:
        """From this run, for a share of the tokens."""
        own = with_model(config, config.seed + STREAM, **model)
        return dataclasses.replace(
            own, tokens=share * CONTINUED[scale], lr=base(scale).lr / 2, keep_every=0,
            init=run_name(config), freeze="none",
        )  # fmt: skip

    def detached(config: TrainConfig) -> TrainConfig:
        alone = dataclasses.replace(config.objective, detach=True)
        return dataclasses.replace(config, objective=alone)

    frozen = dataclasses.replace(go_on(one, 0.5, **ADDED), freeze="trunk")
    made = [go_on(one), go_on(one, **LINEAR), go_on(one, **ADDED), frozen, go_on(frozen, 0.5)]
    made += [detached(go_on(one, **ADDED)), go_on(linear)]
    if night:
        made += [go_on(one, n=K), detached(go_on(one, **LINEAR)), go_on(bases[-1])]
    return [*bases, *made]


def arm_of(config: TrainConfig) -> str:
    """The arm of a config of any scale, whatever --set has changed of all arms. A base is named
    "base, .."; what goes on from it has no such word."""
    m = config.model
    layers = f"+{m.extra_layers}" if m.head == "parallel" else m.head
    heads = layers if m.n > 1 else "n=1"
    if not config.init:
        return f"base, {heads}"
    name = heads + ", detached" * config.objective.detach
    if config.freeze == "trunk":
        return f"{name}, frozen"
    begun = re.search(r"-n(\d+)-s\d+-\w+$", config.init)
    if begun and int(begun[1]) == m.n > 1:
        return name + (", frozen first" if config.seed >= 2 * STREAM else ", from the start")
    return name


# --------------------------------------------------------------------------------------------------
# what is asked

BITS = "bits per byte"
FORWARD = ALONG
SECOND = "accuracy, head 2 (%)"


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the seed of each run's base, which pairs the arms."""
    return rows.assign(seed=rows.seed % STREAM)


class AskedOfBases(Asked):
    """A contrast of arms that are paired by the seed of their bases."""

    def of(self, rows: pd.DataFrame) -> Contrast | None:
        return super().of(paired(rows))


def asked(
    name: str,
    arms: tuple[str, str],
    predicted: Literal["larger", "smaller", "equal"],
    metric: str = BITS,
    margin: float = 0.02,
) -> AskedOfBases:
    """The first arm minus the second."""
    unit = {BITS: BITS, FORWARD: "tokens per forward"}.get(metric, "points")
    return AskedOfBases(name, metric, {arms[0]: 1, arms[1]: -1}, margin, predicted, unit)


OLD = "linear, from the start"
OF_BITS = (
    asked("cost, linear", ("linear", "n=1"), "larger"),
    asked("cost, +3", ("+3", "n=1"), "larger"),
    asked("cost, pretrained", (OLD, "linear"), "larger"),
    asked("freezing first", ("+3, frozen first", "+3"), "equal"),
    asked("detached", ("+3, detached", "n=1"), "equal", margin=0.01),
)
OF_FORWARD = (
    asked("pretrained", (OLD, "linear"), "larger", FORWARD),
    asked("or detached", (OLD, "+3, detached"), "larger", FORWARD),
    asked("a layer each", ("+3", "linear"), "larger", FORWARD),
    asked("joint", ("+3", "+3, detached"), "larger", FORWARD),
    asked("freezing first", ("+3, frozen first", "+3"), "equal", FORWARD),
)
# A head 1 that says the same everywhere is easy to agree with; the text is not.
OF_TEXT = asked("pretrained, by text", (OLD, "linear"), "larger", SECOND, 0.5)
CONTRASTS = (*OF_BITS, *OF_FORWARD, OF_TEXT)


# --------------------------------------------------------------------------------------------------
# measuring


def references(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """What n-gram tables of as many tokens as base and continuation have, and xz, make of the
    held-out text; of n=1 models alone, as it does not depend on the model."""
    if model.config.n > 1 or scale not in ("smoke", "cpu", "night"):
        return []
    budget = round(base(scale).tokens + CONTINUED[scale])
    found = lines_of(corpus, scale, model.config.vocab, budget, REFERENCES)
    return [Measure(f"{BITS}, {name}", value) for name, value in found.items()]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S6"]


SAID = (OF_FORWARD[0], OF_BITS[2], OF_BITS[0])  # in the finding


def finding(rows: pd.DataFrame) -> str:
    """Section 3.2's claim and its price, and what growing costs, with intervals and verdicts."""
    found = [sentence(each, contrast) for each in SAID if (contrast := each.of(rows))]
    if found:
        return "; ".join(found) + "."
    return against(paired(metric(rows, BITS)), "arm", "n=1", "Held-out bits per byte", lower=True)


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    rows = paired(rows)
    arms = rows.arm.nunique()
    picture, (top, right, low, last) = figures.grid(2, 2, 7.2, max(4.0, 0.4 * arms))
    arm_panel(top, metric(rows, BITS))
    reference_lines(top, rows, {"5-gram": f"{BITS}, 5-gram", "xz": f"{BITS}, xz"}, upright=True)
    top.set_title("Head 1: lower is better")
    top.set_xlabel("held-out bits per byte")
    contrasts(right, OF_BITS, rows)
    if len(forward := metric(rows, FORWARD)):
        arm_panel(low, forward)
    levels = {"head 1's token, repeated": COPIES, "one token throughout": CONSTANT}
    reference_lines(low, rows, levels, upright=True)
    low.set_title("Drafts along human text: higher is better")
    low.set_xlabel(f"tokens per forward, k={K}")
    contrasts(last, OF_FORWARD, rows)
    what = "n=4 but for n=1; bases are trained first, the other arms go on from them"
    text = caption(rows, what, paper=False, limit=LIMIT)
    return figures.finish(picture, text, finding(rows))


def contrasts(axes: Axes, asked: Sequence[Asked], rows: pd.DataFrame) -> None:
    contrast_panel(axes, asked, rows)
    axes.set_title("Contrasts: 90% intervals, grey margins")


STUDY = Study(
    name="grow-heads",
    artefact="Table S6, section 3.2",
    question="does a trained model gain from more heads, and do they draft as well as old ones?",
    limits=LIMIT,
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references-grown": references,
        "agreement": agreement,
    },
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(BITS, "accuracy, head 1 (%)", SECOND, FORWARD),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
)
