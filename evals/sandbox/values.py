"""Values across the border of the sandbox, as the judge sees them.

`decode` makes plain values of what evals/sandbox/inside.py claims: None, bool, int, float, complex,
str, bytes, list, tuple, set, frozenset, dict, Counter, OrderedDict, defaultdict, range, deque,
namedtuple, Fraction, Decimal and, where numpy is allowed, its arrays and scalars, of exactly these
types. So every comparison that a test makes is Python's own.
Anything else becomes a ProgramObject. It can be handed back to the program and called, its
attributes can be read and set (MBPP builds trees with them), it has items and a length, can be
iterated over and printed, and is true or false. For these the judge asks the program, which could
as well have returned that number, text or bool. A ProgramObject has no comparison and no
arithmetic, which would let the program decide a test.

What a program raises is raised in the test, as the built-in exception that it is or derives from,
so that a test may expect it.
"""

import builtins
import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, NoReturn, Protocol

from evals.sandbox.inside import FACTORIES

# What a terminal acts on: control sequences, strings such as a window's title, single commands.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*.)?")


class Verdict(BaseException):
    """How a program fares, once that is certain. It is a BaseException, so that tests do not catch
    it."""

    def __init__(self, verdict: str, reason: str) -> None:
        self.verdict, self.reason = verdict, reason


class Asked(Protocol):
    """The program, as its objects see it."""

    def ask(self, what: str, *rest: Any) -> Any:
        """Send the program a request about an object; returns its answer."""
        ...

    def end(self, verdict: str, reason: str) -> NoReturn:
        """Raise a Verdict, one that holds even if a test swallows it."""
        ...


class ProgramObject:
    """An object of the program, such as a function under test."""

    def __init__(self, program: Asked, number: int, kind: str, equals_anything: bool) -> None:
        vars(self).update(_program=program, _number=number, _kind=kind, _liar=equals_anything)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._program.ask("call", self._number, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what copy and the like look for
            raise AttributeError(name)
        return self._program.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._program.ask("set", self._number, name, value)

    def __iter__(self) -> Iterator[Any]:
        items = self._program.ask("iter", self._number)
        if type(items) is not ProgramObject:
            self._program.end("tampered", "an iterator that the harness does not give")
        while (found := self._program.ask("next", items._number)) is not STOP:
            yield found

    def __bool__(self) -> bool:
        if self._liar:
            self._decide()
        answer = self._program.ask("truth", self._number)
        if type(answer) is not bool:
            self._program.end("tampered", "a truth that the harness does not give")
        return answer

    def __next__(self) -> Any:
        if (found := self._program.ask("next", self._number)) is STOP:
            raise StopIteration
        return found

    def __len__(self) -> int:
        return self._plain("len", int)

    def __str__(self) -> str:
        return self._plain("str", str)

    def __repr__(self) -> str:
        return self._plain("repr", str)

    def __getitem__(self, key: Any) -> Any:
        return self._program.ask("item", self._number, key)

    def __contains__(self, item: Any) -> bool:
        return self._plain("in", bool, item)

    def _plain(self, what: str, kind: type, *rest: Any) -> Any:
        """An answer that must be of a built-in type, as Python has it in one process too."""
        if self._liar:
            self._decide()
        answer = self._program.ask(what, self._number, *rest)
        if type(answer) is not kind:
            self._program.end("tampered", f"a {what} that the harness does not give")
        return answer

    def _decide(self, *_: object) -> Any:
        if self._liar:
            self._program.end("tampered", f"returned a {self._kind} that claims to equal anything")
        self._program.end("failed", f"a test looks into a {self._kind}, which is not plain data")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _decide
    __hash__ = object.__hash__


def line_of(text: str, most: int = 300) -> str:
    """A text that a program may have chosen, as one line to print: without what a terminal acts on,
    and of `most` characters.

    >>> line_of("a \\x1b[31mred\\x1b[0m\\nline")
    'a red line'
    """
    text = _ESCAPES.sub("", text[: 10 * most]).encode(errors="replace").decode()
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def raised(names: list[str], message: str) -> Exception | None:
    """The exception that a program says it has raised: the first of these names, of its class and
    the built-in ones above it, that is a built-in Exception; None if there is none."""
    for name in names:
        kind = getattr(builtins, name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            with suppress(Exception):  # UnicodeError takes five arguments
                return kind(message)
    return None


STOP = object()  # what "next" gives at the end
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
CONTAINERS = (list, tuple, dict, set, deque)


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
    if tag == "bytes":
        return bytes.fromhex(content)
    if tag == "Decimal":
        return Decimal(content)
    if tag == "namedtuple":
        name, fields, items = content
        return named(str(name), decode(fields, program))(*decode(items, program))
    if tag in ("ndarray", "scalar"):
        return _numpys(tag, content, program)
    if tag == "object":
        number, kind, liar = content
        return ProgramObject(program, int(number), str(kind)[:80], liar is True)
    made = {"complex": complex, "range": range, "Fraction": Fraction}[tag]
    return made(*(decode(item, program) for item in content))


def _numpys(tag: str, content: Any, program: Asked) -> Any:
    """An array or a scalar. Raises ValueError or TypeError if it cannot be one, or if the judge has
    no numpy."""
    if (numpy := sys.modules.get("numpy")) is None:
        raise ValueError("numpy, which is not allowed")
    kind, *shape, items = content
    if not re.fullmatch(r"[<>|=]?([biufc]\d{1,2}|[US]\d{1,6})", kind):
        raise ValueError(f"an array of {kind}")
    made = numpy.array(decode(items, program), dtype=kind)
    return made.reshape(decode(shape[0], program)) if tag == "ndarray" else made[()]


@cache
def named(name: str, fields: tuple[str, ...]) -> Callable[..., Any]:
    """The class of a named tuple. Raises ValueError or TypeError if the names cannot be."""
    return namedtuple(name, fields)  # pyright: ignore[reportUntypedNamedTuple]


def parse(data: bytes) -> Any:
    """The JSON of a frame. Raises ValueError or RecursionError."""
    return json.loads(data)


def pack(value: Any) -> Any:
    """An argument in the form that marshal takes (evals/sandbox/inside.py). Raises TypeError if it
    cannot be sent."""
    if type(value) is ProgramObject:
        return (..., "object", value._number)
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


def update(old: Any, new: Any) -> None:
    """Give the containers of `old` the contents that the program has given them."""
    if type(old) is not type(new):
        return
    if isinstance(old, (list, tuple, deque)) and len(old) == len(new):
        for i, (before, after) in enumerate(zip(tuple(old), new, strict=True)):
            if type(before) is type(after) and isinstance(before, CONTAINERS):
                update(before, after)
            elif not isinstance(old, tuple):
                old[i] = after
    elif isinstance(old, (list, deque)):
        old.clear()
        old.extend(new)
    elif isinstance(old, (dict, set)):
        old.clear()
        old.update(new)
