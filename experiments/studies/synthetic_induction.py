"""Figure 7: does n = 2 help small models to form induction heads?

Models are trained on short stories for children, and asked for the second token of invented names
(evals/probes/induction.py). In the paper n = 2 is far ahead up to 30M parameters, and no better
from 100M on. A possible reason: to predict "tu" from before "Bre", head 2 must copy. So a text in
which what head 2 predicts can be copied should help n = 2, and one in which it is noise should not.

40% of the documents are roll calls, which teach copying. What differs between arms is the order of
their names (synthetic/stories.py), and the model:

    random, cyclic   head 2's targets in roll calls are anyone's names, or can be copied
    no calls         stories alone
    n=1              4 layers to the next token
    n=1 short        3 layers, which are as many as n=2 has
    n=2              3 layers, one of them head 1
    n=2 +1 layer     4 layers
    .. ramped        head 2 joins between 20 and 40% of the run

A run either copies or does not, so the outcome is a time: the onset of copying is the first kept
step at which, and at the next one, 70% of second tokens are right. A guess among the names that the
story has mentioned is right for about half. A second onset is of likelihood, 0.5 nats for the
second token, where that guess has 0.7.

Written before the run (CONTRASTS, log2 of steps; the margin of 0.2 is 15%): copying sets in later
with n=2 on random names, earlier on cyclic ones; so the interaction is above 0. Cyclic roll calls
have more to copy for head 1 too. That is the main effect of the order, which the interaction leaves
out.

The paper does not name its stories. Ours are generated; with others, for instance `--set
data.source=hf:roneneldan/TinyStories`, the test stories stay ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from experiments import figures
from experiments.contrasts import Asked, sentence
from experiments.name_copying import (
    HELD_OUT,
    INTERACTION,
    LIKELY,
    NAMES,
    NATS,
    RIGHT,
    STYLES,
    TWO_PLUS,
    arm_of,
    chosen,
    curves,
    mentions,
    names,
    onset_panel,
    progress,
    runs,
)
from experiments.onsets import AskedOfOnsets, compared, of_arm, onsets
from experiments.panels import caption, contrast_panel, in_millions
from experiments.study import Study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from experiments.onsets import Curve

MARGIN = 0.2  # of log2 of steps
ORDERS = ("random", "cyclic", "no calls")


# --------------------------------------------------------------------------------------------------
# what is asked


def asked(
    name: str,
    arms: dict[str, float],
    predicted: Literal["larger", "smaller", "equal"],
    curve: Curve = RIGHT,
) -> AskedOfOnsets:
    metric = f"log2 of the onset, {curve.metric}"
    return AskedOfOnsets(name, metric, arms, MARGIN, predicted, "log2 steps", (curve,))


def cost(order: str) -> Asked:
    arms = {f"{TWO_PLUS}, {order}": 1.0, f"n=1, {order}": -1.0}
    return Asked(f"cost, {order}", HELD_OUT, arms, 0.02, "larger", "nats per token")


def against(arm: str, other: str) -> dict[str, float]:
    return {arm: 1.0, other: -1.0}


FIRST = (  # at the cpu scale
    asked("n=2, random", against(f"{TWO_PLUS}, random", "n=1, random"), "larger"),
    asked("n=2, cyclic", against(f"{TWO_PLUS}, cyclic", "n=1, cyclic"), "smaller"),
    asked("interaction", INTERACTION, "larger"),
    asked("interaction, nats", INTERACTION, "larger", LIKELY),
)
MORE = (  # of arms that the night scale has
    asked("depth", against("n=1 short, random", "n=1, random"), "equal"),
    asked("equal size", against("n=2, random", "n=1 short, random"), "larger"),
    asked("ramp", against(f"{TWO_PLUS} ramped, random", "n=1, random"), "equal"),
    asked("no calls", against(f"{TWO_PLUS}, no calls", "n=1, no calls"), "equal"),
)
COSTS = (cost("random"), cost("cyclic"))


def finding(rows: pd.DataFrame) -> str:
    """The onsets of n=2 against those of n=1 in each order, and the interaction."""
    parts, table = [], onsets(rows, RIGHT)
    if table.duplicated(["arm", "seed"]).any():  # their seeds are shared, so no test pools them
        found = [sentence(each, c) for each in FIRST if (c := each.of(rows))]
        return f"Onset of copying, mean over sizes: {'; '.join(found) or 'nothing to compare'}."
    for order in (*ORDERS, ""):
        end = f", {order}" * bool(order)
        both = [
            of_arm(table, n + end) for n in (TWO_PLUS, "n=2")
        ]  # the latter at the paper's scale
        ours, theirs = both[0] or both[1], of_arm(table, f"n=1{end}")
        if ours and theirs:
            parts.append(f"{order}: " * bool(order) + compared(ours, theirs, "steps"))
    if not parts:
        return "Onset of copying: no order has runs of n=1 and n=2."
    text = f"Onset of copying, n=2 against n=1. {'; '.join(parts)}."
    interaction = FIRST[2]
    if found := interaction.of(rows):
        text += f" Interaction with the order: {sentence(interaction, found).split(': ', 1)[1]}."
    return text


# --------------------------------------------------------------------------------------------------
# the figure


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, 5.4)
    by_n = rows[rows.arm.isin(("n=1", "n=1, random"))]
    if by_n["size"].nunique() > 1:
        size_panel(left, rows)
    else:
        shown = [arm for arm in STYLES if arm.startswith(("n=1,", f"{TWO_PLUS},"))]
        curves(left, rows, {arm: STYLES[arm] for arm in shown if ", no" not in arm})
        left.set_title("Second tokens of names")
    onset_panel(middle, onsets(rows, RIGHT), STYLES)
    middle.set_title(f"Onset: {RIGHT.threshold:g}% right")
    shown = [*FIRST, *(each for each in MORE if each.of(rows))]
    contrast_panel(right, shown, rows)
    right.set_title("Contrasts: 90% intervals, grey margins")
    short = rows.assign(data=rows.data.str.replace(r",order=\w+", "", regex=True))
    what = f"{mentions(rows)}; the paper (Figure 7, no values): n=2 ahead up to 30M"
    return figures.finish(picture, caption(short, what, paper=False, limit=LIMIT), finding(rows))


def size_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Best accuracy over training by size, as in the paper, and at the step of the lowest held-out
    loss."""
    best = chosen(rows[rows.arm.isin(("n=1", "n=2", "n=1, random", "n=2, random"))])
    sizes = sorted(best["size"].unique(), key=in_millions)
    for n, colour, marker, shift in ((1, figures.BLUE, "o", -0.15), (2, figures.RED, "s", 0.15)):
        points = best[best.n == n].rename(columns={"best": "value"})
        label = f"n={n}, best over training"
        figures.spread(axes, points, "size", colour, label, marker, sizes, shift)
        honest = points.groupby("size", sort=False).honest.mean()
        at = [sizes.index(name) + shift for name in honest.index]
        axes.plot(
            at, honest, linestyle="", marker="D", fillstyle="none", color=colour, markersize=9,
            label=f"n={n}, step chosen on held-out text",
        )  # fmt: skip
    axes.set_title("Second tokens of names")
    axes.set_xlabel("non-embedding parameters")
    axes.set_ylabel("right (%)")
    axes.set_ylim(bottom=0)
    axes.legend()


LIMIT = (
    "One size and one learning rate, tuned for no arm. Cyclic roll calls have more to copy for "
    "head 1 too, so only the interaction is about n. Three seeds, as at cpu, decide large effects "
    "alone."
)
STUDY = Study(
    name="synthetic-induction",
    artefact="Figure 7",
    question="does n = 2 help small models to form induction heads?",
    limits=LIMIT,
    runs=runs,
    evaluations={"names": names},
    figure=figure,
    finding=finding,
    table=(f"{NAMES}, last step", f"{NATS}, last step", HELD_OUT),
    over_training={"progress": progress},
    arm=arm_of,
    contrasts=(*FIRST, *COSTS, *MORE),
    scales=("smoke", "cpu", "night", "gpu", "paper"),
)
