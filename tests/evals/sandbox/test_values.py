"""What tests see of a program's values, errors and names: what they would in one process."""

import pytest

from evals.sandbox.runner import FunctionJob, run_all
from tests.evals.sandbox import lying
from tests.evals.sandbox.asked import RIGHT
from tests.evals.sandbox.helpers import functions, judged, need

VALUES = """None True 0 -1 2**63 -2**200 10**4000 1.5 -0.0 float('inf') 1e308 1j ''
    'é\\n\\0' '\\ud800'
    b'\\0a' [] [1,[2,()]] (1,) {1,'a'} frozenset({1}) {} {(1,2):[3]} {None:True} range(1,9,2)
    __import__('collections').deque([1,[2]]) __import__('fractions').Fraction(1,3)
    __import__('decimal').Decimal('1.10') __import__('collections').Counter('aab')
    __import__('collections').OrderedDict([(2,1),(1,[2])])
    __import__('collections').defaultdict(list,{1:[2]})
    __import__('collections').defaultdict(None,{})"""


@pytest.mark.parametrize("value", VALUES.split())
def test_values_arrive_as_they_are(value: str) -> None:
    tests = f"x = {value}\nassert f() == x and type(f()) is type(x) and repr(f()) == repr(x)\n"
    tests += "assert same(x) == x and type(same(x)) is type(x)"
    program = f"def f(): return {value}\ndef same(x): return x"
    result = judged(FunctionJob(program, tests, ("f", "same")))
    assert result.passed, result.reason


EXPECT = """
try: {}
except {}: seen = True
assert seen"""
OWN = "class Own(ValueError): pass"
POINT = "from collections import namedtuple\nP = namedtuple('P', 'x y')"
STACK = """
class f:
    def __init__(self): self.items = []
    def push(self, x): self.items.append(x)
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __getitem__(self, i): return self.items[i]
"""
COUNTER = "from collections import Counter"
DEFAULT = "from collections import defaultdict"
DEQUE = "from collections import deque"


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(x): x.append(1)", "x = []; f(x); f(x); assert x == [1, 1]"),
        ("def f(x): x[0][0] = 9", "row = [1]; x = (row, 2); f(x); assert row == [9]"),
        ("def f(x): x.clear(); x['a'] = {1}", "x = {1: 2}; f(x); assert x == {'a': {1}}"),
        ("def f(x, y): x |= y", "x = {1}; f(x, y={2}); assert x == {1, 2}"),
        ("def f(*, x): x.append(1)", "x = []; f(x=x); assert x == [1]"),
        ("def f(x, **more): more['y'].pop()", "y = {1}; f([], z=2, y=y); assert y == set()"),
        ("def f(x): x.appendleft(1)", f"{DEQUE}; x = deque(); f(x); assert x == deque([1])"),
        ("def f(x): x.rotate(1)", f"{DEQUE}; x = deque([1, 2]); f(x); assert list(x) == [2, 1]"),
        ("def f(x): x[0].append(1)", f"{DEQUE}; x = deque(); f([x]); assert list(x) == [1]"),
        ("def f(x): x.update('ab')", f"{COUNTER}; x = Counter('a'); f(x); assert x['a'] == 2"),
        (f"{COUNTER}\ndef f(x): return Counter(x)", "assert f('aab')['missing'] == 0"),
        (f"{COUNTER} as f", "assert f('aab') == {'a': 2, 'b': 1} and f('a') + f('b') == f('ab')"),
        (f"{DEFAULT}\ndef f(): return defaultdict(int, a=1)", "assert f()['missing'] == 0"),
        (f"{DEFAULT}\ndef f(): return defaultdict(lambda: 1, a=1)", "assert f() == {'a': 1}"),
        ("def f(x): return x['new'] + 1", f"{DEFAULT}; assert f(defaultdict(int)) == 1"),
        ("import re\ndef f(x): return re.match('a', x)", "assert f('ab') and not f('b')"),
        ("class f:\n    def __bool__(self): return False", "assert not f()"),
        ("def f(x): return x * 2", "assert f('a', ) == 'aa' and f(x=2) == 4"),
        ("def f(n):\n    while n: n -= 1; yield n", "assert list(f(3)) == [2, 1, 0]"),
        ("def f(x): return map(str, x)", "assert set(f([1])) == {'1'}"),
        ("f = 3", "assert f == 3"),
        (
            "class f:\n    def __init__(self, x): self.x = x",
            "a = f(1); a.left = f(2); a.left.x = 5; assert a.x + a.left.x == 6",
        ),
        ("def sum(a, b): return a - b\nf = sum", "assert f(3, 2) == 1"),
        ("def f(kind): return [x for x in (1, 'a') if type(x) is kind]", "assert f(int) == [1]"),
        ("def f(): return 1", "try:\n    assert f(1)\nexcept TypeError: pass\nassert f() == 1"),
        (
            "def f(x): return 1 / x",
            EXPECT.format("f(0)", "ZeroDivisionError") + "; assert f(1) == 1",
        ),
        (f"{OWN}\ndef f(x): raise Own('why')", EXPECT.format("f(0)", "ValueError")),
        ("def f(x): return x['a']", EXPECT.format("f({})", "KeyError")),
        ("def f(n): yield from range(n)", "x = f(3); assert next(x) == 0 and list(x) == [1, 2]"),
        ("def f(n): yield from range(n)", EXPECT.format("next(f(0))", "StopIteration")),
        ("def f(x): return {1: 2}.items()", "assert len(f(1)) == 1 and (1, 2) in f(1)"),
        (f"{POINT}\nf = P", "p = f(1, 2); assert p[0] == 1 and p.y == 2 and len(p) == 2"),
        (f"{POINT}\nf = P", "assert str(f(1, 2)) == repr(f(1, 2)) == 'P(x=1, y=2)'"),
        ("def f(x): return {x: 1}.keys()", "assert 2 in f(2) and 3 not in f(2)"),
        ("def f(x): return (i for i in range(x))", "x = f(4); assert 1 in x and list(x) == [2, 3]"),
        (
            f"{STACK}    __hash__ = None\n    def __contains__(self, x): return False",
            "s = f(); s.push(1); assert [*s] == [1]",
        ),
        ("class f: left = None", "x = f(); assert x.left == None and x != None and not x == None"),
        ("import enum\nclass f(enum.Enum): A = 1", "assert f(1) == f.A and not f(1) != f['A']"),
        ("import datetime\nf = datetime.date", "assert f(2024, 5, 1).isoformat() == '2024-05-01'"),
        ("def f(): raise KeyError('a')", "try: f()\nexcept KeyError as e: assert e.args == ('a',)"),
        (
            "def f(x):\n    x.clear()\n    raise ValueError",
            f"x = [1]\n{EXPECT.format('f(x)', 'ValueError')}\nassert x == []",
        ),
        (
            "class f:\n    val = 1\n    def __eq__(self, o): return self.val == o.val",
            "assert f().val == 1",
        ),
        (
            "class f(dict):\n    def __eq__(self, o): return self is o",
            "x = f(); x[1] = 2; assert x[1] == 2",
        ),
        ("def f(): return '\\ud83d\\ude00'", "assert len(f()) == 2"),
        (STACK, "s = f(); s.push(1); s.push(2); assert s.pop() == 2 and len(s) == 1 and s[0] == 1"),
    ],
)
def test_tests_see_what_they_would_in_one_process(program: str, tests: str) -> None:
    result = judged(FunctionJob(program, tests, ("f",)))
    assert result.passed, result.reason
    exec(f"{program}\n{tests}", {})  # in one process


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("def f(x): raise StopIteration", "assert all(map(f, [1, 2]))"),
        ("def f(x): raise StopIteration", "for a, b in zip(map(f, [1, 2]), [5, 6]): assert a == b"),
        ("def f(x): return 1", EXPECT.format("f(object())", "TypeError")),
        ("class f:\n    def __add__(self, x): return 1", EXPECT.format("f() + 1", "TypeError")),
        ("def f(): return object()", "assert callable(f())"),
        ("def f(): return object()", "from typing import Sized; assert isinstance(f(), Sized)"),
        ("class A: pass\na = A()\ndef f(): return a", "assert f() is not f()"),
        ("def f(x):\n    x.clear()\n    raise ValueError",
         f"x = [1]\n{EXPECT.format('f(x)', 'ValueError')}\nassert x == [1]"),
        ("def f(): return '\\ud83d\\ude00'", "assert f() == '\U0001f600'"),
        # its own idea of what is in it
        ("class f:\n    def __contains__(self, x): return True", "assert 5 in f()"),
        ("class f:\n    def __contains__(self, x): return False", "assert 5 not in f()"),
        ("class f:\n    def __contains__(self, x): return True\n    def __iter__(self): yield 4",
         "assert 5 in f()"),
        ("class f:\n    def __contains__(self, x): return True\n    def __iter__(self): yield 4",
         "import unittest\nunittest.TestCase().assertIn(5, f())"),
        ("class f:\n    def __eq__(self, x): return True", "assert f() == None or True"),
        ("class f: _kind = 'wrong'", "assert f()._kind == 'f'"),
        ("def f(): return [float('nan')]", "assert f() == f()"),
        ("from collections import namedtuple\nT = namedtuple('x' * 1000, 'a')\nf = lambda: T(1)",
         "assert f() == (1,)"),
    ],
)  # fmt: skip
def test_what_passed_by_the_judges_own_ways_fails(program: str, tests: str) -> None:
    result = judged(FunctionJob(program, tests, ("f",)))
    assert result.verdict in ("failed", "tampered"), result


def test_what_a_program_raises_fails_a_test_that_does_not_expect_it() -> None:
    program = "class Own(Exception): pass\ndef f(x): raise Own('why')"
    result = judged(FunctionJob(program, "assert f(1) == 1", ("f",)))
    assert (result.verdict, result.reason) == ("failed", "Exception: why; assert f(1) == 1")
    for name in ("SystemExit", "KeyboardInterrupt", "BaseException", "GeneratorExit"):
        swallows = "try: f(1)\nexcept BaseException: pass"
        job = FunctionJob(f"def f(x): raise {name}", swallows, ("f",))
        assert judged(job).verdict == "failed"


def test_the_order_of_an_ordered_dict_counts() -> None:
    program = "from collections import OrderedDict\ndef f(): return OrderedDict(b=1, a=2)"
    tests = "from collections import OrderedDict\nassert f() == OrderedDict(a=2, b=1)"
    assert judged(FunctionJob(program, tests, ("f",))).verdict == "failed"


def test_what_tests_take_is_what_they_name() -> None:
    """A name that is not listed is the tests' own, even if the program defines it."""
    program = "def f(x): return 0\ndef abs(x): return 0\ndef helper(x): return 0"
    setup = "def helper(x): return x + 1"
    tests = "assert abs(-3) == 3 and helper(1) == 2 and f(5) == 0"
    assert judged(FunctionJob(program, tests, ("f",), setup)).passed
    assert not judged(FunctionJob(program, tests, ("f", "abs"), setup)).passed


def test_a_program_sets_no_name_that_it_was_not_asked_for() -> None:
    """What `setup` defines, expected results among it, is the tests'."""
    forged = lying.forged('[0,"names",[["f",1],["CASES",["list",[]]]],null]')
    setup, tests = "CASES = [(1, 2)]", "for a, b in CASES: assert f(a) == b"
    assert judged(FunctionJob(forged, tests, ("f",), setup)).verdict == "tampered"
    replaces = "def f(x): return 0\nCASES = []"
    assert judged(FunctionJob(replaces, tests, ("f",), setup)).verdict == "failed"


def test_a_job_that_cannot_be_judged_fails_alone() -> None:
    need()
    jobs = [FunctionJob("f = 1", "", ("f",), setup="import none_such"), functions(RIGHT)]
    first, second = run_all(jobs, 1)
    assert first.verdict == "failed" and "none_such" in first.reason
    assert second.passed


def test_reasons_name_the_line_that_failed() -> None:
    tests = "assert f(1) == 1\nassert f(2) == 3, 'why'\n"
    assert judged(FunctionJob("def f(x): return x", tests, ("f",))).reason == (
        "assert f(2) == 3, 'why'"
    )
