"""Objects of a program that are not plain data, as tests see them.

A ProgramObject stands for one: it can be handed back to the program, called, indexed, iterated
over, measured and printed, as far as the object can, and its attributes can be read and set. Each
time the judge asks the program, which could as well have returned that number, text or bool. It has
no comparison and no arithmetic, which would let the program decide a test: those decide the job.
Only with None and itself it is compared. Whether something is in it, its items tell.

Standard library only, as evals/sandbox/judge.py is.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, Protocol

STOP = object()  # what "next" gives at the end


class Asked(Protocol):
    """The program, as its objects see it. known: its objects by number. values:
    those that are plain values too. objects: whether tests may
    read attributes. places: the containers in the arguments that it has changed."""

    known: dict[int, Any]
    values: dict[int, Any]
    objects: bool
    places: list[Any]

    def ask(self, what: str, *rest: Any) -> Any:
        """Send the program a request about an object; returns its answer."""
        ...

    def end(self, verdict: str, reason: str) -> NoReturn:
        """Raise a Verdict, one that holds even if a test swallows it."""
        ...

    def undecided(self, verdict: str, reason: str) -> NoReturn:
        """The same, but the tests go on."""
        ...


class State(NamedTuple):
    """liar: the object claims to equal anything. base: it compares as a list, dict or set does, of
    which its class is one."""

    program: Asked
    number: int
    kind: str
    liar: bool
    base: bool = False


class ProgramObject:
    """An object of the program, such as a function under test. What it is like is kept under a name
    that no test has."""

    def __init__(self, state: State) -> None:
        vars(self)["_ProgramObject__state"] = state

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # what copy and the like look for
            raise AttributeError(name)
        state = state_of(self)
        if not state.program.objects:
            state.program.undecided(
                "failed", f"a test reads {name} of a {state.kind}, which is not plain data"
            )
        return ask(self, "get", name)

    def __setattr__(self, name: str, value: Any) -> None:
        ask(self, "set", name, value)

    def __bool__(self) -> bool:
        return plain(self, "truth", bool)

    def __str__(self) -> str:
        return plain(self, "str", str)

    def __repr__(self) -> str:
        return plain(self, "repr", str)

    __hash__ = object.__hash__


def state_of(thing: Any) -> State:
    return vars(thing)["_ProgramObject__state"]


class ProgramValue:
    """A base of plain values of a class that has more to it than its built-in base: an IntEnum, a
    NamedTuple with methods. They compare as what they are, but have the attributes of the program's
    object."""

    __getattr__, __setattr__ = ProgramObject.__getattr__, ProgramObject.__setattr__
    __str__, __repr__ = ProgramObject.__str__, ProgramObject.__repr__


def ask(thing: ProgramObject, what: str, *rest: Any) -> Any:
    state = state_of(thing)
    return state.program.ask(what, state.number, *rest)


def plain(thing: ProgramObject, what: str, kind: type, *rest: Any) -> Any:
    """An answer that must be of a built-in type, as Python has it in one process too."""
    if state_of(thing).liar:
        decide(thing)
    answer = ask(thing, what, *rest)
    if type(answer) is not kind:
        state_of(thing).program.end("tampered", f"a {what} that the harness does not give")
    return answer


def decide(thing: ProgramObject, *_: object) -> Any:
    """Decide the job: the program would decide a test."""
    state = state_of(thing)
    if state.liar:
        state.program.undecided(
            "tampered", f"returned a {state.kind} that claims to equal anything"
        )
    state.program.undecided("failed", f"a test looks into a {state.kind}, which is not plain data")


def items(thing: ProgramObject) -> Iterator[Any]:
    iterator = ask(thing, "iter")
    if not isinstance(iterator, ProgramObject):
        state_of(thing).program.end("tampered", "an iterator that the harness does not give")
    while (found := ask(iterator, "next")) is not STOP:
        yield found


def contains(thing: ProgramObject, item: object) -> bool:
    """Whether one of its items is this one. It gives all of them, unless it is an iterator, so that
    it does not see which is."""
    if state_of(thing).liar or not hasattr(type(thing), "__iter__"):
        decide(thing)
    same = (one is item or one == item for one in items(thing))
    return any(same if hasattr(type(thing), "__next__") else [*same])


def equal(thing: ProgramObject, other: Any) -> bool:
    if state_of(thing).base and not state_of(thing).liar and other is not None:
        mine, theirs = (
            ask(x, "plain") if isinstance(x, ProgramObject) and state_of(x).base else x
            for x in (thing, other)
        )
        if type(mine) not in (list, dict, set, bytes):
            state_of(thing).program.end("tampered", "a value that the harness does not give")
        return mine == theirs
    if state_of(thing).liar or not (other is None or other is thing):
        decide(thing)
    return other is thing


def following(thing: ProgramObject) -> Any:
    if (found := ask(thing, "next")) is STOP:
        raise StopIteration
    return found


COMPARED = ("lt", "le", "gt", "ge")
COMPUTED = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "divmod", "pow", "matmul", "lshift",
    "rshift", "and", "or", "xor",
)  # fmt: skip
ALONE = ("neg", "pos", "abs", "invert", "int", "float", "complex", "index", "round")
for _name in (*COMPARED, *COMPUTED, *(f"r{name}" for name in COMPUTED), *ALONE):
    setattr(ProgramObject, f"__{_name}__", decide)
ProgramObject.__eq__ = equal  # pyright: ignore[reportAttributeAccessIssue]
ProgramObject.__ne__ = lambda self, other: not equal(self, other)

# What an object has only if the program's has it, so that `callable` and the like tell the truth.
METHODS: dict[str, Callable[..., Any]] = {
    "__call__": lambda self, *args, **kwargs: ask(self, "call", args, kwargs),
    "__iter__": items,
    "__next__": following,
    "__len__": lambda self: plain(self, "len", int),
    "__contains__": contains,
    "__getitem__": lambda self, key: ask(self, "item", key),
    "__setitem__": lambda self, key, value: ask(self, "put", key, value),
    "__delitem__": lambda self, key: ask(self, "delete", key),
}


@lru_cache(256)
def with_methods(names: frozenset[str]) -> type[ProgramObject]:
    """A ProgramObject with those of METHODS. Raises KeyError for another name."""
    methods = {name: METHODS[name] for name in names if name != "plain"}
    return type("ProgramObject", (ProgramObject,), {"__doc__": None, **methods})


def known(program: Asked, number: int, kind: str, liar: bool, methods: frozenset[str]) -> Any:
    """The one that stands for the program's object of this number."""
    if number not in program.known:
        state = State(program, number, kind[:80], liar, "plain" in methods)
        program.known[number] = with_methods(methods)(state)
    return program.known[number]


@lru_cache(256)
def value_of(kind: type) -> type:
    """A ProgramValue of a built-in type, or of a named tuple."""
    return type(kind.__name__, (ProgramValue, kind), {"__hash__": kind.__hash__})


def both(program: Asked, thing: Any, value: Any) -> Any:
    """A plain value that is also an object of the program. Raises ValueError if it cannot be."""
    if (
        not program.objects
        or not isinstance(thing, ProgramObject)
        or type(value) in (bool, list, dict, set)
    ):
        raise ValueError("a value that is no object")
    made, number = value_of(type(value)), state_of(thing).number
    if type(kept := program.values.get(number)) is made and kept == value:
        return kept
    own: Any = (tuple if isinstance(value, tuple) else made).__new__(made, value)
    vars(own)["_ProgramObject__state"] = state_of(thing)
    program.values[number] = own
    return own
