"""Answers from memory: formats, what counts as right, and greedy answers up to a stop."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BENCHMARK_DATA
from hypothesis import given
from hypothesis import strategies as st

from evals import answering, closed_book
from evals.answering import answers, cut
from evals.closed_book import PROTOCOLS, Answer, Question, is_right, normalised
from evals.protocol import Protocol
from mtp.config import ModelConfig
from mtp.decode import generate
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import ByteTokenizer

BYTES = ByteTokenizer()


def protocol(name: str, variant: str = "0-shot") -> Protocol:
    (found,) = (p for p in PROTOCOLS if (p.benchmark, p.variant) == (name, variant))
    return found


@pytest.fixture(scope="module")
def model() -> MultiTokenTransformer:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=96)
    return MultiTokenTransformer(config)


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


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


TRIVIA = {
    "Question": "Who wrote Hamlet?",
    "Answer": {"Value": "Shakespeare", "Aliases": ["The Bard", "Shakespeare"], "Type": "x"},
}


def test_natural_questions_own_file(tmp_path: Path) -> None:
    record = {"question": "who is it", "answer": ["Bob", "Bobby"]}
    write(tmp_path / "NQ-open.dev.jsonl", json.dumps(record) + "\n")
    found = closed_book.load("nq-open", "validation", tmp_path)
    assert found == [Question("who is it", ("Bob", "Bobby"))]


def test_triviaqas_own_file(tmp_path: Path) -> None:
    write(tmp_path / "triviaqa" / "wikipedia-dev.json", json.dumps({"Data": [TRIVIA]}))
    found = closed_book.load("triviaqa", "validation", tmp_path)
    assert found == [Question("Who wrote Hamlet", ("Shakespeare", "The Bard"))]


def test_triviaqa_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"question": "Who?", "answer": {"value": "Bob", "aliases": [], "type": "x"}}
    monkeypatch.setattr(closed_book, "hub", lambda *_: [row])
    assert closed_book.load("triviaqa", "validation") == [Question("Who", ("Bob",))]


@pytest.mark.parametrize(
    ("name", "file", "text", "told"),
    [
        ("triviaqa", "web-train.json", "[1]", "is not of TriviaQA's format"),
        ("triviaqa", "web-train.json", '{"Data": [{"Question": "Who?"}]}', "record 1 is not of"),
        ("nq-open", "NQ-open.train.jsonl", '{"question": "who", "answer": []}', "no accepted"),
        ("nq-open", "other.jsonl", "", "none of these files: NQ-open.train.jsonl"),
    ],
)
def test_bad_files_are_named(name: str, file: str, text: str, told: str, tmp_path: Path) -> None:
    write(tmp_path / file, text)
    with pytest.raises(BadInput, match=told):
        closed_book.load(name, "train", tmp_path)


def test_real_file() -> None:
    if not (BENCHMARK_DATA / "nq_open").is_dir():
        pytest.skip(f"no nq_open in {BENCHMARK_DATA}; BENCHMARK_DATA names another folder")
    found = closed_book.load("nq-open", "validation", BENCHMARK_DATA)
    assert len(found) == 3610 and found[2].accepted == ("one", "one season")


# --------------------------------------------------------------------------------------------------
# scores


def test_scores(model: MultiTokenTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def written(_model: object, _text: object, prompts: list[str], *rest: Any) -> list[str]:
        asked.append((prompts, rest))
        return [" the bob", " nobody"]

    monkeypatch.setattr(closed_book, "answers", written)
    questions = [Question("who", ("Bob",)), Question("whose", ("Bob's",))]
    examples = [*questions, *(Question(f"q{i}", (f"a{i}",)) for i in range(9))]
    wanted = protocol("nq-open", "5-shot")
    found = closed_book.score(model, BYTES, questions, wanted, examples)
    assert found == [Answer("the bob", True), Answer("nobody", False)]
    assert closed_book.exact_match(found)[0] == 0.5
    (prompts, rest), solved = asked[0], "".join(f"Q: q{i}?\nA: a{i}\n\n" for i in range(4))
    assert prompts[1] == f"Answer these questions:\n\nQ: who?\nA: Bob\n\n{solved}Q: whose?\nA:"
    assert rest == (("\n",), 32)


def test_variants_are_named_once() -> None:
    names = [(p.benchmark, p.variant) for p in PROTOCOLS]
    assert len(set(names)) == len(names)
    assert {name for name, _ in names} == set(closed_book.HUB)


# --------------------------------------------------------------------------------------------------
# answers


def greedy(model: MultiTokenTransformer, prompt: str, max_new: int) -> str:
    tokens = [BYTES.bos, *BYTES.encode(prompt)][max_new - model.config.context :]
    return BYTES.decode(generate(model, [tokens], max_new, 1, BYTES.eos).tokens[0])


PROMPTS = ["a", "the cat sat", "x" * 200, "", "whose hat is that"]


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 8])
def test_answers_are_greedy_up_to_a_stop(model: MultiTokenTransformer, k: int, batch: int) -> None:
    whole = [greedy(model, prompt, 24) for prompt in PROMPTS]
    assert answers(model, BYTES, PROMPTS, (), 24, k=k, batch=batch) == whole
    stops = [whole[0][5:7], whole[1][9]]
    found = answers(model, BYTES, PROMPTS, stops, 24, k=k, batch=batch)
    assert found == [cut(each, stops) for each in whole] and found != whole


def test_decoding_ends_when_all_have_stopped(
    model: MultiTokenTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []

    def counted(*args: Any, **options: Any) -> Any:
        for gains in stream(*args, **options):
            passes.append(len(gains))
            yield gains

    stream = answering.stream
    monkeypatch.setattr(answering, "stream", counted)
    stop = greedy(model, "a", 24)[4]
    answers(model, BYTES, ["a"], [stop], 24, k=1)
    assert len(passes) <= 5


@given(st.text("ab.", max_size=12), st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3))
def test_a_cut_answer_has_no_stop_and_begins_the_whole(answer: str, stops: list[str]) -> None:
    found = cut(answer, stops)
    assert answer.startswith(found) and not any(stop in found for stop in stops)
    assert found == answer or any(answer[len(found) :].startswith(stop) for stop in stops)


@pytest.mark.parametrize("max_new", [0, 96])
def test_no_room_for_a_prompt(model: MultiTokenTransformer, max_new: int) -> None:
    with pytest.raises(BadInput, match=f"max_new is {max_new}; it must be from 1 to 95"):
        answers(model, BYTES, ["a"], (), max_new)
