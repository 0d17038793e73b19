"""Polynomials: every answer against an evaluator of its own, the law of the problems, and tests
that training never shows."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from synthetic import polynomials
from synthetic.polynomials import PER_DOCUMENT, Ring, Task, documents, is_test, task
from tests.synthetic.polynomial_evaluator import PAPERS, RINGS, SMALL, Node, answer, parse


def lines(made: Task) -> list[str]:
    return [line for document in made.documents() for line in document.split("\n")]


def questions(made: Task) -> list[str]:
    return [line.split("=")[0].rstrip(".") for line in lines(made)]


def test_the_evaluator_by_hand() -> None:
    # 1 + b + 5 b^2 + b^3 + 3 b^4 of b = 3 + 6 X^2 + .. has the constant 319 = 4 and no X
    assert answer("((20553+61030)o(-40112))=", PAPERS)[:2] == "40"
    assert answer("(12o31)=", SMALL) == "22"  # 1 + 2 (3 + X) = 7 + 2 X
    assert answer("(12*31)..=", SMALL) == "32"  # 3 + 7 X
    assert answer("(-03)=", SMALL) == "02"


def test_the_modules_example_is_right() -> None:
    (example,) = [line for line in (polynomials.__doc__ or "").splitlines() if "=" in line[:40]]
    question, stated = example.split()[0].split("=")
    assert answer(question, PAPERS) == stated


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small chunks, so that few problems take several."""
    monkeypatch.setattr(polynomials, "CHUNK", 1000)


@pytest.mark.parametrize("pause", [0, 3])
@pytest.mark.parametrize("ring", [*RINGS, Ring(10, 3)], ids=str)
def test_every_training_problem_is_right(ring: Ring, pause: int, chunks: None) -> None:
    for line in lines(Task(ring, ops=6, pause=pause, count=500)):
        question, equals, stated = line.partition("=")
        assert equals and question.endswith(")" + "." * pause)
        assert answer(question, ring) == stated, line
        assert 1 <= parse(question.rstrip(".")).ops <= 6


@pytest.mark.parametrize("pause", [0, 3])
@pytest.mark.parametrize("m", range(7))
@pytest.mark.parametrize("ring", [Ring(3, 4), SMALL, PAPERS], ids=str)
def test_every_test_problem_is_right(ring: Ring, m: int, pause: int) -> None:
    found = Task(ring, pause=pause).problems(m, 40)
    assert len(found) == 40
    for question, stated in found:
        bare = question.removesuffix("." * pause + "=")
        assert bare[-1] not in ".=" and parse(bare).ops == m
        assert answer(bare, ring) == stated, question


# --------------------------------------------------------------------------------------------------
# the law


def even(found: Counter[object], kinds: int) -> None:
    """All kinds are there, about equally often: chi-square within 5 deviations of its mean."""
    assert len(found) == kinds, found
    expected = found.total() / kinds
    assert expected > 40
    chi2 = sum((count - expected) ** 2 / expected for count in found.values())
    assert chi2 < kinds - 1 + 5 * math.sqrt(2 * (kinds - 1)) + 5, found


@pytest.fixture(scope="module")
def trees() -> list[Node]:
    return [parse(question) for question in questions(Task(PAPERS, ops=5, count=20_000))]


def test_lengths_and_operators_are_uniform(trees: list[Node]) -> None:
    even(Counter(tree.ops for tree in trees), 5)
    even(Counter(tree.ops for tree in trees[:1000]), 5)  # documents mix them
    for m in range(1, 6):
        even(Counter(tree.sign for tree in trees if tree.ops == m), 4)
    even(Counter(node.sign for tree in trees for node in tree.nodes() if node.sign), 4)


def test_the_left_side_of_an_operation_has_any_share_of_the_others(trees: list[Node]) -> None:
    binary = [n for tree in trees for n in tree.nodes() if len(n.inner) == 2]
    for m in range(2, 6):
        even(Counter(n.inner[0].ops for n in binary if n.ops == m), m)


def test_the_two_sides_of_an_operation_are_independent(trees: list[Node]) -> None:
    roots = [tree for tree in trees if len(tree.inner) == 2]
    signs = [(tree.inner[0].sign, tree.inner[1].sign) for tree in roots]
    even(Counter(pair for pair in signs if all(pair)), 16)
    operands = [(tree.inner[0].digits[:1], tree.inner[1].digits[:1]) for tree in roots]
    even(Counter(pair for pair in operands if all(pair)), 49)
    even(Counter((tree.sign, tree.inner[0].digits[0]) for tree in roots if tree.ops == 1), 21)


def test_operands_are_uniform(trees: list[Node]) -> None:
    operands = [n.digits for tree in trees for n in tree.nodes() if n.digits]
    for i in range(5):
        even(Counter(digits[i] for digits in operands), 7)
    even(Counter(digits[:3] for digits in operands), 343)
    even(Counter(digits[2:] for digits in operands), 343)


def test_test_problems_follow_the_same_law() -> None:
    found = [parse(question[:-1]) for question, _ in Task(PAPERS).problems(4, 4000)]
    even(Counter(tree.sign for tree in found), 4)
    even(Counter(tree.inner[0].ops for tree in found if len(tree.inner) == 2), 4)
    even(Counter(n.digits[0] for tree in found for n in tree.nodes() if n.digits), 7)


# --------------------------------------------------------------------------------------------------
# training and test


@pytest.mark.parametrize("ring", RINGS, ids=str)
def test_training_shows_no_test_problem(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polynomials, "CHUNK", 10_000)
    ops = 2 if ring.d > 2 else 3
    train = {q for seed in (0, 1) for q in questions(Task(ring, ops, 2, seed, count=8000))}
    test = {q[:-1] for m in range(1, 6) for q, _ in Task(ring).problems(m, 400)}
    assert not train & test and len(train) > 100 and len(test) > 100


def test_training_shows_all_the_others(chunks: None) -> None:
    every = ["(-0)", "(-1)"] + [f"({a}{sign}{b})" for a in "01" for sign in "+*o" for b in "01"]
    held_out = {q for q in every if is_test(np.frombuffer(q.encode(), np.uint8)[None])[0]}
    made = Task(Ring(2, 1), ops=1, count=2000)
    assert set(questions(made)) == set(every) - held_out
    assert {q[:-1] for q, _ in made.problems(1, 200)} == held_out


def test_one_question_in_eight_is_for_testing() -> None:
    rng = np.random.default_rng(0)
    for length in (3, 13, 40):
        drawn = rng.integers(48, 58, size=(40_000, length)).astype(np.uint8)
        flags = is_test(drawn)
        many = len(np.unique(drawn, axis=0))
        assert abs(flags.mean() - 1 / 8) < 5 * math.sqrt(7 / 64 / many)
        assert np.array_equal(flags[:50], is_test(drawn[:50]))  # each by itself


def test_tests_depend_on_the_ring_and_m_alone() -> None:
    found = Task(PAPERS).problems(3, 50)
    assert found == Task(PAPERS, ops=2, seed=9, count=10**6).problems(3, 50)
    assert found != Task(Ring(5, 5)).problems(3, 50)
    assert {parse(q[:-1]).ops for q, _ in Task(PAPERS).problems(2, 50)} == {2}
    assert len(set(found)) == 50 and Task(PAPERS).problems(3, 0) == []


def test_pauses_change_nothing_but_their_dots(chunks: None) -> None:
    without, paused = (Task(SMALL, pause=pause, count=1500) for pause in (0, 4))
    assert [line.replace("....=", "=") for line in lines(paused)] == lines(without)
    assert all(line.count(".") == 4 for line in lines(paused))
    assert [(q.replace("....=", "="), a) for q, a in paused.problems(3, 30)] == without.problems(
        3, 30
    )


@pytest.mark.parametrize("count", [1, 15, 16, 17, 900, 2500])
def test_documents_hold_as_many_problems_as_asked_for(count: int, chunks: None) -> None:
    made = [document.split("\n") for document in Task(SMALL, count=count).documents()]
    assert sum(map(len, made)) == count
    assert all(1 <= len(document) <= PER_DOCUMENT for document in made)
    assert len(made) <= count / PER_DOCUMENT + 3  # full but for the last of each chunk


def test_the_seed_decides_the_training_problems(chunks: None) -> None:
    first, again, other = (questions(Task(PAPERS, seed=s, count=2500)) for s in (0, 0, 1))
    assert first == again and len(set(first) & set(other)) < 25
    assert len(set(first)) > 2450  # chunks are not copies of each other
    assert lines(Task(PAPERS, count=500)) == lines(Task(PAPERS, count=2500))[:500]


# --------------------------------------------------------------------------------------------------
# options


def test_options_make_the_task() -> None:
    assert task({}) == Task(Ring(7, 5), ops=5, pause=0, seed=0)
    options = {"p": "3", "d": "2", "ops": "4", "pause": "1", "seed": "8", "count": "50"}
    assert task(options) == Task(Ring(3, 2), ops=4, pause=1, seed=8, count=50)
    assert list(documents(options)) == list(task(options).documents())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q", "3"), ("", "3"), ("p", "1"), ("p", "11"), ("p", "seven"), ("p", ""), ("d", "0"),
        ("d", "21"), ("d", "2.0"), ("ops", "0"), ("ops", "21"), ("pause", "-1"), ("pause", "101"),
        ("fillers", "0"), ("fillers", "27"), ("seed", "-3"), ("seed", "1e3"), ("count", "0"),
        ("count", "100000000000"),
    ],
)  # fmt: skip
def test_bad_options_are_named_at_once(name: str, text: str) -> None:
    with pytest.raises(ValueError) as error:
        documents({name: text})
    reported = str(error.value)
    known = name in polynomials.LIMITS
    assert reported.startswith(f"{name} is {text!r}; ") if known else repr(name) in reported, (
        reported
    )
    assert all(
        limit in reported for limit in (map(str, polynomials.LIMITS[name]) if known else "pd")
    )


# --------------------------------------------------------------------------------------------------
# all questions of one operation


@pytest.mark.parametrize("sign", "-+*o")
def test_an_exam_has_every_test_question_once(sign: str) -> None:
    made = Task(SMALL, pause=2)
    every = [f"{a}{b}" for a in range(5) for b in range(5)]
    bare = [f"(-{a})" for a in every]
    if sign != "-":
        bare = [f"({a}{sign}{b})" for a in every for b in every]
    test = {q for q in bare if is_test(np.frombuffer(q.encode(), np.uint8)[None])[0]}
    found = made.exam(sign, 1000)
    assert {q[:-3] for q, _ in found} == test and len(found) == len(test)
    assert all(q.endswith(")..=") and answer(q, SMALL) == stated for q, stated in found)
    assert made.exam(sign, 3) == found[:3]
    assert Task(SMALL, ops=9, pause=2, seed=4).exam(sign, 1000) == found
    assert [q for q, _ in found] != sorted(q for q, _ in found), "in a random order"


def test_an_exam_of_a_large_ring_is_drawn() -> None:
    found = Task(PAPERS).exam("o", 200)
    assert len(set(found)) == len(found) == 200 == len({q for q, _ in found})
    for question, stated in found[:20]:
        text = question[:-1].encode()
        assert (
            is_test(np.frombuffer(text, np.uint8)[None])[0] and answer(question, PAPERS) == stated
        )


def test_random_pauses_change_nothing_but_their_letters(chunks: None) -> None:
    plain, random = (Task(SMALL, pause=3, count=1500, fillers=f) for f in (1, 20))
    assert [re.sub(r"[a-t]{3}=", "...=", line) for line in lines(random)] == lines(plain)
    drawn = [line[line.index("=") - 3 : line.index("=")] for line in lines(random)]
    even(Counter(letter for letters in drawn for letter in letters), 20)
    asked = [(re.sub(r"[a-t]{3}=", "...=", q), stated) for q, stated in random.problems(3, 30)]
    assert asked == plain.problems(3, 30) and random.exam("+", 9) != plain.exam("+", 9)
    assert random.exam("+", 9) == random.exam("+", 9)
