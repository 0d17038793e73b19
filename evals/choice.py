"""Multiple choice by log-likelihood (section 3.7, Figures 5, S12).

    "The man turned on the faucet therefore"  " the toilet filled with water."     ln p = -31.2
                                              " water flowed from the spout."      ln p = -18.0  <-

A model's answer is the choice that it finds likeliest after the prompt: by the sum of ln p, by the
sum over the choice's characters, or over its bytes (acc, acc_norm and acc_bytes of
lm-evaluation-harness). The paper names the benchmarks alone: its prompts, its shots and which of
these sums it took are unknown. The first Llama paper, of the same laboratory, divides by
characters, which makes that the likeliest.

Prompts are those of lm-evaluation-harness 0.4.13, except that COPA's choices follow one space and
not two; variant `two-spaces` is the harness's.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.intervals import bootstrap
from evals.likelihood import likelihoods, request
from evals.protocol import Protocol
from evals.records import Record, convert, find, folder, hub, read_jsonl, read_lines
from evals.templates import delimiter, prompt
from mtp.errors import BadInput, choose
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import Tokenizer

POST = "the likeliest choice: by the sum of ln p, by that over characters, by that over bytes"


def _protocol(benchmark: str, template: str, variant: str = "0-shot", shots: int = 0) -> Protocol:
    return Protocol(benchmark, variant, shots, template, post=POST)


MMLU = (
    "The following are multiple choice questions (with answers) about {subject}.\n\n"
    "{shots}{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:"
)
PROTOCOLS = (
    _protocol("arc-challenge", "Question: {question}\nAnswer:"),
    _protocol("arc-easy", "Question: {question}\nAnswer:"),
    _protocol("copa", "{premise} {connector}"),
    _protocol("copa", "{premise} {connector}  ", "two-spaces"),
    _protocol("hellaswag", "{context}"),
    _protocol("mmlu", MMLU, "5-shot", 5),
    _protocol("mmlu", MMLU),
    _protocol("piqa", "Question: {goal}\nAnswer:"),
    _protocol("siqa", "Q: {context} {question}\nA:"),
)


@dataclass(frozen=True)
class Question:
    """A template's fields, the choices, the index of the right one. `group` parts the questions
    that share their solved examples: MMLU's subjects."""

    fields: dict[str, str]
    choices: tuple[str, ...]
    gold: int
    group: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.gold < len(self.choices):
            raise ValueError(f"label {self.gold} of {len(self.choices)} choices")


@dataclass(frozen=True)
class Answer:
    """The choice taken by each of the three sums, and the sums of ln p themselves."""

    gold: int
    raw: int
    per_character: int
    per_byte: int
    nats: tuple[float, ...]


def score(
    model: MultiTokenTransformer,
    text: Tokenizer,
    questions: Sequence[Question],
    protocol: Protocol,
    examples: Sequence[Question] = (),
) -> list[Answer]:
    """The model's answers. Solved examples are the first of `examples` in the question's group that
    are not the question itself."""
    shown: dict[str, list[Question]] = {}
    for example in examples if protocol.shots else ():
        shown.setdefault(example.group, []).append(example)
    requests = []
    for question in questions:
        solved = [
            (example.fields, example.choices[example.gold])
            for example in shown.get(question.group, [])[: protocol.shots + 1]
            if example != question
        ]
        context = prompt(protocol, question.fields, solved)
        requests += [request(text, context, delimiter(protocol) + c) for c in question.choices]
    scored = iter(likelihoods(model, requests))
    found = []
    for question in questions:
        nats = [next(scored).nats for _ in question.choices]
        characters = [max(1, len(choice)) for choice in question.choices]
        octets = [max(1, len(choice.encode())) for choice in question.choices]
        found.append(
            Answer(
                question.gold,
                _best(nats, [1] * len(nats)),
                _best(nats, characters),
                _best(nats, octets),
                tuple(nats),
            )
        )
    return found


def _best(nats: list[float], lengths: list[int]) -> int:
    """Index of the highest sum per length; the first of equal ones."""
    return max(range(len(nats)), key=lambda i: nats[i] / lengths[i])


def accuracies(answers: Sequence[Answer]) -> dict[str, tuple[float, float, float]]:
    """By each sum, the share of right answers and its 90% interval over questions (MMLU's too are
    averaged over questions, not over subjects)."""
    taken = {
        "accuracy": [answer.raw == answer.gold for answer in answers],
        "accuracy per character": [answer.per_character == answer.gold for answer in answers],
        "accuracy per byte": [answer.per_byte == answer.gold for answer in answers],
    }
    return {
        name: (sum(right) / len(right), *bootstrap([[one] for one in right]))
        for name, right in taken.items()
    }


# --------------------------------------------------------------------------------------------------
# questions from files, or from the Hugging Face hub


def load(name: str, split: str, data_dir: Path | None = None) -> list[Question]:
    """The questions of a benchmark's split, `train`, `validation` or `test`: from the files its
    authors publish, in `data_dir` or a folder of the benchmark's name in it, or without one from
    the Hugging Face hub.

    BadInput names the files that are looked for, or the record that is not of their format.
    """
    choose("choice task", name, READERS)
    choose("split", split, ("train", "validation", "test"))
    if data_dir is None:
        dataset, subset = HUB[name]
        where = f"{dataset} ({split})"
        return convert(where, hub(dataset, subset, split), HUB_ROWS.get(name, READERS[name].row))
    return READERS[name].read(folder(data_dir, name), split)


@dataclass(frozen=True)
class Reader:
    """Files of a split, and a question from each record. Where labels are in a file of their own,
    it is named by `labels`, and they become the records' `label`."""

    files: Callable[[str], list[str]]
    row: Callable[[Record], Question]
    labels: Callable[[str], str] | None = None

    def read(self, folder: Path, split: str) -> list[Question]:
        file = find(folder, self.files(split))
        records = read_jsonl(file)
        if self.labels is not None:
            answers = find(file.parent, [self.labels(split)])
            labels = read_lines(answers)
            if len(labels) != len(records):
                raise BadInput(
                    f"{answers} has {len(labels)} labels for the {len(records)} records of {file}"
                )
            records = [r | {"label": label} for r, label in zip(records, labels, strict=True)]
        return convert(file, records, self.row)


class SubjectTables:
    """MMLU: a csv file for each subject, SPLIT/SUBJECT_SPLIT.csv, without a header."""

    def read(self, folder: Path, split: str) -> list[Question]:
        short = {"train": "dev", "validation": "val", "test": "test"}[split]  # dev holds the shots
        files = sorted((folder / short).glob(f"*_{short}.csv"))
        if not files:
            raise BadInput(f"{folder} has none of these files: {short}/SUBJECT_{short}.csv")
        found = []
        for file in files:
            subject = file.name.removesuffix(f"_{short}.csv")
            with file.open(encoding="utf-8", newline="") as lines:
                rows = [self.record(row, subject) for row in csv.reader(lines)]
            found += convert(file, rows, self.row)
        return found

    @staticmethod
    def record(row: list[str], subject: str) -> Record:
        if len(row) != 6:
            return {}
        question, *choices, answer = row
        return {
            "question": question,
            "choices": choices,
            "answer": "ABCD".find(answer) if answer else -1,
            "subject": subject,
        }

    @staticmethod
    def row(record: Record) -> Question:
        choices = dict(zip("ABCD", record["choices"], strict=True))
        subject = record["subject"].replace("_", " ")
        fields = {"question": record["question"].strip(), "subject": subject} | choices
        return Question(fields, tuple("ABCD"), int(record["answer"]), record["subject"])


def _arc(record: Record) -> Question:
    choices = record["question"]["choices"]
    labels = [choice["label"] for choice in choices]
    return Question(
        {"question": record["question"]["stem"]},
        tuple(choice["text"] for choice in choices),
        labels.index(record["answerKey"]),
    )


def _arc_of_hub(record: Record) -> Question:
    choices = record["choices"]
    return Question(
        {"question": record["question"]},
        tuple(choices["text"]),
        choices["label"].index(record["answerKey"]),
    )


CONNECTORS = {"cause": "because", "effect": "therefore"}


def _copa(record: Record) -> Question:
    question = record["question"]
    if isinstance(question, int):  # the hub's class label
        question = ("cause", "effect")[question]
    premise = record["premise"].strip()[:-1]  # without its full stop
    choices = (record["choice1"], record["choice2"])
    return Question(
        {"premise": premise, "connector": CONNECTORS[question]},
        tuple(choice[0].lower() + choice[1:] for choice in choices),
        int(record["label"]),
    )


def _hellaswag(record: Record) -> Question:
    context = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
    choices = tuple(_wikihow(ending) for ending in record["endings"])
    return Question({"context": _wikihow(context)}, choices, int(record["label"]))


def _wikihow(text: str) -> str:
    """Without the marks that WikiHow's pages left in HellaSwag."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def _piqa(record: Record) -> Question:
    choices = (record["sol1"], record["sol2"])
    return Question({"goal": record["goal"]}, choices, int(record["label"]))


def _siqa(record: Record) -> Question:
    fields = {key: record[key] for key in ("context", "question")}
    choices = tuple(record[f"answer{letter}"] for letter in "ABC")
    return Question(fields, choices, int(record["label"]) - 1)


def _named(*patterns: str, **splits: str) -> Callable[[str], list[str]]:
    """File names by split: patterns with {} for what the files call it."""
    return lambda split: [pattern.format(splits.get(split, split)) for pattern in patterns]


def _arc_files(kind: str) -> Callable[[str], list[str]]:
    def files(split: str) -> list[str]:
        short = "dev" if split == "validation" else split
        name = f"ARC-{kind}-{short.capitalize()}.jsonl"
        return [name, f"ARC-{kind}/{name}", f"arc_{kind.lower()}.{short}.jsonl"]

    return files


READERS: dict[str, Reader | SubjectTables] = {
    "arc-challenge": Reader(_arc_files("Challenge"), _arc),
    "arc-easy": Reader(_arc_files("Easy"), _arc),
    "copa": Reader(_named("{}.jsonl", "superglue_{}.jsonl", validation="val"), _copa),
    "hellaswag": Reader(_named("hellaswag_{}.jsonl", validation="val"), _hellaswag),
    "mmlu": SubjectTables(),
    "piqa": Reader(
        _named("{}.jsonl", validation="valid"),
        _piqa,
        lambda split: {"validation": "valid"}.get(split, split) + "-labels.lst",
    ),
    "siqa": Reader(
        _named("{}.jsonl", validation="dev"),
        _siqa,
        lambda split: {"validation": "dev"}.get(split, split) + "-labels.lst",
    ),
}
HUB: dict[str, tuple[str, str | None]] = {
    "arc-challenge": ("allenai/ai2_arc", "ARC-Challenge"),
    "arc-easy": ("allenai/ai2_arc", "ARC-Easy"),
    "copa": ("aps/super_glue", "copa"),
    "hellaswag": ("Rowan/hellaswag", None),
    "mmlu": ("cais/mmlu", "all"),
    "piqa": ("baber/piqa", None),
    "siqa": ("lighteval/siqa", None),
}
HUB_ROWS = {"arc-challenge": _arc_of_hub, "arc-easy": _arc_of_hub}
