"""Likelihood on the first documents of the held-out text, so many bytes of it.

They are the same documents for every tokenizer, and few enough that measuring a small model takes
far less than training it. Records have names of their own, since other studies that share a run
measure it on all of the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.results import Measure

if TYPE_CHECKING:
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

BYTES = {"smoke": 10_000, "gpu": 8_000_000, "paper": 8_000_000}  # by scale
USUAL = 750_000


def tokens_of(corpus: Corpus, scale: str) -> int:
    """The tokens of the first held-out documents with so many bytes of text, or of all."""
    tokens = size = 0
    for document in corpus.validation.documents():
        tokens += len(document)
        size += len(corpus.tokenizer.decode(document.tolist()).encode())
        if size >= BYTES.get(scale, USUAL):
            break
    return tokens


def likelihood(
    model: MultiTokenTransformer, corpus: Corpus, scale: str, keep: Path | None = None
) -> list[Measure]:
    """As experiments/evaluations.py: loss and accuracy per head, and bits per byte."""
    from evals.probes import held_out

    found = held_out.measure(model, corpus, limit=tokens_of(corpus, scale), keep=keep)
    return [Measure(*row) for row in found.rows()]


def references(
    corpus: Corpus, scale: str, vocab: int, budget: int, orders: Iterable[int]
) -> dict[str, float]:
    """Bits per byte of the same text by n-gram tables of the first `budget` training tokens, a name
    for each order, and by xz."""
    from evals.probes import held_out, ngrams

    split = corpus.validation
    tokens, size = held_out.extent(split, corpus.tokenizer, tokens_of(corpus, scale))
    train = corpus.train.read(0, min(corpus.train.tokens, budget))
    own = split.read(0, tokens)
    names = {1: "unigram", 2: "bigram"}
    found = {
        names.get(order, f"{order}-gram"): ngrams.bits_per_byte(train, own, order, vocab, size)
        for order in orders
    }
    found["xz"] = ngrams.xz_bits_per_byte(corpus.tokenizer.decode(own.tolist()).encode())
    return found
