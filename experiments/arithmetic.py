"""What the studies of polynomial arithmetic share: bases, evaluations, onsets, panels.

Two outcomes, of the same answers: how likely head 1 thinks the right one, and whether the one that
it writes is exact. The score is at m=1, one operation: the mean over addition, multiplication and
composition, each on all test questions that the ring has. Negation, which has 9 in the small ring,
is apart.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from experiments import figures
from experiments.contrasts import Asked
from experiments.panels import caption, in_millions, metric
from experiments.results import Measure
from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from evals.probes.polynomials import Marks
    from evals.statistics.onset import Onset
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

BYTES = 258  # of the bytes tokenizer: 256, bos, eos
SEEDS = {"smoke": 1, "night": 5}  # elsewhere 3
RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)  # tried for every arm at cpu (experiments/trials.py)
# and the best of them (results/synthetic-polynomials/trials/cpu.csv)
BEST = {
    "n=1": 1e-3,
    "n=1, short": 4e-3,
    "n=1, answers 2.5": 2e-3,
    "n=4": 4e-3,
    "n=4, +3 layers": 2e-3,
    "n=4, linear": 4e-3,
    "n=4, same target": 2e-3,
}


def data(options: str) -> CorpusConfig:
    return CorpusConfig(f"python:synthetic.polynomials?{options}", "bytes", validation=0.01)


def base(scale: str) -> list[TrainConfig]:
    """The n=1 run of each size of a scale, the smallest first."""
    if scale == "smoke":
        return [
            TrainConfig(
                model=ModelConfig(dim=32, layers=6, attn_heads=2, vocab=BYTES, context=64),
                data=data("p=5,d=2,ops=2,count=4000"),
                batch=4, tokens=2_560, lr=3e-3, warmup=5, log_every=5, keep_every=5,
            )
        ]  # fmt: skip
    small = ModelConfig(dim=64, layers=6, attn_heads=4, vocab=BYTES, context=128)
    if scale in ("cpu", "night"):
        # a rate that does not fall until the end favours no early or late onset
        own = TrainConfig(
            model=small, data=data("p=7,d=2,ops=2,count=150000"),
            batch=8, tokens=1.15e6, lr=2e-3, lr_schedule="wsd:0.2", warmup=100, log_every=25,
            save_every=500, keep_every=50,
        )  # fmt: skip
        if scale == "cpu":
            return [own]
        long = dataclasses.replace(
            own, data=data("p=7,d=2,ops=3,count=300000"), tokens=2.5e6, keep_every=200
        )
        model = dataclasses.replace(small, dim=96, layers=8)
        return [long, dataclasses.replace(long, model=model)]
    if scale == "gpu":
        return [
            TrainConfig(
                model=size("30M", vocab=BYTES, context=1024),
                data=data("p=7,d=5,ops=5,count=10000000"),
                batch=256, tokens=3e8, lr=5e-4, warmup=100, log_every=20, save_every=200,
                keep_every=100,
            )
        ]  # fmt: skip
    return [  # Table S13; the corpus is passed eight times
        TrainConfig(
            model=size(name, vocab=BYTES, context=context),
            data=data("p=7,d=5,ops=5,count=100000000"),
            batch=262_144 // context, tokens=100_000 * 262_144, lr=1e-4, warmup=2000,
            log_every=100, save_every=1000, keep_every=10_000,
        )
        for name, context in (("30M", 1024), ("100M", 2048))
    ]  # fmt: skip


def tuned(config: TrainConfig, arm: str, scale: str) -> TrainConfig:
    """The run of an arm at its own learning rate; at scales without trials the one it has."""
    return dataclasses.replace(config, lr=BEST[arm]) if scale == "cpu" else config


# --------------------------------------------------------------------------------------------------
# measured

OPERATORS = {"-": "negation", "+": "addition", "*": "multiplication", "o": "composition"}
SCORED = "+*o"
ONE_OPERAND = "one operand"
COMMONEST = "the commonest answer"


def exact(of: str, who: str = "") -> str:
    """The metric of exact answers to questions `of` some kind; by `who`, other than the model."""
    return f"exact answers{f' of {who}' * bool(who)}, {of} (%)"


def likely(of: str, who: str = "") -> str:
    return f"answer NLL{f' of {who}' * bool(who)}, {of} (nats per digit)"


SCORE, NLL = exact("m=1"), likely("m=1")
THEN = ", over training"  # at kept steps
ADDITION = exact(OPERATORS["+"] + THEN)


def rows_of(of: str, found: Marks, who: str = "") -> list[Measure]:
    some = found.count > 0
    return [
        Measure(exact(of, who), 100 * found.exact if some else None, found.count),
        Measure(likely(of, who), found.nats if some else None, found.count),
    ]


def most(scale: str) -> int:
    """Questions of a kind, at most; a ring may have fewer."""
    return 40 if scale == "smoke" else 1000


def arithmetic(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the last step: both outcomes by operation and by number of operations, up to twice those
    of training; and what guesses get."""
    from evals.probes import polynomials as probe

    task = probe.task_of(corpus)
    exams = {sign: task.exam(sign, most(scale)) for sign in OPERATORS}
    found = {sign: probe.marks(model, corpus, exam) for sign, exam in exams.items()}
    rows = rows_of("m=1", probe.mean([found[sign] for sign in SCORED]))
    for sign, name in OPERATORS.items():
        rows += rows_of(name, found[sign])
    guesses = {sign: probe.one_operand(task, sign, exams[sign]) for sign in SCORED}
    known = {sign: guess for sign, guess in guesses.items() if guess}
    for sign, guess in known.items():
        rows += rows_of(OPERATORS[sign], guess, ONE_OPERAND)
    if known:
        rows += rows_of("m=1", probe.mean([*known.values()]), ONE_OPERAND)
    constant = {sign: 100 * probe.commonest_answer(exams[sign]) for sign in SCORED}
    for sign, share in constant.items():
        rows.append(Measure(exact(OPERATORS[sign], COMMONEST), share, len(exams[sign])))
    asked = sum(len(exams[sign]) for sign in SCORED)
    rows.append(Measure(exact("m=1", COMMONEST), sum(constant.values()) / len(constant), asked))
    for m in range(2, 2 * task.ops + 1):
        problems = [*dict.fromkeys(task.problems(m, most(scale)))]  # those that come twice, once
        rows += rows_of(f"m={m}", probe.marks(model, corpus, problems))
        share = 100 * probe.commonest_answer(problems)
        rows.append(Measure(exact(f"m={m}", COMMONEST), share, len(problems)))
    return rows


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: both outcomes of additions and of the score."""
    from evals.probes import polynomials as probe

    task = probe.task_of(corpus)
    found = {s: probe.marks(model, corpus, task.exam(s, most(scale))) for s in SCORED}
    added, all_of_them = found["+"], probe.mean([*found.values()])
    return rows_of(OPERATORS["+"] + THEN, added) + rows_of("m=1" + THEN, all_of_them)


# --------------------------------------------------------------------------------------------------
# contrasts and onsets

POINTS, NATS = "points", "nats per digit"  # units of SCORE and NLL
MARGINS = {POINTS: 2.0, NATS: 0.05}


def asked(
    name: str,
    arms: Mapping[str, float],
    predicted: Literal["larger", "smaller", "equal"],
    unit: str = NATS,
) -> Asked:
    """A contrast of one of the two outcomes at m=1."""
    metric_name = SCORE if unit == POINTS else NLL
    return Asked(name, metric_name, arms, MARGINS[unit], predicted, unit)


THRESHOLD = 90.0  # % of additions


def onsets(rows: pd.DataFrame) -> dict[str, dict[int, Onset]]:
    """Arm -> seed -> the first kept step with 90% of additions exact, at the next one too. A run
    with one kept step is left out."""
    from evals.statistics.onset import HOLD, onset

    found = dict[str, dict[int, "Onset"]]()
    for _, run in metric(rows, ADDITION).groupby("run_id", sort=False):
        run = run.sort_values("step")
        if len(run) >= HOLD:
            arm, seed = str(run.arm.iloc[0]), int(run.seed.iloc[0])
            found.setdefault(arm, {})[seed] = onset([*run.step], [*run.value], THRESHOLD)
    return found


def onset_sentence(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Whether additions appear sooner in the first arm of each pair than in the second: the
    verdict, p and shares of evals/statistics/onset.py."""
    from evals.statistics.onset import by_end, compare

    found, parts = onsets(rows), list[str]()
    for ours, theirs in pairs:
        if ours in found and theirs in found:
            each = compare([*found[ours].values()], [*found[theirs].values()])
            (a, n), (b, m) = (by_end(runs, each.end) for runs in (each.ours, each.theirs))
            seeds = f"{a} of {n} seeds against {b} of {m} by step {each.end:g}"
            parts.append(f"{ours} against {theirs}: {each.verdict}, {seeds}, p = {each.p:.2g}")
    return f"90% of additions exact, {'; '.join(parts)}." if parts else ""


# --------------------------------------------------------------------------------------------------
# panels

STYLES = {1: (figures.BLUE, "o"), 2: (figures.ORANGE, "s"), 4: (figures.GREEN, "^")}


def largest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the largest of several sizes; arms of smaller ones are named by their width."""
    named = rows.arm.str.contains(r", d=\d+")
    return rows[~named] if (~named).any() else rows


def floors(axes: Axes, rows: pd.DataFrame, name: str, level: bool = False) -> None:
    """Lines for what guesses get of SCORE or NLL; horizontal ones if `level`."""
    draw = axes.axhline if level else axes.axvline
    kind = exact if name == SCORE else likely
    for who, style in ((COMMONEST, "--"), (ONE_OPERAND, ":")):
        if len(own := metric(rows, kind("m=1", who))):
            draw(own.value.mean(), color=figures.GREY, linestyle=style, linewidth=1.4,
                 label=who.removeprefix("the "))  # fmt: skip


def by_length(rows: pd.DataFrame, who: str = "") -> pd.DataFrame:
    """The rows of exact answers by number of operations, with that number as a column m."""
    import pandas as pd

    m = rows.metric.str.extract(rf"^exact answers{f' of {who}' * bool(who)}, m=(\d+) \(%\)$")[0]
    return rows[m.notna()].assign(m=pd.to_numeric(m.dropna()))


def option(rows: pd.DataFrame, name: str, default: int) -> int:
    """An option of the rows' task."""
    found = rows.data.str.extract(rf"\b{name}=(\d+)")[0].dropna()
    return int(found.iloc[0]) if len(found) else default


def length_panel(axes: Axes, rows: pd.DataFrame, arms: Sequence[str]) -> None:
    """Exact answers by number of operations: each seed of some arms as a point, and their mean."""
    every = by_length(rows)
    for arm in arms:
        points = every[every.arm == arm]
        if not len(points):  # its runs are not finished
            continue
        colour, marker = STYLES[int(points.n.iloc[0])]
        mean = points.groupby("m").value.mean()
        axes.plot(mean.index, mean, color=colour, marker=marker, markersize=6, label=arm)
        axes.scatter(points.m, points.value, s=22, marker=marker, color=colour, linewidth=0)
    constant = by_length(rows, COMMONEST).groupby("m").value.mean()
    axes.plot(constant.index, constant, color=figures.GREY, linestyle="--", label=COMMONEST)
    axes.axvline(option(rows, "ops", 5) + 0.5, color=figures.GREY, linewidth=1, linestyle=":")
    if len(every):
        axes.set_xticks(sorted(every.m.unique()))
    axes.set_xlabel("m, operations (dotted: end of training's)")
    axes.set_ylabel("exact answers (%)")
    axes.set_ylim(bottom=0)
    axes.legend()


def onset_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """A line for each arm: every seed's onset as a dot, or a hollow arrow at the last step if none
    was seen."""
    found = onsets(rows)
    arms = list(dict.fromkeys(rows.arm))
    for seen, colour, marker, label in (
        (True, figures.BLACK, "o", "90% of additions"),
        (False, figures.RED, ">", "not by then"),
    ):
        face = colour if seen else "none"
        for i, arm in enumerate(arms):
            times = [each.time for each in found.get(arm, {}).values() if each.seen == seen]
            places = [i + 0.16 * (j - (len(times) - 1) / 2) for j in range(len(times))]
            axes.scatter(times, places, s=44, marker=marker, facecolor=face, edgecolor=colour)
        axes.plot([], [], color=colour, marker=marker, markerfacecolor=face, linestyle="",
                  label=label)  # fmt: skip
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("step, by seed")
    axes.legend()


def task_caption(rows: pd.DataFrame, limit: str = "") -> str:
    """The caption: the task in words, then the usual line."""
    ring = f"F_{option(rows, 'p', 7)}[X]/(X^{option(rows, 'd', 5)})"
    ops = option(rows, "ops", 5)
    task = f"{ring}, 1 to {ops} operations trained (paper: F_7[X]/(X^5), 1 to 5)"
    sizes = sorted(rows["size"].unique(), key=in_millions)
    short = rows.assign(
        data=f"{task}, bytes", size=" to ".join(dict.fromkeys((sizes[0], sizes[-1])))
    )
    return caption(short, "m=1 is the mean over + * o", paper=False, limit=limit)
