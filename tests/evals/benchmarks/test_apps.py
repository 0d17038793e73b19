"""APPS: hand-written records of its format, right and wrong programs."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks import apps
from evals.harness.problems import Problem, Source, any_digits
from evals.harness.protocol import cut
from evals.sandbox.runner import FunctionJob, ScriptJob, run_all
from mtp.errors import BadInput
from tests.conftest import write_jsonl
from tests.evals.benchmarks.contests import DEEP, judged, shown
from tests.evals.sandbox.helpers import need


def task(number: int, tests: dict[str, Any], **others: str) -> dict[str, Any]:
    """A record of codeparrot/apps."""
    made = {
        "problem_id": number,
        "question": f"Task {number}: braces {{ }} are kept.\n",
        "solutions": "[]",
        "input_output": json.dumps(tests),
        "difficulty": "introductory",
        "url": "",
        "starter_code": "",
    }
    return made | others


SUM = {"inputs": ["1 2\n", ["3", "4"], "0 0"], "outputs": ["3\n", ["7"], "0"]}
SWAP = {
    "fn_name": "swap",
    "inputs": [[[1, 2]], [["a", None]]],
    "outputs": [[[2, 1]], [[None, "a"]]],
}
COUNT = {
    "fn_name": "count",
    "inputs": [[{"1": 2, "-3": 1}], [{}]],
    "outputs": [{"2": [1], "1": [-3]}, {}],
}
HEAD = {"fn_name": "tail", "inputs": [[[1, 2, 3]], [[5, 6]]], "outputs": [[2, 3], [6]]}
TASKS = [
    task(4000, SUM),
    task(4001, SWAP, starter_code="\nclass Solution:\n    def swap(self, x: List[int]):\n        "),
    task(4002, COUNT, starter_code="def count(x):\n\t"),
    task(4003, HEAD),
    task(4004, SUM, difficulty="interview"),
    task(4005, SUM, input_output=""),
]


def by_id() -> dict[str, Problem]:
    return {p.id: p for p in apps.dataset(TASKS, "records").problems}


def test_apps_asks_its_introductory_tasks_that_have_tests() -> None:
    data = apps.dataset(TASKS, "records")
    assert data.origin == "records, 1 problems without tests left out"
    texts = shown(apps.APPS, data, apps.PROTOCOL)
    assert list(texts) == [f"apps/{i}" for i in range(4000, 4004)]
    assert texts["apps/4000"] == (
        "\nQUESTION:\nTask 4000: braces { } are kept.\n\nUse Standard Input format\nANSWER:\n"
    )
    assert texts["apps/4002"].endswith(
        "kept.\n\ndef count(x):\n\t\nUse Call-Based format\nANSWER:\n"
    )
    assert cut("print(1)\n\nQUESTION:\nanother", apps.PROTOCOL.stops) == "print(1)\n"


def test_apps_has_three_levels_of_tasks(tmp_path: Path) -> None:
    harder = task(4006, SUM, difficulty="competition", question="Harder")
    write_jsonl(tmp_path / "apps" / "test.jsonl", *TASKS, harder)
    for level, first, count in (
        ("introductory", 4000, 4),
        ("interview", 4004, 1),
        ("competition", 4006, 1),
    ):
        protocol = apps.APPS.protocol(level)
        data = apps.APPS.other.get(level, apps.APPS.load)(Source(tmp_path).of("apps"))
        assert protocol.variant == level and protocol.template == apps.PROTOCOL.template
        assert data.problems[0].id == f"apps/{first}" and len(data.problems) == count


def test_a_task_may_have_integers_of_any_length(tmp_path: Path) -> None:
    """Python refuses to read or write more than 4300 digits where it is not told otherwise."""
    need()
    limit = sys.get_int_max_str_digits()
    with any_digits():
        assert sys.get_int_max_str_digits() == 0
        big = "7" * 9131
        lines = task(1, {"inputs": [["1", int(big)], "2"], "outputs": [["1", int(big)], "2"]})
        called = task(2, {"fn_name": "same", "inputs": [[int(big)]], "outputs": [int(big)]})
    assert sys.get_int_max_str_digits() == limit
    write_jsonl(tmp_path / "test.jsonl", lines, called)
    first, second = apps.load(Source(tmp_path)).problems
    job = apps.job(first, "", apps.PROTOCOL)
    assert isinstance(job, ScriptJob) and job.cases == ((f"1\n{big}",) * 2, ("2", "2"))
    assert judged(apps.APPS, first, ["print(open(0).read())"]) == ["passed"]
    answers = ["def same(x): return x", "def same(x): return x + 1"]
    assert judged(apps.APPS, second, answers) == ["passed", "failed"]
    assert sys.get_int_max_str_digits() == limit
    with pytest.raises(ValueError, match="digits"):
        int(big)


FUTURE = "from __future__ import annotations"


@pytest.mark.parametrize(
    "head",
    [
        f"{FUTURE}\n",
        f"# a comment\u2028of one line\n\n{FUTURE}\r\n",
        f'"""A text\nof two lines."""\n{FUTURE}, division\nfrom __future__ import generators\n',
        f"{FUTURE}; x = '''\nNone'''; y = 1\n",
        "from __future__ import (\n    annotations,\n)\n",
    ],
)
def test_imports_from_the_future_stay_first(head: str) -> None:
    """The common imports come behind them; what they import and defer is there."""
    rest = "def f(x: Undefined) -> List[int]:\n    return Counter(x)"
    space: dict[str, Any] = {}
    exec(compile(apps.with_imports(head + rest, "own = 1\n"), "answer", "exec"), space)
    assert space["f"]("aa") == {"a": 2} and space["own"] == 1
    assert space["f"].__annotations__ == {"x": "Undefined", "return": "List[int]"}


def test_other_programs_stand_behind_the_imports() -> None:
    for answer in ("", "x = 1", "def (", f"def f():\n    '''{FUTURE}'''", f"{FUTURE}\n\0"):
        assert apps.with_imports(answer, "own\n") == f"{apps.IMPORTS}own\n{answer}"
    assert apps.with_imports(FUTURE) == f"{FUTURE}\n{apps.IMPORTS}"


def test_a_program_that_imports_from_the_future_passes() -> None:
    answers = [f"{FUTURE}\ndef swap(x: Unknown): return x[::-1]"]
    assert judged(apps.APPS, by_id()["apps/4001"], answers) == ["passed"]
    answers = [f"{FUTURE}\nprint(sum(map(int, sys.stdin.read().split())))"]
    assert judged(apps.APPS, by_id()["apps/4000"], answers) == ["passed"]


def test_apps_programs_read_stdin() -> None:
    programs = {
        "print(sum(map(int, open(0).read().split())))": "passed",
        "print(sum(map(int, sys.stdin.read().split())))": "passed",  # imported for it
        "print(Counter('a')['a'] + 2)": "failed",
        "print('3\\n7\\n0')": "failed",
    }
    assert judged(apps.APPS, by_id()["apps/4000"], list(programs)) == list(programs.values())


def test_apps_functions_are_called() -> None:
    method = "class Solution:\n    def swap(self, x: List[int]):\n        return "
    programs = {
        f"{method}x[::-1]": "passed",
        "def swap(x): return tuple(x[::-1])": "passed",
        "def swap(x): return [x[::-1]]": "passed",  # as the results stand there
        f"{method}x": "failed",
        "def swap(x): return x[1]": "failed",
        "def other(x): return x[::-1]": "failed",
        f"{method}x[::-1]\nSolution = None": "failed",
        "class swap:\n    def __new__(cls, x): return object.__new__(cls)\n"
        "    def __eq__(self, other): return True": "tampered",
        "def swap(x): raise SystemExit(0)": "failed",
        "import os; os._exit(0)": "failed",
        "def swap(x):\n    while True: print('x' * 1000)": "timed out",
        f"{method}": "failed",
        "'''": "failed",
    }
    found = judged(apps.APPS, by_id()["apps/4001"], list(programs))
    assert dict(zip(programs, found, strict=True)) == programs


def test_apps_numbers_as_keys_and_lists_of_one_result() -> None:
    count = (
        "def count(x):\n    made = {}\n    for k, v in x.items(): made.setdefault(v, []).append(k)"
    )
    found = judged(apps.APPS, by_id()["apps/4002"], [f"{count}\n    return made", "count = dict"])
    assert found == ["passed", "failed"]
    # not all results of 4003 are lists of one: its first item alone is no result
    answers = ["def tail(x): return x[1:]", "def tail(x): return x[1]"]
    assert judged(apps.APPS, by_id()["apps/4003"], answers) == ["passed", "failed"]


@pytest.mark.parametrize(
    "tests",
    ["no JSON", "[]", '{"inputs": [], "outputs": []}', '{"inputs": ["1"], "outputs": []}',
     '{"inputs": ["1"], "outputs": ["1"], "fn_name": "a b"}', '{"inputs": 1, "outputs": 1}',
     '{"inputs": "1 2", "outputs": "3 4"}', '{"inputs": {"1": 2}, "outputs": {"3": 4}}',
     '{"inputs": ["1"], "outputs": "1"}', "[" * 100_000, f'{{"inputs": {DEEP}, "outputs": [1]}}',
     f'{{"inputs": [1], "outputs": {DEEP}, "fn_name": "f"}}'],
)  # fmt: skip
def test_tests_that_are_not_tests_are_reported(tests: str) -> None:
    reported = "not JSON of two lists, as many inputs as outputs, nested at most 100 deep"
    with pytest.raises(BadInput, match=f"^records: input_output of problem 1 is {reported}$"):
        apps.dataset([task(1, SUM, input_output=tests)], "records")


def test_a_task_without_a_number_is_reported_by_its_place() -> None:
    nameless = [{k: v for k, v in task(1, SUM).items() if k != "problem_id"} for _ in range(2)]
    found = apps.dataset(nameless, "records").problems
    assert [p.id for p in found] == ["apps/0", "apps/1"]
    nameless[1]["input_output"] = "[]"
    with pytest.raises(BadInput, match="input_output of problem 1 is not JSON"):
        apps.dataset(nameless, "records")


def test_an_imported_name_is_not_an_answer() -> None:
    """The modules that programs have for nothing define gcd; the answer has to say so itself."""
    tests = {"fn_name": "gcd", "inputs": [[12, 18], [7, 3]], "outputs": [6, 1]}
    (problem,) = apps.dataset([task(1, tests)], "records").problems
    reported = {
        "": "failed",
        "from math import gcd": "passed",
        "def gcd(a, b):\n    return gcd(b, a % b) if b else a": "passed",
        "class Solution:\n    def gcd(self, a, b):\n        return math.gcd(a, b)": "passed",
    }
    assert judged(apps.APPS, problem, list(reported)) == list(reported.values())


@pytest.mark.parametrize(
    ("name", "given", "expected", "answer"),
    [
        ("count", [3], 3, "def count(n, i=0): return i if i == n else count(n, i + 1)\n"
         "class Solution:\n    def count(self, n): return count(n)"),
        ("gcd", [4, 6], 2, "class Solution:\n    def gcd(self, a, b): return gcd(a, b)"),
        ("product", [[1, 2]], 4, "from itertools import product\n"
         "class Solution:\n    def product(self, x): return len([*product(x, repeat=2)])"),
        ("f", [3], 4, "class Solution:\n    def __init__(self, x): self.x = x\n"
         "def f(x): return Solution(x).x + 1"),
        ("f", ["112"], {"1": 2, "2": 1}, "def f(s): return {c: s.count(c) for c in s}"),
        ("f", [{"--5": 1}], {"--5": 1}, "def f(x): return x"),
        ("plain", [1], [1], "keyed = CASES = 0\ndef plain(x): return (x,)"),
    ],
)  # fmt: skip
def test_right_functions_of_apps_pass(name: str, given: Any, expected: Any, answer: str) -> None:
    """A method may call an imported function, or a helper, of its own name."""
    tests = {"fn_name": name, "inputs": [given, given], "outputs": [expected, expected]}
    (problem,) = apps.dataset([task(1, tests)], "records").problems
    need()
    job = apps.job(problem, answer, apps.PROTOCOL)
    assert isinstance(job, FunctionJob)
    jobs = [job, dataclasses.replace(job, inside=True)]
    assert [r.verdict for r in run_all(jobs, 1)] == ["passed", "passed"]


def test_arrays_are_lists_of_their_shape() -> None:
    need()
    for expected, answer, passes in (
        (6, "np.array([[6]])", False),
        (6, "np.array([])", False),
        (6, "np.int8(6)", True),
        ([6, 6], "np.array([6])", False),
        ([2, 4], "np.array([2, 4])", True),
        ([[2], [4]], "[np.array([2]), (4,)]", True),
    ):
        tests = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [expected, expected]}
        (problem,) = apps.dataset([task(1, tests)], "records").problems
        job = apps.job(problem, f"def f(x): return {answer}", apps.PROTOCOL)
        assert [r.passed for r in run_all([job], 1, packages=("numpy",))] == [passes], answer


def test_a_task_cannot_be_called_by_a_keyword() -> None:
    with pytest.raises(BadInput, match="input_output of problem 1"):
        apps.dataset([task(1, SWAP | {"fn_name": "lambda"})], "data")
