"""The questions that names pose in held-out stories."""

from random import Random

import pytest

from evals.probes.induction import (
    SEED,
    names_for,
    questions,
)
from mtp.data.corpus import Corpus
from mtp.data.tokenizer import Tokenizer
from synthetic import stories
from tests.evals.probes.induction_helpers import LONG, by_story, trained_on


def names_of(corpus: Corpus, index: int, held_out: bool = True) -> list[str]:
    names = names_for(stories.story(SEED, index), corpus, Random(index), held_out)
    return [corpus.tokenizer.decode(list(name)).strip() for name in names]


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
