"""Short functions to complete, easy enough for models of a few million parameters.

    def first_word(text):
        \"\"\"Return the first word of text.\"\"\"
        return text.split()[0]                      <- the answer

HumanEval and MBPP are at zero for such models, and then say nothing. These prompts look like the
standard library, on which our small models are trained, and rise in five levels:

    level 1   return an argument, a constant, an attribute
    level 2   one operator, call or index
    level 3   two of them, or a condition
    level 4   a comprehension or a loop
    level 5   a loop with a state

A problem is a family below with names and constants drawn from the seed. Its tests call it on fixed
arguments; what they expect is what the family's reference returns. Where a family's answer depends
on its arguments, the tests tell it from any constant; an empty answer, which returns None, passes
nowhere.

Prompts end before the newline: a byte-level BPE joins it with the indentation that follows, so that
after a newline alone models have never seen a body begin (variant `newline`: as HumanEval has it).
"""

import dataclasses
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evals.humaneval import STOPS
from evals.problems import Dataset, Problem, Source
from evals.protocol import Protocol
from evals.sampled import CODE_TEMPERATURES, Sampled, by_tests
from evals.sandbox import FunctionJob

SEED, EACH = 0, 20  # problems of each level
COMPLETE = Protocol(
    benchmark="microcode",
    variant="complete",
    template="{open}",
    stops=STOPS,
    post="cut at the first stop and put after the prompt",
    max_new=96,
    samples=200,
    top_p=0.95,
)
NEWLINE = dataclasses.replace(COMPLETE, variant="newline", template="{prompt}")

NAMES = {
    "x": ["value", "x", "item", "obj", "data", "arg", "key", "element"],
    "n": ["n", "count", "size", "number", "total", "width"],
    "m": ["m", "other", "limit", "step", "offset"],
    "s": ["text", "s", "string", "line", "name", "word"],
    "t": ["suffix", "prefix", "sep", "char", "end"],
    "a": ["items", "values", "seq", "numbers", "data", "args"],
    "d": ["mapping", "d", "table", "counts"],
    "c": ["Point", "Node", "Token", "Record", "Entry"],
    "f": ["name", "value", "kind", "data", "text"],
    "K": ["0", "1", "2", "10", "100", "-1", "True", "False", "None"],
    "P": ["2", "3", "4", "5", "10"],
}

NUMBERS = ("(7)", "(0)", "(12)", "(-3)")
PAIRS = ("(7, 2)", "(1, 5)", "(-3, -8)", "(4, 4)")
TEXTS = ("('one two')", "('Abc')", "('x, y z')")
LISTS = ("([3, 1, 2])", "([5, -4])", "([8, 8, 0, 7])", "([1])")


@dataclass(frozen=True)
class Family:
    """name, args, doc, body: of the function, with the keys of NAMES in braces; calls: arguments of
    its tests; before: what stands before it."""

    level: int
    name: str
    args: str
    doc: str
    body: str
    calls: tuple[str, ...]
    before: str = ""


CLASS = """class {c}:
    def __init__(self, {f}):
        self.{f} = {f}


"""
MADE = ("({c}(3))", "({c}('abc'))", "({c}([1]))")

FAMILIES = [
    Family(1, "identity", "{x}", "Return {x}.", "return {x}", ("(5)", "('a')", "([1, 2])")),
    Family(1, "get_{x}", "{x}, {m}", "Return {x}.", "return {x}", ("(5, 1)", "('a', 'b')")),
    Family(1, "get_{m}", "{x}, {m}", "Return {m}.", "return {m}", ("(5, 1)", "('a', 'b')")),
    Family(1, "default_{x}", "", "Return {K}.", "return {K}", ("()",)),
    Family(1, "get_{s}", "self, {s}='abc'", "Return {s}.", "return {s}", ("(1)", "(1, 'xyz')")),
    Family(1, "get_{f}", "self", "Return self.{f}.", "return self.{f}", MADE, CLASS),
    Family(1, "{f}_of", "obj", "Return the {f} of obj.", "return obj.{f}", MADE, CLASS),
    Family(1, "is_{x}", "self", "Return True.", "return True", ("(1)", "('a')")),
    Family(1, "has_{x}", "self", "Return False.", "return False", ("(1)", "('a')")),
    Family(2, "add", "{n}, {m}", "Return {n} + {m}.", "return {n} + {m}", PAIRS),
    Family(2, "subtract", "{n}, {m}", "Return {n} - {m}.", "return {n} - {m}", PAIRS),
    Family(2, "multiply", "{n}, {m}", "Return {n} * {m}.", "return {n} * {m}", PAIRS),
    Family(2, "times_{P}", "{n}", "Return {n} times {P}.", "return {n} * {P}", NUMBERS),
    Family(2, "length", "{a}", "Return the length of {a}.", "return len({a})", LISTS),
    Family(2, "first", "{a}", "Return the first item of {a}.", "return {a}[0]", LISTS),
    Family(2, "last", "{a}", "Return the last item of {a}.", "return {a}[-1]", LISTS),
    Family(2, "upper", "{s}", "Return {s} in upper case.", "return {s}.upper()", TEXTS),
    Family(2, "strip", "{s}", "Return {s} without whitespace at either end.",
           "return {s}.strip()", ("(' a b ')", "('ab\\n')", "('')")),
    Family(2, "is_none", "{x}", "Return True if {x} is None.", "return {x} is None",
           ("(None)", "(0)", "('')")),
    Family(2, "get", "{d}, {x}", "Return {d}[{x}].", "return {d}[{x}]",
           ("({{'a': 1}}, 'a')", "({{1: 'b', 2: 'c'}}, 2)")),
    Family(2, "has_{t}", "{s}, {t}", "Return True if {s} ends with {t}.",
           "return {s}.endswith({t})", ("('one.py', '.py')", "('a', 'b')", "('', 'x')")),
    Family(3, "is_even", "{n}", "Return True if {n} is even.", "return {n} % 2 == 0", NUMBERS),
    Family(3, "maximum", "{n}, {m}", "Return the larger of {n} and {m}.",
           "return {n} if {n} > {m} else {m}", PAIRS),
    Family(3, "absolute", "{n}", "Return the absolute value of {n}.",
           "return -{n} if {n} < 0 else {n}", NUMBERS),
    Family(3, "first_word", "{s}", "Return the first word of {s}.", "return {s}.split()[0]",
           TEXTS),
    Family(3, "count_words", "{s}", "Return the number of words in {s}.",
           "return len({s}.split())", TEXTS),
    Family(3, "mean", "{a}", "Return the mean of {a}.", "return sum({a}) / len({a})", LISTS),
    Family(3, "default", "{x}, default={P}", "Return {x}, or default if {x} is None.",
           "if {x} is None:\n        return default\n    return {x}",
           ("(None)", "(1)", "(None, 7)")),
    Family(3, "descending", "{a}", "Return {a} sorted from large to small.",
           "return sorted({a}, reverse=True)", LISTS),
    Family(3, "reverse", "{s}", "Return {s} reversed.", "return {s}[::-1]", TEXTS),
    Family(4, "squares", "{a}", "Return the squares of {a}.", "return [i * i for i in {a}]", LISTS),
    Family(4, "above", "{a}, {m}", "Return the items of {a} greater than {m}.",
           "return [i for i in {a} if i > {m}]", ("([3, 1, 2], 1)", "([5, -4], 9)", "([], 0)")),
    Family(4, "evens", "{a}", "Return the even numbers in {a}.",
           "return [i for i in {a} if i % 2 == 0]", LISTS),
    Family(4, "product", "{a}", "Return the product of {a}.",
           "result = 1\n    for i in {a}:\n        result *= i\n    return result", LISTS),
    Family(4, "count_{x}", "{a}, {x}", "Return how many items of {a} are equal to {x}.",
           "result = 0\n    for i in {a}:\n        if i == {x}:\n            result += 1\n"
           "    return result", ("([1, 2, 1], 1)", "(['a'], 'b')", "([3, 3, 3], 3)")),
    Family(4, "lengths", "{a}", "Return the lengths of the strings in {a}.",
           "return [len(i) for i in {a}]", ("(['a', 'bcd'])", "([])", "(['', 'xy'])")),
    Family(4, "factorial", "{n}", "Return the factorial of {n}.",
           "result = 1\n    for i in range(2, {n} + 1):\n        result *= i\n    return result",
           ("(0)", "(1)", "(5)")),
    Family(5, "counts", "{a}", "Return a dictionary from each item of {a} to its count.",
           "result = {{}}\n    for i in {a}:\n        result[i] = result.get(i, 0) + 1\n"
           "    return result", ("(['a', 'b', 'a'])", "([])", "([7, 7, 7])")),
    Family(5, "running_sum", "{a}", "Return the sums of the first 1, 2, ... items of {a}.",
           "result, total = [], 0\n    for i in {a}:\n        total += i\n"
           "        result.append(total)\n    return result", LISTS),
    Family(5, "unique", "{a}", "Return the items of {a} without repeats, in order.",
           "result = []\n    for i in {a}:\n        if i not in result:\n"
           "            result.append(i)\n    return result", (*LISTS, "([2, 1, 2])")),
    Family(5, "gcd", "{n}, {m}", "Return the greatest common divisor of {n} and {m}.",
           "while {m}:\n        {n}, {m} = {m}, {n} % {m}\n    return {n}",
           ("(12, 18)", "(7, 3)", "(5, 0)")),
    Family(5, "fibonacci", "{n}", "Return the {n}-th Fibonacci number, from 0 and 1 on.",
           "a, b = 0, 1\n    for _ in range({n}):\n        a, b = b, a + b\n    return a",
           ("(0)", "(1)", "(10)")),
    Family(5, "is_prime", "{n}", "Return True if {n} is a prime number.",
           "if {n} < 2:\n        return False\n    for i in range(2, {n}):\n"
           "        if {n} % i == 0:\n            return False\n    return True",
           ("(1)", "(2)", "(9)", "(13)")),
    Family(5, "flatten", "{a}", "Return the items of the lists in {a} as one list.",
           "result = []\n    for i in {a}:\n        result.extend(i)\n    return result",
           ("([[1], [2, 3]])", "([])", "([[], ['a']])")),
    Family(5, "capitalize_words", "{s}", "Return {s} with each word capitalized.",
           "result = []\n    for i in {s}.split():\n        result.append(i.capitalize())\n"
           "    return ' '.join(result)", TEXTS),
]  # fmt: skip
LEVELS = sorted({family.level for family in FAMILIES})


def load(source: Source) -> Dataset:
    """Whatever the source."""
    return Dataset(tuple(problems()), (), f"microcode seed {SEED}")


def problems(seed: int = SEED, each: int = EACH) -> Iterator[Problem]:
    """`each` problems of every level, all different; a level's families take turns."""
    for level in LEVELS:
        rng, seen = random.Random(f"{seed} {level}"), set[str]()
        families = [family for family in FAMILIES if family.level == level]
        for i in range(100 * each):
            made = problem(families[i % len(families)], rng, f"microcode/{level}-{len(seen)}")
            if made.fields["prompt"] not in seen:
                seen.add(made.fields["prompt"])
                yield made
            if len(seen) == each:
                break
        else:
            raise ValueError(f"level {level} has only {len(seen)} different problems")


def problem(family: Family, rng: random.Random, id: str) -> Problem:
    own = {key: rng.choice(names) for key, names in NAMES.items()}
    own["m"] = rng.choice([name for name in NAMES["m"] if name not in own.values()])
    own["x"] = rng.choice([name for name in NAMES["x"] if name != own["a"]])
    name, doc, args = (part.format(**own) for part in (family.name, family.doc, family.args))
    head = f'def {name}({args}):\n    """{doc}"""\n'
    before, body = (part.format(**own) for part in (family.before, family.body))
    prompt, solution = f"{before}{head}", f"\n    {body}\n"
    space: dict[str, Any] = {}
    exec(prompt + solution, space)  # our own text
    calls = [f"{name}{call.format(**own)}" for call in family.calls]
    tests = [f"assert {call} == {eval(call, space)!r}" for call in calls]
    # 1 == True and 0 == False, which no constant should gain by
    tests += [f"assert type({call}) is {type(eval(call, space)).__name__}" for call in calls[:1]]
    about = {
        "solution": solution,
        "tests": "\n".join(tests).replace("is NoneType", "is type(None)"),
        "names": (name, own["c"]) if family.before else (name,),
    }
    fields = {"prompt": prompt, "open": prompt.removesuffix("\n")}
    return Problem(id, fields, about, group=f"level {family.level}")


def job(problem: Problem, answer: str, protocol: Protocol) -> FunctionJob:
    about = problem.about
    prompt = protocol.template.format_map(problem.fields)
    return FunctionJob(prompt + answer, about["tests"], about["names"])


MICROCODE = Sampled("microcode", (COMPLETE, NEWLINE), CODE_TEMPERATURES, load, by_tests(job))
