"""HumanEval+ and MBPP+: made-up records of EvalPlus's format, right and wrong programs, and the
tolerance against numpy's."""

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evals.benchmarks import evalplus, humaneval, mbpp, plus_rules
from evals.harness.problems import Problem, Source
from evals.harness.prompts import prompts
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from tests.conftest import write_jsonl
from tests.evals.sandbox.helpers import need


def record(kind: str, name: str, solution: str, base: Any, extra: Any, **own: Any) -> Any:
    """A record of HumanEvalPlus.jsonl or MbppPlus.jsonl."""
    made = {
        "task_id": "HumanEval/7" if kind == "humaneval" else "Mbpp/6",
        "prompt": f'def {name}(x):\n    """Made up."""\n'
        if kind == "humaneval"
        else f'"""\nMade up.\nassert {name}(1) == 1\n"""\n',
        "entry_point": name,
        "canonical_solution": solution,
        "base_input": base,
        "plus_input": extra,
        "atol": 0,
        "contract": '\n    assert False, "never used"\n',
    }
    return made | ({"assertion": "assert False"} if kind == "mbpp" else {}) | own


HALVES = record("humaneval", "halves", "    return [i / 3 for i in x]\n", [[[3]]], [[[1, 2]], [[]]])
COUNT = record(
    "mbpp", "count", "\ndef count(x):\n    x.sort()\n    return [x.pop(), len(x)]\n",
    [[[3, 1]], [[2]]], [[[4, 6, 5]]],
)  # fmt: skip
LIAR = "def __eq__(self, other): return True"


def problem(kind: str, made: dict[str, Any]) -> Problem:
    return evalplus.dataset(kind, [made], "made up").problems[0]


def judged(kind: str, made: dict[str, Any], answers: list[str]) -> list[str]:
    need()
    benchmark = humaneval.HUMANEVAL if kind == "humaneval" else mbpp.MBPP
    asked = [(problem(kind, made), answer) for answer in answers]
    return list(benchmark.check.verdicts(asked, benchmark.protocol("plus"), False))


def test_programs_must_be_right_on_the_first_and_on_the_extra_inputs() -> None:
    answers = {
        "    return [i / 3 for i in x]\n": "passed",
        "    return [i / 3 + 1e-7 for i in x]\n": "passed",  # floats: 1e-6
        "    return [i / 3 + 1e-5 for i in x]\n": "failed",
        "    return tuple(i / 3 for i in x)\n": "failed",
        "    return [1.0]\n": "failed",  # right on the first ones alone
        "    return [i / 3 for i in x] if x else None\n": "failed",  # wrong on the last one
        "    return halves_(x)\n": "failed",
        "    import os; os._exit(0)\n": "failed",
    }
    assert dict(zip(answers, judged("humaneval", HALVES, list(answers)), strict=True)) == answers


def test_arguments_are_not_changed_by_the_reference_or_the_program() -> None:
    """Else the second to get them would see fewer."""
    answers = {
        "def count(x):\n    return [max(x), len(x) - 1]": "passed",
        "def count(x):\n    n = [max(x), len(x) - 1]\n    x.clear()\n    return n": "passed",
        "def count(x):\n    return [x[-1], len(x) - 1]": "failed",
        f"class count:\n    def __init__(self, x): pass\n    {LIAR}": "tampered",
        "count = None": "failed",
    }
    assert dict(zip(answers, judged("mbpp", COUNT, list(answers)), strict=True)) == answers


def test_a_reference_may_call_itself_and_not_the_program() -> None:
    solution = "def down(x):\n    return x and down(x - 1) + 1\n"
    made = record("mbpp", "down", solution, [[3]], [[5]])
    wrong = "def down(x):\n    return 4 if x == 3 else 6 if x == 5 else 0"
    assert judged("mbpp", made, ["def down(x): return x", wrong]) == ["passed", "failed"]


def test_arguments_of_mbpp_are_tuples_and_sets_again() -> None:
    for task, arguments, meant in (
        (2, [[1], [2]], ((1,), (2,))),
        (63, [[[1, 2]]], ([(1, 2)],)),
        (75, [[[1], [2]], 3], ([(1,), (2,)], 3)),
        (106, [[1], [2]], ([1], (2,))),
        (115, [[[1, 2], [], 3]], ([{1, 2}, {}, {}],)),
        (124, ["1", "2j"], (1.0, 2j)),
        (252, ["1+2j"], (1 + 2j,)),
        (278, [[1, [2, 3]]], ((1, (2, 3)),)),
        (307, [[1], 2, 3], ((1,), 2, 3)),
        (401, [[[1], [2]]], (((1,), (2,)),)),
        (580, [[1, [2, [3]]]], ((1, (2, (3,))),)),
        (722, [{"a": [1]}, 2], ({"a": (1,)}, 2)),
        (6, [[1]], ([1],)),
    ):
        (found,) = evalplus.inputs("mbpp", f"Mbpp/{task}", [arguments], "")
        assert found == meant and repr(found) == repr(meant), task
    assert evalplus.inputs("humaneval", "HumanEval/2", [[[1]]], "") == [([1],)]
    solution = "def kind(x):\n    return type(x[0]).__name__\n"
    made = record("mbpp", "kind", solution, [[[[1]]]], [], task_id="Mbpp/63")
    right = "def kind(x): return 'tuple' if isinstance(x[0], tuple) else '?'"
    assert judged("mbpp", made, [right, "def kind(x): return 'list'"]) == ["passed", "failed"]


# --------------------------------------------------------------------------------------------------
# what is equal


def right(name: str, got: Any, expected: Any, *given: Any, atol: float = 0.0) -> bool:
    return plus_rules.right("mbpp", name, got, expected, given, atol)


def test_the_exceptions_that_evalplus_makes() -> None:
    assert right("are_equivalent", 1, 2) and not right("other", 1, 2)
    assert right("sum_div", 0, 7) and not right("sum_div", 1, 7)
    assert right("find_char_long", ["b", "a"], ["a", "b"]) and not right("f", [1, 2], [2, 1])
    assert not right("find_char_long", ["a"], ["a", "b"])
    assert right("check_str", object(), object()) and right("check_str", True, object())
    assert right("check_str", None, None) and right("check_str", False, None)
    assert not right("check_str", None, object()) and not right("check_str", False, object())
    assert right("digit_distance_nums", 1 + 2 + 2, 0, 123, 5) and not right("f", 5, 0, 123, 5)
    flat = 9 + 2 * 3 * math.hypot(1.5, 4)
    assert right("surface_Area", round(flat), 33, 3, 4)
    assert not right("surface_Area", round(flat) + 1, 33, 3, 4)
    zero = plus_rules.right("humaneval", "find_zero", 2 + 1e-5, 5.0, [[-2, 1]], 1e-4)
    assert zero and not plus_rules.right("humaneval", "find_zero", 3, 3, [[-2, 1]], 1e-4)
    assert not plus_rules.right("humaneval", "are_equivalent", 1, 2, [], 0)  # MBPP's alone


NUMBERS = st.floats(allow_nan=True) | st.integers(-(10**9), 10**9)
SHIFTS = st.sampled_from([0.0, 0.9e-6, 1.1e-6, 0.9e-3, 1.1e-3]) | st.floats(-1, 1)


@given(st.lists(st.tuples(NUMBERS, SHIFTS), max_size=4), st.sampled_from([1e-6, 1e-3]))
@example([(math.inf, 0.0)], 1e-6)
@example([(math.inf, -math.inf)], 1e-6)
@example([(1e9, 100.0)], 1e-6)
def test_tolerance_is_numpys(pairs: list[tuple[float, float]], atol: float) -> None:
    expected = [number for number, _ in pairs]
    got = [number + shift for number, shift in pairs]
    with np.errstate(all="ignore"):
        wanted = np.allclose(got, expected, rtol=1e-7, atol=atol)
    assert plus_rules.close(got, expected, atol) == wanted
    assert plus_rules.close([got], [tuple(expected)], atol) == wanted  # types count outside alone
    assert not plus_rules.close(tuple(got), expected, atol)
    assert not plus_rules.close([*got, 1.0], expected, atol)


def test_tolerance_at_its_edge() -> None:
    assert right("f", 1.0 + 2**-10, 1.0, atol=2**-10) and not right("f", 1.002, 1.0, atol=2**-10)
    assert not right("f", 1.0 + 2**-10, 1.0) and right("f", 1, 1.0)
    assert not right("f", 1, 1.0000001, atol=1e-3)  # an int where a float is expected
    assert right("f", 1.0 + 1j, 1.0 + 1.0001j, atol=1e-3)
    for wrong in (["a"], [None], [[0.5]], [10**400], {0.5}, {0: 0.5}):
        assert not right("f", wrong, [0.5], atol=1e-3)
    assert not right("f", {0: 0.5}, {0: 0.5001}, atol=1e-3)  # only numbers and sequences


@pytest.mark.parametrize(
    ("base", "extra", "passes"),
    [
        ([[[0.5]], [[1, 0.5]]], [], True),  # a float makes it 1e-6, for what follows too
        ([[[1, 0.5]], [[0.5]]], [], False),
        ([[[0.5]]], [[[1, 0.5]]], False),  # the extra ones begin anew
    ],
)
def test_floats_bring_a_tolerance_for_the_inputs_after_them(
    base: Any, extra: Any, passes: bool
) -> None:
    check = plus_rules.checker("f", "def f(x): return x", (base, extra), "mbpp", 0.0)
    if passes:
        check(lambda x: [*x[:-1], x[-1] + 1e-7])
    else:
        with pytest.raises(AssertionError, match="f is wrong"):
            check(lambda x: [*x[:-1], x[-1] + 1e-7])


# --------------------------------------------------------------------------------------------------
# files


@pytest.mark.parametrize(
    "name",
    ["HumanEvalPlus.jsonl", "HumanEvalPlus.jsonl.gz", "humaneval/HumanEvalPlus-v0.1.10.jsonl"],
)
def test_its_file_is_read_compressed_or_not(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    line = json.dumps(HALVES | {"base_input": [[[math.nan, math.inf, 10**30]]]}).encode()
    file.write_bytes(gzip.compress(line) if name.endswith("gz") else line)
    found = humaneval.load_plus(Source(tmp_path).of("humaneval"))
    assert [p.id for p in found.problems] == ["HumanEval/7"]
    assert found.origin.startswith(f"{file.name} sha256:")
    made = prompts(found, humaneval.PLUS, ByteTokenizer(), 4096)["HumanEval/7"]
    assert made and made.text == HALVES["prompt"]


def test_mbpps_prompt_is_the_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "MbppPlus.jsonl", COUNT | {"prompt": "\n'''\nMade up.\n'''"})
    found = mbpp.load_plus(Source(tmp_path))
    made = prompts(found, mbpp.PLUS, ByteTokenizer(), 4096)["Mbpp/6"]
    assert made and made.text == "'''\nMade up.\n'''\n"


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"atol": None}, "no 'atol' that is a number"),
        ({"atol": -1}, "no 'atol' that is a number"),
        ({"atol": math.nan}, "no 'atol' that is a number"),
        ({"entry_point": "a b"}, "an 'entry_point' that is not a name"),
        ({"canonical_solution": "def f("}, "are not Python"),
        ({"canonical_solution": None}, "no 'canonical_solution' of type str"),
        ({"base_input": {}}, "no 'base_input' of type list"),
        ({"plus_input": [1]}, "plus_input has an item that is not a list of arguments"),
        ({"task_id": "Mbpp/2", "plus_input": [[1]]}, "plus_input has arguments of another form"),
    ],
)
def test_a_record_of_another_format_is_named(wrong: dict[str, Any], reported: str) -> None:
    with pytest.raises(BadInput, match=rf"^made up: problem Mbpp/[62].*{reported}"):
        problem("mbpp", COUNT | wrong)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"HumanEvalPlus\.jsonl or .*gz.* must be in a --data-dir$"):
        humaneval.load_plus(Source())
    with pytest.raises(BadInput, match=r"MbppPlus\.jsonl cannot be read: No such file \(nor one c"):
        mbpp.load_plus(Source(tmp_path))
    for content in (b"no gzip", gzip.compress(b"{}" * 99)[:-9]):
        (tmp_path / "MbppPlus.jsonl.gz").write_bytes(content)
        with pytest.raises(BadInput, match=r"jsonl\.gz cannot be read: not a whole gzip file$"):
            mbpp.load_plus(Source(tmp_path))
