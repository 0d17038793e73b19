"""Table S2: how much faster are n=4 models as their own draft models?

Varied: the heads used (k), the batch size and the kind of text, for the greedy chain that the paper
measures, and for what it mentions or leaves out: a tree of candidates, and sampling. The speedup is
over the same model with k=1, as in the paper. An n=1 model of equal size, made of the same layers,
is timed beside it. Its speed is not that of k=1, which skips the layers of heads 2 to n.

At `cpu` scale the models are trained longer than those of `sweep-n`, so that more drafts are
accepted, and are deeper, so that the layers of three heads are a smaller part of them (in the
paper, 3 of 32).

The paper's prose is Wikipedia and books; ours is docstrings, all the prose in a corpus of Python.
End-of-text is ignored, so that every row makes as many tokens. Figure S10's latency is not
measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import base, with_model
from experiments.decoding_speed import (
    TEMPERATURE,
    Setting,
    decoder,
    speed_rows,
    split_metric,
    ways_of,
)
from experiments.findings import mean_and_range
from experiments.panels import caption, metric
from experiments.results import Measure
from experiments.study import Study
from experiments.timed import timed
from mtp.config import TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

SETTINGS = {
    "smoke": Setting(8, 12, (1, 4), 1, 6),
    "cpu": Setting(64, 64, (1, 4, 16, 64), 3, 8),
    "gpu": Setting(256, 256, (1, 4, 16, 64), 2, 16),
    "paper": Setting(512, 512, (1, 8, 16, 32, 42), 3, 32),
}
CHECKED = {"paper": 16}  # prompts of `checks` at most, by scale: in float32, 42 would not fit


def runs(scale: str) -> list[TrainConfig]:
    config = with_model(base(scale), n=4)
    if scale == "cpu":
        config = with_model(config, layers=16)
        config = dataclasses.replace(config, tokens=2.5e6, warmup=100, save_every=250)
    return [with_model(config, seed) for seed in range({"cpu": 2, "gpu": 2}.get(scale, 1))]


# --------------------------------------------------------------------------------------------------
# what is measured


@timed
def speeds(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Every way of decoding side by side, per domain and batch size."""
    from evals.probes import speculation
    from evals.probes.domains import domains
    from mtp.decoding.generate import generate
    from mtp.decoding.sampling import Sampling
    from mtp.decoding.trees import best_tree

    setting, n = SETTINGS[scale], model.config.n
    rows: list[Measure] = []
    count = max(8, *setting.batches)
    for domain, different in domains(corpus, setting.prompt, 2 * count).items():
        timed = max(1, 3 * len(different) // 4)
        prompts, others = (different[:timed] * count)[:count], different[timed:] or different
        # The tree is chosen on prompts that are not timed (unless there is only one).
        outputs = generate(model, others, setting.new).tokens
        tree = best_tree(speculation.ranks(model, others, outputs, n), n, setting.nodes)
        ways = ways_of(model, setting.new, range(1, n + 1))
        decode = decoder(model, setting.new)
        ways[f"tree of {setting.nodes}, k={n}"] = partial(decode, tree=tree)
        for k in (1, n):
            sampling = Sampling(TEMPERATURE)
            ways[f"T={TEMPERATURE}, k={k}"] = partial(decode, k=k, sampling=sampling)
        single = speculation.with_one_head(model)
        ways["n=1 model"] = decoder(single, setting.new)
        for batch in setting.batches:
            found = speculation.side_by_side(ways, prompts[: max(8, batch)], batch, setting.repeats)
            rows += speed_rows(found, domain, batch, min(timed, max(8, batch)))
    return rows


def checks(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """The negative controls, and exactness in bf16.

    Drafts shifted by one place must be accepted as often as they happen to be right along the
    finished text, which takes no decoder to count; drafts of another prompt at chance.
    """
    from evals.probes import speculation
    from evals.probes.domains import domains
    from mtp.decoding.generate import generate

    setting, n = SETTINGS[scale], model.config.n
    rows, most = [], CHECKED.get(scale, max(8, *setting.batches))
    for domain, prompts in domains(corpus, setting.prompt, most).items():
        right = generate(model, prompts, setting.new, 1)
        count = sum(map(len, right.tokens))

        agreement = partial(speculation.agreement, model, prompts, right.tokens)

        wrong = generate(speculation.shifted(model), prompts, setting.new)
        others = speculation.exchanged(model)
        accepted, passes = speculation.acceptance_while_all_run(others, prompts, setting.new)
        what, way = f"acceptance, head 2 (%), {domain}", f"chain, k={n}"
        for name, share, among in (
            (f"{way}, shifted by one place", float(wrong.acceptance[1]), int(wrong.accepted[0])),
            (f"{way}, shifted, counted along the text", agreement(3, (-1,)), count),
            (f"{way}, of another prompt", accepted, passes),
            ("by chance", speculation.chance(model, prompts, right.tokens), count),
        ):
            rows.append(Measure(f"{what}, {name}", 100 * share, among))
        same = float(wrong.tokens == right.tokens)
        where = f"{domain}, {way}, shifted by one place"
        rows.append(Measure(f"same tokens as k=1, {where}", same, len(prompts)))
        low = speculation.in_bf16(model)
        outputs = [generate(low, prompts, setting.new, k).tokens for k in (1, n)]
        apart = speculation.divergences(low, prompts, *outputs)
        where = f"bf16, {domain}, chain, k={n}"
        first = min((float(d.position) for d in apart), default=None)
        gap = max((d.gap for d in apart), default=None)
        rows += [
            Measure(f"rows that differ from k=1 (%), {where}",
                    100 * len(apart) / len(prompts), len(prompts)),
            Measure(f"earliest position where they differ, {where}", first, len(apart)),
            Measure(f"largest gap of the two best logits there (ulp), {where}", gap, len(apart)),
        ]  # fmt: skip
    return rows


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S2"]


FORWARD = r"^tokens per forward, (?P<domain>\w+), "
DOMAINS: dict[str, tuple[str, str]] = {
    "code": (figures.BLUE, "o"),
    "prose": (figures.ORANGE, "s"),
    "text": (figures.GREEN, "^"),
}


def finding(rows: pd.DataFrame) -> str:
    """Of the longest chain, at batch 1."""
    parts = []
    for domain in DOMAINS:
        found = split_metric(
            rows, rf"^speedup, {domain}, chain, k=(?P<k>\d+), batch (?P<batch>\d+)$"
        )
        found = found[(found.k == found.k.max()) & (found.batch == 1)]
        if len(found):
            way = f"{domain}, chain, k={found.k.max()}, batch 1"
            forward = mean_and_range(metric(rows, f"tokens per forward, {way}").value)
            faster = mean_and_range(found.value)
            parts.append(f"{domain} {forward} tokens per forward, {faster} times the speed")
    return f"With all heads at batch 1: {'; '.join(parts)} of k=1."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3)
    forward = split_metric(rows, FORWARD + r"chain, k=(?P<k>\d+), batch (?P<batch>\d+)$")
    forward = forward[forward.batch == forward.batch.max()]
    others = split_metric(rows, FORWARD + r"(?P<way>t.*|T.*), k=(?P<k>\d+), batch (?P<batch>\d+)$")
    others = others[others.batch == others.batch.max()]
    for i, (domain, (colour, marker)) in enumerate(DOMAINS.items()):
        points = forward[forward.domain == domain]
        if len(points):
            name = f"{domain}, chain"
            figures.spread(left, points, "k", colour, name, marker, shift=0.02 * i - 0.01)
    most = figures.places(sorted(forward.k.unique()))[forward.k.max()]
    for i, (domain, (colour, _)) in enumerate(DOMAINS.items()):
        for way, symbol in (("tree", "*"), ("T=", "x")):
            chosen = others[
                (others.domain == domain) & others.way.str.startswith(way) & (others.k > 1)
            ]
            if len(chosen):
                name = {"tree": chosen.way.iloc[0], "T=": f"sampled, {chosen.way.iloc[0]}"}[way]
                left.plot(
                    [most + 0.05 + 0.08 * i] * len(chosen), chosen.value, symbol, color=colour,
                    markersize=9, label=f"{domain}, {name}",
                )  # fmt: skip
    left.set_title(f"Tokens per forward pass, {forward.batch.max()} prompts")
    left.set_xlabel("k, heads used")
    left.set_ylabel("verified and accepted tokens")
    left.legend()
    batch_panel(middle, rows, first_domain(rows))
    paper_panel(right, paper_rows(paper))
    what = "n=4 parallel heads; prose is docstrings; T: over k=1 at that temperature"
    limit = "Ratios within 15% of 1 may be noise of the timing."
    return figures.finish(picture, caption(rows, what, limit=limit), finding(rows))


def first_domain(rows: pd.DataFrame) -> str:
    """Code where there is any."""
    found = split_metric(rows, r"^tokens per forward, (?P<domain>\w+), chain").domain
    return min(found, key=list(DOMAINS).index)


def batch_panel(axes: Axes, rows: pd.DataFrame, domain: str) -> None:
    """Measured speedup over k=1 against the batch size."""
    pattern = rf"^speedup, {domain}, (?P<way>.*), batch (?P<batch>\d+)$"
    found = split_metric(rows, pattern)
    colours = (
        figures.BLUE,
        figures.GREEN,
        figures.RED,
        figures.ORANGE,
        figures.PURPLE,
        figures.GREY,
    )
    ways = [w for w in dict.fromkeys(found.way) if not w.endswith("k=1")]
    for way, colour in zip(ways, colours, strict=False):
        marker = {"c": "o", "t": "*", "T": "D", "n": "s"}[way[0]]
        shift = 0.015 * (ways.index(way) - len(ways) / 2)
        own = found[found.way == way]
        figures.spread(axes, own, "batch", colour, way, marker, shift=shift)
    axes.axhline(1, color=figures.GREY, linewidth=1, linestyle=":")
    axes.set_title(f"Measured speedup, {domain}")
    axes.set_xlabel("batch size")
    axes.set_ylabel("tokens/s over those of k=1")
    axes.set_ylim(bottom=0)
    axes.legend()


def paper_panel(axes: Axes, paper: pd.DataFrame) -> None:
    import pandas as pd

    figures.paper_panel(axes, "Paper, 7B, batch 42")
    paper = paper.assign(k=pd.to_numeric(paper["head"].str.extract(r"k=(\d+)")[0]))
    kinds: list[tuple[str, str, str, str]] = [
        ("tokens per forward", "code", figures.BLUE, "o"),
        ("tokens per forward", "wikipedia", figures.ORANGE, "s"),
        ("relative speedup", "code", figures.BLUE, "x"),
        ("relative speedup", "wikipedia", figures.ORANGE, "+"),
    ]
    for measure, domain, colour, marker in kinds:
        points = paper[(paper.metric == measure) & paper.data.str.startswith(domain)]
        points = points.sort_values("k")
        axes.plot(
            points.k, points.value, color=colour, marker=marker, markersize=7, linewidth=1.5,
            linestyle="-" if measure.startswith("tokens") else "--", label=f"{domain}, {measure}",
        )  # fmt: skip
    axes.set_xticks(sorted(paper.k.unique()))
    axes.set_xlabel("k, heads used")
    axes.set_ylabel("ratio to k=1")
    axes.set_ylim(bottom=0)
    axes.legend(handlelength=3.2)


EVALUATIONS: dict[str, Callable[[MultiTokenTransformer, Corpus, str], list[Measure]]] = {
    "speeds": speeds,
    "checks": checks,
}

STUDY = Study(
    name="decoding",
    artefact="Table S2, Figure S10 without latency",
    question="how much faster is an n=4 model as its own draft model?",
    limits=(
        "What four heads cost in likelihood is not measured here. Acceptance is along the "
        "model's own greedy text, which repeats itself. Timings have no control."
    ),
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=tuple(
        f"{metric}, {domain}, chain, k=4, batch 1"
        for domain in DOMAINS
        for metric in ("tokens per forward", "speedup")
    ),
)
