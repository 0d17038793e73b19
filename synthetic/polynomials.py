"""Polynomial arithmetic in F_p[X]/(X^d): expressions, and what they are equal to (section 4.2).

    ((20553+61030)o(-40112))=40330        p = 7, d = 5, m = 3 operations

    20553    2 + 5 X^2 + 5 X^3 + 3 X^4    coefficients from the constant on, a digit each
    (a+b)    (a*b)    (-a)    (aob)       o is composition, a(b(X))

The paper names the ring, the operations (negation, addition, multiplication, composition) and that
operands and operators are uniform. It leaves open, and we decide:

    expressions   infix with all brackets; each operator is uniform among the four; of the m - 1
                  operations below a binary one, 0 to m - 1 are on its left, uniformly
    composition   depends on the representative where b has a constant: ours have degree below d,
                  and the result is cut at X^d
    answers       constant first, so that the first coefficient of a product is the easiest one
    pauses        a constant "." repeated between question and equality sign (Figure S15), or
                  letters at random
    the loss      is on every token; the question's operands cannot be guessed by any model
    test set      the problems whose question hashes into one share in eight; training never shows
                  them, though it may show a + b where b + a is asked. In small rings the same
                  question may be drawn more than once, the operators' shares are those of the
                  questions that the hash chose, and one operation is mostly a table to complete.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng

from synthetic.options import whole_numbers

Array = np.ndarray
TEST_SHARE = 8  # one question in so many is kept for testing
PER_DOCUMENT = 16  # problems, a line each
CHUNK = 65_536  # problems made at once
LISTED = 2**17  # pairs of elements; of a larger ring, pairs are drawn


@dataclass(frozen=True)
class Ring:
    """F_p[X]/(X^d). Elements are rows of coefficients from the constant on, (N, d) of 0..p-1."""

    p: int = 7
    d: int = 5

    def negate(self, a: Array) -> Array:
        return -a % self.p

    def add(self, a: Array, b: Array) -> Array:
        return (a + b) % self.p

    def multiply(self, a: Array, b: Array) -> Array:
        product = np.zeros_like(a)
        for i in range(self.d):
            product[:, i:] += a[:, i : i + 1] * b[:, : self.d - i]
        return product % self.p

    def compose(self, a: Array, b: Array) -> Array:
        """a(b(X)), by Horner's rule."""
        result = np.zeros_like(a)
        for i in reversed(range(self.d)):
            result = self.multiply(result, b)
            result[:, 0] += a[:, i]
        return result % self.p

    def apply(self, sign: str, a: Array, *b: Array) -> Array:
        """The value of an operation, by its sign in the text."""
        if sign == "-":
            return self.negate(a)
        return {"+": self.add, "*": self.multiply, "o": self.compose}[sign](a, *b)


BINARY = "+*o"


@dataclass(frozen=True)
class Task:
    """ops: operations of a training problem, uniform from 1 on; pause: tokens before the "=";
    fillers: how many different ones there are, drawn uniformly; 1: a constant."""

    ring: Ring = Ring()
    ops: int = 5
    pause: int = 0
    seed: int = 0
    count: int = 100_000
    fillers: int = 1

    def problems(self, m: int, count: int) -> list[tuple[str, str]]:
        """`count` test problems of m operations, (question with its "=", answer): the same ones
        whatever the seed of the training problems is. ValueError where the ring is so small that
        no question is for testing."""
        rng, found = default_rng([1, m]), list[tuple[bytes, bytes]]()
        while len(found) < count:
            for text, values in self._grow(rng, TEST_SHARE * (count - len(found)) + 100, m):
                mine = is_test(text)
                found += zip(_strings(text[mine]), _strings(_digits(values[mine])), strict=True)
            if not found:
                raise ValueError(f"no question of {m} operations is for testing in {self.ring}")
        order = rng.permutation(len(found))[:count]
        return self._asked([found[i] for i in order], m)

    def exam(self, sign: str, most: int) -> list[tuple[str, str]]:
        """The test problems of one operation, no question twice: all that the ring has, or `most`
        of them. The same ones whatever ops and the training seed are."""
        a, *b = self.operands(sign, 2 * TEST_SHARE * most)
        values = self.ring.apply(sign, a, *b)
        parts = ["(-", _digits(a)] if not b else ["(", _digits(a), sign, _digits(b[0])]
        text = _write(*parts, ")")
        mine = is_test(text)
        pairs = zip(_strings(text[mine]), _strings(_digits(values[mine])), strict=True)
        found = list(dict.fromkeys(pairs))
        order = default_rng([2, ord(sign)]).permutation(len(found))[:most]
        return self._asked([found[i] for i in order], ord(sign))

    def operands(self, sign: str, most: int) -> list[Array]:
        """Operands of an operation, one or two arrays (N, d): every one that the ring has or, if
        there are more than LISTED, `most` that are drawn."""
        ring, count = self.ring, 1 if sign == "-" else 2
        if (kinds := ring.p ** (ring.d * count)) <= LISTED:
            digits = np.indices((ring.p,) * (ring.d * count)).reshape(-1, kinds).T
        else:
            digits = default_rng([3, ord(sign)]).integers(ring.p, size=(most, ring.d * count))
        return np.split(digits, count, axis=1)

    def _asked(self, found: list[tuple[bytes, bytes]], salt: int) -> list[tuple[str, str]]:
        """Expressions and values as questions and answers."""
        ends = _strings(self._ends(default_rng([4, salt]), len(found)))
        pairs = zip(found, ends, strict=True)
        return [((text + end).decode(), value.decode()) for (text, value), end in pairs]

    def _ends(self, rng: Generator, count: int) -> Array:
        """What stands between `count` expressions and their values, (count, pause + 1)."""
        if self.fillers == 1:
            pauses = np.full((count, self.pause), ord("."), np.uint8)
        else:
            drawn = rng.integers(self.fillers, size=(count, self.pause))
            pauses = (drawn + ord("a")).astype(np.uint8)
        return np.hstack([pauses, np.full((count, 1), ord("="), np.uint8)])

    def documents(self) -> Iterator[str]:
        """`count` training problems, PER_DOCUMENT to a document."""
        left, chunk = self.count, 0
        while left > 0:
            rng, filler = default_rng([0, self.seed, chunk]), default_rng([5, self.seed, chunk])
            lines: list[bytes] = []
            sizes = np.bincount(rng.integers(self.ops, size=CHUNK), minlength=self.ops)
            for m, size in enumerate(sizes, 1):
                for text, values in self._grow(rng, int(size), m):
                    kept = ~is_test(text)
                    text, values = text[kept], values[kept]
                    ends = self._ends(filler, len(text))
                    lines += _strings(np.hstack([text, ends, _digits(values)]))
            order = rng.permutation(len(lines))[:left]
            for i in range(0, len(order), PER_DOCUMENT):
                yield b"\n".join([lines[j] for j in order[i : i + PER_DOCUMENT]]).decode()
            left, chunk = left - len(order), chunk + 1

    def _grow(self, rng: Generator, count: int, m: int) -> list[tuple[Array, Array]]:
        """`count` random expressions of m operations with their values, (N, length) characters and
        (N, d) coefficients for each shape of tree: one shape has one length."""
        ring = self.ring
        if count == 0:
            return []
        if m == 0:
            values = rng.integers(ring.p, size=(count, ring.d))
            return [(_digits(values), values)]
        negations = int(rng.binomial(count, 1 / 4))
        grown = [
            (_write("(-", text, ")"), ring.negate(values))
            for text, values in self._grow(rng, negations, m - 1)
        ]
        binary = rng.multinomial(count - negations, [1 / m] * m)
        for inside, size in enumerate(binary):
            for left, a in self._grow(rng, int(size), inside):
                start = 0
                for right, b in self._grow(rng, len(left), m - 1 - inside):
                    rows = slice(start, start + len(right))
                    start += len(right)
                    grown.append(self._join(rng, left[rows], a[rows], right, b))
        return grown

    def _join(
        self, rng: Generator, left: Array, a: Array, right: Array, b: Array
    ) -> tuple[Array, Array]:
        """Each pair of expressions under an operator of its own."""
        which = rng.integers(len(BINARY), size=len(a))
        values = np.empty_like(a)
        for i, sign in enumerate(BINARY):
            rows = which == i
            if rows.any():
                values[rows] = self.ring.apply(sign, a[rows], b[rows])
        signs = np.frombuffer(BINARY.encode(), np.uint8)[which][:, None]
        return _write("(", left, signs, right, ")"), values


def is_test(questions: Array) -> Array:
    """Which of the questions (N, length) are for testing: a hash of their characters decides."""
    with np.errstate(over="ignore"):
        base = np.uint64(0x9E3779B97F4A7C15)
        powers = np.cumprod(np.full(questions.shape[1], base))
        mixed = questions.astype(np.uint64) @ powers
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return (mixed >> np.uint64(32)) % np.uint64(TEST_SHARE) == 0


def _digits(values: Array) -> Array:
    return (values + ord("0")).astype(np.uint8)


def _write(*parts: str | Array) -> Array:
    """Columns of characters side by side, (N, length)."""
    rows = next(len(part) for part in parts if isinstance(part, np.ndarray))
    columns = [
        np.broadcast_to(np.frombuffer(part.encode(), np.uint8), (rows, len(part)))
        if isinstance(part, str)
        else part
        for part in parts
    ]
    return np.hstack(columns)


def _strings(characters: Array) -> list[bytes]:
    """The rows of (N, length) as bytes."""
    N, length = characters.shape
    return np.ascontiguousarray(characters).view(f"S{length}").reshape(N).tolist()


# --------------------------------------------------------------------------------------------------
# as a source of documents: python:synthetic.polynomials?p=7,d=5,ops=5,pause=0,fillers=1,seed=0,
# count=1000000

LIMITS = {
    "p": (2, 7),  # a prime of one digit
    "d": (1, 20),
    "ops": (1, 20),
    "pause": (0, 100),
    "fillers": (1, 26),
    "seed": (0, 2**31),
    "count": (1, 10**10),
}


def task(options: Mapping[str, str]) -> Task:
    """The task of a source's options. Raises ValueError that names an unknown or bad option."""
    numbers = whole_numbers(options, LIMITS)
    if (p := numbers.get("p", 7)) not in (2, 3, 5, 7):
        raise ValueError(f"p is {p}; it must be a prime: 2, 3, 5 or 7")
    ring = Ring(numbers.pop("p", 7), numbers.pop("d", 5))
    return Task(ring, **numbers)


def documents(options: Mapping[str, str]) -> Iterator[str]:
    return task(options).documents()


LABELS = ("answer",)


def labels(text: str) -> Iterator[tuple[int, int, str]]:
    """The spans of a text, or of a part of it, that are answers: (start, stop, label)."""
    for match in re.finditer(r"(?:^|=)([0-9]+)(?=\n|$)", text):  # it may begin within an answer
        yield *match.span(1), "answer"
