"""What does predicting n tokens cost the next-token model, and why? Controls for Tables 1 and S4.

`sweep-n` and `sweep-heads` compare n and head types. Here arms differ in one thing each
(experiments/controls.py), so that differences between them say where the cost of n=4 comes from.

The data have 9 tokens per parameter, and n-gram tables of the same text say what bits per byte are
worth. Predictions, from trials at another size and before any run of this study: depth matters
little (within 0.02 bits per byte), with n=1 as with n=4. The losses of heads 2..4 cost more than
0.1, of which a ramp takes half. It is looking ahead that costs: more than predicting the same
token four times, and more than losses that cannot be learned.

The paper claims better generation and reports no likelihood. So a second outcome is what models
write into held-out functions (evals/probes/parses.py): at the end, where n=4 is predicted to be
worse, and where n=4 and n=1 have the same bits per byte (experiments/equal_likelihood.py). There
section 5.1 says that n=4 has learned more of what has consequences: it should write more that
parses, with linear heads. In pilots of `synthetic-choices`, heads with a layer of their own did not
weight such tokens more, so for them no difference is predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import equal_likelihood, figures
from experiments.contrasts import Asked, largest, sentence
from experiments.controls import (
    CONTROLS,
    DEEP,
    FOUR,
    LINEAR,
    ONE,
    RAMPED,
    RATES,
    SAME,
    SHORT,
    SHUFFLED,
    TOKENS,
    arm_of,
    runs_of,
)
from experiments.equal_likelihood import AskedAtEqualLikelihood
from experiments.evaluations import (
    FIRST,
    WHOLE,
    floors,
    generation,
    likelihood,
    progress,
    references,
)
from experiments.panels import (
    arm_panel,
    caption,
    contrast_panel,
    metric,
    over_training_panel,
    reference_lines,
)
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BITS = "bits per byte"
POINTS = "points"
HALF = {RAMPED: 1, LINEAR: -0.5, ONE: -0.5}
INTERACTION = {FOUR: 1, SHORT: -1, DEEP: -1, ONE: 1}
CONTRASTS = (
    Asked("depth", BITS, {SHORT: 1, ONE: -1}, 0.02, "equal", BITS),
    Asked("loss", BITS, {LINEAR: 1, ONE: -1}, 0.1, "larger", BITS),
    Asked("interaction", BITS, INTERACTION, 0.02, "equal", BITS),
    Asked("half by ramp", BITS, HALF, 0.05, "equal", BITS),
    Asked("lookahead", BITS, {LINEAR: 1, SAME: -1}, 0.05, "larger", BITS),
    Asked("information", BITS, {LINEAR: 1, SHUFFLED: -1}, 0.05, "larger", BITS),
)
WRITTEN = (
    Asked("written at the end", FIRST, {LINEAR: 1, ONE: -1}, 2, "smaller", POINTS),
    AskedAtEqualLikelihood("at equal bits", FIRST, {LINEAR: 1, ONE: -1}, 2, "larger", POINTS),
    AskedAtEqualLikelihood("same, layers", FIRST, {FOUR: 1, ONE: -1}, 2, "equal", POINTS),
    # asked after the rows of the cpu scale had been seen: do the controls gain as well?
    AskedAtEqualLikelihood("same target", FIRST, {SAME: 1, ONE: -1}, 2, "nothing", POINTS),
    AskedAtEqualLikelihood("shuffled", FIRST, {SHUFFLED: 1, ONE: -1}, 2, "nothing", POINTS),
    AskedAtEqualLikelihood("short", FIRST, {SHORT: 1, ONE: -1}, 2, "nothing", POINTS),
    AskedAtEqualLikelihood("not same target", FIRST, {LINEAR: 1, SAME: -1}, 2, "nothing", POINTS),
)
COLOURS = {
    ONE: figures.BLACK,
    FOUR: figures.BLUE,
    LINEAR: figures.GREEN,
    SAME: figures.ORANGE,
    SHORT: figures.GREY,
}
LIMIT = (
    "One size, one budget, and one learning rate: at cpu the best of four for all arms but the "
    "ramped."
)


def runs(scale: str) -> list[TrainConfig]:
    return runs_of(CONTROLS, scale)


def finding(rows: pd.DataFrame) -> str:
    """What is decided of the contrasts of likelihood, the largest first, and what n=4 writes at
    equal likelihood."""
    said = largest(CONTRASTS, rows, 2)
    if said and (written := WRITTEN[1].of(rows)):
        said.append(sentence(WRITTEN[1], written))
    return "; ".join(said or ["No contrast has all of its arms"]) + "."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right, written) = figures.grid(2, 2, 6.6, 4.6)
    arm_panel(left, metric(rows, BITS))
    reference_lines(left, rows, upright=True)
    left.set_title("Head 1: lower is better")
    left.set_xlabel("held-out bits per byte")
    contrast_panel(middle, CONTRASTS, rows)
    middle.set_title("Bits per byte: 90% intervals, margins")
    table = metric(rows, f"{FIRST}, 5-gram").value
    level = {"5-gram": float(table.mean())} if len(table) else {}
    over_training_panel(right, equal_likelihood.curves(rows, FIRST), COLOURS, level)
    right.set_title("Writing against likelihood")
    right.set_xlabel("bits per byte of the first held-out documents")
    right.set_ylabel(FIRST)
    contrast_panel(written, WRITTEN, rows)
    written.set_title("First statements that parse")
    what = caption(
        rows, "n-gram tables of the same text and xz for comparison", paper=False, limit=LIMIT
    )
    return figures.finish(picture, what, finding(rows))


STUDY = Study(
    name="sweep-controls",
    artefact="Tables 1 and S4, controls",
    question="where does the cost of n=4 come from?",
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references": references(TOKENS),
        "generation": generation,
        "floors": floors(TOKENS),
    },
    figure=figure,
    finding=finding,
    table=(BITS, "accuracy, head 1 (%)", FIRST, WHOLE),
    over_training={"progress": progress},
    arm=arm_of,
    contrasts=(*CONTRASTS, *WRITTEN),
    scales=("smoke", "cpu", "night", "gpu"),
    limits=LIMIT,
    rates=RATES,
)
