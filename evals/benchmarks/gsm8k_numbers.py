"""The number that an answer in words comes to, by three rules.

    last      of the text, or of its last \\boxed{...}; compared as a number
    strict    what follows the first "#### "; compared as text
    flexible  the last run of digits, dollar signs, points and commas; compared as text

`strict` and `flexible` are the rules of lm-evaluation-harness's task gsm8k. Both drop dollar signs,
commas and a point at the end, so that $1,800. is 1800, but 1800.00 is not.

`last` reads numbers as people write them: 1,800 and 70 000 (in groups of three), -3 with the
hyphen or the minus sign, .5, 1/2 and \\frac{1}{2} for 0.5, and TeX's 1{,}800 and 1\\,800.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction

SPACES = " \u00a0\u2009\u202f"  # that part thousands: usual, unbreakable, thin, both
TEX = (
    (re.compile(r"\\[dt]?frac\{\s*(-?\d+)\s*\}\{\s*(\d+)\s*\}"), r" \1/\2"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"(?<=\d)\\[,;:! ](?=\d{3})"), "\u2009"),
    (re.compile("\u2212"), "-"),
)
NUMBER = re.compile(
    rf"""
    (?<![\d/.]) (?P<over>-?\d+) / (?P<under>\d+) (?! [\d/] | \.\d )   # 1/2, but not a date
    | -?\d{{1,3}} (?: [{SPACES}]\d{{3}} )+ (?! [,/]?\d ) (?: \.\d+ )?   # 70 000
    | -?\d[\d,]* (?: \.\d+ )?
    | -?\.\d+
    """,
    re.VERBOSE,
)
NO_DIGIT = re.compile(rf"[,{SPACES}]")
BOX = r"\boxed{"
MARK = "#### "
MARKED = re.compile(rf"{MARK}(-?[0-9.,]+)")
RUN = re.compile(r"-?[$0-9.,]{2,}|-?[0-9]+")


def last_number(text: str) -> Fraction | None:
    """The number that a text comes to; None if it has none.

    >>> last_number("5 x 3 = $1,800.50. That is all.")
    Fraction(3601, 2)
    """
    for part in (boxed(text), text):
        for pattern, plain in TEX:
            part = pattern.sub(plain, part)
        if found := list(NUMBER.finditer(part)):
            return value(found[-1])
    return None


def boxed(text: str) -> str:
    """What is in the last box of a text; empty if there is no box."""
    _, box, rest = text.rpartition(BOX)
    depth = 1
    for place, character in enumerate(rest if box else ""):
        depth += (character == "{") - (character == "}")
        if not depth:
            return rest[:place]
    return rest if box else ""


def value(found: re.Match[str]) -> Fraction:
    # By way of Decimal: Fraction and int do not read more than 4300 digits.
    if found["over"]:
        over, under = (Fraction(Decimal(found[name])) for name in ("over", "under"))
        return over / under if under else under
    return Fraction(Decimal(NO_DIGIT.sub("", found[0])))


def by_last(answer: str, reference: str) -> bool:
    return last_number(answer) == last_number(reference.rpartition(MARK)[2])


def by_strict(answer: str, reference: str) -> bool:
    found = MARKED.search(answer)
    return found is not None and plain(found[1]) == plain(reference.rpartition(MARK)[2])


def by_flexible(answer: str, reference: str) -> bool:
    found = RUN.findall(answer)
    return bool(found) and plain(found[-1]) == plain(reference.rpartition(MARK)[2])


def plain(number: str) -> str:
    return re.sub(r"[,$]", "", number).removesuffix(".")


RULES: Mapping[str, Callable[[str, str], bool]] = {
    "last": by_last,
    "strict": by_strict,
    "flexible": by_flexible,
}
SAID = {
    "last": "its last number, or that of its last box, equals the reference's",
    "strict": 'the text behind its first "#### ", without $ and commas, is the reference\'s',
    "flexible": "its last run of digits, points, $ and commas, without $ and commas, is the "
    "reference's",
}
