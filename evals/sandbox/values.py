"""Values across the border of the sandbox, as the judge sees them.

`decode` makes plain values of what evals/sandbox/inside.py claims: None, bool, int, float, complex,
str, bytes, list, tuple, set, frozenset, dict, Counter, OrderedDict, defaultdict, range, deque,
namedtuple, Fraction, Decimal and, where numpy is allowed, its arrays and scalars, of exactly these
types. So every comparison that a test makes is Python's own.
numpy's scalars arrive as Python's numbers and its arrays with 64 bits: short types equal numbers
that they do not hold. Anything else becomes a ProgramObject (evals/sandbox/objects.py).

What a program raises is raised in the test, as the built-in exception that it is or derives from,
so that a test may expect it.
"""

import builtins
import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from evals.sandbox.inside import FACTORIES, TEXT, containers
from evals.sandbox.objects import Asked, ProgramObject, ProgramValue, both, known, state_of

# What a terminal acts on: control sequences, strings such as a window's title, single commands.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*.)?")


class Verdict(BaseException):
    """How a program fares, once that is certain. It is a BaseException, so that tests do not catch
    it. late: after what it was wrong about, the program ran out of time."""

    def __init__(self, verdict: str, reason: str, late: bool = False) -> None:
        self.verdict, self.reason = verdict, reason
        self.late = late or verdict == "timed out"


class Lied(Verdict):
    """What it has tampered with is a test, and not the walls. These stay as they are, so that the
    next program does not see how far this one came."""


class Undecided(Exception):
    """A test asks for what the program would decide. The verdict is certain, but the tests go on,
    since the program must not learn from their end that they came that far."""


def line_of(text: str, most: int = 300) -> str:
    """A text that a program may have chosen, as one line to print: without what a terminal acts on,
    and of `most` characters.

    >>> line_of("a \\x1b[31mred\\x1b[0m\\nline")
    'a red line'
    """
    text = _ESCAPES.sub("", text[: 10 * most]).encode(errors="replace").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def raised(names: tuple[str, ...], values: tuple[Any, ...], text: str) -> Exception | None:
    """The exception that a program says it has raised, with these values and this text. names: its
    class's, and those of the classes above it, the nearest first. It is of all of these classes
    that are built-in Exceptions or of MODULES, so that a test may expect any; None if there is
    none."""
    for kind in _exceptions(names):
        for given in (values, (text,)):
            with suppress(Exception):  # it takes other values
                return _as_text(kind, given, text)
        with suppress(Exception):  # such as JSONDecodeError, which is made of others than it keeps
            return kind.__new__(kind, *values)
    return None


def _as_text(kind: type[Exception], values: tuple[Any, ...], text: str) -> Exception:
    made = kind(*values)
    if str(made) == text or len(text) >= TEXT:
        return made
    own = type(kind.__name__, (kind,), {"__str__": lambda _: text, "__module__": kind.__module__})
    return own(*values)


@lru_cache(256)
def _exceptions(names: tuple[str, ...]) -> list[type[Exception]]:
    """The class to try first, of all these names, and the others."""
    kinds = list[type[Exception]]()
    for name in names:
        module, _, own = name.rpartition(".")
        found = getattr(sys.modules.get(module if module in MODULES else "builtins"), own, None)
        if isinstance(found, type) and issubclass(found, Exception):
            kinds.append(found)
    lowest = [a for a in kinds if not any(a is not b and issubclass(b, a) for b in kinds)]
    with suppress(TypeError):  # no class can have all of these above it
        if len(lowest) > 1:
            kinds.insert(0, type(lowest[0].__name__, tuple(lowest), {"__module__": "builtins"}))
    return kinds


_MADE: dict[str, Callable[..., Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
}


_MAPPINGS: dict[str, Callable[..., Any]] = {
    "dict": dict,
    "Counter": Counter,
    "OrderedDict": OrderedDict,
}
_FACTORIES = {made.__name__: made for made in FACTORIES}
# Their exceptions arrive as such, if the tests have imported them.
MODULES = ("decimal", "json.decoder", "re", "struct", "statistics", "zlib", "binascii", "graphlib")
# The kinds of numpy's arrays, and as what they arrive.
WIDE = {"b": "?", "i": "int64", "u": "uint64", "f": "float64", "c": "complex128", "U": "str"}


def decode(value: Any, program: Asked) -> Any:
    """The value that a parsed answer stands for. Raises ValueError or TypeError if it stands for
    none, ArithmeticError on impossible numbers, RecursionError if it is nested too deeply."""
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise ValueError("a mapping without a tag")
        return value
    tag, content = value
    if tag in _MADE:
        return _MADE[tag](decode(item, program) for item in content)
    if tag in _MAPPINGS:
        return _MAPPINGS[tag]({decode(k, program): decode(v, program) for k, v in content})
    if tag == "defaultdict":
        name, items = content
        return defaultdict(name and _FACTORIES[name], decode(["dict", items], program))
    if tag == "int":
        return int(content, 16)
    if tag == "text":
        return bytes.fromhex(content).decode("utf-32-le", "surrogatepass")
    if tag == "bytes":
        return bytes.fromhex(content)
    if tag == "Decimal":
        return Decimal(content)
    if tag == "namedtuple":
        name, fields, items = content
        return named(str(name), decode(fields, program))(*decode(items, program))
    if tag == "ndarray":
        kind, shape, items = content
        return _array(str(kind), shape, items, program)
    if tag == "both":
        thing, plain = content
        return both(program, decode(thing, program), decode(plain, program))
    if tag == "old":
        return program.places[content]
    if tag == "object":
        number, kind, liar, methods = content
        return known(program, int(number), str(kind), liar is True, frozenset(methods))
    made = {"complex": complex, "range": range, "Fraction": Fraction}[tag]
    return made(*(decode(item, program) for item in content))


def _array(kind: str, shape: Any, items: Any, program: Asked) -> Any:
    """An array. Raises ValueError or TypeError if it cannot be one, or if the judge has no
    numpy."""
    if (numpy := sys.modules.get("numpy")) is None:
        raise ValueError("numpy, which is not allowed")
    if kind not in WIDE:
        raise ValueError(f"an array of {kind}")
    made = numpy.array(decode(items, program), dtype=WIDE[kind])
    return made.reshape(decode(shape, program))


@lru_cache(64)
def named(name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
    """The class of a named tuple. Raises ValueError or TypeError if the names cannot be."""
    if len(fields) > 100 or any(len(each) > 200 for each in (name, *fields)):
        raise ValueError("more or longer names than the harness takes")
    return namedtuple(name, fields, rename=True)  # pyright: ignore[reportUntypedNamedTuple]


def parse(data: bytes) -> Any:
    """The JSON of a frame. Raises ValueError or RecursionError."""
    return json.loads(data, parse_constant=float)  # each nan is one of its own


def pack(value: Any) -> Any:
    """An argument in the form that marshal takes (evals/sandbox/inside.py). Raises TypeError if it
    cannot be sent."""
    if isinstance(value, (ProgramObject, ProgramValue)):
        return (..., "object", state_of(value).number)
    if type(value) in (list, set, frozenset):
        return type(value)(map(pack, value))
    if isinstance(value, tuple):
        return tuple(map(pack, value))
    if isinstance(value, dict):
        items = {pack(key): pack(item) for key, item in value.items()}
        if type(value) in (Counter, OrderedDict):
            return (..., type(value).__name__, items)
        if type(value) is defaultdict and value.default_factory in (None, *FACTORIES):
            made = value.default_factory
            return (..., "defaultdict", (made and made.__name__, items))
        return items
    if isinstance(value, range):
        return (..., "range", (value.start, value.stop, value.step))
    if isinstance(value, deque):
        return (..., "deque", list(map(pack, value)))
    if isinstance(value, Fraction):
        return (..., "Fraction", (value.numerator, value.denominator))
    if isinstance(value, Decimal):
        return (..., "Decimal", str(value))
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, (numpy.ndarray, numpy.generic)) and not value.dtype.hasobject:
        tag = "ndarray" if isinstance(value, numpy.ndarray) else "scalar"
        return (..., tag, (value.dtype.str, value.shape, value.tobytes()))
    if isinstance(value, type) and getattr(builtins, value.__name__, None) is value:
        return (..., "type", value.__name__)
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    raise TypeError(f"a test passes a {type(value).__name__}, which cannot be sent to the program")


def update(given: tuple[Any, ...], changed: Any, program: Asked) -> None:
    """Give the containers in these arguments the contents that the program has given them, as
    evals/sandbox/inside.py numbers and sends them. Raises ValueError if it does not."""
    olds = [*containers(given, lambda x: isinstance(x, (ProgramObject, ProgramValue)))]
    program.places = olds
    try:
        news = [decode(each, program) for each in changed]
    finally:
        program.places = []
    for old, new in zip(olds, news, strict=True):
        fill(old, new)


def fill(old: Any, new: Any) -> None:
    """Give a container the contents of another of its kind. Raises ValueError for another kind."""
    if type(old).__name__ == "ndarray" and type(new) is type(old):
        if old.shape == new.shape:
            old[...] = new
    elif isinstance(old, (list, deque)) and isinstance(new, (list, deque)):
        old.clear()
        old.extend(new)
    elif isinstance(old, dict) and isinstance(new, dict):
        old.clear()
        dict.update(old, new)
    elif isinstance(old, set) and isinstance(new, set):
        old.clear()
        old.update(new)
    else:
        raise ValueError("contents of another kind")
