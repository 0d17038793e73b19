"""Choices: both kinds are alike up to the choice, and the stated truth is the documents'."""

import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np
import pytest

from synthetic import choices
from synthetic.choices import CHOICES, DIGITS, END, KINDS, LETTERS, WAYS, Task, labels, task

TASK = Task(m=3, gap=2, tables=5, count=2000)


def blocks_of(documents: Sequence[str], length: int) -> list[str]:
    """All blocks of these documents."""
    return [d[i : i + length] for d in documents for i in range(0, len(d), length)]


@pytest.fixture(scope="module")
def blocks() -> list[str]:
    return blocks_of(list(TASK.documents()), TASK.length)


def p_value_is_fair(counts: Sequence[int]) -> bool:
    """Whether a chi-square test keeps the uniform distribution at about 1 in 10,000 (Wilson and
    Hilferty's approximation)."""
    expected = sum(counts) / len(counts)
    free = len(counts) - 1
    square = sum((c - expected) ** 2 / expected for c in counts)
    z = ((square / free) ** (1 / 3) - 1 + 2 / (9 * free)) / (2 / (9 * free)) ** 0.5
    return abs(z) < 3.9


def test_blocks_are_what_the_docstring_shows() -> None:
    a, b = blocks_of(["A3f..kQGT", "B3f..nHRG"], 9)
    pattern = r"[AB][0-9a-f]{2}\.\.[g-v][G-V]{3}"
    made = blocks_of(list(dataclasses.replace(TASK, count=9).documents()), 9)
    assert all(re.fullmatch(pattern, block) for block in [a, b, *made])
    assert len(made) == 9 * 16 and {block[0] for block in made} == set(KINDS)
    none = list(Task(m=0, count=5, blocks=8).documents())
    assert all(re.fullmatch(r"([AB][0-9a-f]{2}[g-v]){8}", document) for document in none)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("place", "alphabet"),
    [(1, DIGITS), (2, DIGITS), (5, CHOICES), (6, LETTERS), (7, LETTERS), (8, LETTERS)],
)
def test_every_place_has_the_same_uniform_marginal_in_both_kinds(
    blocks: list[str], kind: str, place: int, alphabet: str
) -> None:
    counts = Counter(block[place] for block in blocks if block[0] == kind)
    assert set(counts) == set(alphabet) and p_value_is_fair([counts[c] for c in alphabet])


def test_kinds_and_questions_are_uniform_and_independent(blocks: list[str]) -> None:
    asked = Counter(block[:3] for block in blocks)
    every = ["".join(each) for each in itertools.product(KINDS, DIGITS, DIGITS)]
    assert p_value_is_fair([asked[each] for each in every]) and set(asked) == set(every)
    pairs = Counter((a[0], b[0]) for a, b in itertools.pairwise(blocks))
    assert p_value_is_fair([pairs[a, b] for a in KINDS for b in KINDS])


def test_letters_follow_from_choices_of_kind_a_alone(blocks: list[str]) -> None:
    words = {block[5:] for block in blocks if block[0] == "A"}
    assert {word[0] for word in words} == set(CHOICES) and len(words) == WAYS
    for place in (1, 2, 3):
        assert {word[place] for word in words} == set(LETTERS), "a letter for each choice"
    noise = [block for block in blocks if block[0] == "B"]
    for place in (6, 7, 8):  # independent of the choice and of the letter before
        joint = Counter((block[5], block[place]) for block in noise)
        assert p_value_is_fair([joint[c, x] for c in CHOICES for x in LETTERS])
    joint = Counter(block[6:8] for block in noise)
    assert p_value_is_fair([joint[x + y] for x in LETTERS for y in LETTERS])


def test_the_choice_follows_from_kind_and_question(blocks: list[str]) -> None:
    table = {block[:3]: block[5] for block in blocks}
    assert all(table[block[:3]] == block[5] for block in blocks)
    both = sum(table[f"A{u}{v}"] == table[f"B{u}{v}"] for u in DIGITS for v in DIGITS)
    assert both < 40, "the tables are others, equal in about one place in 16"


@pytest.mark.parametrize("tables", [0, 1, 2])
def test_the_kinds_are_exchangeable_up_to_names(tables: int) -> None:
    """B's table is A's with rows, columns and choices renamed, so what a model of one token has to
    learn is the same."""
    a, b = Task(tables=tables).answers
    for table in (a, b):
        assert np.bincount(table.ravel(), minlength=WAYS).tolist() == [WAYS] * WAYS
    for axis in (0, 1):  # how often the choices come in a row or column, whatever their names

        def shapes(table: np.ndarray, axis: int = axis) -> list[list[int]]:
            lines = np.moveaxis(table, axis, 0)
            return sorted(sorted(np.bincount(line, minlength=WAYS)) for line in lines)

        assert shapes(a) == shapes(b)
    assert not np.array_equal(a, b)


def test_tables_and_codes_are_of_their_own_seed() -> None:
    one, same, other = (Task(tables=t, seed=s) for t, s in ((0, 0), (0, 1), (1, 0)))
    assert np.array_equal(one.answers, same.answers) and np.array_equal(one.words, same.words)
    assert not np.array_equal(one.answers, other.answers)
    assert not np.array_equal(one.words, other.words)
    gap = Task(tables=0, gap=4, m=1)  # a longer gap asks the same questions
    assert np.array_equal(gap.answers, one.answers) and np.array_equal(gap.words, one.words[:, :1])


def test_the_same_options_give_the_same_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "CHUNK", 64)
    ours = list(task({"count": "100", "seed": "3"}).documents())
    assert ours == list(choices.documents({"count": "100", "seed": "3"})) and len(ours) == 100
    assert ours[:70] == list(task({"count": "70", "seed": "3"}).documents())
    assert len(set(ours)) == 100 and not set(ours) & set(task({"count": "100"}).documents())


def test_an_exam_asks_everything_equally_often() -> None:
    exam = TASK.exam(3)
    asked = Counter(block[:3] for block in blocks_of(exam, TASK.length))
    assert len(asked) == 512 and set(asked.values()) == {3}
    assert exam == dataclasses.replace(TASK, seed=9, count=1).exam(3)
    assert {len(document) for document in exam} == {TASK.context - 2}


# --------------------------------------------------------------------------------------------------
# the truth


def test_the_truth_is_the_probability_of_what_comes_next(blocks: list[str]) -> None:
    """Against the counts of many blocks: after each prefix, what follows and how often."""
    truth = TASK.truth("".join(blocks[:6]))
    assert truth.shape == (6 * 9 + 1, END + 1) and np.allclose(truth.sum(1), 1)
    assert truth[-1, END] == 1 and not truth[:-1, END].any()
    for place in range(9):
        for block, p in zip(blocks[:6], truth[place::9], strict=False):
            kind_alone = place > 5 and block[0] == "B"  # noise depends on nothing
            prefix = block[:1] if kind_alone else block[:place]
            if place in (1, 2):
                prefix = ""
            after = Counter(b[place] for b in blocks if b.startswith(prefix))
            assert {chr(i) for i in np.flatnonzero(p)} == set(after)
            share = np.array([after[chr(i)] for i in np.flatnonzero(p)]) / after.total()
            assert np.abs(share - p[p > 0]).max() < 0.02


@pytest.mark.parametrize("given", [Task(), TASK, Task(m=0, blocks=8), Task(m=7, gap=1)])
def test_the_entropy_is_the_truths(given: Task) -> None:
    exam = given.exam(1)
    p = np.concatenate([given.truth(document) for document in exam])
    nats = -np.sum(p * np.log(np.where(p > 0, p, 1)))
    assert nats / (len(exam) * given.blocks) == pytest.approx(given.entropy)
    assert given.entropy == pytest.approx(log(2) + 2 * log(16) + given.m / 2 * log(16))


def test_only_blocks_of_the_process_are_valid(blocks: list[str]) -> None:
    assert all(TASK.is_valid(block) for block in blocks)
    table = {block[:3]: block[5] for block in blocks}
    word = {block[5]: block[6:] for block in blocks if block[0] == "A"}
    for question in ("A07", "B07"):
        right = table[question]
        wrong = next(c for c in CHOICES if c != right)
        assert TASK.is_valid(f"{question}..{right}{word[right]}")
        assert not TASK.is_valid(f"{question}..{wrong}{word[wrong]}")
        assert TASK.is_valid(f"{question}..{right}{word[wrong]}") == (question[0] == "B")
        q, c, w = question, right, word[right]
        for bad in (
            "", q, f"{q}..{c}", f"{q}..{c}{w}G", f"{q}..{c}GG.", f"{q}.{c}{w}G", f"{q}{c}{w}",
            f"C{q[1:]}..{c}{w}", f"{q[0]}x7..{c}{w}", f"{q}..é{w}", f"{q}...{w}",
        ):  # fmt: skip
            assert not TASK.is_valid(bad), bad
    with pytest.raises(ValueError, match="is no block of"):
        TASK.truth("A07..gGGG" + "A07")


# --------------------------------------------------------------------------------------------------
# labels and options


def marked(text: str) -> str:
    """A letter for the label of each character."""
    letters: dict[str, str] = dict(zip(choices.LABELS, "kABcn", strict=True))
    found = ["."] * len(text)
    for start, stop, label in labels(text):
        found[start:stop] = letters[label] * (stop - start)
    return "".join(found)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("A3fkQGTB3fnHRG", "k..Accck..Bnnn"),
        ("A3f..kQGTB3f..nHRG", "k....Accck....Bnnn"),
        ("A3fkB3fn", "k..Ak..B"),
        ("fkQGTB3fnHRG", ".....k..Bnnn"),  # a part: the first choice is of an unknown kind
        ("B3fnHRGA3fkQ", "k..Bnnnk..Ac"),
        ("A3fkQGTB3", "k..Accck."),
        ("", ""),
    ],
)
def test_labels_name_kinds_choices_and_what_follows(text: str, wanted: str) -> None:
    assert marked(text) == wanted


def test_every_block_has_its_labels(blocks: list[str]) -> None:
    for block in blocks[:200]:
        assert marked(block) == ("k....Accc" if block[0] == "A" else "k....Bnnn")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": "3"}, "unknown option 'n'; choose from: m, gap, tables, blocks, seed, count"),
        ({"m": "17"}, "m is '17'; it must be a whole number from 0 to 16"),
        ({"gap": "-1"}, "gap is '-1'"),
        ({"count": "0"}, "count is '0'"),
        ({"blocks": "12"}, "blocks is 12; it must be a power of two: 8, 16, 32 or 64"),
    ],
)
def test_bad_options_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        choices.documents(options)
