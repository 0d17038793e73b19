"""Choice tasks: every published format is read, and the likeliest choice is the model's answer."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BENCHMARK_DATA

from evals import choice
from evals.choice import PROTOCOLS, Answer, Question
from evals.likelihood import Likelihood, Request, likelihoods, request
from evals.protocol import Protocol
from evals.templates import prompt
from mtp.config import ModelConfig
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
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=600)
    return MultiTokenTransformer(config)


def write_jsonl(file: Path, *records: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


# --------------------------------------------------------------------------------------------------
# a record of each format, its prompt, choices and label

ARC = {
    "id": "x",
    "question": {
        "stem": "What falls?",
        "choices": [{"text": "rain", "label": "1"}, {"text": "the sun", "label": "2"}],
    },
    "answerKey": "1",
}
COPA = {
    "premise": "The man turned on the tap.",
    "choice1": "The toilet filled.",
    "choice2": "Water flowed.",
    "question": "effect",
    "label": 1,
    "idx": 0,
}
HELLASWAG = {
    "ind": 4,
    "activity_label": "Removing ice",
    "ctx_a": "[header] How to clear a car [title] Scrape.",
    "ctx_b": "the man",
    "endings": ["sings.", "scrapes [substeps] on.", "flies.", "sleeps."],
    "label": 1,
    "split_type": "indomain",
}
PIQA = {"goal": "Open a jar.", "sol1": "Turn the lid.", "sol2": "Eat it."}
SIQA = {
    "context": "Ann fell.",
    "question": "What next?",
    "answerA": "sing",
    "answerB": "get up",
    "answerC": "fly",
}


def piqa(folder: Path) -> None:
    write_jsonl(folder / "valid.jsonl", PIQA)
    (folder / "valid-labels.lst").write_text("0\n")


def siqa(folder: Path) -> None:
    write_jsonl(folder / "dev.jsonl", SIQA)
    (folder / "dev-labels.lst").write_text("2\n")


def mmlu(folder: Path) -> None:
    (folder / "val").mkdir(parents=True)
    with (folder / "val" / "high_school_logic_val.csv").open("w", newline="") as file:
        csv.writer(file).writerow(['Is "p, q"\ntrue?', "yes", "no", "both", "5", "C"])


FORMATS: dict[str, tuple[Callable[[Path], None], str, tuple[str, ...], int]] = {
    "arc-challenge": (
        lambda folder: write_jsonl(folder / "ARC-Challenge-Dev.jsonl", ARC),
        "Question: What falls?\nAnswer:",
        ("rain", "the sun"),
        0,
    ),
    "arc-easy": (
        lambda folder: write_jsonl(folder / "ARC-Easy" / "ARC-Easy-Dev.jsonl", ARC),
        "Question: What falls?\nAnswer:",
        ("rain", "the sun"),
        0,
    ),
    "copa": (
        lambda folder: write_jsonl(folder / "val.jsonl", COPA),
        "The man turned on the tap therefore",
        ("the toilet filled.", "water flowed."),
        1,
    ),
    "hellaswag": (
        lambda folder: write_jsonl(folder / "hellaswag_val.jsonl", HELLASWAG),
        "Removing ice: How to clear a car. Scrape. The man",
        ("sings.", "scrapes on.", "flies.", "sleeps."),
        1,
    ),
    "piqa": (piqa, "Question: Open a jar.\nAnswer:", ("Turn the lid.", "Eat it."), 0),
    "siqa": (siqa, "Q: Ann fell. What next?\nA:", ("sing", "get up", "fly"), 1),
    "mmlu": (
        mmlu,
        "The following are multiple choice questions (with answers) about high school logic.\n\n"
        'Is "p, q"\ntrue?\nA. yes\nB. no\nC. both\nD. 5\nAnswer:',
        ("A", "B", "C", "D"),
        2,
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_published_format(name: str, tmp_path: Path) -> None:
    write, text, choices, gold = FORMATS[name]
    write(tmp_path)
    (question,) = choice.load(name, "validation", tmp_path)
    wanted = protocol(name)
    assert (question.choices, question.gold) == (choices, gold)
    if name == "mmlu":
        assert question.group == "high_school_logic"
    assert prompt(wanted, question.fields) == text
    with pytest.raises(BadInput, match="has none of these files"):
        choice.load(name, "train", tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_the_benchmarks_name_is_found(name: str, tmp_path: Path) -> None:
    FORMATS[name][0](tmp_path / name.replace("-", "_"))
    assert len(choice.load(name, "validation", tmp_path)) == 1


def test_rows_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "allenai/ai2_arc": {
            "question": "What falls?",
            "choices": {"text": ["rain", "sun"], "label": ["A", "B"]},
            "answerKey": "B",
        },
        "aps/super_glue": COPA | {"question": 0},
        "cais/mmlu": {
            "question": " Who?",
            "choices": ["a", "b", "c", "d"],
            "answer": 3,
            "subject": "us_history",
        },
        "lighteval/siqa": SIQA | {"label": "3"},
    }
    monkeypatch.setattr(choice, "hub", lambda name, subset, split: [rows[name]])
    assert choice.load("arc-easy", "test")[0].gold == 1
    assert choice.load("copa", "train")[0].fields["connector"] == "because"
    assert choice.load("mmlu", "test")[0] == Question(
        {"question": "Who?", "subject": "us history", "A": "a", "B": "b", "C": "c", "D": "d"},
        ("A", "B", "C", "D"),
        3,
        "us_history",
    )
    assert choice.load("siqa", "validation")[0].gold == 2


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"label": 2}, "record 2 is not of this format .*label 2 of 2 choices"),
        ({"question": "why"}, "record 2 is not of this format .*why"),
        ({"choice2": None}, "record 2 is not of this format"),
    ],
)
def test_a_bad_record_is_named(change: dict[str, Any], told: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "val.jsonl", COPA, COPA | change)
    with pytest.raises(BadInput, match=told):
        choice.load("copa", "validation", tmp_path)


def test_files_that_are_not_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text('{"premise": "A."}\n[]\n')
    with pytest.raises(BadInput, match="line 2 is not a JSON object"):
        choice.load("copa", "validation", tmp_path)
    write_jsonl(tmp_path / "train.jsonl", PIQA, PIQA)
    (tmp_path / "train-labels.lst").write_text("0\n")
    with pytest.raises(BadInput, match="has 1 labels for the 2 records"):
        choice.load("piqa", "train", tmp_path)
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "logic_test.csv").write_text("question,a,b,c,d,A\nquestion,a\n")
    with pytest.raises(BadInput, match="record 2 is not of this format"):
        choice.load("mmlu", "test", tmp_path)
    with pytest.raises(BadInput, match="unknown choice task 'arc'; choose one of: arc-challenge"):
        choice.load("arc", "test", tmp_path)
    with pytest.raises(BadInput, match="unknown split 'dev'; choose one of: train, validation"):
        choice.load("copa", "dev", tmp_path)


def test_real_files() -> None:
    if not (BENCHMARK_DATA / "arc").is_dir() or not (BENCHMARK_DATA / "copa").is_dir():
        pytest.skip(f"no arc and copa in {BENCHMARK_DATA}; BENCHMARK_DATA names another folder")
    sizes = {
        (name, split): len(choice.load(name, split, BENCHMARK_DATA))
        for name, splits in {
            "arc-challenge": ("train", "validation", "test"),
            "arc-easy": ("train", "validation", "test"),
            "copa": ("train", "validation"),
        }.items()
        for split in splits
    }
    assert list(sizes.values()) == [1119, 299, 1170, 2251, 570, 2376, 400, 100]


# --------------------------------------------------------------------------------------------------
# scores


def test_each_sum_takes_its_own_choice(
    model: MultiTokenTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # raw: -4 is best; per character: -6/4; per byte: -9/8 (four letters of two bytes)
    question = Question({"question": "?"}, ("ab", "abcd", "äöüß"), 1)
    sums = iter([-4.0, -6.0, -9.0])
    monkeypatch.setattr(
        choice, "likelihoods", lambda _, asked: [type("L", (), {"nats": next(sums)}) for _ in asked]
    )
    (found,) = choice.score(model, BYTES, [question], protocol("arc-easy"))
    assert found == Answer(1, 0, 1, 2, (-4.0, -6.0, -9.0))
    shares = choice.accuracies([found])
    assert [share for share, *_ in shares.values()] == [0, 1, 0]


def test_scores_are_those_of_the_texts(model: MultiTokenTransformer) -> None:
    questions = [
        Question({"question": f"What is {i}?"}, ("one", "two or three", "x" * (i + 1)), i % 3)
        for i in range(7)
    ]
    found = choice.score(model, BYTES, questions, protocol("arc-easy"))
    for question, answer in zip(questions, found, strict=True):
        context = f"Question: {question.fields['question']}\nAnswer:"
        nats = [
            likelihoods(model, [request(BYTES, context, f" {text}")])[0].nats
            for text in question.choices
        ]
        assert answer.nats == pytest.approx(nats, abs=1e-4)
        assert answer.raw == nats.index(max(nats))
        assert answer.gold == question.gold


def test_two_spaces_before_copas_choices(
    model: MultiTokenTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    question = Question({"premise": "It rained", "connector": "because"}, ("a", "b"), 0)
    asked: list[Request] = []

    def seen(model: MultiTokenTransformer, requests: list[Request]) -> list[Likelihood]:
        asked.extend(requests)
        return likelihoods(model, requests)

    monkeypatch.setattr(choice, "likelihoods", seen)
    for variant in ("0-shot", "two-spaces"):
        choice.score(model, BYTES, [question], protocol("copa", variant))
    texts = [(BYTES.decode(r.context), BYTES.decode(r.continuation)) for r in asked]
    assert texts[::2] == [("It rained because", " a"), ("It rained because", "  a")]


def test_solved_examples_are_of_the_group_and_not_the_question(
    model: MultiTokenTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def question(name: str, group: str) -> Question:
        letters = dict(zip("ABCD", "abcd", strict=True))
        return Question({"question": name, "subject": group} | letters, tuple("ABCD"), 1, group)

    examples = [question(f"{group}{i}", group) for i in range(7) for group in ("law", "art")]
    seen = []
    monkeypatch.setattr(
        choice, "request", lambda text, context, c: seen.append(context) or request(text, "", c)
    )
    choice.score(model, BYTES, [examples[0]], protocol("mmlu", "5-shot"), examples)
    options = "\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    solved = "".join(f"law{i}{options} B\n\n" for i in range(1, 6))
    assert seen[0] == (
        "The following are multiple choice questions (with answers) about law.\n\n"
        f"{solved}law0{options}"
    )
    with pytest.raises(BadInput, match="mmlu 5-shot shows 5 solved examples; there are 1"):
        choice.score(model, BYTES, [examples[0]], protocol("mmlu", "5-shot"), examples[:4])


def test_as_many_solved_examples_as_the_protocol_says() -> None:
    two = Protocol("x", "2-shot", 2, "Q {q}?")
    solved = [({"q": str(i)}, f"a{i}") for i in range(4)]
    assert prompt(two, {"q": "why"}, solved) == "Q 0? a0\n\nQ 1? a1\n\nQ why?"


def test_braces_in_a_question_are_only_text() -> None:
    fields = {"question": "What is {x} {shots}?"}
    assert prompt(protocol("arc-easy"), fields) == "Question: What is {x} {shots}?\nAnswer:"


def test_variants_are_named_once() -> None:
    names = [(p.benchmark, p.variant) for p in PROTOCOLS]
    assert len(set(names)) == len(names)
    assert {name for name, _ in names} == set(choice.READERS) == set(choice.HUB)
