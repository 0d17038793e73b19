"""Names of runs: of their folders, and by what differs among them, "n=4 seed=0" for a hash."""

import itertools
from collections.abc import Sequence
from typing import Any

from mtp.config import TrainConfig
from mtp.head_types import short_name
from mtp.model.sizes import parameter_counts
from mtp.overrides import config_id, identity_fields

SIZE = ("model.dim", "model.layers", "model.attn_heads", "model.kv_heads", "model.hidden")
# What arms are usually told apart by, in this order; other fields only if these do not suffice.
FIRST = (
    *("model.n", "model.head", "model.extra_layers", "objective.token_weights", "size"),
    *("data.tokenizer", "data.source", "init", "seed"),
)


def run_name(config: TrainConfig) -> str:
    m = config.model
    return f"{short_name(m.head)}-n{m.n}-s{config.seed}-{config_id(config)}"


def size_name(config: TrainConfig) -> str:
    """Non-embedding parameters, e.g. "2.0M" (what Table S14's names 1M to 1B count)."""
    count = parameter_counts(config.model)["non_embedding"]
    return f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.1f}M"


def arm_names(configs: Sequence[TrainConfig], seeds: bool = True) -> list[str]:
    """A name for each config, as short as tells them apart; all are equal in what it leaves out.

    seeds  False: runs that differ in their seed alone get the same name
    """
    rows = _with_readable_starts(configs)
    varying = [name for name in rows[0] if len({row[name] for row in rows}) > 1]
    if not seeds:
        varying = [name for name in varying if name != "seed"]

    def told_apart(names: list[str]) -> int:
        return len({tuple(row[name] for name in names) for row in rows})

    shown = [name for name in FIRST if name in varying]
    rest = [name for name in varying if name not in shown and name not in SIZE]
    while rest and told_apart(shown) < told_apart(varying):
        shown.append(rest.pop(0))
    if "size" in shown and told_apart([n for n in shown if n != "size"]) == told_apart(varying):
        shown.remove("size")
    shown.sort(key=lambda name: name == "seed")
    columns = [shorten([row[name] for row in rows]) for name in shown]
    for name, values in zip(shown, columns, strict=True):
        values[:] = [_part(name, value) for value in values]
    return [
        " ".join(filter(None, (values[i] for values in columns))) or f"n={config.model.n}"
        for i, config in enumerate(configs)
    ]


def _with_readable_starts(configs: Sequence[TrainConfig]) -> list[dict[str, Any]]:
    """Every field of each config; `init` names a run of these configs by its n."""
    rows = [_fields(config) for config in configs]
    known = {run_name(config): f"n={config.model.n}" for config in configs}
    return [row | {"init": known.get(row["init"], row["init"])} for row in rows]


def _fields(config: TrainConfig) -> dict[str, Any]:
    fields = identity_fields(config)
    return fields | {"size": size_name(config)}


def _part(name: str, value: Any) -> str:
    if name == "model.extra_layers":
        return f"+{value} layers" if value else ""
    if name in ("model.head", "size", "data.tokenizer"):
        return short_name(str(value)) if name == "model.head" else str(value)
    if name == "init":
        return f"from {value}" if value else ""
    if name == "objective.token_weights":
        return str(value).removeprefix("labels:")
    text = f"{value:g}" if isinstance(value, float) else str(value)
    if name == "data.source":
        return text if "=" in text else f"source={text}" * bool(text)
    return f"{name.removeprefix('model.').removeprefix('data.')}={text}"


def shorten(values: list[Any]) -> list[Any]:
    """Long texts without what all of them share at both ends."""
    if not all(isinstance(v, str) for v in values) or max(map(len, values)) <= 24:
        return values
    start = len(_common_start(values))
    end = len(_common_start([v[start:][::-1] for v in values]))
    short = [_middle(v[start : len(v) - end].strip(",|?")) for v in values]
    return short if len(set(short)) == len(set(values)) else values


def _common_start(texts: list[str]) -> str:
    alike = (len(set(letters)) == 1 for letters in zip(*texts, strict=False))
    return texts[0][: len(list(itertools.takewhile(bool, alike)))]


def _middle(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}…{text[-11:]}"
