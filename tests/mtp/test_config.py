"""Configs: the paper's sizes, and bad values reported in one line."""

import doctest
import math

import pytest

from mtp import config, overrides
from mtp.config import SIZES, CorpusConfig, ModelConfig, TrainConfig, size
from mtp.errors import BadInput
from mtp.overrides import override

BASE = TrainConfig(tokens=1e6, model=ModelConfig(kv_heads=2))


def test_doctests() -> None:
    results = [doctest.testmod(module) for module in (config, overrides)]
    assert sum(r.attempted for r in results) >= 4 and not sum(r.failed for r in results)


@pytest.mark.parametrize(
    ("assignment", "parts"),
    [
        ("lr", ["'lr'", "field=value"]),
        ("leerning=1", ["'leerning'", "warmup", "weight_decay"]),
        ("model.width=1", ["'width'", "dim", "attn_heads"]),
        ("data.lr=1", ["'lr'", "did you mean lr?"]),
        ("weights=equal", ["'weights'", "did you mean objective.weights?"]),
        ("max_mb=1", ["'max_mb'", "did you mean data.max_mb?"]),
        ("training.n=1", ["'training'", "did you mean model.n?"]),
        ("vocab=1", ["'vocab'", "did you mean model.vocab or data.vocab?"]),
        ("data.width=1", ["'width'", "source", "tokenizer"]),
        ("objective=equal", ["objective is a group of fields", "objective.weights=sum1"]),
        ("lr.x=1", ["lr has no fields"]),
        ("model=4", ["model is a group of fields", "such as model.n=3"]),
        ("model.n=two", ["model.n", "'two'", "it must be a whole number"]),
        ("model.n=1.5", ["model.n", "'1.5'", "it must be a whole number"]),
        ("model.n=", ["model.n", "''", "it must be a whole number"]),
        ("batch=nan", ["batch", "'nan'", "it must be a whole number"]),
        ("batch=inf", ["batch", "'inf'", "it must be a whole number"]),
        ("lr=fast", ["lr", "'fast'", "it must be a number"]),
        ("lr=nan", ["lr", "is nan", "finite"]),
        ("tokens=inf", ["tokens", "is inf", "finite"]),
        ("model.head=none.py:x", ["model.head: none.py: no such file"]),
        ("model.head=medusa", ["model.head", "head type", "'medusa'", "parallel", "replicated"]),
        ("scheme=mse", ["scheme", "'mse'", "fused", "sequential", "plain"]),
        ("precision=fp8", ["precision", "'fp8'", "auto", "bf16"]),
        ("attention=flash", ["attention", "'flash'", "sdpa"]),
        ("compile=maybe", ["compile", "'maybe'", "on", "off"]),
        ("model.n=0", ["model.n", "0", "at least 1"]),
        ("model.context=-1", ["model.context", "-1", "at least 1"]),
        ("model.kv_heads=-2", ["model.kv_heads", "-2", "at least 0"]),
        ("model.kv_heads=3", ["kv_heads 3", "attn_heads 4"]),
        ("model.extra_layers=-1", ["extra_layers", "-1"]),
        ("model.n=1025", ["model.n", "1025", "at most 1024"]),
        ("model.n=1e12", ["model.n", "at most 1024"]),
        ("model.layers=1e12", ["model.layers", "at most 16384"]),
        ("model.extra_layers=1e12", ["model.extra_layers", "at most 16384"]),
        ("model.context=1e12", ["model.context", "at most 16777216"]),
        ("model.embedding_std=0", ["model.embedding_std", "from 1e-06 to 1000"]),
        ("model.embedding_std=1e300", ["model.embedding_std", "from 1e-06 to 1000"]),
        ("model.norm_eps=1e300", ["model.norm_eps", "from 0 to 1"]),
        ("model.norm_eps=-1", ["model.norm_eps", "from 0 to 1"]),
        ("model.rope_base=1e-300", ["model.rope_base", "from 1 to 1e+12"]),
        ("model.hidden=-8", ["hidden", "-8"]),
        ("model.rope_base=0", ["model.rope_base", "from 1 to 1e+12"]),
        ("model.head_dim=-2", ["head_dim", "at least 0"]),
        ("model.head_dim=7", ["head_dim", "even"]),
        ("model.rope_scaling=yarn:4", ["'yarn'", "none, linear, llama3"]),
        ("model.rope_scaling=linear", ["'linear'", "1 positive"]),
        ("model.rope_scaling=linear:1e-300", ["'linear:1e-300'", "1 positive", "from 0.001"]),
        ("model.rope_scaling=llama3:8,1,4,1e300", ["4 positive", "to 16777216"]),
        ("model.rope_scaling=linear:0", ["'linear:0'", "1 positive"]),
        ("model.rope_scaling=linear:two", ["'linear:two'", "1 positive"]),
        ("model.rope_scaling=none:1", ["'none:1'", "0 positive"]),
        ("model.rope_scaling=llama3:8,1,4", ["4 positive"]),
        ("model.rope_scaling=llama3:8,4,1,8192", ["LOW", "HIGH"]),
        ("model.dim=130", ["dim 130", "4 attn_heads"]),
        ("model.dim=12", ["dim 12", "even"]),
        ("model.n=5", ["n 5 parallel", "5 layers", "at most 4, or more layers"]),
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
        ("min_lr=-0.1", ["min_lr", "from 0 to 1"]),
        ("min_lr=1e300", ["min_lr", "from 0 to 1"]),
        ("lr_schedule=line", ["lr_schedule 'line'", "cosine, wsd"]),
        ("lr_schedule=wsd", ["lr_schedule is 'wsd'", "above 0 and up to 1"]),
        ("lr_schedule=wsd:0", ["lr_schedule is 'wsd:0'", "above 0 and up to 1"]),
        ("lr_schedule=cosine:0.5", ["lr_schedule is 'cosine:0.5'", "above 0 and up to 1"]),
        ("weight_decay=-0.1", ["weight_decay", "from 0 to 1000"]),
        ("weight_decay=1e30", ["weight_decay", "from 0 to 1000"]),
        ("beta1=1", ["beta1", "[0, 1)"]),
        ("beta2=-0.1", ["beta2", "[0, 1)"]),
        ("epochs=1", ["tokens=1e+06", "epochs=1", "exactly one"]),
        ("tokens=0", ["exactly one"]),
    ],
)
def test_bad_values_are_reported_in_one_line(assignment: str, parts: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        override(BASE, [assignment])
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_negative_budget_is_refused() -> None:
    with pytest.raises(BadInput, match=r"tokens is -5"):
        TrainConfig(tokens=-5, epochs=1)
    with pytest.raises(BadInput, match="tokens"):
        TrainConfig(tokens=math.nan, epochs=1)


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
