"""Table 1, 200B tokens: what does n do to the next-token model, and to decoding?

Arms: n parallel heads, which take their layers from the trunk as the paper's do, and at `cpu` scale
linear heads too, which leave the trunk as it is. The paper scores pass@k of 7B models on HumanEval
and MBPP. Models of our `cpu` scale solve none of those problems, so bits per byte of held-out code
judge the next-token model, and functions that parse judge what it writes. n=1 and both kinds of
n=4 are trained for a quarter and for half of the budget too, which says whether the cost shrinks.

Written before the run, from models of another size: each larger n costs bits per byte, and linear
heads cost as much as parallel ones. The cost is smaller at the full budget than at a quarter of it.
n=4 accepts more drafts than n=2; n=8 hardly more than n=4.

The paper finds that n > 1 loses pass@k below about 1B parameters, and gains above (Table S7). Bits
per byte of models of 0.2M parameters neither confirm nor contradict that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evals.statistics.lag import Lag, lags
from experiments import figures
from experiments.contrasts import Asked, sentence
from experiments.controls import (
    FOUR,
    LINEAR,
    ONE,
    RATES,
    SHARES,
    TOKENS,
    arm_of,
    runs_of,
    shorter,
)
from experiments.evaluations import (
    ALONG,
    SWEEP_TABLE,
    agreement,
    floors,
    generation,
    likelihood,
    references,
)
from experiments.findings import BITS, against
from experiments.panels import (
    caption,
    drafting_panel,
    metric,
    paper_points,
    reference_lines,
)
from experiments.study import Study
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARALLEL = (ONE, "n=2", FOUR, "n=6", "n=8")  # the paper's
SMALL = (ONE, "n=2", FOUR, "n=2, linear", LINEAR, "n=8, linear")  # six layers hold no 8 heads
BUDGETS = {ONE: figures.BLACK, FOUR: figures.BLUE, LINEAR: figures.GREEN}
QUARTER = f", {SHARES[0]:.0%}"
LIMIT = "One size. Bits per byte are not pass@k."
PER_BYTE, FORWARD = "bits per byte", "tokens per forward"
SHRINKS = {LINEAR: 1, ONE: -1, LINEAR + QUARTER: -1, ONE + QUARTER: 1}
CONTRASTS = (
    Asked("n=2", PER_BYTE, {"n=2": 1, ONE: -1}, 0.02, "larger", PER_BYTE),
    Asked("n=4", PER_BYTE, {FOUR: 1, ONE: -1}, 0.1, "larger", PER_BYTE),
    Asked("linear or parallel", PER_BYTE, {LINEAR: 1, FOUR: -1}, 0.02, "equal", PER_BYTE),
    Asked("n=8 or 4", PER_BYTE, {"n=8, linear": 1, LINEAR: -1}, 0.02, "larger", PER_BYTE),
    Asked("budget", PER_BYTE, SHRINKS, 0.02, "smaller", PER_BYTE),
    Asked("drafts of n=4", ALONG, {FOUR: 1, "n=2": -1}, 0.02, "larger", FORWARD),
    Asked("drafts, linear or parallel", ALONG, {LINEAR: 1, FOUR: -1}, 0.02, "equal", FORWARD),
)


def runs(scale: str) -> list[TrainConfig]:
    if scale not in ("cpu", "night"):
        return runs_of(PARALLEL, scale)
    less = [shorter(config, share) for share in SHARES for config in runs_of(tuple(BUDGETS), scale)]
    return [*less, *runs_of(SMALL, scale)]


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[(paper.artefact == "Table 1") & paper.data.str.startswith("200B")]


def full(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of arms with the whole budget."""
    return rows[~rows.arm.str.contains("%", regex=False)]


def lag(rows: pd.DataFrame, arm: str) -> list[Lag]:
    """How many tokens n=1 needs for an arm's bits per byte, at each of the arm's budgets; empty
    where n=1 and the arm have no seed in common, or n=1 has one budget."""
    bits, shares = metric(rows, PER_BYTE), {1.0: "", **{s: f", {s:.0%}" for s in SHARES}}

    def losses(name: str) -> dict[int, dict[float, float]]:
        found: dict[int, dict[float, float]] = {}
        for share, end in shares.items():
            own = bits[bits.arm == name + end]
            for seed, value in zip(own.seed, own.value, strict=True):
                found.setdefault(int(seed), {})[share] = float(value)
        return {seed: own for seed, own in found.items() if len(own) == len(shares)}

    one, ours = losses(ONE), losses(arm)
    return lags(one, ours) if one.keys() & ours.keys() else []


def finding(rows: pd.DataFrame) -> str:
    found = [(each, each.of(rows)) for each in CONTRASTS[:2]]
    said = [sentence(each, contrast) for each, contrast in found if contrast]
    if not said:
        return against(metric(full(rows), PER_BYTE), "arm", ONE, BITS, lower=True)
    text = "; ".join(said) + "."
    if found := lag(rows, FOUR):
        text += f" n=1 needs {found[-1]} of the tokens for the bits per byte of n=4."
    return text


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (by_n, budgets, decode, theirs) = figures.grid(2, 2, 5.6, 4.4)
    own = full(rows)
    kinds = (("parallel", figures.BLUE, "o"), ("linear", figures.GREEN, "s"))
    bits = metric(own, PER_BYTE)
    for name, colour, marker in kinds:
        values = bits[(bits["head"] == name) | (bits.n == 1)]
        if values.n.max() > 1:
            figures.spread(by_n, values, "n", colour, f"{name} heads", marker)
    reference_lines(by_n, rows)
    by_n.set_title("Next-token model: lower is better")
    by_n.set_ylabel("held-out bits per byte, head 1")
    by_n.set_xlabel("n, future tokens predicted")
    budget_panel(budgets, metric(rows, PER_BYTE))
    drafting = own[own.n > 1]
    order = [str(n) for n in sorted(drafting.n.unique())]  # places that both kinds share
    for i, (name, colour, marker) in enumerate(kinds):
        values = drafting[drafting["head"] == name].astype({"n": str})
        shift = 0.16 * i - 0.08
        drafting_panel(decode, values, "n", f"{name} heads", colour, marker, order, shift)
    decode.set_xlabel("n, heads to draft with (at most 4)")
    if decode.get_legend_handles_labels()[1]:
        decode.legend()
    paper_points(theirs, paper_rows(paper), "n", "Paper, 7B on 200B tokens")
    theirs.set_xlabel("n, future tokens predicted")
    what = caption(rows, "grey lines: n-gram tables of the same text and xz", limit=LIMIT)
    return figures.finish(picture, what, finding(rows))


def budget_panel(axes: Axes, bits: pd.DataFrame) -> None:
    """Bits per byte of three arms by budget, a point for each seed."""
    shares = {1.0: "", **{share: f", {share:.0%}" for share in SHARES}}
    names = {f"{arm}{end}": (arm, share) for arm in BUDGETS for share, end in shares.items()}
    own = bits[bits.arm.isin(list(names))]
    pairs = [names[arm] for arm in own.arm]
    own = own.assign(arm=[arm for arm, _ in pairs], share=[100 * share for _, share in pairs])
    for arm, colour in BUDGETS.items():
        if len(values := own[own.arm == arm]):
            figures.spread(axes, values, "share", colour, arm)
    axes.set_title("By budget")
    axes.set_xlabel("% of the training tokens")
    axes.set_ylabel("held-out bits per byte, head 1")
    if len(own):
        axes.legend()


STUDY = Study(
    name="sweep-n",
    artefact="Table 1, 200B tokens",
    question="what does n do to the next-token model and to decoding?",
    limits=LIMIT,
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references": references(TOKENS),
        "generation": generation,
        "floors": floors(TOKENS),
        "agreement": agreement,
    },
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=SWEEP_TABLE,
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
    rates=RATES,
)
