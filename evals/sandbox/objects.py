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
    """The program, as its objects see it. known: its objects by number."""

    known: dict[int, Any]

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
    """liar: the object claims to equal anything."""

    program: Asked
    number: int
    kind: str
    liar: bool


class ProgramObject:
    """An object of the program, such as a function under test. What it is like is kept under a name
    that no test has."""

    def __init__(self, state: State) -> None:
        vars(self)["_ProgramObject__state"] = state

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):  # what copy and the like look for
            raise AttributeError(name)
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


def state_of(thing: ProgramObject) -> State:
    return vars(thing)["_ProgramObject__state"]


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


def equal(thing: ProgramObject, other: object) -> bool:
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
    methods = {name: METHODS[name] for name in names}
    return type("ProgramObject", (ProgramObject,), {"__doc__": None, **methods})


def known(program: Asked, number: int, kind: str, liar: bool, methods: frozenset[str]) -> Any:
    """The one that stands for the program's object of this number."""
    if number not in program.known:
        state = State(program, number, kind[:80], liar)
        program.known[number] = with_methods(methods)(state)
    return program.known[number]
