"""APPS (Hendrycks et al. 2021): 5000 tasks from programming sites, judged by tests. There are three
levels: introductory (1000 tasks, which the paper reports), interview (3000), competition (1000).

    programs     read stdin and write to stdout
    functions    are called; `input_output` names the function, and so does the starter code

The prompt is the authors' own, without examples. The paper reports 200 samples for each problem at
the temperatures of Table S12. It says nothing about the prompt and about top_p.

The output of a program is compared by the authors' rules (evals/sandbox/compare.py). The result
of a function is compared with ==, tuples as lists, since JSON has no tuples. Expected results are
given bare or in a list of one, so both pass where all of a problem's results are such lists. The
authors' tester is laxer: it accepts the first item of any list, and the words of a line in any
order.

As there, programs may use common modules without importing them, numpy only if it is allowed.
These imports stand behind a program's own `from __future__` imports, which must come first. The
names that the problem asks for must be defined or imported by the program itself. The authors give
each case 4 seconds; here a program has `Limits.cpu` for each case, a function for all together.
"""

import ast
import dataclasses
import io
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from keyword import iskeyword
from typing import Any

from evals.benchmarks.programs import constant
from evals.benchmarks.replies import MARKERS, without_markers
from evals.harness.many_samples import CODE_TEMPERATURES, Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source, any_digits, field
from evals.harness.protocol import Protocol
from evals.sandbox.runner import FunctionJob, Job, ScriptJob
from mtp.errors import BadInput
from mtp.files import parse_json

LEVELS = ("introductory", "interview", "competition")
DEPTH = 100  # of what tests give and expect; comparing it takes frames of Python for each level
PROTOCOL = Protocol(
    benchmark="apps",
    variant=LEVELS[0],
    template="\nQUESTION:\n{question}{starter}\nUse {kind} format\nANSWER:\n",
    stops=("\nQUESTION", "\n---", "\nANSWER", *MARKERS),
    post="cut at the first stop",
    max_new=512,
    samples=200,
    top_p=0.95,
)
IMPORTS = """\
import collections, fractions, functools, heapq, itertools, math, random, sys, time
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from functools import lru_cache
from heapq import *
from itertools import accumulate, combinations, permutations, product
from math import ceil, cos, exp, fabs, floor, gcd, log, log2, sin, sqrt, tan
from typing import List, Tuple
try: import numpy; import numpy as np
except ImportError: pass
"""
ANSWER = "apps_answer_"  # what tests call, under a name that no program has for something else
KEPT = """\
apps_import_ = globals().pop({name!r}, None)  # an imported function is nobody's answer
"""
METHOD = """
if hasattr(globals().get("Solution"), {name!r}):
    globals().setdefault({name!r}, apps_import_)  # but a method may call it
    {answer} = Solution().{name}
elif {name!r} in globals():
    {answer} = {name}
else:
    raise NameError("the program defines no {name}")
"""
TESTS = f"""
for given, expected in CASES:
    got = plain({ANSWER}(*map(keyed, given)))
    right = expected, keyed(expected), *((expected[0], keyed(expected[0])) if BOXED else ())
    assert any([got == each for each in right])
"""
KEYED = """
import re

def plain(x):
    x = x.tolist() if type(x).__name__ == "ndarray" else x
    return [plain(i) for i in x] if isinstance(x, (list, tuple)) else x

def keyed(x):  # JSON has made texts of numbers that are keys
    if not isinstance(x, dict) or not all(re.fullmatch("-?[0-9]+", k) for k in x):
        return x
    return {int(k): v for k, v in x.items()}
"""


def load(source: Source, level: str = LEVELS[0]) -> Dataset:
    return dataset(*source.read("test.jsonl", "", ("codeparrot/apps", level, "test")), level)


def dataset(records: Iterable[Mapping[str, Any]], origin: str, level: str = LEVELS[0]) -> Dataset:
    """The problems of a level among records, without problems that have no test."""
    placed = enumerate(records)
    chosen = [(i, r) for i, r in placed if field(r, "difficulty", origin) == level]
    tested = [(i, r) for i, r in chosen if field(r, "input_output", origin).strip()]
    if untested := len(chosen) - len(tested):
        origin += f", {untested} problems without tests left out"
    return Dataset(tuple(problem(i, r, origin) for i, r in tested), (), origin)


def problem(place: int, record: Mapping[str, Any], origin: str) -> Problem:
    number = record.get("problem_id", record.get("id", place))
    try:
        with any_digits():
            tests = parse_json(record["input_output"])
        lists = tests["inputs"], tests["outputs"]
        cases, name = list(zip(*lists, strict=True)), tests.get("fn_name") or None
        if not all(isinstance(part, list) and shallow(part) for part in lists):
            raise ValueError("a text or an object, which also has items, or nested too deep")
        if not cases or not (name is None or (name.isidentifier() and not iskeyword(name))):
            raise ValueError("no test, or no function's name")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f"{origin}: input_output of problem {number} is not JSON of two lists, as many inputs "
            f"as outputs, nested at most {DEPTH} deep"
        ) from None
    starter = record.get("starter_code")
    fields = {
        "question": field(record, "question", origin),
        "starter": f"\n{starter}" if starter else "",
        "kind": "Call-Based" if name else "Standard Input",
    }
    return Problem(f"apps/{number}", fields, {"name": name, "cases": cases})


def shallow(value: Any) -> bool:
    """Whether lists and objects are nested at most DEPTH deep."""
    level = [value]
    for _ in range(DEPTH):
        level = [
            item
            for x in level
            if isinstance(x, list | dict)
            for item in (x.values() if isinstance(x, dict) else x)
        ]
    return not any(isinstance(x, list | dict) for x in level)


def job(problem: Problem, answer: str, protocol: Protocol) -> Job:
    name, cases = problem.about["name"], problem.about["cases"]
    if name is None:
        with any_digits():
            pairs = tuple((text(a), text(b)) for a, b in cases)
        return ScriptJob(with_imports(answer), pairs, rule="apps")
    boxed = all(isinstance(out, list) and len(out) == 1 for _, out in cases)
    return FunctionJob(
        program=with_imports(answer, KEPT.format(name=name))
        + METHOD.format(name=name, answer=ANSWER),
        tests=TESTS,
        names=(ANSWER,),
        setup=f"{KEYED}\nBOXED, CASES = {boxed}, {constant(cases)}",
        objects=False,
    )


def with_imports(answer: str, then: str = "") -> str:
    """A program after the common imports and the line `then`, except for what Python wants first:
    imports from __future__, with the docstring and the comments before them."""
    lines = list(io.StringIO(answer, newline=""))  # as Python counts them
    head = first_lines(answer)
    end = "" if not head or lines[head - 1].endswith(("\n", "\r")) else "\n"
    return "".join([*lines[:head], end, IMPORTS, then, *lines[head:]])


def first_lines(answer: str) -> int:
    """The number of lines to the last import from __future__; 0 if there is none."""
    if "__future__" not in answer:
        return 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a program that is judged, not about ours
            body = ast.parse(answer).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return 0
    last = 0
    for node in body:
        own = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if own or node.lineno <= last:  # or begins on the line of one
            last = node.end_lineno or node.lineno
    return last


def text(lines: Any) -> str:
    """stdin or stdout; some problems give it as a list of lines."""
    return "\n".join(map(str, lines)) if isinstance(lines, list) else str(lines)


APPS = Sampled(
    "apps",
    tuple(dataclasses.replace(PROTOCOL, variant=level) for level in LEVELS),
    CODE_TEMPERATURES,
    load,
    by_tests(without_markers(job)),
    other={level: partial(load, level=level) for level in LEVELS[1:]},
)
