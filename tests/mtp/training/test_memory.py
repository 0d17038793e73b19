"""The estimate of a run's memory against what torch allocates, and what a run that cannot fit is
told."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtp.config import ModelConfig, TrainConfig, size
from mtp.errors import BadInput
from mtp.model.memory import check_memory, needed, training_bytes, whole_gradients_fit
from mtp.objective_config import ObjectiveConfig
from mtp.training.trainer import Trainer
from tests.mtp.training.allocations import Allocations

SHAPE: dict[str, Any] = {"dim": 128, "layers": 5, "attn_heads": 4, "vocab": 512, "context": 64}
CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "bf16": {"precision": "bf16"},
    "autocast": {"precision": "autocast"},
    "recompute all": {"recompute": 1},
    "recompute every third, bf16": {"recompute": 3, "precision": "bf16"},
    "n=4": {"model": {"n": 4}},
    "linear": {"model": {"n": 4, "head": "linear"}},
    "mlp": {"model": {"n": 4, "head": "mlp"}},
    "inject, bf16": {"model": {"n": 4, "head": "inject"}, "precision": "bf16"},
    "sequential heads": {"model": {"n": 4, "head": "sequential"}},
    "one layer for several heads": {"model": {"n": 4, "head": "sequential-shared"}},
    "replicated, bf16": {"model": {"n": 3, "head": "replicated"}, "precision": "bf16"},
    "grouped queries": {"model": {"n": 2, "kv_heads": 2}},
    "sequential": {"model": {"n": 4}, "scheme": "sequential"},
    "kl": {"model": {"n": 3}, "objective": ObjectiveConfig(loss="kl")},
    "tv, bf16": {"model": {"n": 3}, "objective": ObjectiveConfig(loss="tv"), "precision": "bf16"},
    "kl, sequential": {
        "model": {"n": 3},
        "objective": ObjectiveConfig(loss="kl"),
        "scheme": "sequential",
    },
    "kl, a large vocabulary": {
        "model": {"n": 2, "vocab": 2048},
        "objective": ObjectiveConfig(loss="kl"),
    },
    "order": {"objective": ObjectiveConfig(order=0.1)},
    "latent, bf16": {"objective": ObjectiveConfig(latent=1.0), "precision": "bf16"},
    "averaged targets": {"objective": ObjectiveConfig(embedding=1.0, embedding_target="average")},
    "averaged targets, bf16, recompute all": {
        "objective": ObjectiveConfig(embedding=1.0, embedding_target="average"),
        "model": {"n": 3, "head": "anticausal"},
        "precision": "bf16",
        "recompute": 1,
    },
    "averaged targets, autocast, mlp": {
        "objective": ObjectiveConfig(embedding=1.0, embedding_target="average"),
        "model": {"n": 3, "head": "mlp"},
        "precision": "autocast",
    },
    "all terms": {"objective": ObjectiveConfig(order=0.1, bag=0.1, latent=1.0, embedding=1.0)},
}


def configured(**changes: Any) -> TrainConfig:
    model = ModelConfig(**SHAPE | changes.pop("model", {}))
    values = {"batch": 16, "micro": 8, "tokens": 1e6, "precision": "float32", "warmup": 0}
    return TrainConfig(model=model, attention="sdpa", compile="off", **values | changes)


class RandomTokens:
    tokens, eos = 2**16, -1
    ids = np.random.default_rng(0).integers(0, SHAPE["vocab"], tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


def trainer(config: TrainConfig, folder: Path) -> Trainer:
    tokenizer = SimpleNamespace(vocab_size=config.model.vocab, name="random")
    corpus: Any = SimpleNamespace(train=RandomTokens(), tokenizer=tokenizer, folder=folder)
    return Trainer(config, corpus, folder)


@pytest.mark.parametrize("case", CASES)
def test_the_estimate_is_within_a_tenth_of_what_a_step_allocates(case: str, tmp_path: Path) -> None:
    config = configured(**CASES[case])
    with Allocations() as counted:
        run = trainer(config, tmp_path)
        run.train_step()  # makes the moments
        counted.peak = counted.live
        run.train_step()
    parts = training_bytes(config, config.precision, 1, "cpu")
    assert sum(parts.values()) == pytest.approx(counted.peak, rel=0.1), parts


def step_peak(folder: Path, **changes: Any) -> int:
    with Allocations() as counted:
        run = trainer(configured(**changes), folder)
        run.train_step()
        counted.peak = counted.live
        run.train_step()
    return counted.peak


@pytest.mark.parametrize("term", ["order", "bag", "latent", "embedding"])
def test_no_term_costs_more_memory_than_a_head(term: str, tmp_path: Path) -> None:
    """Of a head that is a layer, added to the trunk of n=1, with its logits."""
    none, own = (
        step_peak(tmp_path, objective=objective)
        for objective in (ObjectiveConfig(), ObjectiveConfig(**{term: 1.0}))  # type: ignore[arg-type]
    )
    head = step_peak(tmp_path, model={"n": 2, "extra_layers": 1})
    assert own - none < 1.05 * (head - none)


PAPER = TrainConfig(model=size("6.7B", vocab=32_000, context=4096), batch=2048, micro=1, tokens=1e9)


def test_the_papers_largest_runs_fit_on_its_gpus() -> None:
    assert needed(PAPER, "bf16", 64) < 70e9
    large = dataclasses.replace(PAPER, model=size("13B", vocab=32_000, context=4096))
    assert needed(dataclasses.replace(large, recompute=1), "bf16", 64) < 70e9
    with pytest.raises(BadInput, match=r"13,\d+,\d+,\d+ parameters; .* it fits on \d+ devices"):
        check_memory(large, "bf16", 1, 80e9, "cuda")


def test_replicas_cost_memory_and_shards_save_it() -> None:
    by_shards = [
        needed(dataclasses.replace(PAPER, shard=shard), "bf16", 64) for shard in (8, 16, 64)
    ]
    assert by_shards == sorted(by_shards, reverse=True)


def test_a_run_that_cannot_fit_is_told_what_would() -> None:
    wide = dataclasses.replace(PAPER, micro=8)
    with pytest.raises(BadInput) as error:
        check_memory(wide, "bf16", 64, 80e9, "cuda")
    told = str(error.value)
    assert "activations" in told and "80.0 GB" in told and "\n" not in told
    assert "with micro=2 it fits" in told
    check_memory(dataclasses.replace(wide, micro=2), "bf16", 64, 80e9, "cuda")
    deep = dataclasses.replace(PAPER, model=size("6.7B", vocab=32_000, context=32_768))
    with pytest.raises(BadInput, match="with recompute=1 it fits"):
        check_memory(deep, "bf16", 64, 80e9, "cuda")
    check_memory(dataclasses.replace(deep, recompute=1), "bf16", 64, 80e9, "cuda")
    huge = dataclasses.replace(
        PAPER, model=ModelConfig(dim=2**15, attn_heads=64, layers=4, context=2**24)
    )
    with pytest.raises(BadInput, match="no number of devices"):
        check_memory(huge, "bf16", 64, 80e9, "cuda")


def test_gradients_stay_whole_where_memory_allows() -> None:
    small = configured(batch=64, micro=4)
    assert whole_gradients_fit(small, "bf16", 2, 80e9, "cuda")
    assert not whole_gradients_fit(small, "bf16", 1, 80e9, "cuda"), "nothing is reduced"
    assert not whole_gradients_fit(configured(batch=8, micro=4), "bf16", 2, 80e9, "cuda")
    assert whole_gradients_fit(PAPER, "bf16", 64, 80e9, "cuda")
    large = dataclasses.replace(PAPER, model=size("13B", vocab=32_000, context=4096))
    assert not whole_gradients_fit(large, "bf16", 64, 80e9, "cuda")
