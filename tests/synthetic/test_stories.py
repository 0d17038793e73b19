"""Stories are their seed's, name their characters by the rules, and are clean English."""

import hashlib
import itertools
import re
import time
from random import Random

import pytest

from synthetic import stories as stories_module
from synthetic import story_parts
from synthetic.stories import (
    COMMON,
    MENTIONS,
    TEST_SEED,
    WORDS_ALLOWED,
    Story,
    documents,
    held_out_names,
    story,
    variety,
)

# what a slip in a template would leave in a text
FLAWS = {
    "two spaces or a space at an edge": r"  | \n|\n |^\s|\s$",
    "space before punctuation": r"\s[.,!?;:]",
    "an unfilled slot": r"[^\w\s.,!?;:'\"-]|[\d_]|[^ -~\n]",
    "a for an": r"\b[Aa] [aeiouAEIOU]",
    "an for a": r"\b[Aa]n (?!hour|honest)[^aeiouAEIOU]",
    "a small letter after a full stop": r'[.!?] "?[a-z]|\n"?[a-z]|^"?[a-z]',
    "two marks": r'[.,!?;:]"?[.,!?;:]',
    "a mark outside a quotation": r'\w"',
    "no space after a mark": r"[.,!?;:]\w",
    "a word twice": r"\b(\w+) \1\b",
    "no end": r'[^.!?"](\n|$)',
}


@pytest.fixture(scope="module")
def stories() -> list[Story]:
    start = time.perf_counter()
    many = [story(0, index) for index in range(2000)]
    size, seconds = sum(len(one.text()) for one in many), time.perf_counter() - start
    print(f"{size / seconds / 1e6:.1f} MB/s")
    return many


def test_a_story_is_a_function_of_seed_and_index(stories: list[Story]) -> None:
    assert [story(0, index) for index in (1999, 3, 0, 3)] == [stories[i] for i in (1999, 3, 0, 3)]
    assert not {story(1, index).text() for index in range(100)} & {s.text() for s in stories}
    assert len({one.text() for one in stories}) == len(stories)


def test_the_characters_are_named_often_enough(stories: list[Story]) -> None:
    for one in stories:
        assert len(one.parts) == len(one.who) + 1
        assert len(one.text().split()) in WORDS_ALLOWED
        assert len(one.names) in (2, 3)
        for i in range(len(one.names)):
            assert one.who.count(i) >= MENTIONS[i]


def test_a_space_precedes_every_name(stories: list[Story]) -> None:
    for one in stories:
        for before, after in zip(one.parts, one.parts[1:], strict=False):
            assert re.search(r"(^|[^\s]) $", before) and not re.search(r"\b[Aa]n? $", before)
            assert after[0] in " .,!?';:"


def test_names_are_neither_words_nor_beginnings_of_names(stories: list[Story]) -> None:
    ordinary: set[str] = set()
    for one in stories:
        assert all(re.fullmatch("[A-Z][a-z]+", name) for name in one.names)
        pairs = [(a, b) for a in one.names for b in one.names if a is not b]
        assert not any(a[:2] == b[:2] for a, b in pairs)
        ordinary.update(re.findall("[a-z]+", " ".join(one.parts).lower()))
    assert not ordinary & {name.lower() for one in stories for name in one.names}
    assert not {*COMMON["girl"], *COMMON["boy"]} & {name for one in stories for name in one.names}


def test_invented_names_have_two_syllables_and_a_tenth_is_held_out() -> None:
    first, second = story_parts.NAME_STARTS.split(), story_parts.NAME_MIDDLES.split()
    every = {a + x + b + y for a in first for b in second for x in "aeiou" for y in "aeiou"}
    assert len(every) == 8050
    held_out = set(held_out_names())
    assert held_out < every and 0.09 < len(held_out) / len(every) < 0.11
    made = {name for i in range(9_000) for name in story(0, i).names}
    assert made <= every - held_out and len(made) > 0.9 * (len(every) - len(held_out))
    for names in (made, held_out):  # all syllables, in training and among those held out
        assert {name[:-2] for name in names} == {a + x for a in first for x in "aeiou"}
        assert {name[-2:] for name in names} == {b + y for b in second for y in "aeiou"}


@pytest.mark.parametrize("percent", [0, 20, 100])
def test_so_many_names_are_invented(percent: int) -> None:
    common = {*COMMON["girl"], *COMMON["boy"]}
    names = [name for index in range(400) for name in story(0, index, percent).names]
    share = 100 * sum(name not in common for name in names) / len(names)
    assert share == pytest.approx(percent, abs=6 if 0 < percent < 100 else 0)
    assert story(0, 3, 100) == story(0, 3)


def test_names_can_be_replaced(stories: list[Story]) -> None:
    for one in stories[:200]:
        other = ["Qxa", "Qyb", "Qzc"][: len(one.names)]
        text = one.text(other)
        for i, (name, new) in enumerate(zip(one.names, other, strict=True)):
            assert text.count(new) == one.who.count(i)
            assert not re.search(rf"\b{name}\b", text)
            text = text.replace(new, name)
        assert text == one.text() == one.text(one.names)
    with pytest.raises(ValueError, match="1 names for a story of"):
        stories[0].text(["Qxa"])


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_english_is_clean(stories: list, flaw: str) -> None:
    for one in stories:
        found = re.search(FLAWS[flaw], one.text())
        assert not found, one.text()[max(0, found.start() - 40) : found.end() + 40]
        assert all(line.count('"') % 2 == 0 for line in one.text().split("\n"))


def test_all_words_of_the_grammar_are_used() -> None:
    texts = str([value for name, value in vars(story_parts).items() if name.isupper()])
    assert set(story_parts.WORDS) == {word.lower() for word in re.findall(r"\{(\w+)\}", texts)}
    assert len(story_parts.PLOTS) >= 10 and set(story_parts.PLOTS) > story_parts.MEETINGS


def test_documents() -> None:
    reported = list(documents({"seed": "7", "count": "3", "calls": "0"}))
    assert reported == [story(7, i).text() for i in range(3)]
    reported = list(documents({"count": "3", "invented": "50", "calls": "0"}))
    assert reported == [story(0, i, 50).text() for i in range(3)]
    assert reported != list(documents({"count": "3", "calls": "0"}))
    with pytest.raises(ValueError, match=r"unknown option 'sed'.*seed, count"):
        documents({"sed": "1"})
    next(documents({"seed": str(TEST_SEED - 1)}))
    with pytest.raises(ValueError, match=rf"seed={TEST_SEED} of stories must be below"):
        documents({"seed": str(TEST_SEED)})
    for name in ("invented", "calls"):
        with pytest.raises(ValueError, match=rf"{name}=101 .* up to 100"):
            documents({name: "101"})
    for bad in ("-1", "many", "", "1.5", "1_0"):
        with pytest.raises(ValueError, match=r"option count=.* whole number, 0 or more"):
            documents({"count": bad})


@pytest.mark.parametrize("percent", [0, 40, 100])
def test_so_many_documents_are_calls(percent: int) -> None:
    made = list(documents({"count": "1000", "calls": str(percent)}))
    calls = [text for text in made if text.startswith("Calling ")]
    assert len(calls) == pytest.approx(10 * percent, abs=50 if 0 < percent < 100 else 0)
    others = [(i, text) for i, text in enumerate(made) if not text.startswith("Calling ")]
    assert all(text == story(0, i).text() for i, text in others[:50]), "the rest is as it was"
    held_out = set(held_out_names())
    for text in calls:
        names = text.removeprefix("Calling ").removesuffix(".").split(" ")
        assert 2 <= len(set(names)) <= 10 and 40 <= len(names) <= 50
        assert len({name[:2] for name in names}) == len(set(names)), "none begins as another"
        assert not held_out.intersection(names)
    assert len(set(calls)) == len(calls)


def calls_of(order: str) -> list[list[str]]:
    made = documents({"count": "300", "calls": "100", "order": order})
    return [text.removeprefix("Calling ").removesuffix(".").split(" ") for text in made]


def test_the_default_text_is_the_one_it_always_was() -> None:
    """Of the generator before roll calls had an order: sha256 of 500 documents."""
    texts = list(documents({"count": "500"}))
    assert hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16] == "438215c0595c9b05"
    assert texts == list(documents({"count": "500", "order": "random"}))


def test_cyclic_calls_repeat_their_names_in_turn() -> None:
    for random, cyclic in zip(calls_of("random"), calls_of("cyclic"), strict=True):
        period = len(set(cyclic))
        assert 3 <= period <= 10 and len(cyclic) == len(random)
        assert all(a == b for a, b in zip(cyclic, cyclic[period:], strict=False))
        assert set(random) <= set(cyclic), "a document has the same names in either order"
    follows = [[set(pair) for pair in itertools.pairwise(names)] for names in calls_of("random")]
    assert any(len(pair) == 1 for pairs in follows for pair in pairs), "drawn with replacement"


def test_without_an_order_there_are_no_calls() -> None:
    assert list(documents({"count": "50", "order": "none"})) == [
        story(0, index).text() for index in range(50)
    ]
    assert list(documents({"count": "5", "order": "none", "calls": "0"}))
    for options, message in (
        ({"order": "none", "calls": "40"}, "option calls=40 of stories needs an order"),
        (
            {"order": "sorted"},
            "option order='sorted' of stories; choose from: random",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            documents(options)


def test_stories_are_the_same_whatever_the_order() -> None:
    random, cyclic = (list(documents({"count": "200", "order": o})) for o in ("random", "cyclic"))
    same = [a == b for a, b in zip(random, cyclic, strict=True)]
    assert same == [not text.startswith("Calling ") for text in random]


def test_variety_of_known_texts() -> None:
    same = variety(["the cat sat. " * 500, "The Cat sat! " * 500])
    assert (same["words"], same["distinct words"]) == (3000, 3)
    assert same["types/tokens"] == 3 / 3000
    assert same["distinct 3-grams"] == 3 / 2998 and same["distinct 5-grams"] == 3 / 2996
    assert same["zlib"] < 0.02 and same["lzma"] < 0.03
    letters = Random(0)
    noise = variety(
        " ".join("".join(letters.choices("abcdefgh", k=8)) for _ in range(5000)).split()
    )
    assert noise["types/tokens"] > 0.99 and noise["distinct 5-grams"] == 1 and noise["zlib"] > 0.35
    with pytest.raises(ValueError, match="no words"):
        variety(["", "1 2 3"])


def test_stories_are_varied(stories: list[Story]) -> None:
    found = variety(one.text() for one in stories)
    assert found["zlib"] > 0.22 and found["distinct 5-grams"] > 0.6


def test_the_docstring_shows_a_real_story() -> None:
    shown = " ".join((stories_module.__doc__ or "").split())
    assert " ".join(story(0, 212).text().split()) in shown
