"""Runs with further terms: they continue bit for bit, on several processes too, and their own
weights stay out of what is evaluated."""

import dataclasses
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtp import checkpoint
from mtp.config import TrainConfig
from mtp.model import loading
from mtp.model.model import AUXILIARY, initial_weight
from mtp.training.finetune import override_from_start
from mtp.training.run import train
from mtp.training.sinks import flat
from tests.mtp.training.helpers import (
    Make,
    Runs,
    assert_same_run,
    final_weights,
    on_ranks,
    rows,
    trainer,
)

WEIGHTS = {"order": 0.1, "bag": 0.01, "latent": 0.5, "embedding": 0.5}
ALL: dict[str, Any] = WEIGHTS | {"latent_steps": 2}
CONTRAST: dict[str, Any] = {"embedding": 0.5, "embedding_loss": "infonce"}


def six_steps(make_config: Make, **changes: Any) -> TrainConfig:
    values = {"tokens": 6 * 4 * 32, "log_every": 2, "save_every": 3, "objective": ALL}
    return make_config(**values | changes)


@pytest.fixture(scope="module")
def whole(make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all terms that has ended."""
    folder = tmp_path_factory.mktemp("terms") / "whole"
    train(six_steps(make_config, keep_every=3), folder, data)
    return folder


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_with_terms_continues_bit_for_bit(
    precision: str, whole: Path, make_config: Make, data: Path, tmp_path: Path
) -> None:
    """Step 3, where it stops, is between two rows."""
    config = six_steps(make_config, keep_every=3, precision=precision)
    if precision != "float32":
        whole = tmp_path / "whole"
        train(config, whole, data)
    shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "step-00000006")
    train(config, tmp_path / "run", data)
    assert_same_run(tmp_path / "run", whole)


def test_rows_have_the_terms_and_whether_they_collapse(whole: Path) -> None:
    for row in rows(whole):
        assert row["terms"].keys() == WEIGHTS.keys()
        assert all(0 < x < 300 for x in row["terms"].values()) and len(row["loss"]) == 2
        assert row["collapse"].keys() == {"latent", "embedding"}
        assert all(1 < x["effective_rank"] <= 32 for x in row["collapse"].values())
    assert rows(whole)[-1]["terms"]["order"] < rows(whole)[0]["terms"]["order"]
    assert flat(rows(whole)[0])["collapse/latent/variance"] > 0


def test_train_step_gives_the_heads_losses(make_config: Make, data: Path, tmp_path: Path) -> None:
    run = trainer(six_steps(make_config), tmp_path, data)
    losses, norm, _ = run.train_step()
    assert losses.shape == (2,) and run.objective.terms.losses.shape == (4,)
    assert norm.isfinite() and run.objective.total_weight == pytest.approx(2 + 1.11)


@pytest.mark.parametrize("precision", ["autocast", "bf16"])
def test_terms_in_low_precision_track_float32(
    precision: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    found = []
    for each in ("float32", precision):
        config = six_steps(make_config, precision=each, objective=ALL)
        run = trainer(config, tmp_path / each, data)
        losses = [run.train_step()[0] * 0 + run.objective.terms.losses[:2] for _ in range(4)]
        found.append(torch.stack([*losses, run.objective.terms.losses[2:]]))
    torch.testing.assert_close(found[1], found[0], rtol=0.05, atol=0.02)


def test_the_model_of_a_run_has_no_weights_of_terms(
    whole: Path, make_config: Make, data: Path, tmp_path: Path
) -> None:
    saved = checkpoint.newest_of(whole).weights()
    own = {name for name in saved if name.startswith(AUXILIARY)}
    assert {name.split(".")[1] for name in own} == WEIGHTS.keys()
    assert {f"exp_avg.{name}" for name in own} <= final_weights(whole).keys()
    model = loading.load_model(whole)
    assert {name for name, _ in model.named_parameters()} == saved.keys() - own
    kept = loading.load_kept(whole, 6, model.config)
    for name, weight in kept.named_parameters():
        assert torch.equal(weight, saved[name])
    assert load_file(checkpoint.kept_file(whole, 6)).keys() == saved.keys() - own


def test_terms_change_no_draw_of_the_model(make_config: Make, data: Path, tmp_path: Path) -> None:
    drawn = {}
    for name, objective in {"with": ALL, "without": {}, "one": {"order": 1.0}}.items():
        run = trainer(six_steps(make_config, objective=objective), tmp_path / name, data)
        drawn[name] = {n: w.detach() for n, w in run.trainable.weights().items()}
    for name in ("without", "one"):
        assert all(torch.equal(drawn["with"][n], w) for n, w in drawn[name].items())
    order = f"{AUXILIARY}order.unembedding.weight"
    config = six_steps(make_config)
    expected = initial_weight(config.model, order, drawn["one"][order].shape, config.seed)
    assert torch.equal(drawn["one"][order], expected)


def test_finetuning_may_begin_and_end_with_terms(
    whole: Path, make_config: Make, data: Path, tmp_path: Path
) -> None:
    """The terms' weights begin anew; the model's are the start's."""
    start = shutil.copytree(whole, tmp_path / "start")
    for name, objective in (("more", ALL), ("less", {})):
        config = override_from_start(
            six_steps(make_config, objective=objective), [f"init={start}"], tmp_path / name
        )
        config = dataclasses.replace(config, init=str(start))
        run = trainer(config, tmp_path / name, data)
        weights, saved = run.trainable.weights(), checkpoint.newest_of(start).weights()
        for weight_name, weight in weights.items():
            same = torch.equal(weight, saved[weight_name])
            assert same == (not weight_name.startswith(AUXILIARY)), weight_name
        train(config, tmp_path / name, data)
        assert len(rows(tmp_path / name)[-1].get("terms", {})) == len(config.objective.terms)


def test_two_processes_train_terms_as_one_does(
    make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    """With accumulation, sharded weights and a checkpoint that one process reads."""
    todo: Runs = []
    for name, objective in {"all": ALL, "contrast": CONTRAST}.items():
        config = six_steps(make_config, objective=objective, clip=0.5, micro=1, log_every=1)
        train(config, tmp_path / name, data)
        todo.append((config, tmp_path / f"{name}-two"))
    assert on_ranks(processes, 2, todo, data) == [0, 0]
    for config, folder in todo:
        reference = tmp_path / folder.name.removesuffix("-two")
        for a, b in zip(rows(folder), rows(reference), strict=True):
            for key in ("loss", "terms", "grad_norm"):
                assert a[key] == pytest.approx(b[key], rel=1e-4), key
        got, want = final_weights(folder), final_weights(reference)
        torch.testing.assert_close(got, want, rtol=0.01, atol=1e-3)
        loaded = loading.load_model(folder)
        assert not any(name.startswith(AUXILIARY) for name, _ in loaded.named_parameters())
        assert loaded.config == config.model
