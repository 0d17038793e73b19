"""Polynomials: answers of a model, marked by slow decoding, and the guesses to compare with."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from evals.probes import polynomials as evaluation
from mtp.config import CorpusConfig, ModelConfig, TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic.polynomials import Task
from tests.synthetic.polynomial_evaluator import PAPERS, SMALL, answer


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
