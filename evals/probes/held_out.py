"""Held-out likelihood: loss per head, bits per byte and accuracy on the validation split."""

import math
from dataclasses import dataclass

import torch

from mtp.data.batches import evaluation_batches
from mtp.data.corpus import Corpus
from mtp.model.model import MultiTokenTransformer
from mtp.objective.cross_entropy import score


@dataclass(frozen=True)
class HeldOut:
    """Per head: `loss` in nats per target, `accuracy` as the share of targets that are the top
    prediction, `targets` counted. `bits_per_byte` is head 1's: its summed bits, ends of documents
    included, over the UTF-8 bytes of the text, so that tokenizers can be compared."""

    loss: list[float]
    accuracy: list[float]
    targets: list[int]
    bits_per_byte: float


def measure(model: MultiTokenTransformer, corpus: Corpus, batch: int = 16) -> HeldOut:
    """Score every token of the validation split once, each with up to `context` tokens before it:
    the split is cut into windows of that length. Of pairs (mtp/data/pairs.py), only completions are
    scored."""
    model.eval()
    config, split = model.config, corpus.validation
    device = model.embedding.weight.device
    sums = torch.zeros(3, config.n, dtype=torch.float64)
    for x, y in evaluation_batches(split, batch, config.context, config.n):
        sums += score(model, x.to(device), y.to(device))
    nats, targets, correct = sums
    return HeldOut(
        loss=(nats / targets).tolist(),
        accuracy=(correct / targets).tolist(),
        targets=[int(t) for t in targets],
        bits_per_byte=float(nats[0]) / math.log(2) / split.bytes,
    )
