"""What the studies of induction share: bases, their evaluations, the choice of a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments import figures
from experiments.panels import metric
from experiments.results import Measure
from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size

if TYPE_CHECKING:
    import pandas as pd

    from evals.probes import induction
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

N = (1, 2)
SEEDS = {"smoke": 1}
VALIDATION_TOKENS = 65_536  # scored at each kept step


def stories(count: int, vocab: int, validation: float = 0.01) -> CorpusConfig:
    return CorpusConfig(f"python:synthetic.stories?count={count}", vocab=vocab,
                        validation=validation)  # fmt: skip


def base(scale: str) -> list[TrainConfig]:
    """The n=1 run of each size of a scale."""
    if scale == "smoke":
        model = ModelConfig(dim=32, layers=3, attn_heads=2, vocab=600, context=128)
        return [
            TrainConfig(
                model=model, data=stories(200, 600, 0.1), batch=4, tokens=5_120, lr=3e-3, warmup=2,
                log_every=5, keep_every=5,
            )
        ]  # fmt: skip
    if scale == "cpu":
        return [
            TrainConfig(
                model=ModelConfig(dim, 4, heads, vocab=1024, context=256, embedding_std=0.125),
                data=stories(40_000, 1024), batch=4, tokens=5e6, lr=1e-3, warmup=100,
                log_every=100, save_every=1000, keep_every=250,
            )
            for dim, heads in ((64, 1), (128, 2))
        ]  # fmt: skip
    if scale == "gpu":
        return [
            TrainConfig(
                model=size(name, vocab=2048, context=1024), data=stories(2_000_000, 2048),
                batch=64, tokens=2e8, lr=5e-4, warmup=100, log_every=20, save_every=500,
                keep_every=150,
            )
            for name in ("1M", "3M", "10M", "30M")
        ]  # fmt: skip
    # Table S13. The corpus is yours, hf:roneneldan/TinyStories for one: with 32,000 tokens none of
    # our stories' names would stay in two pieces.
    return [
        TrainConfig(
            model=size(name, vocab=32_000, context=2048), data=CorpusConfig("", vocab=32_000),
            batch=128, tokens=100_000 * 262_144, lr=1e-4, warmup=2000, log_every=100,
            save_every=1000, keep_every=1000,
        )
        for name in ("1M", "3M", "10M", "30M", "100M", "300M", "1B")
    ]  # fmt: skip


NAMES = "second tokens of names (%)"


def names(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the last step: accuracy on held-out names, with its interval over stories and its
    baselines, and on names of any pieces."""
    from evals.probes import induction
    from evals.statistics import intervals

    asked = asked_names(model, corpus, scale)
    right = induction.answers(model, asked)
    stories_: dict[int, list[bool]] = {}
    for question, r in zip(asked, right, strict=True):
        stories_.setdefault(id(question.tokens), []).append(r)
    low, high = intervals.bootstrap(list(stories_.values()))
    rows = [
        share(f"{NAMES}, last step", right),
        Measure(f"{NAMES}, last step, 90% interval, low", 100 * low, len(stories_)),
        Measure(f"{NAMES}, last step, 90% interval, high", 100 * high, len(stories_)),
        Measure(f"{NAMES}, 1/V", 100 / corpus.tokenizer.vocab_size, len(asked)),
    ]
    asked = induction.questions(corpus, model.config.context, stories_of(scale), held_out=False)
    # They could know none of the held-out names: no such pair is in the training text.
    rows.append(
        share(f"{NAMES}, n-grams of the training text", induction.by_ngrams(corpus.train, asked))
    )
    right = induction.answers(model, asked)
    for seen, what in ((True, "seen"), (False, "not seen")):
        some = [r for question, r in zip(asked, right, strict=True) if question.seen == seen]
        rows.append(share(f"{NAMES} of any pieces, {what} in training, last step", some))
    return rows


def stories_of(scale: str) -> int:
    return 10 if scale == "smoke" else 100


def asked_names(
    model: MultiTokenTransformer, corpus: Corpus, scale: str
) -> list[induction.Question]:
    """Held-out names; or names of any pieces, as in the paper, if the corpus has too few of
    them."""
    from evals.probes import induction

    held_out = induction.has_held_out(corpus)
    return induction.questions(corpus, model.config.context, stories_of(scale), held_out)


def share(name: str, right: list[bool]) -> Measure:
    return Measure(name, 100 * sum(right) / len(right) if right else None, len(right))


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: accuracy on names, and the validation loss that an honest choice needs."""
    from evals.probes import induction
    from mtp.data.batches import evaluation_batches
    from mtp.objective.cross_entropy import score

    asked = asked_names(model, corpus, scale)
    config, device = model.config, model.embedding.weight.device
    nats = targets = 0.0
    windows = evaluation_batches(corpus.validation, 16, config.context, 1, VALIDATION_TOKENS)
    for window in windows:
        loss, count, _ = score(model, window.to(device))[:, 0].tolist()
        nats, targets = nats + loss, targets + count
    return [
        share(f"{NAMES}, over training", induction.answers(model, asked)),
        Measure("validation loss, over training (nats)", nats / targets, int(targets)),
    ]


STYLES = {1: (figures.BLUE, "o"), 2: (figures.ORANGE, "s")}


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """Per run: size, n, seed, `best` over training on the test metric, and `honest`, the value at
    the step of the lowest validation loss."""
    import pandas as pd

    found = []
    for (name, n, seed), run in rows.groupby(["size", "n", "seed"], sort=False):
        test = metric(run, f"{NAMES}, over training").set_index("step").value
        loss = metric(run, "validation loss, over training (nats)").set_index("step").value
        found.append((name, n, seed, test.max(), test.loc[loss.index[int(loss.argmin())]]))
    return pd.DataFrame(found, columns=["size", "n", "seed", "best", "honest"])


def mentions(rows: pd.DataFrame) -> str:
    return f"{int(metric(rows, f'{NAMES}, last step')['count'].max())} mentions of names"


def few_seeds(rows: pd.DataFrame) -> str:
    """What so few runs cannot show: models start to copy suddenly, and at times that vary."""
    count = rows.seed.nunique()
    return f"{count} seeds of each arm do not decide about n." if count < 5 else ""
