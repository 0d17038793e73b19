"""MBPP (Austin et al. 2021): 500 short programs from a sentence each, judged by three assertions.

We ask problems 11 to 510. The paper does not say how it prompts, and the field has two ways:

    incoder   a docstring of the sentence and the first assertion, no examples (Fried et al. 2022;
              bigcode-evaluation-harness, with its stops)
    austin    three solved examples, problems 2 to 4, between [BEGIN] and [DONE], all assertions
              shown (Austin et al.; lm-evaluation-harness)

The numbers of the two cannot be compared.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from evals.benchmarks import programs
from evals.harness.many_samples import CODE_TEMPERATURES, Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source, field
from evals.harness.protocol import Protocol
from evals.sandbox.runner import FunctionJob
from mtp.errors import BadInput

SHA256 = "ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"
HUB = ("google-research-datasets/mbpp", "full", "test+prompt")
ASKED = range(11, 511)
SHOWN = (2, 3, 4)
INCODER = Protocol(
    benchmark="mbpp",
    variant="incoder",
    template='"""\n{text}\n{test}\n"""\n',
    stops=("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```"),
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
    stops=("[DONE]",),
    post="cut at the first stop",
    max_new=512,
    samples=200,
    top_p=0.95,
)


def load(source: Source) -> Dataset:
    return dataset(*source.read("mbpp.jsonl", SHA256, HUB))


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
        programs.mbpp(record, "")
    except (SyntaxError, ValueError, RecursionError) as error:  # also of null characters
        raise BadInput(f"{where}: code or tests are not Python ({error})") from None
    fields = {
        "text": record["text"].strip(),
        "test": tests[0],
        "tests": "\n".join(tests),
        "code": record["code"].replace("\r\n", "\n").rstrip(),
    }
    return Problem(f"mbpp/{record['task_id']}", fields, record)


def job(problem: Problem, answer: str, protocol: Protocol) -> FunctionJob:
    return programs.mbpp(problem.about, answer)


MBPP = Sampled("mbpp", (INCODER, AUSTIN), CODE_TEMPERATURES, load, by_tests(job))
