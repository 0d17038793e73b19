"""Polynomials: every answer against an evaluator of its own, the law of the problems, tests that
training never shows, and exact answers counted."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from evals.probes import polynomials as evaluation
from mtp.config import CorpusConfig, ModelConfig, TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import polynomials
from synthetic.polynomials import PER_DOCUMENT, Ring, Task, documents, is_test, task

SMALL, PAPERS = Ring(5, 2), Ring(7, 5)
RINGS = [Ring(2, 1), Ring(3, 4), SMALL, PAPERS]

# --------------------------------------------------------------------------------------------------
# an evaluator in plain integers


class Node(NamedTuple):
    """`sign` is "" for an operand, whose digits are in `digits`."""

    sign: str
    inner: list["Node"]
    digits: str = ""

    @property
    def ops(self) -> int:
        return bool(self.sign) + sum(node.ops for node in self.inner)

    def nodes(self) -> Iterator["Node"]:
        yield self
        for node in self.inner:
            yield from node.nodes()


def parse(text: str) -> Node:
    node, end = parse_from(text, 0)
    assert end == len(text), text
    return node


def parse_from(text: str, at: int) -> tuple[Node, int]:
    if text[at] != "(":
        end = at
        while end < len(text) and text[end].isdigit():
            end += 1
        assert end > at, text
        return Node("", [], text[at:end]), end
    if text[at + 1] == "-":
        inner, end = parse_from(text, at + 2)
        node = Node("-", [inner])
    else:
        left, middle = parse_from(text, at + 1)
        right, end = parse_from(text, middle + 1)
        node = Node(text[middle], [left, right])
        assert node.sign in "+*o", text
    assert text[end] == ")", text
    return node, end + 1


def product(a: list[int], b: list[int], d: int) -> list[int]:
    return [sum(a[i] * b[n - i] for i in range(n + 1)) for n in range(d)]


def value(node: Node, ring: Ring) -> list[int]:
    if not node.sign:
        assert len(node.digits) == ring.d
        return [int(c) for c in node.digits]
    a, *rest = [value(inner, ring) for inner in node.inner]
    if node.sign == "-":
        made = [-u for u in a]
    elif node.sign == "+":
        made = [u + v for u, v in zip(a, rest[0], strict=True)]
    elif node.sign == "*":
        made = product(a, rest[0], ring.d)
    else:  # the sum of a_i b^i
        made, power = [0] * ring.d, [1] + [0] * (ring.d - 1)
        for coefficient in a:
            made = [u + coefficient * v for u, v in zip(made, power, strict=True)]
            power = product(power, rest[0], ring.d)
    return [u % ring.p for u in made]


def answer(question: str, ring: Ring) -> str:
    return "".join(map(str, value(parse(question.rstrip("=").rstrip(".")), ring)))


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
# accuracy


@pytest.fixture(scope="module")
def corpus(data: Path) -> Corpus:
    source = "python:synthetic.polynomials?p=5,d=2,ops=3,pause=1,count=500"
    return build(CorpusConfig(source, "bytes", validation=0.1), data, progress=False)


def model(context: int = 64, n: int = 1) -> MultiTokenTransformer:
    return MultiTokenTransformer(
        ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, context=context, n=n)
    )


def slow(
    asked: MultiTokenTransformer, corpus: Corpus, problems: list[tuple[str, str]]
) -> tuple[float, float]:
    """Share of exact answers as greedy decoding writes them, and nats per digit, a digit at a
    time."""
    text, right, nats = corpus.tokenizer, 0, list[float]()
    for question, stated in problems:
        prompt = [text.bos, *text.encode(question)]
        right += text.decode(generate(asked, [prompt], len(stated)).tokens[0]) == stated
        for digit in text.encode(stated):
            with torch.no_grad():
                logits = asked(torch.tensor([prompt]), 1)[0][0, -1].double()
            nats.append(float(logits.logsumexp(0) - logits[digit]))
            prompt.append(digit)
    return right / len(problems), sum(nats) / len(nats)


def test_marks_are_those_of_decoding_and_of_one_digit_at_a_time(corpus: Corpus) -> None:
    torch.manual_seed(1)
    asked = model(n=2)
    with torch.no_grad():  # so that 0 or 1 is what it writes
        weight = asked.get_parameter("unembeddings.0.weight")
        others = [i for i in range(258) if i not in (48, 49)]
        weight[others] = 0
        weight[49] = -weight[48]
    problems = [*evaluation.task_of(corpus).problems(2, 30), ("(1o2).=", "00"), ("(1*2).=", "11")]
    problems += [(question, written(asked, corpus, question)) for question, _ in problems[:5]]
    share, nats = slow(asked, corpus, problems)
    found = evaluation.marks(asked, corpus, problems)
    assert found.exact == pytest.approx(share) and 5 / 37 <= share < 1
    assert found.nats == pytest.approx(nats, rel=1e-4) and found.count == 37


def written(asked: MultiTokenTransformer, corpus: Corpus, question: str) -> str:
    text = corpus.tokenizer
    return text.decode(generate(asked, [[text.bos, *text.encode(question)]], 2).tokens[0])


def test_batches_change_no_mark(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = evaluation.task_of(corpus).problems(3, 40)
    asked = model()
    whole = evaluation.marks(asked, corpus, problems)
    monkeypatch.setattr(evaluation, "BATCH", 7)
    parts = evaluation.marks(asked, corpus, problems[::-1])
    assert parts.nats == pytest.approx(whole.nats, rel=1e-5) and parts.exact == whole.exact
    assert whole.count == parts.count == 40


def test_questions_that_do_not_fit_and_no_questions(corpus: Corpus) -> None:
    problems = evaluation.task_of(corpus).problems(2, 20)
    with pytest.raises(BadInput, match="do not fit the context of 8"):
        evaluation.marks(model(context=8), corpus, problems)
    none = evaluation.marks(model(), corpus, [])
    assert none.count == 0 and math.isnan(none.exact) and math.isnan(none.nats)


def test_the_macro_average_counts_each_alike() -> None:
    found = evaluation.mean([evaluation.Marks(0.5, 1.0, 10), evaluation.Marks(0.0, 2.0, 90)])
    assert found == evaluation.Marks(0.25, 1.5, 100)


def test_the_task_is_the_corpuss(
    corpus: Corpus, data: Path, make_config: Callable[..., TrainConfig]
) -> None:
    assert evaluation.task_of(corpus) == Task(SMALL, ops=3, pause=1, count=500)
    other = build(make_config().data, data, progress=False)
    with pytest.raises(BadInput, match=r"source files:.*needs python:synthetic.polynomials"):
        evaluation.task_of(other)


def test_the_commonest_answer() -> None:
    assert evaluation.commonest_answer([("a", "1"), ("b", "2"), ("c", "1")]) == 2 / 3
    problems = Task(SMALL).problems(2, 300)
    counts = Counter(stated for _, stated in problems)
    assert evaluation.commonest_answer(problems) == max(counts.values()) / 300


@pytest.mark.parametrize("sign", "+*o")
def test_one_operand_alone_gives_its_likeliest_answer(sign: str) -> None:
    every = [f"{a}{b}" for a in range(5) for b in range(5)]
    law = {"left": dict[str, Counter[str]](), "right": dict[str, Counter[str]]()}
    for a in every:
        for b in every:
            stated = answer(f"({a}{sign}{b})", SMALL)
            law["left"].setdefault(a, Counter())[stated] += 1
            law["right"].setdefault(b, Counter())[stated] += 1
    asked = [(f"({a}{sign}{b})=", answer(f"({a}{sign}{b})", SMALL)) for a in every for b in every]
    shares, nats = list[float](), list[float]()
    for i, side in enumerate(law.values()):
        shares.append(sum(max(c.values()) for c in side.values()) / 625)
        given = [side[q[1:-2].split(sign)[i]][stated] / 25 for q, stated in asked]
        nats.append(-sum(map(math.log, given)) / 625 / 2)
    found = evaluation.one_operand(Task(SMALL), sign, asked)
    assert found and found.count == 625 and found.exact == pytest.approx(max(shares))
    assert any(found.nats == pytest.approx(each) for each in nats)
    assert evaluation.one_operand(Task(PAPERS), sign, asked[:2]) is None


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
