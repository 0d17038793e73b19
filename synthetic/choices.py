"""Choices with and without consequences: a process whose next-token distribution is known exactly.

    A3fkQGT    kind A    the question 3f has the answer k, and QGT follows from k: its code word
    B3fnHRG    kind B    the question 3f has the answer n, and three letters at random follow
    ||| |||
    ||| +++--- m letters: of kind A a word for each choice, of kind B uniform and independent
    ||+------- the question, two uniform hexadecimal digits; with gap=2 it is A3f..kQGT
    |+         between question and choice: `gap` dots
    +--------- the kind, A or B with probability 1/2

The choice (g to v) follows from kind and question by a table of 16 x 16 entries for each kind, so
the token itself is as predictable, at the same place and with the same uniform marginal, in both
kinds. The two tables are equally hard: B's is A's with rows, columns and choices renamed at random.
All letters behind a choice (G to V) are uniform too. What differs is only what a choice is good
for: after A's, everything else in the block is known.

Section 5.1 and Appendix L.3 of Gloeckle et al. 2024 argue that predicting n tokens weights such
consequential choices more, since later tokens that depend on the choice are predicted from before
it. With n = 1 nothing tells the kinds apart.

A document has a fixed number of blocks and no separators, so a window of exactly one document
(`Task.context`) never cuts a block:

    A3fkQGTB07hMMKB3fnHRGA90vUIO..
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator, default_rng

from synthetic.options import whole_numbers

Array = np.ndarray
WAYS = 16  # values of a digit, of a choice and of a letter
KINDS, DIGITS, CHOICES, LETTERS = "AB", "0123456789abcdef", "ghijklmnopqrstuv", "GHIJKLMNOPQRSTUV"
CODES = {name: np.frombuffer(name.encode(), np.uint8) for name in (KINDS, DIGITS, CHOICES, LETTERS)}
QUESTIONS = len(KINDS) * WAYS * WAYS  # all that can be asked
END = 256  # the column of `truth` after those of the bytes: the end of a document
CHUNK = 4096  # documents made at once


@dataclass(frozen=True)
class Task:
    """m: letters after a choice; gap: dots before it; tables: the seed of tables and code words;
    blocks: of a document, a power of two; seed and count: of the documents."""

    m: int = 3
    gap: int = 0
    tables: int = 0
    blocks: int = 16
    seed: int = 0
    count: int = 20_000

    @property
    def length(self) -> int:
        """Characters of a block."""
        return 4 + self.gap + self.m

    @property
    def context(self) -> int:
        """Tokens of a document in bytes: bos, its blocks, eos."""
        return self.blocks * self.length + 2

    @property
    def entropy(self) -> float:
        """Nats of a block, on average: what no model can do without."""
        return float(np.log(2) + (2 + self.m / 2) * np.log(WAYS))

    @cached_property
    def answers(self) -> Array:
        """The choice by kind and digits, (2, 16, 16). Each choice is the answer to 16 questions of
        each kind."""
        rng = default_rng([0, self.tables])
        a = rng.permutation(np.repeat(np.arange(WAYS), WAYS)).reshape(WAYS, WAYS)
        rows, columns, names = (rng.permutation(WAYS) for _ in range(3))
        return np.stack([a, names[a[rows][:, columns]]])

    @cached_property
    def words(self) -> Array:
        """The code word of each choice, (16, m). At each place they are a permutation."""
        rng = default_rng([1, self.tables])
        letters = [rng.permutation(WAYS) for _ in range(self.m)]
        return np.array(letters, int).reshape(self.m, WAYS).T

    def documents(self) -> Iterator[str]:
        for start in range(0, self.count, CHUNK):
            rng = default_rng([2, self.seed, start // CHUNK])
            asked = rng.integers(QUESTIONS, size=(CHUNK, self.blocks))
            yield from self._write(rng, asked)[: self.count - start]

    def exam(self, times: int) -> list[str]:
        """Documents in which each question of each kind is asked so many times, the same ones
        whatever the seed of the training documents is."""
        rng = default_rng([3, self.tables])
        asked = rng.permutation(np.repeat(np.arange(QUESTIONS), times))
        return self._write(rng, asked.reshape(-1, self.blocks))

    def _write(self, rng: Generator, asked: Array) -> list[str]:
        """Documents that ask the questions (N, blocks), numbers below QUESTIONS."""
        kind, first, second = np.unravel_index(asked, self.answers.shape)
        choice = self.answers[kind, first, second]  # (N, blocks)
        noise = rng.integers(WAYS, size=(*asked.shape, self.m))
        tail = np.where(kind[..., None] == 0, self.words[choice], noise)  # (N, blocks, m)
        columns = [CODES[KINDS][kind], CODES[DIGITS][first], CODES[DIGITS][second]]
        columns += [np.full_like(columns[0], ord("."))] * self.gap
        columns += [CODES[CHOICES][choice], *np.moveaxis(CODES[LETTERS][tail], -1, 0)]
        texts = np.stack(columns, -1).reshape(len(asked), -1)
        return [text.tobytes().decode() for text in texts]

    def is_valid(self, block: str) -> bool:
        """Whether the process can make this block."""
        kind, first, second, choice = (block[i : i + 1] for i in (0, 1, 2, 3 + self.gap))
        if len(block) != self.length or not (kind and kind in KINDS):
            return False
        if first not in DIGITS or second not in DIGITS or block[3 : 3 + self.gap].strip("."):
            return False
        answer = self.answers[KINDS.index(kind), int(first, 16), int(second, 16)]
        if choice != CHOICES[answer]:
            return False
        tail = block[4 + self.gap :]
        return tail == self._word(answer) if kind == "A" else all(c in LETTERS for c in tail)

    def _word(self, choice: int) -> str:
        return "".join(LETTERS[i] for i in self.words[choice])

    def truth(self, document: str) -> Array:
        """The probability of each byte, and of END, after each prefix of a document of the process:
        (len(document) + 1, 257), the first row after nothing."""
        found = np.zeros((len(document) + 1, END + 1))
        found[-1, END] = 1
        for start in range(0, len(document), self.length):
            block = document[start : start + self.length]
            if not self.is_valid(block):
                raise ValueError(f"{block!r} is no block of {self}")
            for i, character in enumerate(block):
                found[start + i, ord(character)] = 1  # unless it is drawn
            tail = range(4 + self.gap, self.length) if block[0] == "B" else ()
            drawn = [(0, KINDS), (1, DIGITS), (2, DIGITS), *((i, LETTERS) for i in tail)]
            for i, alphabet in drawn:
                found[start + i] = 0
                found[start + i, CODES[alphabet]] = 1 / len(alphabet)
        return found


# --------------------------------------------------------------------------------------------------
# as a source of documents: python:synthetic.choices?m=3,gap=0,tables=0,blocks=16,seed=0,count=20000

LIMITS = {
    "m": (0, 16),
    "gap": (0, 16),
    "tables": (0, 2**31),
    "blocks": (8, 64),
    "seed": (0, 2**31),
    "count": (1, 10**10),
}


def task(options: Mapping[str, str]) -> Task:
    """The task of a source's options. Raises ValueError that names an unknown or bad option."""
    numbers = whole_numbers(options, LIMITS)
    blocks = numbers.get("blocks", 16)
    if blocks & (blocks - 1):
        raise ValueError(f"blocks is {blocks}; it must be a power of two: 8, 16, 32 or 64")
    return Task(**numbers)


def documents(options: Mapping[str, str]) -> Iterator[str]:
    return task(options).documents()


LABELS = ("kind", "choice_A", "choice_B", "code", "noise")
_BLOCK = re.compile(r"([AB])(?:[0-9a-f]{2}\.*(?:([g-v])([G-V]*))?)?")


def labels(text: str) -> Iterator[tuple[int, int, str]]:
    """The spans of a text, or of a part of it, that have a label: (start, stop, label). "code" and
    "noise" are what follows a choice of kind A and B; digits and dots have no label."""
    for block in _BLOCK.finditer(text):
        kind = block[1]
        names = ("kind", f"choice_{kind}", "code" if kind == "A" else "noise")
        for i, name in enumerate(names, 1):
            if block[i]:
                yield *block.span(i), name
