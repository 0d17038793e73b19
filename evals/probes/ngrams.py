"""Reference lines for likelihoods: n-gram tables of the training text, and xz.

A model whose bits per byte are those of a bigram table has learned how often tokens follow one
another, and nothing that an experiment on n could be about. Interpolated Kneser-Ney smoothing
(Kneser and Ney 1995; Chen and Goodman 1999, section 3.4), with one discount for each order:

    P_k(w | h) = max(c(hw) - D, 0) / c(h) + D / c(h) * |{w: c(hw) > 0}| * P_(k-1)(w | h')

h' is h without its first token; P_0 is 1 / V; D = n_1 / (n_1 + 2 n_2), n_j the number of k-grams
that are counted j times. c counts occurrences in the highest order, and below it the tokens that a
k-gram was seen after.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The counts of one order: k-grams as sorted keys, and their contexts as sorted keys."""

    keys: Ids
    counts: Floats
    contexts: Ids
    totals: Floats
    followers: Floats
    discount: float


class Ngrams:
    """The table of an order for a vocabulary of V, from a stream of tokens (N,).

    skip  so many tokens between a context and the token that it predicts are passed over: with 1,
          it is predicted two tokens ahead
    """

    def __init__(self, tokens: Ids, order: int, vocab: int, skip: int = 0) -> None:
        if order < 1 or order > largest_order(vocab, order):
            raise ValueError(f"order {order} with V={vocab}: a key must be below 2**63")
        if len(tokens) < order + skip:
            raise ValueError(f"{len(tokens)} tokens have no {order}-gram")
        self.order, self.vocab, self.skip = order, vocab, skip
        keys, counts = np.unique(keys_of(tokens, order, vocab, skip), return_counts=True)
        levels = [self._level(keys, counts)]
        for k in range(order - 1, 0, -1):
            keys, counts = np.unique(keys % vocab**k, return_counts=True)
            levels.append(self._level(keys, counts))
        self.levels = levels[::-1]  # of order 1, 2, ..

    def _level(self, keys: Ids, counts: Ids) -> Level:
        contexts, first = np.unique(keys // self.vocab, return_index=True)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once else 0.5  # none is rare: any will do
        followers = np.diff([*first, len(keys)])
        totals = np.add.reduceat(counts, first)
        return Level(
            keys, counts.astype(float), contexts, totals.astype(float), followers.astype(float),
            discount,
        )  # fmt: skip

    def following(self, tokens: Sequence[int]) -> Floats:
        """The distribution (V,) of the token after a context of any length: k-grams with the same
        context stand side by side."""
        found = np.full(self.vocab, 1 / self.vocab)
        for k, level in enumerate(self.levels[: len(tokens) + 1], 1):
            context = 0
            for token in tokens[len(tokens) - k + 1 :]:
                context = context * self.vocab + token
            first, stop = np.searchsorted(
                level.keys, (context * self.vocab, (context + 1) * self.vocab)
            )
            if first == stop:
                break  # nor is a longer context known
            counts = level.counts[first:stop]
            total, kept = counts.sum(), np.maximum(counts - level.discount, 0)
            found = found * (level.discount * (stop - first) / total)
            found[level.keys[first:stop] - context * self.vocab] += kept / total
        return found

    def probabilities(self, tokens: Ids) -> Floats:
        """Of each token of a stream (N,), given the order - 1 before it, or as many as there
        are; before the tokens that are passed over."""
        found = np.full(len(tokens), 1 / self.vocab)
        for k, level in enumerate(self.levels, 1):
            first = k - 1 + self.skip
            if len(tokens) <= first:
                break
            keys, lower = keys_of(tokens, k, self.vocab, self.skip), found[first:]
            counts = looked_up(level.keys, level.counts, keys)
            totals = looked_up(level.contexts, level.totals, keys // self.vocab)
            followers = looked_up(level.contexts, level.followers, keys // self.vocab)
            kept = np.maximum(counts - level.discount, 0) + level.discount * followers * lower
            found[first:] = np.where(totals > 0, kept / np.maximum(totals, 1), lower)
        return found


def largest_order(vocab: int, most: int) -> int:
    """The largest order, at most `most`, whose k-grams are numbers below 2**63."""
    return min(most, math.ceil(63 / math.log2(vocab)) - 1)


def keys_of(tokens: Ids, k: int, vocab: int, skip: int = 0) -> Ids:
    """The k-grams of a stream (N,) as numbers, (N - k + 1 - skip,). So many tokens before the last
    are passed over."""
    keys = np.zeros(max(0, len(tokens) - k + 1 - skip), np.int64)
    for i in range(k):
        at = i + skip * (i == k - 1)
        keys = keys * vocab + tokens[at : at + len(keys)]
    return keys


def looked_up(keys: Ids, values: Floats, wanted: Ids) -> Floats:
    """The values of wanted keys; 0 where there is none. `keys` are sorted."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0.0)


def bits_per_byte(train: Ids, held_out: Ids, order: int, vocab: int, text_bytes: int) -> float:
    """Of held-out tokens (N,) that stand for so many bytes of text."""
    found = Ngrams(train, order, vocab).probabilities(held_out)
    return float(-np.log2(found).sum() / text_bytes)


def xz_bits_per_byte(text: bytes) -> float:
    """Of a text on its own, by `xz -9e`."""
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)
