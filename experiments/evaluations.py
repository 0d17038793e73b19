"""Evaluations that several studies make: f(model, corpus, scale) -> measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.results import Measure
from experiments.timed import timed
from mtp.errors import BadInput

if TYPE_CHECKING:
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

    Evaluation = Callable[[MultiTokenTransformer, Corpus, str], list[Measure]]


LIMIT = {"smoke": 10_000, "gpu": 4_000_000, "paper": 4_000_000}  # tokens by scale; elsewhere all


def likelihood(
    model: MultiTokenTransformer, corpus: Corpus, scale: str, keep: Path | None = None
) -> list[Measure]:
    """Loss and accuracy per head, and bits per byte, on the validation split, at most scales
    on its first documents. `keep` is a file for the sums so far."""
    from evals.probes import held_out

    found = held_out.measure(model, corpus, limit=LIMIT.get(scale), keep=keep)
    return [Measure(*row) for row in found.rows()]


REFERENCES = {1: "unigram", 2: "bigram", 5: "5-gram"}  # order -> the reference line's name


def references(budget: Mapping[str, float]) -> Evaluation:
    """The evaluation that says what n-gram tables of as many training tokens, and xz, make of the
    held-out text; of n=1 models alone, as it does not depend on the model. budget: training tokens
    by scale; no such rows at a scale that it leaves out."""

    def measure(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
        from evals.probes import held_out, ngrams

        if model.config.n > 1 or scale not in budget:
            return []
        split, vocab = corpus.validation, model.config.vocab
        tokens, size = held_out.extent(split, corpus.tokenizer, LIMIT.get(scale))
        train = corpus.train.read(0, min(corpus.train.tokens, round(budget[scale])))
        own = split.read(0, tokens)
        found = {
            name: ngrams.bits_per_byte(train, own, order, vocab, size)
            for order, name in REFERENCES.items()
        }
        found["xz"] = ngrams.xz_bits_per_byte(corpus.tokenizer.decode(own.tolist()).encode())
        return [Measure(f"bits per byte, {name}", value, tokens) for name, value in found.items()]

    return measure


@timed
def decoding(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    """Greedy self-speculation with all n heads against the same model with k=1 (section 3.2)."""
    from evals.probes import speculation

    prompts, length, new, repeats = {"smoke": (2, 8, 12, 1), "cpu": (8, 64, 96, 2)}.get(
        scale, (64, 256, 256, 3)
    )
    texts = [
        d[: length + 1].tolist() for d in corpus.validation.documents() if len(d) > length + new
    ]
    if not texts:
        raise BadInput(f"no validation document has {length + new} tokens to prompt with")
    texts = (texts * prompts)[:prompts] if len(texts) < prompts else texts[:prompts]
    found = speculation.measure(model, texts, new, model.config.n, repeats=repeats)
    return decoding_measures(found, len(texts), model.config.n)


EVALUATIONS = {"likelihood": likelihood, "decoding": decoding}


def decoding_measures(found: dict[str, float], prompts: int, k: int) -> list[Measure]:
    """The rows of one measurement of self-speculation with k heads."""
    rows = [
        Measure("tokens per forward", found["tokens_per_forward"], prompts),
        Measure("speedup over k=1", found["speedup"], prompts),
        Measure("tokens/s, k=1", found["tokens_per_second_k1"], prompts),
        Measure("tokens/s, k=n", found["tokens_per_second"], prompts),
        Measure("same tokens as k=1", found["identical"], prompts),
    ]
    for i in range(2, k + 1):
        rows.append(Measure(f"acceptance, head {i} (%)", 100 * found[f"acceptance_{i}"], prompts))
    return rows


# the metrics that a sweep prints at its end
SWEEP_TABLE = (
    "bits per byte",
    "accuracy, head 1 (%)",
    "tokens per forward",
    "speedup over k=1",
)
