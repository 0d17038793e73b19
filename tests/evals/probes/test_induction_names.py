"""Names of two tokens for held-out stories: which there are, and who gets which."""

import itertools
import re
from random import Random

import numpy as np
import pytest

from evals.probes import induction
from evals.probes.induction import (
    LEAST,
    SEED,
    chunks,
    names_for,
    pieces,
    questions,
)
from mtp.data.corpus import Corpus
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer
from mtp.errors import BadInput
from synthetic import stories
from tests.evals.probes.induction_helpers import split, trained_on


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
