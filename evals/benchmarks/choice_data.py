"""Questions with choices, from the files that their authors publish or from the Hugging Face hub.

We ask the test split, or the validation split if the test's answers are not public. Solved examples
come from MMLU's dev split, five for each subject. We do not know the sha256 of the original files,
so rows give the sha256 of the files that were read, marked unverified.
"""

import csv
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass

from evals.harness.problems import Dataset, Problem, Record, Source, convert, from_hub, records
from evals.harness.protocol import Protocol
from mtp.errors import BadInput

Row = Callable[[Record], Problem]


def question(
    fields: dict[str, str], choices: tuple[str, ...], gold: int, group: str = ""
) -> Problem:
    """`group`: questions of one group share their solved examples (MMLU's subjects)."""
    if not 0 <= gold < len(choices):
        raise ValueError(f"label {gold} of {len(choices)} choices")
    about = {"choices": choices, "gold": gold}
    return Problem("", fields | {"answer": choices[gold]}, about, group)


def arc(record: Record) -> Problem:
    """From the authors' files, or from the hub's columns."""
    asked = record["question"]
    if isinstance(asked, str):
        stem, texts, labels = asked, record["choices"]["text"], record["choices"]["label"]
    else:
        stem = asked["stem"]
        texts = [choice["text"] for choice in asked["choices"]]
        labels = [choice["label"] for choice in asked["choices"]]
    return question({"question": stem}, tuple(texts), labels.index(record["answerKey"]))


CONNECTORS = {"cause": "because", "effect": "therefore"}


def copa(record: Record) -> Problem:
    kind = record["question"]
    if isinstance(kind, int):  # the hub's class label
        kind = ("cause", "effect")[kind]
    premise = record["premise"].strip()[:-1]  # without its full stop
    choices = (record["choice1"], record["choice2"])
    return question(
        {"premise": premise, "connector": CONNECTORS[kind]},
        tuple(choice[0].lower() + choice[1:] for choice in choices),
        int(record["label"]),
    )


def hellaswag(record: Record) -> Problem:
    context = f"{record['activity_label']}: {record['ctx_a']} {record['ctx_b'].capitalize()}"
    choices = tuple(without_marks(ending) for ending in record["endings"])
    return question({"context": without_marks(context)}, choices, int(record["label"]))


def without_marks(text: str) -> str:
    """A text without the marks that WikiHow's pages left in HellaSwag."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def mmlu(record: Record) -> Problem:
    choices = dict(zip("ABCD", record["choices"], strict=True))
    subject = record["subject"].replace("_", " ")
    fields = {"question": record["question"].strip(), "subject": subject} | choices
    return question(fields, tuple("ABCD"), int(record["answer"]), record["subject"])


def piqa(record: Record) -> Problem:
    choices = (record["sol1"], record["sol2"])
    return question({"goal": record["goal"]}, choices, int(record["label"]))


def siqa(record: Record) -> Problem:
    fields = {key: record[key] for key in ("context", "question")}
    choices = tuple(record[f"answer{letter}"] for letter in "ABC")
    return question(fields, choices, int(record["label"]) - 1)


@dataclass(frozen=True)
class Task:
    """Where a task's questions are.

    files   names of the split's file, the authors' first
    labels  the file with the answers, if they are in another file
    hub     data set, subset, split
    """

    row: Row
    files: tuple[str, ...]
    hub: tuple[str, str | None, str]
    labels: str = ""


TASKS = {
    "arc-challenge": Task(
        arc,
        ("ARC-Challenge-Test.jsonl", "ARC-Challenge/ARC-Challenge-Test.jsonl",
         "arc_challenge.test.jsonl"),
        ("allenai/ai2_arc", "ARC-Challenge", "test"),
    ),
    "arc-easy": Task(
        arc,
        ("ARC-Easy-Test.jsonl", "ARC-Easy/ARC-Easy-Test.jsonl", "arc_easy.test.jsonl"),
        ("allenai/ai2_arc", "ARC-Easy", "test"),
    ),
    "copa": Task(
        copa, ("val.jsonl", "superglue_val.jsonl"), ("aps/super_glue", "copa", "validation")
    ),
    "hellaswag": Task(
        hellaswag, ("hellaswag_val.jsonl",), ("Rowan/hellaswag", None, "validation")
    ),
    "mmlu": Task(mmlu, (), ("cais/mmlu", "all", "test")),
    "piqa": Task(piqa, ("valid.jsonl",), ("baber/piqa", None, "validation"), "valid-labels.lst"),
    "siqa": Task(siqa, ("dev.jsonl",), ("lighteval/siqa", None, "validation"), "dev-labels.lst"),
}  # fmt: skip


def load(name: str, source: Source, protocol: Protocol) -> Dataset:
    """The questions. BadInput names the file that is missing, or the record that has another
    format."""
    task = TASKS[name]
    if name == "mmlu":
        return load_mmlu(source, protocol)
    if task.labels and source.folder is not None:
        found, origin = labelled(source, task.files[0], task.labels)
    else:
        found, origin = source.read(task.files[0], "", task.hub, task.files[1:])
    return Dataset(convert(name, found, origin, task.row), (), origin)


def labelled(source: Source, name: str, labels: str) -> tuple[list[Record], str]:
    """Records, with their labels from the lines of a file beside them."""
    file = source.find(name)
    text, origin = source.text(file)
    found = list(records(file, text.split("\n")))
    lines, own = source.text(file.with_name(labels))
    given = [line for line in lines.split("\n") if line.strip()]
    if len(given) != len(found):
        raise BadInput(
            f"{file.with_name(labels)} has {len(given)} labels for {len(found)} records of {file}"
        )
    made = [record | {"label": label} for record, label in zip(found, given, strict=True)]
    return made, f"{origin}, {own}"


def load_mmlu(source: Source, protocol: Protocol) -> Dataset:
    """The questions, with solved examples if the protocol shows some."""
    made, origins = [], []
    for split in ("test", "dev") if protocol.shots else ("test",):
        if source.folder is None:
            dataset, subset, _ = TASKS["mmlu"].hub
            found, origin = from_hub((dataset, subset, split), f"{split}/SUBJECT_{split}.csv")
        else:
            found, origin = tables(source, split)
        made.append(convert("mmlu", found, origin, mmlu))
        origins.append(origin)
    return Dataset(made[0], made[1] if protocol.shots else (), ", ".join(origins))


def tables(source: Source, split: str) -> tuple[list[Record], str]:
    """The records of a csv file for each subject, SPLIT/SUBJECT_SPLIT.csv, without a header."""
    files = [sorted((folder / split).glob(f"*_{split}.csv")) for folder in source.folders()]
    chosen = next((each for each in files if each), [])
    if not chosen:
        raise BadInput(f"{source.folder}/{split} has no files called SUBJECT_{split}.csv")
    found, digest = list[Record](), hashlib.sha256()
    for file in chosen:
        text, origin = source.text(file)
        digest.update(origin.encode())
        subject = file.name.removesuffix(f"_{split}.csv")
        try:
            rows = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            raise BadInput(f"{file}: {error}") from None
        for cells in rows:
            if len(cells) != 6:
                raise BadInput(f"{file}: a row has {len(cells)} cells, not 6: {cells[:1]}")
            asked, *choices, answer = cells
            label = "ABCD".find(answer) if answer else -1
            row = {"question": asked, "choices": choices, "answer": label, "subject": subject}
            found.append(row)
    origin = f"{len(chosen)} files of {split} sha256:{digest.hexdigest()[:16]}, unverified"
    return found, origin
