"""Configs to and from JSON, "field=value" overrides, and the id of a run."""

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args, get_origin

from mtp.config import Execution, TrainConfig
from mtp.errors import BadInput, choose

T = TypeVar("T")
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
EXAMPLES = {
    "model": "model.n=3",
    "data": "data.source=files:texts",
    "objective": "objective.weights=sum1",
}
EXECUTION = tuple(f.name for f in dataclasses.fields(Execution))


def to_json(config: Any) -> str:
    """The whole config as JSON; equal configs give equal text, whether 1e6 is an int or a float."""
    values = dataclasses.asdict(from_dict(type(config), dataclasses.asdict(config)))
    return json.dumps(values, indent=2, sort_keys=True)


def identity(config: TrainConfig) -> dict[str, Any]:
    """What defines a run's result, as JSON values: all fields except those of Execution. Fields at
    their default are left out, so that adding a field does not change the ids of older runs."""
    values = json.loads(to_json(config))
    own = {k: v for k, v in values.items() if k not in EXECUTION}
    defaults = dataclasses.asdict(TrainConfig(tokens=1)) | {"tokens": 0.0}
    return _without(own, defaults)


def identity_fields(config: TrainConfig) -> dict[str, Any]:
    """The same with every field, by its name on a command line: "model.n" -> 4."""
    values = json.loads(to_json(config))
    found = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": each for inner, each in value.items()}
        elif name not in EXECUTION:
            found[name] = value
    return found


def _without(values: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in values.items():
        default = defaults[name]
        if isinstance(value, dict):
            value, default = _without(value, default), {}
        if value != default:
            found[name] = value
    return found


@functools.lru_cache(maxsize=4096)
def config_id(config: TrainConfig) -> str:
    """The run's id: 12 hex digits of the sha256 of its `identity`."""
    text = json.dumps(identity(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def same_run(a: TrainConfig, b: TrainConfig) -> bool:
    """Whether two configs define the same result, however each is executed."""
    return dataclasses.replace(a, **execution(b)) == b


def execution(config: TrainConfig) -> dict[str, Any]:
    """The fields of Execution: how a config's run is executed."""
    return {name: getattr(config, name) for name in EXECUTION}


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """The fields in which two configs of one type differ, for a message.

    >>> from mtp.config import ModelConfig
    >>> differences(TrainConfig(tokens=1e6), TrainConfig(tokens=5e5, model=ModelConfig(n=4)))
    ['model.n 1 -> 4', 'tokens 1000000 -> 500000']
    """
    found = []
    for f in dataclasses.fields(new):
        a, b = getattr(old, f.name), getattr(new, f.name)
        if dataclasses.is_dataclass(b):
            found += differences(a, b, f"{where}{f.name}.")
        elif a != b:
            found.append(f"{where}{f.name} {_shown(a)} -> {_shown(b)}")
    return found


def _shown(value: Any) -> str:
    """A field's value as one writes it: whole numbers without a point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def from_dict(cls: Callable[..., T], values: dict[str, Any], where: str = "") -> T:
    """Build a config from nested dictionaries; unknown keys and wrong types raise BadInput."""
    if not isinstance(values, dict) and where.endswith("."):
        group = where.rstrip(".")
        example = EXAMPLES.get(group.rpartition(" ")[2], f"{group}.FIELD=VALUE")
        raise BadInput(f"{group} is a group of fields; set one, such as {example}")
    if not isinstance(values, dict):
        raise BadInput(f"{where.rstrip('.') or 'a config'} is {values!r}; it must be named fields")
    hints = _hints(cls)
    for key in values:
        choose(f"key {where}{key}: field", key, hints)
    built = {k: _convert(hints[k], v, f"{where}{k}") for k, v in values.items()}
    return cls(**built)


def override(config: T, assignments: list[str], **first: Any) -> T:
    """Apply "a.b=value" strings to a config, typed by its fields.

    first  fields that get another value before; only the end result must be valid

    >>> override(TrainConfig(tokens=1e6), ["model.n=4", "lr=1e-3"]).model.n
    4
    """
    values = dataclasses.asdict(config)  # pyright: ignore[reportArgumentType]
    for name, value in first.items():
        values[name] = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # pyright: ignore[reportArgumentType]
    for text in assignments:
        path, equals, value = text.partition("=")
        if not equals:
            raise BadInput(f"override {text!r} is not of the form field=value")
        *parents, last = path.strip().split(".")
        inner = values
        for parent in parents:
            _known(text, parent, inner, values)
            inner = inner[parent]
            if not isinstance(inner, dict):
                raise BadInput(f"override {text!r}: {parent} has no fields of its own")
        _known(text, last, inner, values)
        inner[last] = value
    return from_dict(type(config), values)  # pyright: ignore[reportReturnType]


def _known(text: str, name: str, inner: dict[str, Any], values: dict[str, Any]) -> None:
    """Raise BadInput unless `inner` has the field; if its last name is one of another group, the
    message says which."""
    last = text.partition("=")[0].strip().rpartition(".")[2]
    groups = {f"{group}.": each for group, each in values.items() if isinstance(each, dict)}
    meant = [group + last for group, each in {"": values, **groups}.items() if last in each]
    if name not in inner and meant:
        raise BadInput(
            f"unknown field in override {text!r}: {name!r}; did you mean {' or '.join(meant)}?"
        )
    choose(f"field in override {text!r}:", name, inner)


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value`, from JSON or a command line, as the annotated type."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        return from_dict(hint, value, where + ".")
    if get_origin(hint) is Literal:
        choose(where, value, get_args(hint))
        return value
    if get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(_convert(get_args(hint)[0], part, where) for part in parts)
    if isinstance(hint, types.UnionType):
        hint = next(h for h in get_args(hint) if h is not type(None))
        return None if value in (None, "none") else _convert(hint, value, where)
    if hint is float and str(value).strip().lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise BadInput(f"{where} is {value}; it must be finite")
    try:
        return _plain(hint, value)
    except (TypeError, ValueError, KeyError, OverflowError):
        raise BadInput(f"{where} is {value!r}; it must be {KINDS.get(hint, hint)}") from None


def _plain(hint: Any, value: Any) -> Any:
    """`value` as a bool, int, finite float, str ...; raises if it is not exactly one."""
    if hint is bool:
        words = {"true": True, "false": False, "1": True, "0": False}
        return value if isinstance(value, bool) else words[str(value).lower()]
    if isinstance(value, bool) or (hint is str and not isinstance(value, str)):
        raise TypeError
    if hint is int and not (isinstance(value, str) and value.strip().lstrip("+-").isdigit()):
        number = float(value)  # "1e6" is a fine way to write an int
        if number != int(number):
            raise ValueError
        return int(number)
    if hint is float and not math.isfinite(float(value)):
        raise ValueError
    return hint(value)
