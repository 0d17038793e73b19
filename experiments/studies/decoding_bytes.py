"""Table S3: how far ahead can byte models draft for themselves?

Arms: byte models with n = 1, 4, 8 and replicated unembeddings, so that all have the same path to
the next byte and k=1 costs what n=1 costs. Measured on code as in `decoding`: chains of every k and
k=1 twice side by side, drafts along human text and along the model's own, and bits per byte.

Written before the run:

    own text        is easier to draft than human text (n=8, all heads)          larger
    further heads   n=8 makes no more of a pass over human text than n=4         equal
    A/A             k=1 against itself                                           equal
    k=4, k=8        of n=8 are faster than k=1 at batch 1                        larger
    price           n=4 has more bits per byte than n=1, and n=8 more than n=4   larger

At `gpu` and `paper` scale n = 1, 8, 16, 32, as in the paper.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from experiments import figures
from experiments.bases import BYTE_VOCAB, base, with_model
from experiments.contrasts import Asked, sentence
from experiments.controls import RATES
from experiments.decoding_rows import (
    ALONG,
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
    ONE,
    Setting,
    speed_rows,
    text_rows,
    ways_of,
    with_control,
)
from experiments.evaluations import likelihood, references
from experiments.panels import caption
from experiments.results import Measure
from experiments.study import Study
from experiments.timed import timed
from mtp.config import CorpusConfig, ModelConfig, TrainConfig

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

N = {"gpu": (1, 8, 16, 32), "paper": (1, 8, 16, 32)}  # by scale; elsewhere FEW
FEW = (1, 4, 8)
HEADS = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32)  # Table S3's k
SETTINGS = {
    "smoke": Setting(8, 12, (1,), 1, 0, 8, 4),
    "cpu": Setting(128, 96, (1, 16), 5, 0, 96, 8),
    "gpu": Setting(256, 256, (1, 16), 3, 0, 128, 32),
    "paper": Setting(1024, 1024, (1, 16), 3, 0, 64, 128),
}
TOKENS = {"smoke": 2_560, "cpu": 2e6}
SEEDS = {"cpu": 3, "gpu": 2}
LIMIT = "The own text is greedy. One size and one learning rate, which is tuned for no arm."


def start(scale: str) -> TrainConfig:
    """The n=1 run."""
    if scale == "gpu":  # half a pass over the corpus, as much text as the byte sweep's
        return _on_bytes(dataclasses.replace(base(scale), tokens=0.0, epochs=0.5))
    if scale == "paper":  # Table S13: 12 x 2^20 bytes per step
        own = dataclasses.replace(base(scale), batch=1536, tokens=25_000 * 1536 * 8192)
        return with_model(_on_bytes(own), context=8192)
    if scale == "smoke":  # a rate at which some drafts are right
        return TrainConfig(
            model=ModelConfig(32, 4, 2, vocab=BYTE_VOCAB, head="replicated", context=32),
            data=CorpusConfig(tokenizer="bytes", max_mb=0.3, validation=0.1),
            batch=4, tokens=TOKENS[scale], lr=1e-2, warmup=5, log_every=5,
        )  # fmt: skip
    return TrainConfig(
        model=ModelConfig(48, 8, 3, vocab=BYTE_VOCAB, head="replicated", context=256),
        data=CorpusConfig(source="installed", tokenizer="bytes", validation=0.01),
        batch=8, tokens=TOKENS[scale], lr=16e-3, lr_schedule="wsd:0.2", warmup=60, log_every=25,
        save_every=300,
    )  # fmt: skip


def _on_bytes(config: TrainConfig) -> TrainConfig:
    data = dataclasses.replace(config.data, tokenizer="bytes")
    return dataclasses.replace(with_model(config, vocab=BYTE_VOCAB, head="replicated"), data=data)


def runs(scale: str) -> list[TrainConfig]:
    own, seeds = start(scale), range(SEEDS.get(scale, 1))
    return [with_model(own, seed, n=n) for seed in seeds for n in N.get(scale, FEW)]


def arm_of(config: TrainConfig) -> str:
    return f"n={config.model.n}"


def faster(way: str) -> AskedOfWays:
    """At batch 1, with n=8."""
    arms, unit = {f"n=8, {way}": 1, "n=8, k=1": -1}, "of the speed of k=1"
    name, predicted = ("A/A", "equal") if "again" in way else (way, "larger")
    return AskedOfWays(name, speed("code", 1), arms, 0.1, predicted, unit)


UNIT = "bytes per forward"
EIGHT, FOUR = "n=8, k=8, code, human text", "n=4, k=4, code, human text"
OWN = AskedOfWays(
    "own text", ALONG, {"n=8, k=8, code, own text": 1, EIGHT: -1}, 0.1, "larger", UNIT
)
FURTHER = AskedOfWays("further heads", ALONG, {EIGHT: 1, FOUR: -1}, 0.1, "equal", UNIT)
PRICE = Asked("price of 4", BITS, {"n=4": 1, "n=1": -1}, 0.02, "larger", BITS)
CONTRASTS = (
    OWN,
    FURTHER,
    faster("k=1 again"),
    faster("k=4"),
    faster("k=8"),
    PRICE,
    Asked("price of 8", BITS, {"n=8": 1, "n=4": -1}, 0.02, "larger", BITS),
)


# --------------------------------------------------------------------------------------------------
# what is measured


@timed
def speeds(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Chains of every k up to n side by side, per batch size, on the first domain (code where there
    is any)."""
    from evals.probes import speculation
    from evals.probes.domains import domains

    setting, rows = SETTINGS[scale], list[Measure]()
    if model.config.n == 1:
        return rows
    count = max(8, *setting.batches)
    domain, texts = next(iter(domains(corpus, setting.length, count).items()))
    prompts = ([text[: setting.prompt] for text in texts] * count)[:count]
    heads = [k for k in HEADS if k <= model.config.n]
    ways = with_control(ways_of(model, setting.new, heads))
    for batch in setting.batches:
        some = prompts[: max(8, batch)]
        found = speculation.side_by_side(ways, some, batch, setting.repeats)
        rows += speed_rows(found, domain, batch, min(len(texts), len(some)))
    return rows


def texts(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Drafts along human code and along the model's own, and how much both repeat themselves."""
    setting = SETTINGS[scale]
    return text_rows(model, corpus, setting, max(setting.batches), most=1)


# --------------------------------------------------------------------------------------------------
# the figure


def paper_rows(paper: pd.DataFrame) -> pd.DataFrame:
    return paper[paper.artefact == "Table S3"]


COLOURS = {4: figures.GREEN, 8: figures.BLUE, 16: figures.PURPLE, 32: figures.RED}


def colour(n: int) -> str:
    return COLOURS.get(n, figures.GREY)


def finding(rows: pd.DataFrame) -> str:
    """The fastest chain of each n at batch 1 against the A/A band, then contrasts."""
    found, parts = bands(rows), list[str]()
    chains = split_metric(rows, CHAIN)
    chains = chains[(chains.batch == 1) & (chains.k > 1)]
    if 1 in found and len(chains):
        ways = list[str]()
        for n, own in chains.groupby("n"):
            mean = own.groupby("k").value.mean()
            best, place = mean.max(), found[1].judge(mean.max())
            ways.append(f"n={n} {best:.2f} with k={mean.idxmax()} {place}")
        parts.append(f"Fastest chain at batch 1 over k=1 (A/A {found[1]}): {', '.join(ways)}")
    parts += [sentence(each, it) for each in (OWN, FURTHER, PRICE) if (it := each.of(rows))]
    return "; ".join(parts) + "." if parts else "No run with n > 1 has been timed."


def figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    picture, (left, middle, right) = figures.panels(3, width=5.2)
    several = sorted({int(n) for n in rows.n if n > 1})
    domain = next(iter([*split_metric(rows, TEXT).domain, *split_metric(rows, CHAIN).domain]), "")
    most = several[-1] if several else 1
    own = rows[rows.n == most]
    heads = [k for k in HEADS if 1 < k <= most and (k < 12 or k % 16 == 0)]
    speed_panel(left, own, domain, heads, {})
    left.set_title(f"Measured speedup, n={most}")
    text_panel(middle, [(f"n={n}", colour(n), domain, rows[rows.n == n]) for n in several])
    middle.set_title("Bytes per forward, own and human text")
    middle.set_ylabel("verified and accepted bytes")
    points = [
        Point(f"n={n}", f"chain, k={k}", f"n={n}", f"k={k}", colour(n))
        for n in several
        for k in HEADS
        if k in (1, 2, 4, n)
    ]
    points.append(Point(f"n={most}", ONE, "n=1", "n=1", figures.BLACK, "s"))
    pareto_panel(right, rows, points, (domain, 1), (ONE, "k=1"), ("bigram", "5-gram", "xz"))
    what = "replicated unembeddings; grey: k=1 timed twice"
    return figures.finish(picture, caption(rows, what, False, LIMIT), finding(rows))


STUDY = Study(
    name="decoding-bytes",
    artefact="Table S3",
    question="how far ahead can byte models draft for themselves?",
    limits=LIMIT,
    runs=runs,
    evaluations={
        "likelihood": likelihood,
        "references": references(TOKENS),
        "speeds": speeds,
        "texts": texts,
    },
    figure=figure,
    finding=finding,
    paper=paper_rows,
    table=(
        BITS,
        *(f"tokens per forward, code, human text, k={k}" for k in (2, 4, 8)),
        "tokens per forward, code, own text, k=8",
        "distinct 4-grams (%), code, own text",
        *(f"speedup, code, chain, k={k}, batch 1" for k in (2, 4, 8)),
        "speedup, code, chain, k=1 again, batch 1",
    ),
    arm=arm_of,
    contrasts=CONTRASTS,
    rates=RATES,
)
