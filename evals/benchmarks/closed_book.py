"""Questions answered from memory: Natural Questions (open) and TriviaQA (section 3.7, Figure S12).

The greedy answer, cut after its first line, is right if it equals one of the accepted answers. Both
are first normalised as SQuAD's script does: lower case, no punctuation, no articles, single spaces.
So pass@1 here is the field's exact match.

The paper does not give prompts and shots. Our prompts are those of lm-evaluation-harness, with one
exception: TriviaQA's questions end in one question mark here, and in two there, their own and the
template's. The harness accepts only TriviaQA's aliases; we accept the main answer too. The harness
also cuts answers at the first full stop or comma (our variant `harness`), so it can never be right
if every accepted answer contains one. We ask the validation splits and show the first examples of
the training splits.
"""

import functools
import re
import string
from collections.abc import Sequence

from evals.harness.many_samples import Sampled, by_rule
from evals.harness.problems import Dataset, Problem, Record, Source, convert, from_hub
from evals.harness.protocol import Protocol
from mtp.errors import BadInput
from mtp.files import parse_json

MAX_NEW, SHOTS = 32, 5
TEMPLATES = {
    "nq-open": "Answer these questions:\n\n{shots}Q: {question}?\nA:",
    "triviaqa": "{shots}Question: {question}?\nAnswer:",
}
SOLVED = " {answer}\n\n"
POST = "lower case, no punctuation, no articles, single spaces; right if equal to an accepted one"
VARIANTS: dict[str, tuple[int, tuple[str, ...]]] = {  # shots, stops
    "0-shot": (0, ("\n",)),
    "5-shot": (SHOTS, ("\n",)),
    "harness": (0, ("\n", ".", ",")),
}


def protocols(name: str) -> tuple[Protocol, ...]:
    template = TEMPLATES[name]
    return tuple(
        Protocol(name, variant, shots, template, SOLVED, stops=stops, post=POST, max_new=MAX_NEW)
        for variant, (shots, stops) in VARIANTS.items()
    )


def normalised(answer: str) -> str:
    """The part of an answer that is compared."""
    answer = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", answer).split())


def is_right(answer: str, accepted: Sequence[str]) -> bool:
    """Whether an answer is one of the accepted ones; an empty answer never is."""
    given = normalised(answer)
    return bool(given) and given in {normalised(each) for each in accepted}


def right(problem: Problem, answer: str) -> bool:
    return is_right(answer, problem.about["accepted"])


# --------------------------------------------------------------------------------------------------
# questions from files, or from the Hugging Face hub

NQ_SHA256 = {"dev": "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616"}


def load(name: str, source: Source) -> Dataset:
    problems, origin = asked(name, source, "validation")
    return Dataset(problems, (), origin)


def load_with_examples(name: str, source: Source) -> Dataset:
    """The questions, with one example more than is shown, since a question may be among the
    examples."""
    problems, origin = asked(name, source, "validation")
    train, shown = asked(name, source, "train")
    return Dataset(problems, train[: SHOTS + 1], f"{origin}, {shown}")


def asked(name: str, source: Source, split: str) -> tuple[tuple[Problem, ...], str]:
    """The questions of a split, and where they come from."""
    short = "dev" if split == "validation" else split
    if name == "nq-open":
        hub = ("google-research-datasets/nq_open", None, split)
        found, origin = source.read(f"NQ-open.{short}.jsonl", NQ_SHA256.get(short, ""), hub)
        return convert(name, found, origin, natural), origin
    hub = ("mandarjoshi/trivia_qa", "rc.nocontext", split)
    names = (f"web-{short}.json", f"wikipedia-{short}.json")  # of whose questions that consists
    if source.folder is None:
        found, origin = from_hub(hub, " and ".join(names))
    else:
        parts = [authors(source, each) for each in names]
        found = [record for records, _ in parts for record in records]
        origin = ", ".join(own for _, own in parts)
    return convert(name, found, origin, trivia), origin


def authors(source: Source, name: str) -> tuple[list[Record], str]:
    """The records of a file of TriviaQA's authors, and where they come from."""
    file = source.find(name)
    text, origin = source.text(file)
    try:
        found = parse_json(text)["Data"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, list):
        raise BadInput(f'{file} is not of TriviaQA\'s format: an object with a list "Data"')
    return found, origin


def question(asked: str, accepted: Sequence[str]) -> Problem:
    """The question without its question mark. A solved example shows the first answer."""
    if not accepted:
        raise ValueError("no accepted answer")
    fields = {"question": asked.strip().removesuffix("?").rstrip(), "answer": accepted[0]}
    return Problem("", fields, {"accepted": tuple(accepted)})


def natural(record: Record) -> Problem:
    return question(record["question"], record["answer"])


def trivia(record: Record) -> Problem:
    """From the authors' files (Question, Answer.Aliases) or the hub's columns (question,
    answer.aliases)."""
    low = {key.lower(): value for key, value in record.items()}
    answer = {key.lower(): value for key, value in low["answer"].items()}
    return question(low["question"], list(dict.fromkeys([answer["value"], *answer["aliases"]])))


CLOSED_BOOK = tuple(
    Sampled(
        name,
        protocols(name),
        (0.0,),
        functools.partial(load, name),
        by_rule(right),
        other={"5-shot": functools.partial(load_with_examples, name)},
    )
    for name in TEMPLATES
)
