"""What scripts print is compared as each benchmark's authors do, and numbers as numbers."""

import pytest

from evals.sandbox import compare
from evals.sandbox.runner import ScriptJob
from tests.evals.sandbox.helpers import judged


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
        ("5\x1f", "5", False),
        ("\x1c5", "5", False),
        ("+.5e1", "5", True),
        ("5.", "5", True),
        (".", "0", False),
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
