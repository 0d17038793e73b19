"""Who answers the questions about names: models, and the training text's n-grams."""

from abc import ABC, abstractmethod
from collections import Counter
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
    answers,
    by_ngrams,
    questions,
)
from mtp.config import ModelConfig
from mtp.data.corpus import Corpus
from mtp.model.model import MultiTokenTransformer
from tests.evals.probes.induction_helpers import by_story, split


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
    return answers(cast(MultiTokenTransformer, model), asked)


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
    assert len(truth) > 10 and all(answers(model, truth))
    assert answers(model, asked) == [best == q.tokens[q.at + 1] for q, best in both]


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
