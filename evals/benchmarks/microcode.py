"""Short functions to complete, easy enough for models of a few million parameters.

    def first_word(text):
        \"\"\"Return the first word of text.\"\"\"
        return text.split()[0]                      <- the answer

HumanEval and MBPP are at zero for such models, and then say nothing. These prompts look like the
standard library, on which our small models are trained, and rise in seven levels:

    level 1   the rest of a line: a constant             return count +| 1
    level 2   the rest of a line: a name, a call         return text.strip|()
    level 3   return an argument, a constant, an attribute
    level 4   one operator, call or index
    level 5   two of them, or a condition
    level 6   a comprehension or a loop
    level 7   a loop with a state

On levels 1 and 2 the prompt ends within a line, of which the answer is the rest; what follows in
the function is given. Level 1 asks for habits more than for understanding: of its 20 lines the
commonest constants, 1 and 0, complete 8 and 7.

A problem is a family below with names and constants drawn from the seed. Its tests call it on fixed
arguments; what they expect is what the family's reference returns. Where a family's answer depends
on its arguments, the tests tell it from any constant; an empty answer passes nowhere.

Prompts end before the newline: a byte-level BPE joins it with the indentation that follows, so that
after a newline alone models have never seen a body begin (variant `newline`: as HumanEval has it).
"""

import dataclasses
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evals.benchmarks.humaneval import RAW
from evals.benchmarks.replies import without_markers
from evals.harness.many_samples import CODE_TEMPERATURES, Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.protocol import Protocol
from evals.sandbox.runner import FunctionJob

SEED, EACH = 0, 20  # problems of each level
COMPLETE = dataclasses.replace(
    RAW,
    benchmark="microcode",
    variant="complete",
    template="{open}",
    post=f"{RAW.post}; where the prompt ends within a line, cut at its end",
    max_new=96,
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
NONES = ("(None)", "(0)", "('')")
SIGNS = ("(1)", "(0)", "(-1)", "(8)")
SIZES = ("([])", "([1])", "([0, 5])")
KINDS = ("('a')", "(1)", "([])", "(None)", "(('a',))")
LISTS = ("([3, 1, 2])", "([5, -4])", "([8, 8, 0, 7])", "([1])")


@dataclass(frozen=True)
class Family:
    """name, args, doc, body: of the function, with the keys of NAMES in braces; calls: arguments of
    its tests; before: what stands before it. A prompt ends where the body has a CUT, if it has."""

    level: int
    name: str
    args: str
    doc: str
    body: str
    calls: tuple[str, ...]
    before: str = ""


CUT = "|"

CLASS = """class {c}:
    def __init__(self, {f}):
        self.{f} = {f}


"""
MADE = ("({c}(3))", "({c}('abc'))", "({c}([1]))")

FAMILIES = [
    Family(1, "is_none", "{x}", "Return True if {x} is None.", "return {x} is| None", NONES),
    Family(1, "is_missing", "{x}", "Return True if {x} is None.",
           "if {x} is| None:\n        return True\n    return False", NONES),
    Family(1, "increment", "{n}", "Return {n} + 1.", "return {n} +| 1", NUMBERS),
    Family(1, "next_{n}", "{n}", "Return {n} + 1.", "{n} +=| 1\n    return {n}", NUMBERS),
    Family(1, "decrement", "{n}", "Return {n} - 1.", "return {n} -| 1", NUMBERS),
    Family(1, "is_positive", "{n}", "Return True if {n} is positive.", "return {n} >| 0", SIGNS),
    Family(1, "sign", "{n}", "Return 1 if {n} is positive, or -1.",
           "if {n} >| 0:\n        return 1\n    return -1", SIGNS),
    Family(1, "is_negative", "{n}", "Return True if {n} is negative.", "return {n} <| 0", SIGNS),
    Family(1, "is_zero", "{n}", "Return True if {n} is zero.", "return {n} ==| 0", SIGNS),
    Family(1, "is_even", "{n}", "Return True if {n} is even.", "return {n} % 2 ==| 0", NUMBERS),
    Family(1, "is_odd", "{n}", "Return True if {n} is odd.", "return {n} % 2 ==| 1", NUMBERS),
    Family(1, "double", "{n}", "Return {n} times 2.", "return {n} *| 2", NUMBERS),
    Family(1, "square", "{n}", "Return {n} squared.", "return {n} **| 2", NUMBERS),
    Family(1, "first", "{a}", "Return the first item of {a}.", "return {a}[|0]", LISTS),
    Family(1, "last", "{a}", "Return the last item of {a}.", "return {a}[-|1]", LISTS),
    Family(1, "rest", "{a}", "Return all but the first item of {a}.", "return {a}[|1:]", LISTS),
    Family(1, "most", "{a}", "Return all but the last item of {a}.", "return {a}[:-|1]", LISTS),
    Family(1, "count", "{a}", "Return the number of items in {a}.",
           "count = 0\n    for item in {a}:\n        count +=| 1\n    return count", LISTS),
    Family(1, "is_empty", "{a}", "Return True if {a} is empty.", "return len({a}) ==| 0", SIZES),
    Family(1, "get_{a}", "{a}=None", "Return {a}, or an empty list.",
           "if {a} is None:\n        {a} =| []\n    return {a}", ("()", "([1])")),
    Family(2, "strip", "{s}", "Return {s} without whitespace at either end.",
           "return {s}.strip|()", ("(' a b ')", "('ab\\n')", "('')")),
    Family(2, "lower", "{s}", "Return {s} in lower case.", "return {s}.lower|()", TEXTS),
    Family(2, "words", "{s}", "Return the words of {s}.", "return {s}.split|()", TEXTS),
    Family(2, "to_text", "{x}", "Return {x} as a string.", "return str(|{x})",
           ("(1)", "(None)", "('a')")),
    Family(2, "to_int", "{s}", "Return {s} as an integer, or None.",
           "try:\n        return int({s})\n    except| ValueError:\n        return None",
           ("('12')", "('a')")),
    Family(2, "is_string", "{x}", "Return True if {x} is a string.",
           "return isinstance({x},| str)", KINDS),
    Family(2, "is_list", "{x}", "Return True if {x} is a list.",
           "return isinstance({x},| list)", KINDS),
    Family(2, "is_empty", "{a}", "Return True if {a} is empty.",
           "if {a}:\n        return False\n    return| True", SIZES),
    Family(2, "has_items", "{a}", "Return True if {a} is not empty.",
           "if {a}:\n        return True\n    return| False", SIZES),
    Family(2, "length", "{a}", "Return the length of {a}.", "return len(|{a})", LISTS),
    Family(2, "ordered", "{a}", "Return {a} in order.", "return sorted(|{a})", LISTS),
    Family(2, "total", "{a}", "Return the sum of {a}.", "return sum(|{a})", LISTS),
    Family(2, "join", "{a}", "Return the strings of {a} as one.", "return ''.join(|{a})",
           ("(['a', 'bc'])", "([])")),
    Family(2, "identity", "{x}", "Return {x}.", "return| {x}", ("(5)", "('a')", "([1, 2])")),
    Family(2, "add", "{n}, {m}", "Return {n} + {m}.", "return {n} +| {m}", PAIRS),
    Family(2, "larger", "{n}, {m}", "Return True if {n} is larger than {m}.",
           "return {n} >| {m}", PAIRS),
    Family(2, "below", "{n}", "Return the numbers from 0 to {n}, without {n}.",
           "return list(range(|{n}))", ("(3)", "(0)", "(1)")),
    Family(2, "copy", "{a}", "Return the items of {a} as a list.",
           "result =| []\n    for item in {a}:\n        result.append(item)\n    return result",
           LISTS),
    Family(2, "all_of", "{a}", "Return the items of {a} as a list.",
           "result = []\n    for item in {a}:\n        result.append(item)\n    return| result",
           ("((3, 1, 2))", "('ab')", "([1])")),
    Family(2, "get_{f}", "self", "Return self.{f}.", "return self.|{f}", MADE, CLASS),
    Family(3, "identity", "{x}", "Return {x}.", "return {x}", ("(5)", "('a')", "([1, 2])")),
    Family(3, "get_{x}", "{x}, {m}", "Return {x}.", "return {x}", ("(5, 1)", "('a', 'b')")),
    Family(3, "get_{m}", "{x}, {m}", "Return {m}.", "return {m}", ("(5, 1)", "('a', 'b')")),
    Family(3, "default_{x}", "", "Return {K}.", "return {K}", ("()",)),
    Family(3, "get_{s}", "self, {s}='abc'", "Return {s}.", "return {s}", ("(1)", "(1, 'xyz')")),
    Family(3, "get_{f}", "self", "Return self.{f}.", "return self.{f}", MADE, CLASS),
    Family(3, "{f}_of", "obj", "Return the {f} of obj.", "return obj.{f}", MADE, CLASS),
    Family(3, "is_{x}", "self", "Return True.", "return True", ("(1)", "('a')")),
    Family(3, "has_{x}", "self", "Return False.", "return False", ("(1)", "('a')")),
    Family(4, "add", "{n}, {m}", "Return {n} + {m}.", "return {n} + {m}", PAIRS),
    Family(4, "subtract", "{n}, {m}", "Return {n} - {m}.", "return {n} - {m}", PAIRS),
    Family(4, "multiply", "{n}, {m}", "Return {n} * {m}.", "return {n} * {m}", PAIRS),
    Family(4, "times_{P}", "{n}", "Return {n} times {P}.", "return {n} * {P}", NUMBERS),
    Family(4, "length", "{a}", "Return the length of {a}.", "return len({a})", LISTS),
    Family(4, "first", "{a}", "Return the first item of {a}.", "return {a}[0]", LISTS),
    Family(4, "last", "{a}", "Return the last item of {a}.", "return {a}[-1]", LISTS),
    Family(4, "upper", "{s}", "Return {s} in upper case.", "return {s}.upper()", TEXTS),
    Family(4, "strip", "{s}", "Return {s} without whitespace at either end.",
           "return {s}.strip()", ("(' a b ')", "('ab\\n')", "('')")),
    Family(4, "is_none", "{x}", "Return True if {x} is None.", "return {x} is None",
           ("(None)", "(0)", "('')")),
    Family(4, "get", "{d}, {x}", "Return {d}[{x}].", "return {d}[{x}]",
           ("({{'a': 1}}, 'a')", "({{1: 'b', 2: 'c'}}, 2)")),
    Family(4, "has_{t}", "{s}, {t}", "Return True if {s} ends with {t}.",
           "return {s}.endswith({t})", ("('one.py', '.py')", "('a', 'b')", "('', 'x')")),
    Family(5, "is_even", "{n}", "Return True if {n} is even.", "return {n} % 2 == 0", NUMBERS),
    Family(5, "maximum", "{n}, {m}", "Return the larger of {n} and {m}.",
           "return {n} if {n} > {m} else {m}", PAIRS),
    Family(5, "absolute", "{n}", "Return the absolute value of {n}.",
           "return -{n} if {n} < 0 else {n}", NUMBERS),
    Family(5, "first_word", "{s}", "Return the first word of {s}.", "return {s}.split()[0]",
           TEXTS),
    Family(5, "count_words", "{s}", "Return the number of words in {s}.",
           "return len({s}.split())", TEXTS),
    Family(5, "mean", "{a}", "Return the mean of {a}.", "return sum({a}) / len({a})", LISTS),
    Family(5, "default", "{x}, default={P}", "Return {x}, or default if {x} is None.",
           "if {x} is None:\n        return default\n    return {x}",
           ("(None)", "(1)", "(None, 7)")),
    Family(5, "descending", "{a}", "Return {a} sorted from large to small.",
           "return sorted({a}, reverse=True)", LISTS),
    Family(5, "reverse", "{s}", "Return {s} reversed.", "return {s}[::-1]", TEXTS),
    Family(6, "squares", "{a}", "Return the squares of {a}.", "return [i * i for i in {a}]", LISTS),
    Family(6, "above", "{a}, {m}", "Return the items of {a} greater than {m}.",
           "return [i for i in {a} if i > {m}]", ("([3, 1, 2], 1)", "([5, -4], 9)", "([], 0)")),
    Family(6, "evens", "{a}", "Return the even numbers in {a}.",
           "return [i for i in {a} if i % 2 == 0]", LISTS),
    Family(6, "product", "{a}", "Return the product of {a}.",
           "result = 1\n    for i in {a}:\n        result *= i\n    return result", LISTS),
    Family(6, "count_{x}", "{a}, {x}", "Return how many items of {a} are equal to {x}.",
           "result = 0\n    for i in {a}:\n        if i == {x}:\n            result += 1\n"
           "    return result", ("([1, 2, 1], 1)", "(['a'], 'b')", "([3, 3, 3], 3)")),
    Family(6, "lengths", "{a}", "Return the lengths of the strings in {a}.",
           "return [len(i) for i in {a}]", ("(['a', 'bcd'])", "([])", "(['', 'xy'])")),
    Family(6, "factorial", "{n}", "Return the factorial of {n}.",
           "result = 1\n    for i in range(2, {n} + 1):\n        result *= i\n    return result",
           ("(0)", "(1)", "(5)")),
    Family(7, "counts", "{a}", "Return a dictionary from each item of {a} to its count.",
           "result = {{}}\n    for i in {a}:\n        result[i] = result.get(i, 0) + 1\n"
           "    return result", ("(['a', 'b', 'a'])", "([])", "([7, 7, 7])")),
    Family(7, "running_sum", "{a}", "Return the sums of the first 1, 2, ... items of {a}.",
           "result, total = [], 0\n    for i in {a}:\n        total += i\n"
           "        result.append(total)\n    return result", LISTS),
    Family(7, "unique", "{a}", "Return the items of {a} without repeats, in order.",
           "result = []\n    for i in {a}:\n        if i not in result:\n"
           "            result.append(i)\n    return result", (*LISTS, "([2, 1, 2])")),
    Family(7, "gcd", "{n}, {m}", "Return the greatest common divisor of {n} and {m}.",
           "while {m}:\n        {n}, {m} = {m}, {n} % {m}\n    return {n}",
           ("(12, 18)", "(7, 3)", "(5, 0)")),
    Family(7, "fibonacci", "{n}", "Return the {n}-th Fibonacci number, from 0 and 1 on.",
           "a, b = 0, 1\n    for _ in range({n}):\n        a, b = b, a + b\n    return a",
           ("(0)", "(1)", "(10)")),
    Family(7, "is_prime", "{n}", "Return True if {n} is a prime number.",
           "if {n} < 2:\n        return False\n    for i in range(2, {n}):\n"
           "        if {n} % i == 0:\n            return False\n    return True",
           ("(1)", "(2)", "(9)", "(13)")),
    Family(7, "flatten", "{a}", "Return the items of the lists in {a} as one list.",
           "result = []\n    for i in {a}:\n        result.extend(i)\n    return result",
           ("([[1], [2, 3]])", "([])", "([[], ['a']])")),
    Family(7, "capitalize_words", "{s}", "Return {s} with each word capitalized.",
           "result = []\n    for i in {s}.split():\n        result.append(i.capitalize())\n"
           "    return ' '.join(result)", TEXTS),
]  # fmt: skip
LEVELS = sorted({family.level for family in FAMILIES})


def load(source: Source) -> Dataset:
    """Whatever the source."""
    made = tuple(problems())
    texts = "\0".join(p.fields["prompt"] + p.about["tests"] for p in made)
    digest = hashlib.sha256(texts.encode()).hexdigest()[:16]
    return Dataset(made, (), f"microcode seed {SEED} sha256:{digest}")


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
    own["x"] = rng.choice([name for name in NAMES["x"] if name != own["a"]])
    name, doc, args = (part.format(**own) for part in (family.name, family.doc, family.args))
    head = f'def {name}({args}):\n    """{doc}"""'
    before, body = (part.format(**own) for part in (family.before, family.body))
    begun, cut, left = body.partition(CUT)
    line, end, rest = left.partition("\n") if cut else ("", "", "")
    opened = f"{before}{head}\n    {begun}" if cut else f"{before}{head}"
    solution = line if cut else f"\n    {body}\n"
    space: dict[str, Any] = {}
    exec(opened + solution + end + rest, space)  # our own text
    calls = [f"{name}{call.format(**own)}" for call in family.calls]
    tests = [f"assert {call} == {eval(call, space)!r}" for call in calls]
    # 1 == True and 0 == False, which no constant should gain by
    tests += [f"assert type({call}) is {type(eval(call, space)).__name__}" for call in calls[:1]]
    about = {
        "solution": solution,
        "rest": end + rest if cut else None,
        "tests": "\n".join(tests).replace("is NoneType", "is type(None)"),
        "names": (name, own["c"]) if family.before else (name,),
    }
    fields = {"prompt": opened if cut else f"{opened}\n", "open": opened}
    return Problem(id, fields, about, group=f"level {family.level}")


def job(problem: Problem, answer: str, protocol: Protocol) -> FunctionJob:
    about = problem.about
    if about["rest"] is not None:
        answer = answer.partition("\n")[0] + about["rest"]
    prompt = protocol.template.format_map(problem.fields)
    return FunctionJob(prompt + answer, about["tests"], about["names"], objects=False)


MICROCODE = Sampled(
    "microcode", (COMPLETE, NEWLINE), CODE_TEMPERATURES, load, by_tests(without_markers(job))
)
