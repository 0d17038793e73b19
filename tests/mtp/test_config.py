"""Configs: JSON in and out, run ids, typed overrides, and bad values told in one line."""

import dataclasses
import doctest
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest

from mtp import config, overrides
from mtp.config import SIZES, CorpusConfig, ModelConfig, TrainConfig, size
from mtp.errors import BadInput
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
    "batch": 8,
    "micro": 4,
    "tokens": 2e6,
    "epochs": 2.0,
    "lr": 1e-3,
    "min_lr": 0.1,
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
    "keep_every": 8,
    "init": "runs/first",
}


def leaves(values: dict[str, Any], where: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield from leaves(value, f"{where}{key}.") if isinstance(value, dict) else [where + key]


def changed(path: str, value: Any) -> TrainConfig:
    extra = ["tokens=0"] if path == "epochs" else []
    return override(BASE, [f"{path}={value}", *extra])


def test_doctests() -> None:
    results = [doctest.testmod(module) for module in (config, overrides)]
    assert sum(r.attempted for r in results) >= 4 and not sum(r.failed for r in results)


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
    """The types that no config of the core has, but others' may."""

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
    ("assignment", "told"),
    [
        ("lr", ["'lr'", "field=value"]),
        ("leerning=1", ["'leerning'", "warmup", "weight_decay"]),
        ("model.width=1", ["'width'", "dim", "attn_heads"]),
        ("data.lr=1", ["'lr'", "source", "tokenizer"]),
        ("lr.x=1", ["lr has no fields"]),
        ("model=4", ["model", "'4'"]),
        ("model.n=two", ["model.n", "'two'", "int"]),
        ("model.n=1.5", ["model.n", "'1.5'", "int"]),
        ("model.n=", ["model.n", "''", "int"]),
        ("batch=nan", ["batch", "'nan'", "int"]),
        ("batch=inf", ["batch", "'inf'", "int"]),
        ("lr=fast", ["lr", "'fast'", "float"]),
        ("lr=nan", ["lr", "'nan'", "float"]),
        ("tokens=inf", ["tokens", "'inf'", "float"]),
        ("model.head=medusa", ["head type", "'medusa'", "parallel", "replicated"]),
        ("scheme=mse", ["scheme", "'mse'", "fused", "sequential", "plain"]),
        ("precision=fp8", ["precision", "'fp8'", "auto", "bf16"]),
        ("attention=flash", ["attention", "'flash'", "sdpa"]),
        ("compile=maybe", ["compile", "'maybe'", "on", "off"]),
        ("model.n=0", ["model.n", "0", "at least 1"]),
        ("model.context=-1", ["model.context", "-1", "at least 1"]),
        ("model.kv_heads=-2", ["model.kv_heads", "-2", "at least 0"]),
        ("model.kv_heads=3", ["kv_heads 3", "attn_heads 4"]),
        ("model.extra_layers=-1", ["extra_layers", "-1"]),
        ("model.embedding_std=0", ["embedding_std", "positive"]),
        ("model.hidden=-8", ["hidden", "-8"]),
        ("model.rope_base=0", ["rope_base", "positive"]),
        ("model.head_dim=-2", ["head_dim", "at least 0"]),
        ("model.head_dim=7", ["head_dim", "even"]),
        ("model.rope_scaling=yarn:4", ["'yarn'", "none, linear, llama3"]),
        ("model.rope_scaling=linear", ["'linear'", "1 positive"]),
        ("model.rope_scaling=linear:0", ["'linear:0'", "1 positive"]),
        ("model.rope_scaling=linear:two", ["'linear:two'", "1 positive"]),
        ("model.rope_scaling=none:1", ["'none:1'", "0 positive"]),
        ("model.rope_scaling=llama3:8,1,4", ["4 positive"]),
        ("model.rope_scaling=llama3:8,4,1,8192", ["LOW", "HIGH"]),
        ("model.dim=130", ["dim 130", "4 attn_heads"]),
        ("model.dim=12", ["dim 12", "even"]),
        ("model.n=5", ["n 5 parallel", "5 layers", "up to 4"]),
        ("batch=0", ["batch", "positive"]),
        ("lr=0", ["lr", "positive"]),
        ("clip=0", ["clip", "positive"]),
        ("batch=-4", ["batch", "positive"]),
        ("micro=3", ["micro 3", "batch 16"]),
        ("micro=-2", ["micro", "at least 0"]),
        ("warmup=-1", ["warmup", "at least 0"]),
        ("seed=-1", ["seed", "at least 0"]),
        ("log_every=-1", ["log_every", "at least 0"]),
        ("save_every=-1", ["save_every", "at least 0"]),
        ("keep_every=-1", ["keep_every", "at least 0"]),
        ("eval_every=-1", ["eval_every", "at least 0"]),
        ("min_lr=-0.1", ["min_lr", "at least 0"]),
        ("weight_decay=-0.1", ["weight_decay", "at least 0"]),
        ("beta1=1", ["beta1", "[0, 1)"]),
        ("beta2=-0.1", ["beta2", "[0, 1)"]),
        ("epochs=1", ["tokens=1e+06", "epochs=1", "exactly one"]),
        ("tokens=0", ["exactly one"]),
    ],
)
def test_bad_values_are_told_in_one_line(assignment: str, told: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        override(BASE, [assignment])
    message = str(error.value)
    assert "\n" not in message
    for part in told:
        assert part in message


def test_a_negative_budget_is_no_budget() -> None:
    with pytest.raises(BadInput, match=r"tokens is -5"):
        TrainConfig(tokens=-5, epochs=1)
    with pytest.raises(BadInput, match="tokens"):
        TrainConfig(tokens=math.nan, epochs=1)


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


@pytest.mark.parametrize("head", ["parallel", "causal", "anticausal"])
def test_transformer_heads_need_a_trunk(head: Any) -> None:
    assert ModelConfig(layers=5, n=4, head=head).trunk_layers == 1
    assert ModelConfig(layers=5, n=5, head=head, extra_layers=1).trunk_layers == 1
    assert ModelConfig(layers=1, n=1, head=head).trunk_layers == 0  # one layer, head 1
    for layers in (1, 4):
        with pytest.raises(BadInput, match=f"no trunk in {layers} layers; choose n up to"):
            ModelConfig(layers=layers, n=layers + 1, head=head)


@pytest.mark.parametrize("head", ["linear", "replicated"])
def test_other_heads_take_no_layers(head: Any) -> None:
    assert ModelConfig(layers=2, n=32, head=head).trunk_layers == 2


def test_sizes_are_table_s14s() -> None:
    assert len(SIZES) == 13
    model = size("6.7B", n=4, vocab=32_000)
    assert (model.dim, model.layers, model.attn_heads, model.ffn) == (4096, 32, 32, 11_008)
    assert all(size(name).dim // size(name).attn_heads in (32, 48, 64, 128) for name in SIZES)
    with pytest.raises(BadInput, match=r"unknown size '8B'.*1M.*13B"):
        size("8B")
    with pytest.raises(BadInput, match=r"unknown field 'colour'"):
        size("1M", colour=1)


def test_corpus_defaults_need_no_network() -> None:
    assert CorpusConfig().source == "stdlib"
