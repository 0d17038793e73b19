"""Code in replies of chat models: fenced blocks among prose, and markers at the end of text."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.benchmarks import apps, codecontests, humaneval, mbpp, microcode, replies
from evals.harness.many_samples import Sampled
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import prompts
from evals.harness.protocol import cut
from mtp.data.tokenizer import ByteTokenizer
from tests.conftest import MBPP_LINES
from tests.evals.sandbox.helpers import need

F = "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        (F, F),
        ("", ""),
        (f"Sure!\n```python\n{F}```\nThis returns x.", F),
        (f"```\n{F}```", F),
        (f"```Python\r\n{F}```\r\n", F),
        (f"~~~~py title=a\n{F}~~~~\n", F),
        (f"````python\n{F}```\n````", f"{F}```\n"),
        (f"It goes on:\n```python\n{F}", F),
        ("1. So:\n   ```python\n   def f(x):\n       return x\n   ```\n", F),
        (f"```bash\npip install f\n```\n```python\n{F}```", F),
        (f"```python\nimport g\n```\nand\n```python\n{F}```", F),
        (f"```python\n{F}```\n```python\nassert f(1) == 1\n```", F),
        (f"```python\n{F}```\nor\n```python\n{F}    # 2\n```", F),
        ("```python\nf: int = 1\n```", "f: int = 1\n"),
        ("```python\nassert f(1)\n```\n```\ng = 1\n```", "assert f(1)\n"),  # neither does
        ("```text\nnothing\n```", "```text\nnothing\n```"),
        ("Use ```f``` here.\n```python\nf = 1\n```", "f = 1\n"),
    ],
)
def test_the_code_of_a_reply(reply: str, program: str) -> None:
    assert replies.code(reply, ["f"]) == program


LINES = st.lists(st.text(alphabet="ab =():#`~ ", max_size=8), max_size=5)


@given(LINES, LINES, LINES, st.sampled_from(["", "  ", "\t"]))
def test_a_block_is_found_whatever_is_around_it(
    before: list[str], inside: list[str], after: list[str], indent: str
) -> None:
    def plain(lines: list[str]) -> list[str]:
        return [line for line in lines if "```" not in line and "~~~" not in line]

    shown = [f"{indent}{line}" for line in ("```python", *plain(inside), "```")]
    found = replies.blocks("\n".join([*plain(before), *shown, *plain(after)]))
    wanted = "".join(f"{line}\n" for line in plain(inside))
    assert found == ([wanted] if wanted.strip() else [])


@pytest.mark.parametrize(
    ("program", "defined"),
    [
        ("def f():", True), ("async def f(x):", True), ("class f:", True), ("f = 1", True),
        ("f: int = 1", True), ("x = 1\ndef f (y): 1", True), ("def ff():", False),
        ("    def f():", False), ("f == 1", False), ("f()", False), ("# def f()", False),
        ("", False),
    ],
)  # fmt: skip
def test_what_defines_a_name(program: str, defined: bool) -> None:
    assert replies.defines(program, ["other", "f"]) == defined


# --------------------------------------------------------------------------------------------------
# benchmarks


def judged(benchmark: Sampled, variant: str, data: Dataset, answers: list[str]) -> list[str]:
    need()
    asked = [(data.problems[0], answer) for answer in answers]
    return list(benchmark.check.verdicts(asked, benchmark.protocol(variant), False))


def text(benchmark: Sampled, variant: str, data: Dataset) -> str:
    made = prompts(data, benchmark.protocol(variant), ByteTokenizer(), 4096)
    return made[data.problems[0].id].text  # type: ignore[union-attr]


def test_humaneval_is_asked_and_answered_in_words() -> None:
    """The reply need not have the prompt's imports and helpers, nor its docstring."""
    record: dict[str, Any] = {
        "prompt": "from typing import List\n\n\ndef twice(x):\n    return 2 * x\n\n\n"
        'def f(x: List[int]) -> int:\n    """The doubled sum."""\n',
        "entry_point": "f",
        "test": "def check(candidate):\n    assert candidate([1, 2]) == twice(3)\n",
    }
    data = humaneval.dataset({"HumanEval/0": record}, "made up")
    asked = text(humaneval.HUMANEVAL, "instruct", data)
    assert asked.startswith("Complete this Python function.")
    assert asked.endswith('"""The doubled sum."""\n```\n')
    right = "def f(x: List[int]) -> int:\n    return twice(sum(x))\n"
    answers = {
        f"Here it is:\n```python\n{right}```\nIt doubles.": "passed",
        f"```python\n{right}```<|im_end|>\n```python\ndef f(x): return 0\n```": "passed",
        right: "passed",
        "```python\n    return twice(sum(x))\n```": "passed",  # the body alone
        f"Here it is:\n{right}": "failed",
        "```python\ndef f(x): return 0\n```": "failed",
        "I do not know.": "failed",
    }
    found = judged(humaneval.HUMANEVAL, "instruct", data, list(answers))
    assert dict(zip(answers, found, strict=True)) == answers


def test_mbpp_is_asked_and_answered_in_words() -> None:
    data = mbpp.dataset(MBPP_LINES, "made up")
    asked = text(mbpp.MBPP, "instruct", data)
    assert asked.startswith("Write a function to add 11 to a number. Reply with Python code")
    assert asked.endswith("```python\n" + "\n".join(MBPP_LINES[3]["test_list"]) + "\n```\n")
    right = "```python\ndef add_11(n): return n + 11\n```"
    answers = {
        f"First:\n```python\nprint(1)\n```\nThen:\n{right}": "passed",
        f"{right}</s>": "passed",
        right.replace("11\n", "12\n"): "failed",
        "def add_11(n): return n + 11": "passed",
    }
    found = judged(mbpp.MBPP, "instruct", data, list(answers))
    assert dict(zip(answers, found, strict=True)) == answers


def test_markers_end_every_answer_that_is_a_program() -> None:
    """Ours are cut as they are drawn, those of others before they are judged."""
    need()
    human = next(iter(humaneval.load(Source()).problems))
    tests = {"inputs": ["1"], "outputs": ["1"]}
    task = {"difficulty": "introductory", "input_output": json.dumps(tests), "question": "?"}
    contest = Problem("c", {}, {"cases": (("1", "1"),), "cpu": 5})
    micro = next(iter(microcode.problems()))
    asked = (
        (humaneval.HUMANEVAL, human, human.about["canonical_solution"]),
        (mbpp.MBPP, mbpp.dataset(MBPP_LINES, "").problems[0], "def add_11(n): return n + 11"),
        (apps.APPS, apps.dataset([task], "").problems[0], "print(1)"),
        (codecontests.CODECONTESTS, contest, "print(1)"),
        (microcode.MICROCODE, micro, micro.about["solution"]),
    )
    for number, (benchmark, problem, answer) in enumerate(asked):
        marker = replies.MARKERS[number]
        job = benchmark.check.job
        assert job
        for protocol in benchmark.variants:
            assert set(replies.MARKERS) <= set(protocol.stops)
            assert cut(f"{answer}{marker}and so on", protocol.stops) == cut(answer, protocol.stops)
        protocol = benchmark.variants[0]
        assert job(problem, f"{answer}{marker}and (so on", protocol) == job(
            problem, answer, protocol
        )
        ended = benchmark.check.verdicts([(problem, f"{answer}{marker}and (")], protocol, False)
        assert list(ended) == ["passed"]
