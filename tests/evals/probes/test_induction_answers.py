"""Who answers the questions about names: models, and the training text's n-grams."""

import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.probes import induction
from evals.probes.induction import (
    Question,
    by_ngrams,
    floors,
    questions,
    replies,
)
from mtp.config import ModelConfig
from mtp.data.corpus import Corpus
from mtp.model.model import MultiTokenTransformer
from tests.evals.probes.induction_helpers import LONG, by_story, split


@pytest.fixture(params=[1, 7, 1000])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(induction, "CHUNK", request.param)
    return request.param


class ByHand(ABC):
    """Stands for a model of 800 tokens whose next token is `say(tokens so far)`."""

    def __init__(self, context: int) -> None:
        self.config = SimpleNamespace(context=context)
        self.embedding = SimpleNamespace(weight=torch.zeros(1))
        self.read: list[list[int]] = []

    @abstractmethod
    def say(self, tokens: list[int]) -> int: ...

    def __call__(self, tokens: Tensor, k: int) -> list[Tensor]:
        assert tokens.shape[0] == k == 1 and tokens.shape[1] <= self.config.context
        (ids,) = tokens.tolist()
        self.read.append(ids)
        tokens = torch.tensor([self.say(ids[: t + 1]) for t in range(len(ids))])
        return [torch.nn.functional.one_hot(tokens, 800).float()[None]]


class Copies(ByHand):
    """What came after the last time."""

    def say(self, tokens: list[int]) -> int:
        earlier = [s for s, token in enumerate(tokens[:-1]) if token == tokens[-1]]
        return tokens[earlier[-1] + 1] if earlier else 0


class Never(ByHand):
    def say(self, tokens: list[int]) -> int:
        return 599


def ask(model: ByHand, asked: list[Question]) -> list[bool]:
    return [reply.right for reply in replies(cast(MultiTokenTransformer, model), asked)]


ONE, TWO = [0, 5, 6, 9, 5, 6, 7, 8, 5, 6], [0, 7, 8, 5, 7, 8]
BY_HAND = [Question(ONE, 4, True), Question(TWO, 4, True), Question(ONE, 8, False)]


def test_a_model_that_copies_is_right_and_reads_each_story_once() -> None:
    model = Copies(9)
    assert ask(model, BY_HAND) == [True, True, True]
    assert model.read == [ONE[:9], TWO], "never the answer that lies beyond its context"


def test_a_model_that_does_not_is_wrong() -> None:
    assert ask(Never(9), BY_HAND) == [False, False, False]
    assert ask(Never(9), []) == []


def test_one_wrong_answer_is_the_questions_own() -> None:
    other = Question([0, 5, 6, 5, 4, 5, 6], 5, True)  # copied, 4 would be said
    assert ask(Copies(9), [BY_HAND[0], other, *BY_HAND[1:]]) == [True, False, True, True]


def test_copying_answers_real_stories(corpus: Corpus) -> None:
    asked, model = questions(corpus, 128, 15), Copies(128)
    right = ask(model, asked)
    assert right == [model.say(q.tokens[: q.at + 1]) == q.tokens[q.at + 1] for q in asked]
    assert all(right), "no name begins as another word of its story"
    assert len(model.read) == len(by_story(asked)) > 10
    assert not any(ask(Never(128), asked))


def test_a_real_model_answers_with_its_first_head(corpus: Corpus) -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=800, n=2, context=96)
    model, asked = MultiTokenTransformer(config), questions(corpus, 96, 9)
    with torch.no_grad():
        best_tokens = [
            int(model(torch.tensor([q.tokens[: q.at + 1]]))[0][0, -1].argmax())  # nothing after it
            for q in asked
        ]
    both = list(zip(asked, best_tokens, strict=True))
    truth = [Question([*q.tokens[: q.at + 1], best], q.at, True) for q, best in both]
    assert len(truth) > 10 and all(reply.right for reply in replies(model, truth))
    found = replies(model, asked)
    assert [r.right for r in found] == [best == q.tokens[q.at + 1] for q, best in both]
    for question, reply in zip(asked, found, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([question.tokens[: question.at + 1]]))[0][0, -1]
        target = question.tokens[question.at + 1]
        assert reply.nats == pytest.approx(-float(logits.log_softmax(-1)[target]), rel=1e-4)


def test_the_loss_is_that_of_the_right_token() -> None:
    """Logits are 1 at what the model says, and 0 at the 799 other tokens."""
    copies, never = (cast(MultiTokenTransformer, m) for m in (Copies(9), Never(9)))
    total = math.log(math.e + 799)
    assert [r.nats for r in replies(copies, BY_HAND)] == pytest.approx([total - 1] * 3)
    assert [r.nats for r in replies(never, BY_HAND)] == pytest.approx([total] * 3)


def test_floors_by_hand() -> None:
    asked = [Question([1, 2, second], 1, True, p) for second, p in ((5, 1), (5, 0.5), (6, 0.25))]
    found = floors(asked)
    assert found == pytest.approx((2 / 3, (1 + 0.5 + 0.25) / 3, (math.log(2) + math.log(4)) / 3))
    with pytest.raises(ValueError, match="no questions"):
        floors([])


def test_a_name_drawn_from_those_before_is_right_as_often_as_its_floor(corpus: Corpus) -> None:
    asked, random, right = questions(corpus, LONG, 40), Random(0), list[bool]()
    for question in asked:
        own = [q for q in asked if q.tokens is question.tokens]
        names = {tuple(q.tokens[q.at : q.at + 2]) for q in own}
        before = list(itertools.pairwise(question.tokens[: question.at]))
        met = sorted(name for name in names if name in before)
        right += [random.choice(met)[1] == question.tokens[question.at + 1] for _ in range(40)]
    found = floors(asked)
    assert sum(right) / len(right) == pytest.approx(found.drawn, abs=0.01)
    assert 0.4 < found.drawn < 0.6 and 0.5 < found.drawn_nats < 0.9 and found.commonest < 0.1


def slowly(train: list[int], question: Question) -> bool:
    """What most often follows the last two tokens, or the last; the smaller id of two as often."""
    last = question.tokens[: question.at + 1]
    for known in (2, 1):
        follows = Counter(
            train[i] for i in range(2, len(train)) if train[i - known : i] == last[-known:]
        )
        if follows:
            best = min(follows, key=lambda token: (-follows[token], token))
            return best == question.tokens[question.at + 1]
    return False


def test_ngrams_by_hand() -> None:
    train = split([1, 2, 3, 1, 2, 3, 1, 2, 4, 7, 2, 4, 8, 2, 4])
    trigram, other = Question([0, 1, 2, 3], 2, True), Question([0, 1, 2, 4], 2, True)
    backing_off, never = Question([0, 9, 2, 4], 2, True), Question([0, 1, 9, 3], 2, False)
    asked = [trigram, other, backing_off, never]
    assert by_ngrams(train, asked) == [True, False, True, False]
    assert by_ngrams(train, asked[::-1]) == [False, True, False, True]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=3, max_size=40),
    st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=12),
)
def test_ngrams_are_those_counted_slowly(train: list[int], pieces: list[tuple[int, ...]]) -> None:
    asked = [Question([9, *tokens], 2, True) for tokens in pieces]
    assert by_ngrams(split(train), asked) == [slowly(train, question) for question in asked]


def test_ngrams_of_real_stories_are_those_counted_slowly(corpus: Corpus, train: list[int]) -> None:
    asked = questions(corpus, 128, 6)
    names = len(asked)
    asked += [Question(list(d[:9]), at, True) for d in few(corpus) for at in range(1, 8)]
    found = by_ngrams(corpus.train, asked)
    assert found == [slowly(train, question) for question in asked]
    assert any(found) and not any(found[:names]), "no pair of a name is in the training text"


def test_chunks_change_no_ngrams(small_chunks: int) -> None:
    train = [1, 2, 3, 1, 2, 3, 1, 2, 4, 7, 2, 4, 8, 2, 4]
    pieces = [[9, a, b, c] for a in (1, 2, 9) for b in (1, 2, 3, 4) for c in (1, 2, 3, 4, 7)]
    asked = [Question(tokens, 2, True) for tokens in pieces]
    assert by_ngrams(split(train), asked) == [slowly(train, question) for question in asked]


def few(corpus: Corpus) -> list[list[int]]:
    return [ids.tolist() for ids in corpus.validation.documents()][:3]
