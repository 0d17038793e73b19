"""Objects of a program's own: what tests of a class may do with them, and where the program would
decide a test instead."""

import dataclasses

import pytest

from evals.benchmarks import programs
from evals.sandbox.runner import FunctionJob, run_all
from tests.evals.sandbox.helpers import judged, need

YES = """
class Yes:
    def __getattr__(self, name):
        if name.startswith('__'): raise AttributeError(name)
        return lambda *_: True
def f(x): return Yes()
"""
MOCK = "from unittest.mock import MagicMock\ndef f(x): return MagicMock()"
TREE = """
class f:
    def __init__(self, v): self.v, self.children, self.names = v, [], {}
    def total(self): return self.v + sum(c.total() for c in self.children)
    def name(self, key): return self.names.get(key)
    def renew(self): self.children = []
"""


def mbpp(code: str, tests: list[str], program: str) -> FunctionJob:
    return programs.mbpp({"code": code, "test_setup_code": "", "test_list": tests}, program)


@pytest.mark.parametrize("program", [YES, MOCK])
@pytest.mark.parametrize("test", ["f(12).startswith('12')", "f(12).isdigit()", "f(1).x or 1"])
def test_a_result_of_a_function_does_not_answer_for_itself(program: str, test: str) -> None:
    job = mbpp("def f(x): return str(x)", [f"assert {test}"], program)
    assert not job.objects and judged(job).verdict == "failed"
    plain = "def f(x): return str(x)"
    if ".x" not in test:
        assert judged(dataclasses.replace(job, program=plain)).passed


def test_tests_of_a_class_may_ask_its_objects() -> None:
    stack = "class Stack(list):\n    def push(self, x): self.append(x)"
    tests = ["s = Stack(); s.push(1); s.push(2)\nassert s.pop() == 2 and len(s) == 1"]
    job = mbpp(stack, tests, stack)
    assert job.objects and judged(job).passed
    assert not judged(dataclasses.replace(job, program="class Stack(list): push = print")).passed


@pytest.mark.parametrize(
    "tests",
    [
        "r = f(1); r.children.append(f(2)); assert r.total() == 3",
        "r = f(1); r.names['a'] = 5; assert r.name('a') == 5 and r.name('b') is None",
        "r = f(1); r.names['a'] = 5; r.names.pop('a'); assert r.name('a') is None",
        "r = f(1); c = r.children; r.children.append(f(2)); assert c is r.children and len(c) == 1",
        "r = f(1); old = r.children; r.renew(); old.append(f(9)); assert r.total() == 1",
        "r = f(1); r.children.append([1]); r.children[0].append(2); assert r.children == [[1, 2]]",
        "r = f(1)\nfor i in range(99): r.children.append(f(i))\nassert r.total() == 4852",
        "rs = [f(i) for i in range(99)]\nfor r in rs: r.children.append(f(1))\n"
        "assert [r.total() for r in rs] == [i + 1 for i in range(99)]",
    ],
)
def test_what_tests_do_to_an_attribute_reaches_the_object(tests: str) -> None:
    exec(f"{TREE}\n{tests}", {})
    result = judged(FunctionJob(TREE, tests, ("f",)))
    assert result.passed, result.reason


@pytest.mark.parametrize(
    ("code", "program", "verdict"),
    [
        ("from math import gcd as f", "def f(a, b): return 0", "failed"),
        ("from math import gcd as f", "from math import gcd as f", "passed"),
        ("import math\nf = math.gcd", "f = lambda a, b: 0", "failed"),
        ("f = lambda a, b: math.gcd(a, b)\nimport math", "import math\nf = math.gcd", "passed"),
        ("if True:\n    def f(a, b): return 6", "def f(a, b): return 0", "failed"),
        ("try:\n    f = 1 / 0\nexcept ZeroDivisionError:\n    def f(a, b): return 6",
         "def f(a, b): return 6", "passed"),
    ],
)  # fmt: skip
def test_whatever_defines_the_tested_name_it_is_the_programs(
    code: str, program: str, verdict: str
) -> None:
    job = mbpp(code, ["import math\nassert f(12, 18) == 6 == math.gcd(6, 12)"], program)
    assert job.names == ("f",) and judged(job).verdict == verdict


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("class f(dict):\n    def put(self, k, v): self[k] = v\n"
         "    def take(self, k): return self[k]",
         "c = f({5: 6}); c.put(1, 2); c[3] = 4\n"
         "assert c.take(3) == 4 and c[1] == 2 and len(c) == 3 and 5 in c and 6 not in c\n"
         "assert c == {5: 6, 1: 2, 3: 4} != c.copy().clear() and c != {}"),
        ("class f(list):\n    def total(self): return sum(self)",
         "x = f([1, 2]); assert x.total() == 3 and x == [1, 2] and [x] == [[1, 2]] and x[-1] == 2"),
        ("class f(list):\n    def total(self): return sum(self)",
         "x = f([1]); y = f([1]); y.append(2); assert x != y and [*y] == [1, 2]\n"
         "assert x == f([1]) and y.total() == 3"),
        ("class f(set):\n    def first(self): return min(self)",
         "x = f({3, 2}); assert x.first() == 2 and x == {2, 3}"),
        ("from typing import NamedTuple\nclass f(NamedTuple):\n    x: int = 1\n"
         "    @property\n    def y(self): return self.x + 1\n"
         "    def area(self, k): return self.x * k",
         "p = f(3); assert p == (3,) and p.y == 4 and p.area(5) == 15 and p.x == p[0] == 3\n"
         "assert f() == (1,) and {f(): 2}[(1,)] == 2 and str(p) == 'f(x=3)'"),
        ("import enum\nclass f(enum.IntEnum):\n    A = 1\n    B = 2",
         "assert f.A.name == 'A' and f(2).value == 2 == f.B and f(1) is f.A and f.A < f.B\n"
         "assert f.A + 1 == 2 and {f.A: 3}[1] == 3 and isinstance(f.A, int) and f['A'] == 1"),
        ("import enum\nclass f(str, enum.Enum):\n    A = 'x'\n"
         "    def twice(self): return self.value * 2",
         "assert f('x').value == 'x' == f.A and f.A.twice() == 'xx' and f.A.upper() == 'X'"),
        ("class A(int):\n    def next(self): return A(self + 1)\ndef f(x): return A(x).next()",
         "assert f(1) == 2 and f(f(1)) == 3 and f(2).next() == 4"),
    ],
)  # fmt: skip
def test_objects_of_a_built_in_base_have_their_methods(program: str, tests: str) -> None:
    exec(f"{program}\n{tests}", {"__name__": "one"})
    for objects in (True, False):
        result = judged(FunctionJob(program, tests, ("f",), objects=objects))
        assert result.passed is objects, result.reason


def test_a_value_is_compared_as_it_was_sent() -> None:
    """And not by what its class says of it, or makes of it later."""
    lies = "class f(int):\n    own = 1\n    def __eq__(self, x): return x == 5 or x == 6"
    other = "class f(list):\n    own = 1\n    def __eq__(self, x): return x == [5]"
    wrong = "class f(int):\n    own = 1\n    def __add__(self, x): return 5"
    for program, test in (
        (lies, "f(1) == 5"),
        (other, "f() == [5]"),
        (wrong, "f(1) + 1 == 5"),
        (wrong, "f(2) == 5"),
    ):
        job = FunctionJob(program, f"assert {test}", ("f",))
        assert judged(job).verdict in ("failed", "tampered"), test


CATCH = """
try: f()
except {}: seen = True
assert seen"""


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("class E(KeyError, ValueError): pass\ndef f(): raise E", CATCH.format("ValueError")),
        ("class E(KeyError, ValueError): pass\ndef f(): raise E", CATCH.format("KeyError")),
        ("class E(OSError, ValueError): pass\ndef f(): raise E(2, 'a')", CATCH.format("OSError")),
        ("import json\ndef f(): return json.loads('{')",
         f"import json\n{CATCH.format('json.JSONDecodeError')}"),
        ("import decimal\ndef f(): return decimal.Decimal('x')",
         f"import decimal\n{CATCH.format('decimal.InvalidOperation')}"),
        ("import decimal\ndef f(): return decimal.Decimal('x')", CATCH.format("ArithmeticError")),
        ("import re\ndef f(): re.compile('(')", f"import re\n{CATCH.format('re.error')}"),
        ("class E(ValueError):\n    def __str__(self): return 'bad'\ndef f(): raise E(1)",
         "try: f()\nexcept ValueError as e: assert str(e) == 'bad' and e.args == (1,)\n"
         "else: assert 0"),
        ("def f(): raise ValueError('a' * 999)", CATCH.format("ValueError")),
    ],
)  # fmt: skip
def test_an_exception_is_of_all_its_kinds(program: str, tests: str) -> None:
    exec(f"{program}\n{tests}", {})
    result = judged(FunctionJob(program, tests, ("f",)))
    assert result.passed, result.reason


def test_an_exception_is_of_no_other_kind() -> None:
    program = "import unittest\nclass E(unittest.SkipTest): pass\ndef f(): raise E"
    tests = "import unittest\ntry: f()\nexcept unittest.SkipTest: pass"
    assert judged(FunctionJob(program, tests, ("f",))).verdict == "failed"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(x): x[0], x[1] = x[1], x[0]",
         "a, b = [2], [1]; x = [a, b]; f(x); assert x == [[1], [2]] and a == [2] and x[0] is b"),
        ("def f(x): x.sort()", "a = [2]; x = [a, [1]]; f(x); assert x == [[1], [2]] and a == [2]"),
        ("def f(d): d['a'].append(2)", "r = [1]; d = {'a': r}; f(d); assert d['a'] is r == [1, 2]"),
        ("def f(x): x[0].append(2); x.append([3])",
         "r = [1]; x = [r]; f(x); assert x == [[1, 2], [3]] and r == [1, 2]"),
        ("def f(x): x.pop(0).append(5)",
         "a = [1]; x = [a, {}]; f(x); assert x == [{}] and a == [1, 5]"),
        ("def f(x, y): x.append(y)", "x, y = [], {1}; f(x, y=y); assert x == [{1}] and x[0] is y"),
        ("def f(x): x[0] = x[0] + [2]",
         "r = [1]; x = [r]; f(x); assert x == [[1, 2]] and r == [1]"),
        ("def f(x): x['a'][0][1].add(2)",
         "s = {1}; x = {'a': [(0, s)]}; f(x); assert s == {1, 2} and x['a'][0][1] is s"),
        ("def f(x): x.appendleft(x[0])",
         "from collections import deque\nr = [1]; x = deque([r]); f(x); assert x[0] is x[1] is r"),
        ("def f(x, y): y.append(x)\ndef g(): pass", "y = []; f(g, y); assert y[0] is g"),
    ],
)  # fmt: skip
def test_changes_of_arguments_are_as_in_one_process(program: str, tests: str) -> None:
    exec(f"{program}\n{tests}", {})
    result = judged(FunctionJob(program, tests, ("f", "g") if " g(" in program else ("f",)))
    assert result.passed, result.reason


FORGED = """
import sys
frame = sys._getframe()
while 'contents' not in frame.f_globals: frame = frame.f_back
frame.f_globals['contents'] = lambda inner: '{}'
def f(x): x.append(1)
"""


def test_forged_changes_are_seen() -> None:
    need()
    texts = ("[5]", "[]", '[["old",7]]', '[["dict",[]]]', '[["list",[]],["list",[]]]', '"a"', "{}")
    jobs = [
        FunctionJob(FORGED.format(text.replace("{", "{{").replace("}", "}}")), "f([])", ("f",))
        for text in texts
    ]
    assert [r.verdict for r in run_all(jobs, 1)] == ["tampered"] * len(jobs)
