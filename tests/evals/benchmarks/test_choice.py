"""Choice tasks: every published format is read, and the likeliest choice is the model's answer."""

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.benchmarks import choice, choice_data
from evals.benchmarks.choice import CHOICES, METRICS, continuations, right
from evals.benchmarks.choice_data import TASKS, load, question
from evals.benchmarks.registry import BENCHMARKS
from evals.harness.journal import Journal
from evals.harness.likelihood import Request, likelihoods, request
from evals.harness.one_answer import Work
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import prompts
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from tests.conftest import BENCHMARK_DATA, bytes_model, write_jsonl

BYTES = ByteTokenizer()


def protocol(name: str, variant: str | None = None) -> Protocol:
    return BENCHMARKS[name].protocol(variant)


@pytest.fixture(scope="module")
def model() -> MultiTokenTransformer:
    return bytes_model(600)


def text_of(problem: Problem, protocol: Protocol, examples: Sequence[Problem] = ()) -> str:
    (made,) = prompts(Dataset((problem,), tuple(examples), "x"), protocol, BYTES, 9999).values()
    assert made
    return made.text


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
    (folder / "test").mkdir(parents=True)
    with (folder / "test" / "high_school_logic_test.csv").open("w", newline="") as file:
        csv.writer(file).writerow(['Is "p, q"\ntrue?', "yes", "no", "both", "5", "C"])


FORMATS: dict[str, tuple[Callable[[Path], object], str, tuple[str, ...], int]] = {
    "arc-challenge": (
        lambda folder: write_jsonl(folder / "ARC-Challenge-Test.jsonl", ARC),
        "Question: What falls?\nAnswer:",
        ("rain", "the sun"),
        0,
    ),
    "arc-easy": (
        lambda folder: write_jsonl(folder / "ARC-Easy" / "ARC-Easy-Test.jsonl", ARC),
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
    if name in ("copa", "piqa", "siqa"):  # whose files' names are those of others too
        write(tmp_path / name)
    wanted = protocol(name, "0-shot")
    found = load(name, Source(tmp_path).of(name), wanted)
    (problem,) = found.problems
    assert (problem.about["choices"], problem.about["gold"]) == (choices, gold)
    assert problem.group == ("high_school_logic" if name == "mmlu" else "")
    assert text_of(problem, wanted) == text
    assert problem.id == f"{name}/0" and found.origin.endswith(", unverified")
    write(tmp_path / name.replace("-", "_"))
    assert load(name, Source(tmp_path).of(name), wanted) == found
    with pytest.raises(BadInput, match=r"cannot be read: No such|has no files called"):
        load(name, Source(tmp_path / "none").of(name), wanted)


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
    hub = SimpleNamespace(load_dataset=lambda name, subset, split: [rows[name]])
    monkeypatch.setitem(sys.modules, "datasets", hub)

    def one(name: str, variant: str = "0-shot") -> Problem:
        return load(name, Source(), protocol(name, variant)).problems[0]

    assert one("arc-easy").about["gold"] == 1
    assert one("copa").fields["connector"] == "because"
    fields = {"question": "Who?", "subject": "us history"} | dict(zip("ABCD", "abcd", strict=True))
    assert one("mmlu").fields == fields | {"answer": "D"}
    assert one("siqa").about["gold"] == 2
    shown = load("mmlu", Source(), protocol("mmlu", "5-shot"))
    assert shown.examples == shown.problems and shown.origin.count("hub cais/mmlu all") == 2


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        ({"label": 2}, "record 2 is not of this format .*label 2 of 2 choices"),
        ({"question": "why"}, "record 2 is not of this format .*why"),
        ({"choice2": None}, "record 2 is not of this format"),
    ],
)
def test_a_bad_record_is_named(change: dict[str, Any], reported: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "val.jsonl", COPA, COPA | change)
    with pytest.raises(BadInput, match=reported):
        load("copa", Source(tmp_path), protocol("copa"))


def test_files_that_are_not_of_the_format(tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text('{"premise": "A."}\n3\n')
    with pytest.raises(BadInput, match="line 2 is not a JSON record"):
        load("copa", Source(tmp_path), protocol("copa"))
    write_jsonl(tmp_path / "valid.jsonl", PIQA, PIQA)
    with pytest.raises(BadInput, match=r"valid-labels\.lst cannot be read"):
        load("piqa", Source(tmp_path), protocol("piqa"))
    (tmp_path / "valid-labels.lst").write_text("0\n")
    with pytest.raises(BadInput, match="has 1 labels for 2 records"):
        load("piqa", Source(tmp_path), protocol("piqa"))
    (tmp_path / "test").mkdir()
    for row, reported in (("question,a", "has 2 cells, not 6"), ("q,a,b,c,d,E", "label -1 of 4")):
        (tmp_path / "test" / "logic_test.csv").write_text(f"question,a,b,c,d,A\n{row}\n")
        with pytest.raises(BadInput, match=reported):
            load("mmlu", Source(tmp_path), protocol("mmlu", "0-shot"))
    (tmp_path / "test" / "logic_test.csv").write_text(f"{'q' * 200_000},a,b,c,d,A\n")
    with pytest.raises(BadInput, match=r"logic_test\.csv: field larger than field limit"):
        load("mmlu", Source(tmp_path), protocol("mmlu", "0-shot"))
    with pytest.raises(BadInput, match=r"dev has no files called SUBJECT_dev\.csv"):
        (tmp_path / "test" / "logic_test.csv").write_text("question,a,b,c,d,A\n")
        load("mmlu", Source(tmp_path), protocol("mmlu"))


@pytest.mark.skipif(not (BENCHMARK_DATA / "arc").is_dir(), reason=f"no {BENCHMARK_DATA}")
@pytest.mark.parametrize(
    ("name", "size"), [("arc-challenge", 1170), ("arc-easy", 2376), ("copa", 100)]
)
def test_real_files(name: str, size: int) -> None:
    assert len(load(name, Source(BENCHMARK_DATA).of(name), protocol(name)).problems) == size


# --------------------------------------------------------------------------------------------------
# scores


def work(
    model: MultiTokenTransformer,
    asked: Sequence[Problem],
    protocol: Protocol,
    file: Path,
    examples: Sequence[Problem] = (),
    batch: int = 3,
) -> Work:
    data = Dataset(tuple(asked), tuple(examples), "x")
    made = prompts(data, protocol, BYTES, model.config.context)
    fits = {name: prompt for name, prompt in made.items() if prompt}
    by_id = {problem.id: problem for problem in asked}
    return Work(model, BYTES, protocol, fits, by_id, Journal(file, {}), batch)


def test_each_sum_takes_its_own_choice() -> None:
    # raw: -4 is best; per character: -6/4; per byte: -9/8 (four letters of two bytes)
    for gold in range(3):
        problem = question({"question": "?"}, ("ab", "abcd", "äöüß"), gold)
        found = right(problem, [-4.0, -6.0, -9.0])
        assert found == {metric: float(i == gold) for i, metric in enumerate(METRICS)}
        assert choice.chance(problem) == 1 / 3


QUESTIONS = [
    Problem(f"{i}", p.fields, p.about)
    for i, p in enumerate(
        question({"question": f"What is {i}?"}, ("one", "two or three", "x" * (i + 1)), i % 3)
        for i in range(7)
    )
]


def test_scores_are_those_of_the_texts(model: MultiTokenTransformer, tmp_path: Path) -> None:
    made = work(model, QUESTIONS, protocol("arc-easy"), tmp_path / "j")
    found = choice.score(made)
    kept = {record["problem"]: record["nats"] for record in made.journal.records}
    for problem in QUESTIONS:
        context = f"Question: {problem.fields['question']}\nAnswer:"
        nats = [
            likelihoods(model, [request(BYTES, context, f" {text}")])[0].nats
            for text in problem.about["choices"]
        ]
        assert kept[problem.id] == pytest.approx(nats, abs=1e-4)
        assert found[problem.id] == right(problem, nats)


def test_a_killed_run_goes_on_to_the_same_likelihoods(
    model: MultiTokenTransformer, tmp_path: Path
) -> None:
    def run(file: Path) -> object:
        made = work(model, QUESTIONS, protocol("arc-easy"), file)
        with made.journal:
            return choice.score(made)

    whole = run(tmp_path / "whole")
    lines = (tmp_path / "whole").read_bytes()
    assert lines.count(b"\n") == 8
    for cut in (0, 2, 100, len(lines) // 2, len(lines) - 1, len(lines)):
        (tmp_path / "cut").write_bytes(lines[:cut])
        assert run(tmp_path / "cut") == whole
        assert (tmp_path / "cut").read_bytes() == lines
    made = work(model, QUESTIONS, protocol("arc-easy"), tmp_path / "whole")
    assert choice.score(replace(made, model=None)) == whole  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [
        '{"x": 1}',
        '{"problem": ["0"], "nats": [-1, -2, -3]}',
        '{"problem": "other", "nats": [-1, -2, -3]}',
        '{"problem": "0", "nats": null}',
        '{"problem": "0", "nats": [-1, -2]}',
        '{"problem": "0", "nats": [-1, -2, "-3"]}',
        '{"problem": "0", "nats": [-1, -2, NaN]}',
    ],
)
def test_a_record_of_something_else_is_named(
    line: str, model: MultiTokenTransformer, tmp_path: Path
) -> None:
    (tmp_path / "j").write_text("{}\n" + '{"problem": "1", "nats": [-1, -2, -3]}\n' + line + "\n")
    with pytest.raises(BadInput, match=r"j line 3 is not a record of ln p .*; delete the file"):
        choice.score(work(model, QUESTIONS, protocol("arc-easy"), tmp_path / "j"))


def test_two_spaces_before_copas_choices(
    model: MultiTokenTransformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = question({"premise": "It rained", "connector": "because"}, ("a", "b"), 0)
    asked: list[Request] = []

    def seen(model: MultiTokenTransformer, requests: list[Request]) -> Any:
        asked.extend(requests)
        return likelihoods(model, requests)

    monkeypatch.setattr(choice, "likelihoods", seen)
    for variant in ("0-shot", "two-spaces"):
        choice.score(work(model, [problem], protocol("copa", variant), tmp_path / variant))
    texts = [(BYTES.decode(r.context), BYTES.decode(r.continuation)) for r in asked]
    assert texts[::2] == [("It rained because", " a"), ("It rained because", "  a")]


def test_solved_examples_are_of_the_subject_and_not_the_question() -> None:
    def asked(name: str, group: str) -> Problem:
        letters = dict(zip("ABCD", "abcd", strict=True))
        return question({"question": name, "subject": group} | letters, tuple("ABCD"), 1, group)

    examples = [asked(f"{group}{i}", group) for i in range(7) for group in ("law", "art")]
    options = "\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    solved = "".join(f"law{i}{options} B\n\n" for i in range(1, 6))
    assert text_of(examples[0], protocol("mmlu"), examples) == (
        "The following are multiple choice questions (with answers) about law.\n\n"
        f"{solved}law0{options}"
    )
    with pytest.raises(BadInput, match="has 2 solved examples of law; mmlu 5-shot shows 5"):
        text_of(examples[0], protocol("mmlu"), examples[:4])


def test_a_prompt_leaves_room_for_the_longest_choice() -> None:
    problem = question({"question": "?"}, ("a", "b" * 50), 0)
    wanted = protocol("arc-easy")
    assert choice.longest(problem, wanted, BYTES) == 51
    data = Dataset((problem,), (), "x")
    needed = 1 + len("Question: ?\nAnswer:") + 51
    for context, fits in ((needed, True), (needed - 1, False)):
        (made,) = prompts(
            data, wanted, BYTES, context, lambda p: choice.longest(p, wanted, BYTES)
        ).values()
        assert (made is not None) == fits


def test_braces_in_a_question_are_only_text() -> None:
    problem = question({"question": "What is {x} {shots}?"}, ("{a}", "b"), 0)
    assert text_of(problem, protocol("arc-easy")) == "Question: What is {x} {shots}?\nAnswer:"
    assert continuations(problem, protocol("arc-easy")) == [" {a}", " b"]


def test_every_task_is_a_benchmark() -> None:
    assert {benchmark.name for benchmark in CHOICES} == set(TASKS) == set(FORMATS)
    assert choice_data.without_marks(" [header] How to [title] Do it.  Now [step] go. ") == (
        " How to. Do it. Now go."
    )
