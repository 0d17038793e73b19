"""Names of two tokens in held-out stories, the questions they pose, and who answers them."""

import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.probes import induction
from evals.probes.induction import (
    LEAST,
    SEED,
    Question,
    answers,
    by_ngrams,
    chunks,
    names_for,
    pieces,
    questions,
)
from mtp.config import CorpusConfig, ModelConfig
from mtp.data.corpus import Corpus, build
from mtp.data.shards import Split
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import stories

LONG = 10_000  # tokens; no story has so many


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = CorpusConfig("python:synthetic.stories?count=400", vocab=800, validation=0.1)
    return build(config, tmp_path_factory.mktemp("stories"), progress=False)


@pytest.fixture(scope="module")
def text(corpus: Corpus) -> Tokenizer:
    return corpus.tokenizer


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


@pytest.fixture(scope="module")
def train(corpus: Corpus) -> list[int]:
    return corpus.train.read(0, corpus.train.tokens).tolist()


@pytest.fixture(params=[1, 7, 1000])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(induction, "CHUNK", request.param)
    return request.param


# --------------------------------------------------------------------------------------------------
# names


@pytest.mark.parametrize("length", [0, 1, 9, 10, 21])
@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_chunks_cover_a_split(length: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(induction, "CHUNK", size)
    found = [chunk.tolist() for chunk in chunks(split(range(length)))]
    assert [token for chunk in found for token in chunk[:size]] == list(range(length))
    assert all(len(chunk) == size + 1 for chunk in found[:-1])
    assert all(a[-1] == b[0] for a, b in itertools.pairwise(found)), "no pair is lost"


def test_pieces_are_letters_and_the_first_are_capitalised(corpus: Corpus, text: Tokenizer) -> None:
    every = {token: text.decode([token]) for token in range(text.vocab_size)}
    letters = {t: p for t, p in every.items() if re.fullmatch("[A-Za-z]{1,5}", p.removeprefix(" "))}
    found = pieces(corpus)
    assert found.first == [t for t, p in letters.items() if p[0] == " " and p[1].isupper()]
    assert found.second == [t for t, p in letters.items() if p.islower() and p[0] != " "]
    assert len(found.first) > 10 and len(found.second) > 100


def test_held_out_names_are_those_of_two_tokens_that_no_text_has(
    corpus: Corpus, text: Tokenizer, train: list[int]
) -> None:
    found, shown, occurring = pieces(corpus), set(itertools.pairwise(train)), set(train)
    names = [tuple(text.encode(f" {name}")) for name in stories.held_out_names()]
    want = [
        name
        for name in names
        if len(name) == 2
        and name[0] in found.first
        and name[1] in found.second
        and name not in shown
        and occurring.issuperset(name)
    ]
    assert found.held_out == sorted(want) and len(want) >= LEAST
    assert found.occurring.tolist() == [token in occurring for token in range(text.vocab_size)]
    shown_too = trained_on([*train, *want[0], 0, *want[1][:1], 0, want[1][1]], text)
    assert pieces(shown_too).held_out == sorted(want[1:])


def test_chunks_change_no_pieces(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vars(pieces(corpus))
    monkeypatch.setattr(induction, "CHUNK", 1000)
    pieces.cache_clear()
    for name, value in vars(pieces(corpus)).items():
        assert np.array_equal(value, whole[name]) if name == "occurring" else value == whole[name]


@pytest.mark.parametrize("held_out", [True, False])
def test_names_have_two_tokens_after_a_space(
    corpus: Corpus, text: Tokenizer, held_out: bool
) -> None:
    for seed in range(30):
        story = stories.story(SEED, seed)
        names = names_for(story, corpus, Random(seed), held_out)
        assert len(names) == len(story.names)
        assert len({first for first, _ in names}) == len(names), "no two begin alike"
        for first, second in names:
            name = text.decode([first, second])
            assert re.fullmatch(" [A-Z][A-Za-z]*", name) and text.encode(name) == [first, second]
            piece = text.decode([second])
            assert piece.islower() and piece.isalpha(), "no space before it"
            for after in (" was", ", who", "'s", ".", '."', "!"):  # whatever comes after the name
                assert text.encode(name + after)[:2] == [first, second]


def test_held_out_names_begin_nothing_else_in_their_story(corpus: Corpus, text: Tokenizer) -> None:
    for index in range(60):
        story = stories.story(SEED, index)
        names = names_for(story, corpus, Random(index), True)
        encoded = text.encode(story.text([text.decode(list(name)).strip() for name in names]))
        for i, (first, second) in enumerate(names):
            assert (first, second) in pieces(corpus).held_out
            after = [encoded[at + 1] for at, token in enumerate(encoded) if token == first]
            assert after == [second] * story.who.count(i)


def test_names_of_any_pieces_are_drawn_from_all(corpus: Corpus) -> None:
    drawn = [
        name
        for index in range(300)
        for name in names_for(stories.story(SEED, index), corpus, Random(index), False)
    ]
    found = pieces(corpus)
    for kind, all_of_it in ((0, found.first), (1, found.second)):
        used = {name[kind] for name in drawn}
        assert used <= set(all_of_it) and len(used) > 0.8 * len(all_of_it)
    assert not found.occurring[[name[1] for name in drawn]].all()


@pytest.mark.parametrize("held_out", [True, False])
def test_the_seed_decides_the_names(corpus: Corpus, held_out: bool) -> None:
    story = stories.story(SEED, 0)
    drawn = [tuple(names_for(story, corpus, Random(seed), held_out)) for seed in (*range(20), 0)]
    assert drawn[0] == drawn[-1] and len(set(drawn)) > 15


@pytest.mark.parametrize("held_out", [True, False])
def test_a_tokenizer_without_pieces_is_bad_input(held_out: bool) -> None:
    nothing_merged = BPE.train(["one two"], 258)
    for text in (ByteTokenizer(), nothing_merged):
        train = [*text.encode(" Karop met Fluvel." * 100)]
        with pytest.raises(BadInput, match=r"two tokens.*choose another vocabulary") as error:
            questions(trained_on(train, text), 64, 3, held_out)
        assert text.name in str(error.value) and "\n" not in str(error.value)


def test_too_few_first_pieces_are_bad_input() -> None:
    """Names begin with "Z" or "Zab"; a third would begin alike."""
    text = BPE.train([" Zabc Zabd Zbca" * 50], 262)
    corpus = trained_on([0], text)
    two, three = (stories.Story(("",) * (i + 1), ("A",) * i, tuple(range(i))) for i in (2, 3))
    assert [text.decode([first]) for first in pieces(corpus).first] == [" Z", " Zab"]
    assert len(names_for(two, corpus, Random(0), False)) == 2
    with pytest.raises(BadInput, match="2 first ones"):
        names_for(three, corpus, Random(0), False)
    with pytest.raises(BadInput, match=r"two tokens to 0 of the held-out names.* more stories"):
        names_for(two, corpus, Random(0), True)


# --------------------------------------------------------------------------------------------------
# questions


def names_of(corpus: Corpus, index: int, held_out: bool = True) -> list[str]:
    names = names_for(stories.story(SEED, index), corpus, Random(index), held_out)
    return [corpus.tokenizer.decode(list(name)).strip() for name in names]


def by_story(asked: list[Question]) -> list[list[Question]]:
    """Questions share the list of their story's tokens."""
    found: dict[int, list[Question]] = {}
    for question in asked:
        found.setdefault(id(question.tokens), []).append(question)
    return list(found.values())


def test_the_story_has_new_names_and_its_own_words(corpus: Corpus, text: Tokenizer) -> None:
    asked = by_story(questions(corpus, LONG, 25))
    assert len(asked) == 25
    for index, mine in enumerate(asked):
        story, names = stories.story(SEED, index), names_of(corpus, index)
        tokens = mine[0].tokens
        assert tokens[0] == text.bos and text.bos not in tokens[1:]
        shown = text.decode(tokens)
        assert shown == story.text(names) != story.text()
        for i, name in enumerate(names):
            assert shown.count(f" {name}") >= story.who.count(i)


def test_every_mention_but_the_first_is_asked_for(corpus: Corpus, text: Tokenizer) -> None:
    for index, mine in enumerate(by_story(questions(corpus, LONG, 25))):
        tokens, names = mine[0].tokens, names_of(corpus, index)
        want = []
        for name in names:
            pair = text.encode(f" {name}")
            want += [at for at in range(len(tokens)) if tokens[at : at + 2] == pair][1:]
        assert [question.at for question in mine] == want
        who = stories.story(SEED, index).who
        assert len(want) >= len(who) - len(names) and set(who) == set(range(len(names)))


def test_each_question_is_a_name_that_came_before(corpus: Corpus, text: Tokenizer) -> None:
    for index, mine in enumerate(by_story(questions(corpus, LONG, 25))):
        pairs = [text.encode(f" {name}") for name in names_of(corpus, index)]
        for question in mine:
            name, before = question.tokens[question.at :][:2], question.tokens[: question.at]
            assert name in pairs
            assert any(before[s : s + 2] == name for s in range(len(before)))


@pytest.mark.parametrize("context", [48, 64, 128])
def test_nothing_is_beyond_the_context(corpus: Corpus, context: int) -> None:
    short, whole = questions(corpus, context, 20), questions(corpus, LONG, 20)
    assert all(len(q.tokens) == context + 1 for q in short)
    assert all(q.at < context for q in short), "asked of a token that the model is given"
    inside = [q for q in whole if q.at < context]
    assert [(q.tokens, q.at) for q in short] == [(q.tokens[: context + 1], q.at) for q in inside]
    assert 0 < len(short) < len(whole)


def test_the_same_questions_come_again(corpus: Corpus) -> None:
    asked = questions(corpus, 96, 12)
    assert questions(corpus, 96, 12) == asked
    assert questions(corpus, 96, 5) == asked[: len(questions(corpus, 96, 5))], "stories in order"


def test_a_name_is_seen_where_the_training_text_has_its_tokens(
    corpus: Corpus, text: Tokenizer, train: list[int]
) -> None:
    occurring = set(train)
    asked = questions(corpus, LONG, 40, held_out=False)
    assert all(q.seen == occurring.issuperset(q.tokens[q.at : q.at + 2]) for q in asked)
    assert {q.seen for q in asked} == {True, False}
    for i in (0, 1):  # without the first or the second token of a name that was seen
        one = next(q for q in asked if q.seen)
        gone = one.tokens[one.at + i]
        without = questions(trained_on([t for t in occurring if t != gone], text), LONG, 40, False)
        assert [(q.tokens, q.at) for q in without] == [(q.tokens, q.at) for q in asked]
        assert [q.seen for q in without] == [
            q.seen and q.tokens[q.at + i] != gone and q.tokens[q.at + 1 - i] != gone for q in asked
        ]
        assert not without[asked.index(one)].seen


def test_held_out_names_are_of_seen_tokens(corpus: Corpus) -> None:
    assert all(q.seen for q in questions(corpus, LONG, 40))


def test_any_pieces_come_from_the_vocabulary_alone(text: Tokenizer) -> None:
    none, all_of_it = (
        questions(trained_on(ids, text), 64, 3, held_out=False)
        for ids in ([0], range(text.vocab_size))
    )
    assert not any(q.seen for q in none) and all(q.seen for q in all_of_it)
    assert [q.tokens for q in none] == [q.tokens for q in all_of_it]


# --------------------------------------------------------------------------------------------------
# answers


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


# --------------------------------------------------------------------------------------------------
# the training text's statistics


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
