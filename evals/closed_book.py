"""Questions answered from memory: Natural Questions (open) and TriviaQA (section 3.7, Figure S12).

The greedy answer, cut at its first line, is right where it equals one of the accepted answers after
both are normalised as SQuAD's script does: lower case, no punctuation, no articles, single spaces.
The paper is silent on prompts and shots; these prompts are lm-evaluation-harness', which also cuts
answers at the first full stop or comma (variant `harness`), and so can never be right where every
accepted answer has one.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.answering import answers
from evals.intervals import bootstrap
from evals.protocol import Protocol
from evals.records import Record, convert, find, folder, hub, read_jsonl
from evals.templates import prompt
from mtp.errors import BadInput, choose
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import Tokenizer

MAX_NEW = 32
TEMPLATES = {
    "nq-open": "Answer these questions:\n\n{shots}Q: {question}?\nA:",
    "triviaqa": "{shots}Question: {question}?\nAnswer:",
}
POST = "lower case, no punctuation, no articles, single spaces; right if equal to an accepted one"
VARIANTS: dict[str, tuple[int, tuple[str, ...]]] = {  # shots, stops
    "0-shot": (0, ("\n",)),
    "5-shot": (5, ("\n",)),
    "harness": (0, ("\n", ".", ",")),
}
PROTOCOLS = tuple(
    Protocol(name, variant, shots, template=template, stops=stops, post=POST, max_new=MAX_NEW)
    for name, template in TEMPLATES.items()
    for variant, (shots, stops) in VARIANTS.items()
)


@dataclass(frozen=True)
class Question:
    """A question without its question mark, and what is accepted; the first answer is shown where
    the question is a solved example."""

    question: str
    accepted: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.accepted:
            raise ValueError("no accepted answer")


@dataclass(frozen=True)
class Answer:
    text: str
    right: bool


def normalised(answer: str) -> str:
    """What of an answer is compared."""
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an answer is one of the accepted ones; an empty one never is."""
    given = normalised(answer)
    return bool(given) and given in {normalised(each) for each in accepted}


def score(
    model: MultiTokenTransformer,
    text: Tokenizer,
    questions: Sequence[Question],
    protocol: Protocol,
    examples: Sequence[Question] = (),
) -> list[Answer]:
    """The model's answers. Solved examples are the first of `examples` that are not the question
    itself."""
    prompts = []
    for question in questions:
        solved = [
            ({"question": example.question}, example.accepted[0])
            for example in examples[: protocol.shots + 1]
            if example != question
        ]
        prompts.append(prompt(protocol, {"question": question.question}, solved))
    written = answers(model, text, prompts, protocol.stops, protocol.max_new)
    return [
        Answer(answer.strip(), is_right(answer, question.accepted))
        for answer, question in zip(written, questions, strict=True)
    ]


def exact_match(answers: Sequence[Answer]) -> tuple[float, float, float]:
    """The share of right answers and its 90% interval over questions."""
    right = [answer.right for answer in answers]
    return sum(right) / len(right), *bootstrap([[one] for one in right])


# --------------------------------------------------------------------------------------------------
# questions from files, or from the Hugging Face hub

HUB = {
    "nq-open": ("google-research-datasets/nq_open", None),
    "triviaqa": ("mandarjoshi/trivia_qa", "rc.nocontext"),
}


def load(name: str, split: str, data_dir: Path | None = None) -> list[Question]:
    """The questions of a split, `train` or `validation`: from the files their authors publish, in
    `data_dir` or a folder of the benchmark's name in it, or without one from the Hugging Face hub.
    BadInput names the files that are looked for, or the record that is not of their format."""
    choose("closed-book task", name, TEMPLATES)
    choose("split", split, ("train", "validation"))
    row = _nq if name == "nq-open" else _trivia
    if data_dir is None:
        dataset, subset = HUB[name]
        return convert(f"{dataset} ({split})", hub(dataset, subset, split), row)
    short = "dev" if split == "validation" else split
    own = folder(data_dir, name)
    if name == "nq-open":
        file = find(own, [f"NQ-open.{short}.jsonl"])
        return convert(file, read_jsonl(file), _nq)
    names = [f"{kind}-{short}.{end}" for kind in ("wikipedia", "web") for end in ("json", "jsonl")]
    file = find(own, [names[0], f"unfiltered-web-{short}.json", *names[1:], f"{short}.jsonl"])
    return convert(file, read_jsonl(file) if file.suffix == ".jsonl" else _data(file), _trivia)


def _data(file: Path) -> list[Record]:
    """The records of one of TriviaQA's own files, which are one JSON object each."""
    try:
        return list(json.loads(file.read_text(encoding="utf-8"))["Data"])
    except (ValueError, KeyError, TypeError):
        raise BadInput(
            f'{file} is not of TriviaQA\'s format: an object with a list "Data"'
        ) from None


def _nq(record: Record) -> Question:
    return Question(_asked(record["question"]), tuple(record["answer"]))


def _trivia(record: Record) -> Question:
    """Of the authors' files (Question, Answer.Aliases) or the hub's (question, answer.aliases)."""
    low = {key.lower(): value for key, value in record.items()}
    answer = {key.lower(): value for key, value in low["answer"].items()}
    return Question(
        _asked(low["question"]), tuple(dict.fromkeys([answer["value"], *answer["aliases"]]))
    )


def _asked(question: str) -> str:
    return question.strip().removesuffix("?").rstrip()
