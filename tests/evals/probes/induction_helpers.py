"""What the tests of names in stories share: splits by hand, and questions by story."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from evals.probes.induction import (
    Question,
)
from mtp.data.corpus import Corpus
from mtp.data.shards import Split
from mtp.data.tokenizer import Tokenizer

LONG = 10_000  # tokens; no story has so many


@dataclass
class Tokens:
    """A split by hand."""

    ids: Sequence[int]

    @property
    def tokens(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.array(self.ids[start:stop], dtype=np.int64)


def split(ids: Sequence[int]) -> Split:
    return cast(Split, Tokens(ids))


@dataclass(eq=False)
class Trained:
    tokenizer: Tokenizer
    train: Split


def trained_on(ids: Sequence[int], text: Tokenizer) -> Corpus:
    return cast(Corpus, Trained(text, split(ids)))


def by_story(asked: list[Question]) -> list[list[Question]]:
    """Questions share the list of their story's tokens."""
    found: dict[int, list[Question]] = {}
    for question in asked:
        found.setdefault(id(question.tokens), []).append(question)
    return list(found.values())
