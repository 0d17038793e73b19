"""Evaluations that several studies make: f(model, corpus, scale) -> measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.results import Measure

if TYPE_CHECKING:
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

    Evaluation = Callable[[MultiTokenTransformer, Corpus, str], list[Measure]]


LIMIT = {"smoke": 10_000, "gpu": 4_000_000, "paper": 4_000_000}  # tokens by scale; elsewhere all
# Bytes of each document by scale. Whole documents would take a third of the time of training.
BEGINNINGS = {"cpu": 2048, "night": 2048}


def likelihood(
    model: MultiTokenTransformer, corpus: Corpus, scale: str, keep: Path | None = None
) -> list[Measure]:
    """Loss and accuracy per head, and bits per byte, on the validation split: on a CPU the
    beginnings of all of its documents, on a GPU the first ones. `keep` is a file for the sums so
    far."""
    from evals.probes import held_out

    limit, beginnings = LIMIT.get(scale), BEGINNINGS.get(scale, 0)
    found = held_out.measure(model, corpus, limit=limit, keep=keep, beginnings=beginnings)
    return [Measure(*row) for row in found.rows()]


REFERENCES = {1: "unigram", 2: "bigram", 5: "5-gram"}  # order -> the reference line's name


def references(budget: Mapping[str, float]) -> Evaluation:
    """The evaluation that says what n-gram tables of as many training tokens, and xz, make of the
    held-out text; of n=1 models alone, as it does not depend on the model. budget: training tokens
    by scale; no such rows at a scale that it leaves out."""

    def measure(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
        if model.config.n > 1 or scale not in budget:
            return []
        found = lines_of(corpus, scale, model.config.vocab, budget[scale], REFERENCES)
        return [Measure(f"bits per byte, {name}", value) for name, value in found.items()]

    return measure


def lines_of(
    corpus: Corpus, scale: str, vocab: int, budget: float, orders: Mapping[int, str]
) -> dict[str, float]:
    """Bits per byte of the held-out text by n-gram tables of the first `budget` training tokens,
    orders -> their names, as far as a table of so many ids can be kept, and by xz."""
    from evals.probes import held_out, ngrams

    split = held_out.text_of(corpus, BEGINNINGS.get(scale, 0))
    tokens, size = held_out.extent(split, corpus.tokenizer, LIMIT.get(scale))
    train = corpus.train.read(0, min(corpus.train.tokens, round(budget)))
    own = split.read(0, tokens)
    found = {
        name: ngrams.bits_per_byte(train, own, order, vocab, size)
        for order, name in orders.items()
        if order == ngrams.largest_order(vocab, order)
    }
    return found | {"xz": ngrams.xz_bits_per_byte(corpus.tokenizer.decode(own.tolist()).encode())}


DRAFTED = 4  # heads that draft along the text
ALONG, COPIES, CONSTANT = (
    f"tokens per forward along text{of}" for of in ("", ", copies of head 1", ", one token")
)


def agreement(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Drafts of heads 2..4 along the held-out text (evals/probes/agreement.py), and what head 1's
    own tokens or one token throughout would do in their place."""
    from evals.probes import held_out
    from evals.probes.agreement import measure

    split = held_out.text_of(corpus, BEGINNINGS.get(scale, 0))
    found = measure(model, split, DRAFTED, LIMIT.get(scale))
    count = found.positions
    rows = [
        Measure(f"agreement along text, head {i} (%)", 100 * share, count)
        for i, share in enumerate(found.heads, 2)
    ]
    if model.config.n > 1:
        rows.append(Measure(ALONG, found.tokens_per_forward, count))
    return [*rows, Measure(COPIES, found.copies, count), Measure(CONSTANT, found.constant, count)]


# What models write into functions (evals/probes/parses.py). FIRST is measured at each kept step.
FIRST = "first statements that parse (%)"
WHOLE = "whole bodies that parse (%)"
PROGRESS_BITS = "bits per byte, first documents"
PROMPTS = {"smoke": 8, "cpu": 192}  # by scale; elsewhere MANY_PROMPTS
MANY_PROMPTS, PROGRESS_TOKENS = 512, 16_000


def progress(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At a kept step: likelihood of the first held-out documents, and the share of held-out
    functions for which the model's first statement parses. No such row if no held-out document is
    Python."""
    from evals.probes import held_out, parses

    limit = 2_000 if scale == "smoke" else PROGRESS_TOKENS
    found = held_out.measure(model, corpus, limit=limit, heads=1)
    rows = [Measure(PROGRESS_BITS, found.bits_per_byte, found.targets[0])]
    if asked := parses.prompts(corpus, PROMPTS.get(scale, MANY_PROMPTS)):
        answers = parses.written(model, asked, corpus, parses.STATEMENT)
        first = parses.judge(asked, answers, corpus).first
        rows.append(Measure(FIRST, 100 * first, len(asked)))
    return rows


def generation(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """At the end: whole bodies of the same functions, and how they vary."""
    from evals.probes import parses

    asked = parses.prompts(corpus, PROMPTS.get(scale, MANY_PROMPTS))
    if not asked:
        return []
    found = parses.judge(asked, parses.written(model, asked, corpus, parses.BODY), corpus)
    return [
        Measure(WHOLE, 100 * found.whole, len(asked)),
        Measure("statements before a mistake", found.statements, len(asked)),
        Measure("distinct 4-grams (%)", 100 * found.distinct, len(asked)),
    ]


def floors(budget: Mapping[str, float]) -> Evaluation:
    """The evaluation that says what becomes of the real text (the ceiling), of what a 5-gram table
    of as many training tokens writes, and of one constant body; of n=1 models alone, as it does not
    depend on the model."""

    def measure(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
        from evals.probes import ngrams, parses

        asked = parses.prompts(corpus, PROMPTS.get(scale, MANY_PROMPTS))
        if model.config.n > 1 or not asked:
            return []
        train = corpus.train.read(0, min(corpus.train.tokens, round(budget[scale])))
        vocab, rows = model.config.vocab, list[Measure]()
        table = ngrams.Ngrams(train, order := ngrams.largest_order(vocab, 5), vocab)
        for metric, new in ((FIRST, parses.STATEMENT), (WHOLE, parses.BODY)):
            for name, answers in (
                ("real text", parses.real(asked, new)),
                (f"{order}-gram", parses.of_table(table, asked, corpus, new)),
                ("constant", parses.constant(asked, corpus)),
            ):
                found = parses.judge(asked, answers, corpus)
                share = found.first if metric == FIRST else found.whole
                rows.append(Measure(f"{metric}, {name}", 100 * share, len(asked)))
        return rows

    return measure


# the metrics that a sweep prints at its end
SWEEP_TABLE = (
    "bits per byte",
    "accuracy, head 1 (%)",
    WHOLE,
    ALONG,
)
