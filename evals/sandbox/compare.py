"""Whether a script's output is what a benchmark expects, by the rules of its authors.

codecontests  words, wherever lines end, in capitals or not; numbers within 1e-5 of each other. As
              the tester that belongs to CodeContests does (Li et al. 2022; google-deepmind/
              code_contests, execution/tester_sandboxer.cc). We compare whole numbers exactly,
              however long: its floats skip some. The program must exit with 0.
apps          lines of words, capitals included, with blanks around lines and empty lines at the end
              left out; numbers are the same if numpy's allclose says so at its defaults, or if they
              are when rounded to three decimals. As APPS's tester does (Hendrycks et al. 2021;
              hendrycks/apps, eval/testing_util.py), which also passes the same words in another
              order or number. We do not. How the program exits does not count.

Standard library only, as evals/sandbox/judge.py is.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import NamedTuple


def near(word: str, expected: str) -> bool:
    """Whether two words are the same by CodeContests' rules. Whole numbers, in whatever form, are
    compared exactly, and not as floats."""

    def same(a: Decimal, b: Decimal) -> bool:
        if a == a.to_integral_value() and b == b.to_integral_value():
            return a == b
        return abs(a - b) < Decimal("1e-5")

    return _lower(word) == _lower(expected) or _as_numbers(word, expected, same)


def close(word: str, expected: str) -> bool:
    """Whether two words are the same by the rules of APPS."""

    def same(a: Decimal, b: Decimal) -> bool:
        allowed = Decimal("1e-8") + Decimal("1e-5") * abs(b)
        return abs(a - b) <= allowed or round(a, 3) == round(b, 3)

    return word == expected or _as_numbers(word, expected, same)


def _lower(word: str) -> str:
    """In small letters, but only those of ASCII: the sign of the kelvin has a k of its own."""
    return word.lower() if word.isascii() else word


# Python reads more as a number: "1_0", digits of other scripts, a control character at the end.
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _as_numbers(word: str, expected: str, same: Callable[[Decimal, Decimal], bool]) -> bool:
    """Whether both are finite numbers and the same."""
    if not NUMBER.fullmatch(word) or not NUMBER.fullmatch(expected):
        return False
    with suppress(ArithmeticError):
        return same(Decimal(word), Decimal(expected))
    return False


class Rule(NamedTuple):
    """same: compares two words. lines: whether it matters where they end. exit: whether the program
    must exit with 0."""

    same: Callable[[str, str], bool]
    lines: bool
    exit: bool


RULES = {"codecontests": Rule(near, lines=False, exit=True), "apps": Rule(close, True, exit=False)}


def difference(output: str, expected: str, rule: Rule) -> str:
    """In what an output differs from the expected one, in a line; "" if it does not."""
    if not rule.lines:
        return _in_words(words(output), words(expected), rule, "")
    got, wanted = ([words(line) for line in text.split("\n")] for text in (output, expected))
    for lines in (got, wanted):
        while lines and not lines[-1]:
            lines.pop()
    for number, (a, b) in enumerate(zip(got, wanted, strict=False), 1):
        if found := _in_words(a, b, rule, f" of line {number}"):
            return found
    return "" if len(got) == len(wanted) else f"{len(got)} lines instead of {len(wanted)}"


def words(text: str) -> list[str]:
    """The parts between blanks, which are those of ASCII."""
    return re.findall(r"[^ \t\n\r\f\v]+", text)


def _in_words(got: list[str], wanted: list[str], rule: Rule, where: str) -> str:
    for number, (a, b) in enumerate(zip(got, wanted, strict=False), 1):
        if not rule.same(a, b):
            return f"word {number}{where} is {a[:80]!r} instead of {b[:80]!r}"
    return "" if len(got) == len(wanted) else f"{len(got)} words{where} instead of {len(wanted)}"
