"""MBPP (Austin et al. 2021): 500 short programs from a sentence each, judged by three assertions.

We ask problems 11 to 510. The paper does not say how it prompts, and the field has two ways:

    incoder   a docstring of the sentence and the first assertion, no examples (Fried et al. 2022;
              bigcode-evaluation-harness, with its stops)
    austin    three solved examples, problems 2 to 4, between [BEGIN] and [DONE], all assertions
              shown (Austin et al.; lm-evaluation-harness)

`instruct` asks in words, for chat models, and takes the code from the reply's fenced block
(evals/benchmarks/replies.py).

`sanitized` and `sanitized-austin` ask the same two ways about the 257 of these problems that the
authors have checked by hand, with the sentences, references and tests as they have edited them.
`plus` is MBPP+: its file's prompts, which are like InCoder's (evals/benchmarks/evalplus.py). No two
of the five numbers can be compared.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from evals.benchmarks import evalplus, programs, replies
from evals.harness.many_samples import CODE_TEMPERATURES, Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source, field
from evals.harness.protocol import Protocol
from evals.sandbox.runner import FunctionJob
from mtp.errors import BadInput

SHA256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"
HUB = ("google-research-datasets/mbpp", "full", "test+prompt")
SANITIZED = "sanitized-mbpp.json"  # of no known sha256, so rows call it unverified
SANITIZED_HUB = ("google-research-datasets/mbpp", "sanitized", "test+prompt")
ASKED = range(11, 511)
SHOWN = (2, 3, 4)
INCODER = Protocol(
    benchmark="mbpp",
    variant="incoder",
    template='"""\n{text}\n{test}\n"""\n',
    stops=("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```", *replies.MARKERS),
    post="cut at the first stop",
    max_new=512,
    samples=200,
    top_p=0.95,
)
AUSTIN = Protocol(
    benchmark="mbpp",
    variant="austin",
    shots=3,
    template="You are an expert Python programmer, and here is your task: {text} Your code should "
    "pass these tests:\n\n{tests}\n[BEGIN]\n",
    solved="{code}\n[DONE]\n\n",
    stops=("[DONE]", *replies.MARKERS),
    post="cut at the first stop",
    max_new=512,
    samples=200,
    top_p=0.95,
)
INSTRUCT = dataclasses.replace(
    INCODER,
    variant="instruct",
    template="{text} Reply with Python code in one ```python block. It must pass these tests:\n\n"
    "```python\n{tests}\n```\n",
    chat=True,
    stops=replies.MARKERS,
    post="cut at the first stop; the first Python block that defines a function of the tests, or "
    "the first, or all without blocks",
)
PLUS = dataclasses.replace(
    INCODER,
    variant="plus",
    template="{prompt}",
    post=f"{INCODER.post}; judged by EvalPlus's base and extra inputs",
)


def load(source: Source) -> Dataset:
    if not source.has("mbpp.jsonl") and source.has(SANITIZED):
        raise BadInput(
            f"mbpp.jsonl is missing, but {SANITIZED} is there: --variant mbpp=sanitized reads it"
        )
    return dataset(*source.read("mbpp.jsonl", SHA256, HUB))


def load_sanitized(source: Source) -> Dataset:
    found, origin = source.read(SANITIZED, "", SANITIZED_HUB, [f"{SANITIZED}l"])
    return dataset((in_full_form(record, origin) for record in found), origin)


def load_plus(source: Source) -> Dataset:
    return evalplus.load("mbpp", source)


def in_full_form(record: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """A record of sanitized-mbpp.json with the names that mbpp.jsonl has."""
    imports = field(record, "test_imports", origin, list)
    if not all(isinstance(line, str) for line in imports):
        raise BadInput(
            f"{origin}: problem {record.get('task_id')} has test_imports that are not text"
        )
    text = field(record, "prompt", origin)
    return {**record, "text": text, "test_setup_code": "\n".join(imports)}


def dataset(records: Iterable[Mapping[str, Any]], origin: str) -> Dataset:
    """The problems of mbpp.jsonl's records, which may be in any order."""
    found = {field(r, "task_id", origin, int): problem(r, origin) for r in records}
    asked = tuple(found[i] for i in ASKED if i in found)
    return Dataset(asked, tuple(found[i] for i in SHOWN if i in found), origin)


def problem(record: Mapping[str, Any], origin: str) -> Problem:
    tests = field(record, "test_list", origin, list)
    for name in ("text", "code", "test_setup_code"):
        field(record, name, origin)
    where = f"{origin}: problem {record['task_id']}"
    if not tests or not all(isinstance(test, str) for test in tests):
        raise BadInput(f"{where} has no test_list of texts")
    try:
        names = programs.mbpp(record, "").names
    except (SyntaxError, ValueError, RecursionError) as error:  # also of null characters
        raise BadInput(f"{where}: code or tests are not Python ({error})") from None
    if not names:
        raise BadInput(f"{where}: its tests use no name that its code defines")
    fields = {
        "text": record["text"].strip(),
        "test": tests[0],
        "tests": "\n".join(tests),
        "code": record["code"].replace("\r\n", "\n").rstrip(),
    }
    return Problem(f"mbpp/{record['task_id']}", fields, record)


def job(problem: Problem, answer: str, protocol: Protocol) -> FunctionJob:
    if protocol.variant == "plus":
        return evalplus.job(problem, answer)
    made = programs.mbpp(problem.about, answer)
    if protocol.variant == "instruct":
        return dataclasses.replace(made, program=replies.code(answer, made.names))
    return made


MBPP = Sampled(
    "mbpp",
    (
        INCODER,
        AUSTIN,
        INSTRUCT,
        dataclasses.replace(INCODER, variant="sanitized"),
        dataclasses.replace(AUSTIN, variant="sanitized-austin"),
        PLUS,
    ),
    CODE_TEMPERATURES,
    load,
    by_tests(replies.without_markers(job)),
    other={"sanitized": load_sanitized, "sanitized-austin": load_sanitized, "plus": load_plus},
)
