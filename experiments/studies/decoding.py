"""Table S2, Figure S10: how much faster is an n=4 model as its own draft model, and than what?

Varied: the heads used (k), the batch size and the kind of text, for the greedy chain that the paper
measures, and for what it mentions or leaves out: a tree of candidates, and sampling. The paper
compares with k=1 of the same model. Two more comparisons are needed to say what predicting four
tokens is worth: an n=1 model of equal size, which is better at the next token, and one of half the
layers, which is fast as well. All three are trained, and all are timed side by side in the runs
with n=4 (weights do not matter there, so an n=1 model of the same layers is timed).

A model accepts its drafts most easily where it repeats itself. So drafts are followed along human
text too, beside the model's own continuations of the same prompts, and beside every number of the
model's own text stands the share of its 4-grams that are distinct. k=1 is timed twice, under two
names: a speedup within that band is none.

The paper's prose is Wikipedia and books; ours is docstrings, all the prose in a corpus of Python.
End-of-text is ignored, so that every row makes as many tokens.

Written before the run, from an older study of a larger model with fewer tokens and from times of
passes of untrained models of this shape (a pass of k=2 takes 1.2 to 1.3 times as long as one of
k=1 at batch 1, of k=4 1.7 to 2.0 times, of n=1 1.3 to 1.4 times, of half of n=1 0.6 times):

    own text        is easier to draft than human text, of both kinds            larger
    kinds           human code is easier than docstrings, as in the paper        larger
    A/A             k=1 against itself                                           equal
    k=2             is faster than k=1 at batch 1                                larger
    k=4             is not: three layers of ten more in each pass                equal
    against n=1     k=4 is faster than an n=1 model of equal size                larger
    against half    and slower than one of half the layers                       smaller
    batch 32        k=4 is slower than k=1                                       smaller
    price           n=4 has more bits per byte than n=1                          larger
    price, half     and than an n=1 model of half the layers                     larger
    layers          which has as many as n=1: at this budget depth does nothing  equal

So half an n=1 model would be both better and faster than n=4 with all its heads.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from experiments import figures
from experiments.bases import base, with_model
from experiments.contrasts import Asked, sentence
from experiments.controls import RATES
from experiments.decoding_rows import (
    ALONG,
    BESIDE,
    BITS,
    CHAIN,
    TEXT,
    AskedOfWays,
    Point,
    bands,
    pareto_panel,
    speed,
    speed_panel,
    split_metric,
    text_panel,
)
from experiments.decoding_speed import (
    HALF,
    SINGLE,
    TEMPERATURE,
    Setting,
    decoder,
    speed_rows,
    text_rows,
    ways_of,
    with_control,
)
from experiments.evaluations import likelihood, references
from experiments.findings import mean_and_range
from experiments.panels import caption
from experiments.results import Measure
from experiments.study import Study
from experiments.timed import timed
from mtp.config import CorpusConfig, ModelConfig, TrainConfig
from mtp.head_types import DEFAULT, HEADS, short_name

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

SETTINGS = {
    "smoke": Setting(8, 12, (1, 4), 1, 6, 8, 4),
    "cpu": Setting(64, 48, (1, 8, 32), 5, 8, 128, 4),
    "night": Setting(64, 48, (1, 8, 32), 5, 8, 128, 4),
    "gpu": Setting(256, 256, (1, 4, 16, 64), 3, 16, 128, 16),
    "paper": Setting(512, 512, (1, 8, 16, 32, 42), 3, 32, 84, 64),
}
IN_FLOAT32 = {"paper": 16}  # prompts at once at most, by scale: in float32, 42 would not fit
TOKENS = {"smoke": 2_560, "cpu": 2.25e6, "night": 12e6}
SHORTER = (0.48e6, 2.4e6)  # budgets of n=4 at night besides the whole one
SEEDS = {"cpu": 3, "night": 3, "gpu": 2}


def start(scale: str) -> TrainConfig:
    """The n=1 run."""
    if scale in ("gpu", "paper"):
        return base(scale)
    if scale == "smoke":
        return TrainConfig(
            model=ModelConfig(dim=32, layers=8, attn_heads=2, vocab=300, context=32),
            data=CorpusConfig(vocab=300, max_mb=0.3, validation=0.1),
            batch=4, tokens=TOKENS[scale], lr=3e-3, warmup=5, log_every=5,
        )  # fmt: skip
    dim, layers = (48, 10) if scale == "cpu" else (96, 12)
    return TrainConfig(
        model=ModelConfig(dim=dim, layers=layers, attn_heads=dim // 16, vocab=512, context=128),
        data=CorpusConfig(source="installed", vocab=512, validation=0.045),
        batch=16, tokens=TOKENS[scale], lr=16e-3 if scale == "cpu" else 2e-3,
        lr_schedule="wsd:0.2", warmup=60, log_every=25, save_every=300,
    )  # fmt: skip


def runs(scale: str) -> list[TrainConfig]:
    """The paper has no model of half the layers, so neither has its scale."""
    own = start(scale)
    heads = [DEFAULT, "linear", "causal"] if scale == "night" else [DEFAULT]
    configs = [with_model(own, n=4, head=head) for head in heads] + [own]
    if scale != "paper":
        configs.append(with_model(own, layers=own.model.layers // 2))
    if scale == "night":
        configs += [dataclasses.replace(configs[0], tokens=tokens) for tokens in SHORTER]
    seeds = range(SEEDS.get(scale, 1))
    return [dataclasses.replace(config, seed=seed) for seed in seeds for config in configs]


def arm_of(config: TrainConfig) -> str:
    """E.g. "n=4", "n=1, half", "n=4 linear", "n=4, 2.4M tokens", whatever --set has changed of all
    arms."""
    m = config.model
    name = f"n={m.n}" + f" {short_name(m.head)}" * (m.head != DEFAULT)
    halves = {start(scale).model.layers // 2 for scale in SETTINGS}
    name += ", half" * (m.layers in halves)
    return name + f", {config.tokens / 1e6:g}M tokens" * (config.tokens in SHORTER)


# --------------------------------------------------------------------------------------------------
# what is asked

LARGER, SMALLER, EQUAL = "larger", "smaller", "equal"
TOLD, FASTER = "tokens per forward", "of the speed of k=1"


def along(
    name: str, ours: str, theirs: str, predicted: Literal["larger", "equal"] = LARGER
) -> AskedOfWays:
    arms = {f"n=4, k=4, {ours} text": 1, f"n=4, k=4, {theirs} text": -1}
    return AskedOfWays(name, ALONG, arms, 0.1, predicted, TOLD)


def faster(
    name: str, way: str, than: str, predicted: Literal["larger", "smaller", "equal"], batch: int = 1
) -> AskedOfWays:
    return AskedOfWays(name, speed("code", batch), {way: 1, than: -1}, 0.1, predicted, FASTER)


OWN = along("own text, code", "code, own", "code, human")
AGAINST = faster("against n=1", "n=4, k=4", "n=1 beside n=4", LARGER)
PRICE = Asked("price", BITS, {"n=4": 1, "n=1": -1}, 0.05, LARGER, BITS)
CONTRASTS = (
    OWN,
    along("own text, prose", "prose, own", "prose, human"),
    along("kinds", "code, human", "prose, human"),
    faster("A/A", "n=4, k=1 again", "n=4, k=1", EQUAL),
    faster("k=2", "n=4, k=2", "n=4, k=1", LARGER),
    faster("k=4", "n=4, k=4", "n=4, k=1", EQUAL),
    AGAINST,
    faster("against half", "n=4, k=4", "half n=1 beside n=4", SMALLER),
    faster("batch 32", "n=4, k=4", "n=4, k=1", SMALLER, 32),
    PRICE,
    Asked("price, half", BITS, {"n=4": 1, "n=1, half": -1}, 0.02, LARGER, BITS),
    Asked("layers", BITS, {"n=1, half": 1, "n=1": -1}, 0.02, EQUAL, BITS),
)


# --------------------------------------------------------------------------------------------------
# what is measured


@timed
def speeds(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Every way of decoding side by side, per domain and batch size, and n=1 models with them. An
    n=1 model is timed there, not here."""
    from evals.probes import speculation
    from evals.probes.domains import domains
    from mtp.decoding.generate import generate
    from mtp.decoding.sampling import Sampling
    from mtp.decoding.trees import best_tree

    setting, n = SETTINGS[scale], model.config.n
    rows: list[Measure] = []
    if n == 1:
        return rows
    count = max(8, *setting.batches)
    for domain, texts in domains(corpus, setting.length, 2 * count).items():
        different = [text[: setting.prompt] for text in texts]
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
        for way, layers in ((SINGLE, 0), (HALF, model.config.layers // 2)):
            ways[way] = decoder(speculation.with_one_head(model, layers), setting.new)
        ways = with_control(ways)
        for batch in setting.batches:
            found = speculation.side_by_side(ways, prompts[: max(8, batch)], batch, setting.repeats)
            rows += speed_rows(found, domain, batch, min(timed, max(8, batch)))
    return rows


def texts(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Drafts along human text and along the model's own, and how much both repeat themselves."""
    setting = SETTINGS[scale]
    return text_rows(model, corpus, setting, IN_FLOAT32.get(scale, max(setting.batches)))


def checks(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """The negative controls, and exactness in bf16.

    Drafts shifted by one place must be accepted as often as they happen to be right along the
    finished text, which takes no decoder to count; drafts of another prompt at chance. Of heads
    that read one another, drafts cannot be moved, and of n=1 there are none.
    """
    from evals.probes import speculation
    from evals.probes.domains import domains
    from mtp.decoding.generate import generate

    setting, n = SETTINGS[scale], model.config.n
    rows: list[Measure] = []
    if n < 3 or HEADS[model.config.head].reads_heads(n):
        return rows
    most = IN_FLOAT32.get(scale, max(8, *setting.batches))
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


DOMAINS = {"code": figures.BLUE, "prose": figures.ORANGE, "text": figures.GREEN}
LIMIT = "The own text is greedy. Speeds are of passes over few tokens of a small model on a CPU."


def main_arm(rows: pd.DataFrame) -> str:
    """The arm that the figure is about: n=4, or the first with several heads."""
    arms = list(dict.fromkeys(rows.arm[rows.n > 1]))
    return "n=4" if "n=4" in arms or not arms else str(arms[0])


def first_domain(rows: pd.DataFrame) -> str:
    """Code where there is any."""
    found = {*split_metric(rows, CHAIN).domain, *split_metric(rows, TEXT).domain}
    return min(found, key=list(DOMAINS).index, default="code")


def finding(rows: pd.DataFrame) -> str:
    """Of code and batch 1: chains against the A/A band, then what is decided of all heads."""
    arm, domain = main_arm(rows), first_domain(rows)
    parts = list[str]()
    chains = split_metric(rows[rows.arm == arm], CHAIN)
    chains = chains[(chains.domain == domain) & (chains.batch == 1) & (chains.k > 1)]
    if 1 in (found := bands(rows[rows.arm == arm])) and len(chains):
        ways = [
            f"k={k} {mean_and_range(own.value)} {found[1].judge(own.value.mean())}"
            for k, own in chains.groupby("k")
        ]
        parts.append(f"Speedup at batch 1 on {domain} (A/A {found[1]}): {', '.join(ways)}")
    decided: Sequence[Asked] = (OWN, AGAINST, PRICE)
    parts += [sentence(each, contrast) for each in decided if (contrast := each.of(rows))]
    return "; ".join(parts) + "." if parts else "No run with n > 1 has been timed."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, width=5.2)
    arm, domain = main_arm(rows), first_domain(rows)
    own = rows[rows.arm == arm]
    n = int(own.n.max()) if len(own) else 1
    chains = list(range(2, n + 1))
    speed_panel(left, own, domain, chains, {SINGLE: "n=1", HALF: "half n=1"})
    kinds = set(split_metric(own, TEXT).domain)
    text_panel(middle, [(d, colour, d, own) for d, colour in DOMAINS.items() if d in kinds])
    points = [Point(arm, f"chain, k={k}", arm, f"k={k}", figures.BLUE) for k in range(1, n + 1)]
    points += [
        Point(arm, SINGLE, "n=1", "n=1", *BESIDE[SINGLE]),
        Point(arm, HALF, "n=1, half", "half n=1", *BESIDE[HALF]),
    ]
    pareto_panel(right, rows, points, (domain, 1), (SINGLE, "n=1"), ("bigram", "5-gram", "xz"))
    what = f"{arm} with k heads; prose is docstrings; grey: k=1 timed twice"
    return figures.finish(picture, caption(rows, what, False, LIMIT), finding(rows))


EVALUATIONS: dict[str, Callable[..., list[Measure]]] = {
    "likelihood": likelihood,
    "references": references(TOKENS),
    "speeds": speeds,
    "texts": texts,
    "checks": checks,
}

STUDY = Study(
    name="decoding",
    artefact="Table S2, Figure S10",
    question="how much faster is an n=4 model as its own draft model, and than what?",
    limits=LIMIT,
    runs=runs,
    evaluations=EVALUATIONS,
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(
        BITS,
        "tokens per forward, code, human text, k=4",
        "tokens per forward, code, own text, k=4",
        "distinct 4-grams (%), code, own text",
        "speedup, code, chain, k=4, batch 1",
        "speedup, code, chain, k=1 again, batch 1",
    ),
    arm=arm_of,
    contrasts=CONTRASTS,
    scales=("smoke", "cpu", "night", "gpu", "paper"),
    rates=RATES,
)
