"""Configs to and from JSON, run ids, and typed overrides."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mtp.config import ModelConfig, TrainConfig
from mtp.errors import BadInput
from mtp.objective_config import OPTIONS
from mtp.overrides import EXECUTION, config_id, differences, from_dict, override, same_run, to_json

BASE = TrainConfig(tokens=1e6, model=ModelConfig(kv_heads=2))


# field -> another value it may have
CHANGES: dict[str, Any] = {
    "model.dim": 256,
    "model.layers": 6,
    "model.attn_heads": 8,
    "model.kv_heads": 1,
    "model.vocab": 300,
    "model.n": 2,
    "model.head": "linear",
    "model.embedding_std": 0.5,
    "model.extra_layers": 3,
    "model.hidden": 64,
    "model.context": 64,
    "model.rope_base": 5e5,
    "model.norm_eps": 1e-6,
    "model.head_dim": 16,
    "model.rope_scaling": "linear:4",
    "data.source": "pypi-v1",
    "data.tokenizer": "bytes",
    "data.vocab": 512,
    "data.max_mb": 1.5,
    "data.validation": 0.1,
    "objective.weights": "sum1",
    "objective.schedule": "reverse",
    "objective.balance": "uncertainty",
    "objective.measure_every": 5,
    "objective.detach": True,
    "objective.targets": "same",
    "objective.loss": "kl",
    "objective.token_weights": "a.py:f",
    "objective.order": 0.5,
    "objective.order_window": 9,
    "objective.bag": 0.5,
    "objective.bag_window": 9,
    "objective.latent": 0.5,
    "objective.latent_steps": 2,
    "objective.embedding": 0.5,
    "objective.embedding_steps": 3,
    "objective.embedding_loss": "infonce",
    "objective.embedding_target": "average",
    "objective.embedding_decay": 0.99,
    "batch": 8,
    "micro": 4,
    "shard": 2,
    "recompute": 1,
    "tokens": 2e6,
    "epochs": 2.0,
    "lr": 1e-3,
    "min_lr": 0.1,
    "lr_schedule": "wsd:0.2",
    "warmup": 7,
    "weight_decay": 0.0,
    "beta1": 0.8,
    "beta2": 0.99,
    "clip": 0.1,
    "scheme": "plain",
    "precision": "bf16",
    "attention": "matmul",
    "compile": "off",
    "seed": 1,
    "log_every": 3,
    "eval_every": 5,
    "save_every": 9,
    "log_to": "trackio",
    "keep_every": 8,
    "init": "runs/first",
    "freeze": "trunk",
}


# An id leaves them out: they are what a run trained with unless its config says otherwise.
DEFAULTS: dict[str, Any] = {
    "model.dim": 128,
    "model.layers": 5,
    "model.attn_heads": 4,
    "model.kv_heads": 0,
    "model.vocab": 2048,
    "model.n": 1,
    "model.head": "parallel",
    "model.extra_layers": 0,
    "model.hidden": 0,
    "model.context": 256,
    "model.rope_base": 10000.0,
    "model.norm_eps": 1e-05,
    "model.embedding_std": 1.0,
    "model.head_dim": 0,
    "model.rope_scaling": "none",
    "data.source": "stdlib",
    "data.tokenizer": "bpe",
    "data.vocab": 2048,
    "data.max_mb": 0.0,
    "data.validation": 0.02,
    "objective.weights": "equal",
    "objective.schedule": "constant",
    "objective.balance": "none",
    "objective.measure_every": 0,
    "objective.detach": False,
    "objective.targets": "ahead",
    "objective.loss": "ce",
    "objective.token_weights": "",
    "objective.order": 0.0,
    "objective.order_window": 0,
    "objective.bag": 0.0,
    "objective.bag_window": 8,
    "objective.latent": 0.0,
    "objective.latent_steps": 1,
    "objective.embedding": 0.0,
    "objective.embedding_steps": 4,
    "objective.embedding_loss": "cosine",
    "objective.embedding_target": "tokens",
    "objective.embedding_decay": 0.999,
    "batch": 16,
    "epochs": 0.0,
    "lr": 0.0003,
    "min_lr": 0.03,
    "lr_schedule": "cosine",
    "warmup": 100,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "clip": 1.0,
    "precision": "auto",
    "seed": 0,
    "keep_every": 0,
    "init": "",
    "freeze": "none",
}


def leaves(values: dict[str, Any], where: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield from leaves(value, f"{where}{key}.") if isinstance(value, dict) else [where + key]


def changed(path: str, value: Any) -> TrainConfig:
    extra = {"epochs": ["tokens=0"], "freeze": ["init=runs/first", "model.n=2"]}
    extra |= {f"objective.{name}": [f"objective.{term}=1"] for name, term in OPTIONS.items()}
    extra["objective.embedding_decay"].append("objective.embedding_target=average")
    return override(BASE, [f"{path}={value}", *extra.get(path, [])])


def test_the_table_of_changes_names_every_field() -> None:
    assert sorted(CHANGES) == sorted(leaves(dataclasses.asdict(BASE)))


@pytest.mark.parametrize("path", CHANGES)
def test_every_field_round_trips_and_makes_another_run_where_it_defines_it(path: str) -> None:
    new = changed(path, CHANGES[path])
    inner = dataclasses.asdict(new)
    for part in path.split("."):
        inner = inner[part]
    assert inner == CHANGES[path] and type(inner) is type(CHANGES[path])
    assert from_dict(TrainConfig, json.loads(to_json(new))) == new
    assert (config_id(new) == config_id(BASE)) == (path in EXECUTION) == same_run(new, BASE)
    assert any(text.startswith(f"{path} ") for text in differences(BASE, new))


def test_the_id_depends_on_values_alone() -> None:
    assert config_id(BASE) == "68d7d102f4eb"  # of a run's folder: never changes by accident
    assert config_id(TrainConfig(tokens=1_000_000, model=ModelConfig(kv_heads=2))) == config_id(
        BASE
    )
    shuffled = dict(reversed(json.loads(to_json(BASE)).items()))
    assert config_id(from_dict(TrainConfig, shuffled)) == config_id(BASE)


def test_no_default_changes() -> None:
    """Else the id of a run that was trained with the old value would name a run with the new one.
    Name a new value in the studies, or give it to a new field."""
    values = dataclasses.asdict(TrainConfig(tokens=1))
    found = {}
    for path in DEFAULTS:
        inner: Any = values
        for part in path.split("."):
            inner = inner[part]
        found[path] = inner
    assert found == DEFAULTS
    assert sorted(DEFAULTS) == sorted(set(CHANGES) - set(EXECUTION) - {"tokens"})


def test_overrides_are_typed_by_their_field() -> None:
    new = override(
        BASE, ["model.n=4", "lr=1e-3", "batch=1e2", " seed = 7", "data.source=files:a=b"]
    )
    assert (new.model.n, new.lr, new.batch, new.seed) == (4, 1e-3, 100, 7)
    assert type(new.batch) is int and type(new.lr) is float
    assert new.data.source == "files:a=b"
    assert override(BASE, []) == BASE
    assert override(BASE, ["lr=1", "lr=2"]).lr == 2


@dataclasses.dataclass(frozen=True)
class Kinds:
    """Types that no config in mtp uses, but other configs may."""

    flag: bool = False
    many: tuple[int, ...] = ()
    maybe: int | None = None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flag=true", Kinds(flag=True)),
        ("flag=0", Kinds(flag=False)),
        ("many=1,2,3", Kinds(many=(1, 2, 3))),
        ("maybe=5", Kinds(maybe=5)),
        ("maybe=none", Kinds(maybe=None)),
    ],
)
def test_bools_tuples_and_optionals(text: str, expected: Kinds) -> None:
    new = override(Kinds(), [text])
    assert new == expected
    assert from_dict(Kinds, json.loads(to_json(new))) == expected


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["tokens"],
        5,
        None,
        "tokens",
        {"tokens": 1e6, "unknown": 1},
        {"tokens": 1e6, "model": []},
        {"tokens": 1e6, "model": None},
        {"tokens": 1e6, "model": {"n": True}},
        {"tokens": 1e6, "model": {"n": [1]}},
        {"tokens": 1e6, "data": {"source": 5}},
        {"tokens": 1e6, "lr": None},
        {"tokens": 1e6, "scheme": ["plain"]},
        {"tokens": True},
    ],
)
def test_json_of_another_shape_is_bad_input(values: Any) -> None:
    with pytest.raises(BadInput):
        from_dict(TrainConfig, values)
