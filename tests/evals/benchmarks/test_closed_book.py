"""Answers from memory: formats, what counts as right, prompts with examples."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.benchmarks import closed_book
from evals.benchmarks.closed_book import is_right, normalised, right
from evals.benchmarks.registry import BENCHMARKS
from evals.harness.problems import Problem, Source
from evals.harness.prompts import prompts
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from tests.conftest import BENCHMARK_DATA, write_jsonl

BYTES = ByteTokenizer()


# --------------------------------------------------------------------------------------------------
# what is right


@pytest.mark.parametrize(
    ("answer", "accepted", "right"),
    [
        (" The  Beatles.", ["beatles"], True),
        ("a James I", ["James I"], True),
        ("14 december 1972, utc", ["December 1972", "14 December 1972 UTC"], True),
        ("James", ["James I"], False),
        ("theatre", ["re"], False),  # an article is a word
        ("", ["The"], False),
        ("the", ["a"], False),
    ],
)
def test_what_is_right(answer: str, accepted: list[str], right: bool) -> None:
    assert is_right(answer, accepted) == right


@given(st.text(max_size=30))
def test_nothing_normalised_holds_articles_or_double_spaces(answer: str) -> None:
    once = normalised(answer)
    assert once == " ".join(once.split()) and not set(once.split()) & {"a", "an", "the"}


# --------------------------------------------------------------------------------------------------
# formats

TRIVIA = {
    "Question": "Who wrote Hamlet?",
    "Answer": {"Value": "Shakespeare", "Aliases": ["The Bard", "Shakespeare"], "Type": "x"},
}


def own(folder: Path) -> Source:
    return Source(folder, own=True)


def test_natural_questions_own_file(tmp_path: Path) -> None:
    record = {"question": "who is it?", "answer": ["Bob", "Bobby"]}
    write_jsonl(tmp_path / "NQ-open.dev.jsonl", record)
    found = closed_book.load("nq-open", own(tmp_path)).problems
    fields = {"question": "who is it", "answer": "Bob"}
    assert found == (Problem("nq-open/0", fields, {"accepted": ("Bob", "Bobby")}),)
    with pytest.raises(BadInput, match="is not the original"):
        closed_book.load("nq-open", Source(tmp_path))


def test_triviaqas_own_files_are_those_of_the_hubs_branch(tmp_path: Path) -> None:
    """rc.nocontext has the questions of both."""
    folder, other = tmp_path / "triviaqa", TRIVIA | {"Question": "Who else?"}
    folder.mkdir()
    for name, record in (("web", TRIVIA), ("wikipedia", other), ("unfiltered-web", other)):
        (folder / f"{name}-dev.json").write_text(json.dumps({"Data": [record]}))
    data = closed_book.load("triviaqa", Source(tmp_path).of("triviaqa"))
    found, last = data.problems
    assert found.fields == {"question": "Who wrote Hamlet", "answer": "Shakespeare"}
    assert found.about["accepted"] == ("Shakespeare", "The Bard")
    assert right(found, " the bard.") and not right(found, "bard of Avon")
    assert (last.id, last.fields["question"]) == ("triviaqa/1", "Who else")
    assert data.origin.startswith("web-dev.json sha256:")
    assert ", wikipedia-dev.json sha256:" in data.origin
    for name in ("web", "wikipedia"):
        (folder / f"{name}-dev.json").rename(folder / "away")
        with pytest.raises(BadInput, match=rf"/{name}-dev.json cannot be read: No such file"):
            closed_book.load("triviaqa", Source(tmp_path).of("triviaqa"))
        (folder / "away").rename(folder / f"{name}-dev.json")


def test_triviaqa_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"question": "Who?", "answer": {"value": "Bob", "aliases": [], "type": "x"}}
    monkeypatch.setattr(closed_book, "from_hub", lambda *_: ([row], "hub"))
    (found,) = closed_book.load("triviaqa", Source()).problems
    assert found.fields["question"] == "Who" and found.about["accepted"] == ("Bob",)


@pytest.mark.parametrize(
    ("name", "file", "text", "reported"),
    [
        ("triviaqa", "web-dev.json", "[1]", "is not of TriviaQA's format"),
        ("triviaqa", "web-dev.json", '{"Data": {"Question": 1}}', "'s format"),
        ("triviaqa", "web-dev.json", "[" * 100_000, "is not of TriviaQA's format"),
        ("triviaqa", "unfiltered-web-dev.json", "", r"/web-dev.json cannot be read: No such"),
        ("nq-open", "NQ-open.dev.jsonl", '{"question": "who", "answer": []}', "no accepted"),
        ("nq-open", "other.jsonl", "", "NQ-open.dev.jsonl cannot be read"),
    ],
)
def test_bad_files_are_named(
    name: str, file: str, text: str, reported: str, tmp_path: Path
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(BadInput, match=reported):
        closed_book.load(name, own(tmp_path))


@pytest.mark.skipif(not (BENCHMARK_DATA / "nq_open").is_dir(), reason=f"no {BENCHMARK_DATA}")
def test_the_original_file() -> None:
    found = closed_book.load("nq-open", Source(BENCHMARK_DATA).of("nq-open"))
    assert len(found.problems) == 3610
    assert found.problems[2].about["accepted"] == ("one", "one season")
    assert found.origin == "NQ-open.dev.jsonl sha256:f15567f38099f361"


def test_examples_are_of_the_training_split(tmp_path: Path) -> None:
    shown = [{"question": f"q{i}", "answer": [f"a{i}", "b"]} for i in range(9)]
    write_jsonl(tmp_path / "NQ-open.train.jsonl", *shown)
    write_jsonl(tmp_path / "NQ-open.dev.jsonl", {"question": "whose", "answer": ["Bob"]}, shown[0])
    data = closed_book.load_with_examples("nq-open", own(tmp_path))
    made = prompts(data, BENCHMARKS["nq-open"].protocol("5-shot"), BYTES, 999)
    for name, numbers in (("nq-open/0", range(5)), ("nq-open/1", range(1, 6))):
        solved = "".join(f"Q: q{i}?\nA: a{i}\n\n" for i in numbers)  # the question itself is not
        found = made[name]
        assert found and found.text.startswith(f"Answer these questions:\n\n{solved}Q: ")
    assert found.text.endswith("\n\nQ: q0?\nA:") and found.shots == 5
