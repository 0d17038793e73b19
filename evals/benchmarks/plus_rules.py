"""How EvalPlus judges the results of a function: by its reference, with a tolerance.

This file's text is run in the judge (evals/benchmarks/evalplus.py), in a namespace of its own, so
it imports the standard library only. The rules are those of EvalPlus 0.3 (evalplus/eval), which
needs numpy for them.

    equal results pass. Otherwise, if there is a tolerance, the result must be of the expected type,
    and be a number, or a sequence of as many, within atol + 1e-7 |expected| of the expected ones.
    A tolerance of 0 becomes 1e-6 once floats are expected, and stays so for the inputs after them.

Here a sequence in a sequence must have the expected length too; numpy would repeat one of length 1.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

RELATIVE = 1e-7
OF_FLOATS = 1e-6
NUMBERS = (bool, int, float, complex)
# Functions of MBPP whose results are compared as sets.
AS_SETS = {
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum",
    "intersection_array", "find_dissimilar", "Diff",
}  # fmt: skip
# Functions of MBPP that say yes by any object and no by None; a bool says it as well.
YES_OR_NONE = {"check_str", "text_match_three", "text_starta_endb"}


def checker(
    name: str, reference: str, inputs: Iterable[Sequence[Any]], kind: str, atol: float
) -> Callable[[Callable[..., Any]], None]:
    """A test of a function.

    name       of the function in `reference`, a Python text
    inputs     groups of arguments: the first ones and the extra ones
    kind       humaneval or mbpp; each has its own exceptions

    The test raises AssertionError if a result was wrong, or what the first of the function's errors
    was, once it has looked at all results: the function must not learn from the next call that its
    last result was right. The arguments stay as they are, whatever the function does to them.
    """
    space: dict[str, Any] = {"__name__": "reference"}
    exec(compile(reference, "<reference>", "exec", dont_inherit=True), space)

    def check(function: Callable[..., Any]) -> None:
        missed: Exception | None = None
        for group in inputs:
            tolerance = atol
            for given in group:
                expected = space[name](*deepcopy(given))
                if tolerance == 0 and floats(expected):
                    tolerance = OF_FLOATS
                try:
                    got = function(*deepcopy(given))
                    if not right(kind, name, got, expected, given, tolerance):
                        raise AssertionError(f"{name} is wrong")
                except Exception as error:
                    missed = missed or error
        if missed:
            raise missed

    return check


def right(kind: str, name: str, got: Any, expected: Any, given: Sequence[Any], atol: float) -> bool:
    if kind == "humaneval" and name == "find_zero":  # any zero of the polynomial
        return abs(math.fsum(c * got**i for i, c in enumerate(given[0]))) <= atol
    if kind == "mbpp" and special(name, got, expected, given, atol):
        return True
    if kind == "mbpp" and name in AS_SETS | YES_OR_NONE:
        exact = same_set(got, expected) if name in AS_SETS else says(got) == says(expected)
    else:
        exact = bool(got == expected)
    return exact or (atol != 0 and close(got, expected, atol))


def special(name: str, got: Any, expected: Any, given: Sequence[Any], atol: float) -> bool:
    """Whether a result of MBPP is right by what another reading of its problem asks for."""
    if name == "are_equivalent":  # its reference does not do what the problem says
        return True
    if name == "sum_div":
        return bool(got == 0)
    if name == "digit_distance_nums":  # digits are paired from the last one
        pair = [str(number) for number in given]
        digits = zip(*(text.zfill(max(map(len, pair))) for text in pair), strict=True)
        return bool(got == sum(abs(int(a) - int(b)) for a, b in digits))
    if name == "surface_Area":  # the height is the pyramid's, not that of its sides
        edge, height = given
        area = edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2)
        return bool(abs(got - round(area)) <= atol)
    return False


def same_set(got: Any, expected: Any) -> bool:
    return set(got) == set(expected)


def says(result: Any) -> bool:
    return result if type(result) is bool else result is not None


def floats(value: Any) -> bool:
    """Whether it is a float, or a sequence of them."""
    if isinstance(value, (list, tuple)) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def close(got: Any, expected: Any, atol: float) -> bool:
    return type(got) is type(expected) and near(got, expected, atol)


def near(got: Any, expected: Any, atol: float) -> bool:
    """As `close`, whatever the types of sequences and numbers are."""
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return False
        return all(near(a, b, atol) for a, b in zip(got, expected, strict=True))
    if not isinstance(got, NUMBERS) or not isinstance(expected, NUMBERS):
        return False
    if got == expected:  # infinities too
        return True
    try:
        if not math.isfinite(abs(got)) or not math.isfinite(abs(expected)):
            return False
        return abs(got - expected) <= atol + RELATIVE * abs(expected)
    except OverflowError:  # an integer beyond all floats
        return False
