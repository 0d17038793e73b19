"""Runs with weights, schedules, balances and controls: they train, resume bit for bit, and do not
depend on the number of processes."""

import dataclasses
import json
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp import checkpoint
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.hardware import has_compiler
from mtp.model.loading import load_model
from mtp.objective.objective import Objective
from mtp.overrides import config_id, from_dict
from mtp.training import distributed
from mtp.training import trainer as trainers
from mtp.training.run import train
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import Make, assert_same_run, on_ranks, rows, train_in_parts

OBJECTIVES: dict[str, dict[str, Any]] = {
    "ramp": {"weights": "geometric:0.5", "schedule": "ramp:0.2:0.7"},
    "reverse, sum1": {"weights": "sum1", "schedule": "reverse", "detach": True},
    "gradient": {"balance": "gradient", "measure_every": 3},
    "cosine": {"balance": "cosine", "measure_every": 4, "targets": "same"},
    "uncertainty": {"balance": "uncertainty", "targets": "shuffled"},
    "measured": {"measure_every": 5, "token_weights": "tests.mtp.objective.test_objective:trigger"},
}
STEPS = 12


def config_with(make_config: Make, objective: dict[str, Any], **changes: Any) -> TrainConfig:
    own = {"tokens": STEPS * 4 * 32, "log_every": 1, "model": {"n": 3, "layers": 4}}
    return make_config(objective=objective, **own | changes)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_a_cut_run_ends_like_a_whole_one(
    objective: dict[str, Any],
    make_config: Make,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_with(make_config, objective, save_every=2, micro=2, log_every=3)
    train(config, tmp_path / "whole", data)
    train_in_parts(config, tmp_path / "parts", data, 7, monkeypatch)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def logged(folder: Path, name: str) -> list[Any]:
    return [row[name] for row in rows(folder) if name in row]


def test_what_is_logged(make_config: Make, data: Path, tmp_path: Path) -> None:
    own = {"schedule": "ramp:0:0.5", "measure_every": 4, "balance": "gradient"}
    train(config_with(make_config, own), tmp_path / "run", data)
    weights = torch.tensor(logged(tmp_path / "run", "weights"))
    assert weights.shape == (STEPS, 3) and (weights[:, 0] == 1).all()
    assert weights[0].tolist() == [1, 0, 0] and (weights[1:, 1:] > 0).all()
    assert logged(tmp_path / "run", "effective_n")[0] == 1
    norms, cosines = (
        torch.tensor(logged(tmp_path / "run", f"latent_gradient_{kind}"))
        for kind in ("norms", "cosines")
    )
    assert norms.shape == cosines.shape == (STEPS // 4, 3)
    assert (norms > 0).all() and (cosines.abs() <= 1 + 1e-6).all()
    plain = tmp_path / "plain"
    train(config_with(make_config, {}), plain, data)
    assert not logged(plain, "weights") and not logged(plain, "latent_gradient_norms")


@pytest.mark.parametrize("name", ["reverse, sum1", "gradient", "cosine", "uncertainty", "measured"])
def test_two_processes_train_as_one_does(
    name: str, make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config = config_with(make_config, OBJECTIVES[name], micro=2)
    train(dataclasses.replace(config, micro=0), tmp_path / "one", data)
    assert on_ranks(processes, 2, [(config, tmp_path / "two")], data) == [0, 0]
    one, two = (dict(load_model(tmp_path / each).named_parameters()) for each in ("one", "two"))
    for each, weight in one.items():
        torch.testing.assert_close(two[each], weight, rtol=1e-3, atol=1e-4)
    for what in ("weights", "latent_gradient_norms"):
        first, second = (logged(tmp_path / each, what) for each in ("one", "two"))
        torch.testing.assert_close(torch.tensor(first), torch.tensor(second), rtol=1e-3, atol=1e-5)


def test_a_compiled_run_measures_after_its_first_step(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that resumes trains before it measures; the same compiled layers then serve both."""
    if not has_compiler():
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    monkeypatch.setattr(Objective, "measures", lambda self, step: step == 1)
    config = config_with(make_config, OBJECTIVES["gradient"], compile="on")
    train(dataclasses.replace(config, tokens=3 * 4 * 32), tmp_path / "run", data)
    assert logged(tmp_path / "run", "measured_at") == [1]


def test_a_run_that_clipped_in_another_way_is_not_continued(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(make_config, {})
    train(config, tmp_path / "run", data)
    (state,) = (tmp_path / "run" / "checkpoint").glob(f"*{STEPS}/state.json")
    values = json.loads(state.read_text())
    del values["objective"]
    monkeypatch.setattr(checkpoint, "damage", lambda *_: "")
    state.write_text(json.dumps(values))
    with pytest.raises(BadInput, match="clipped its gradient in another way"):
        train(config, tmp_path / "run", data)


def test_pairs_of_sequences_must_not_be_parted(make_config: Make) -> None:
    config = config_with(make_config, {"targets": "shuffled"})
    with pytest.raises(BadInput, match="batch 4 over 4 ranks must be an even number for each"):
        distributed.check_pairs(config, 4)
    distributed.check_pairs(config, 2)


def test_the_objective_defines_the_run(make_config: Make) -> None:
    ids = {config_id(config_with(make_config, own)) for own in ({}, *OBJECTIVES.values())}
    assert len(ids) == 1 + len(OBJECTIVES)
    plain = config_with(make_config, {})
    older = {k: v for k, v in dataclasses.asdict(plain).items() if k != "objective"}
    assert config_id(from_dict(TrainConfig, older)) == config_id(plain)


def test_steps_without_a_weighted_token_are_no_mistake(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a run looks; but that there is none in CHECK_EVERY steps, or at all, is one."""
    for seldom, every in ((3, 100), (10**6, 4), (10**6, 100)):
        own = tmp_path / f"own-{seldom}-{every}.py"
        own.write_text(
            "calls = [0]\n"
            "def f(tokens):\n"
            "    calls[0] += 1\n"
            f"    return 0.0 * tokens + (calls[0] % {seldom} == 0)\n"
        )
        monkeypatch.setattr(trainers, "CHECK_EVERY", every)
        config = config_with(make_config, {"token_weights": f"{own}:f"}, log_every=1)
        folder = tmp_path / f"{seldom}-{every}"
        if seldom == 3:
            train(config, folder, data)
            continue
        with pytest.raises(BadInput, match=r"\.py:f gives no token a factor above 0"):
            train(config, folder, data)
        steps = rows(folder)[-1]["step"] if rows(folder) else 0
        assert (steps < 5) == (every == 4)


def test_a_run_whose_own_function_has_changed_is_not_continued(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.py"
    own.write_text("def f(tokens): return 1.0 + tokens % 3\n")
    config = config_with(make_config, {"token_weights": f"{own}:f"}, save_every=2)
    with pytest.raises(RuntimeError, match="cut off"), monkeypatch.context() as patch:
        patch.setattr(Trainer, "_check_finite", cut_off)
        train(config, tmp_path / "run", data)
    own.write_text("def f(tokens): return 1.0 + tokens % 2\n")
    with pytest.raises(BadInput, match=r"own\.py:f has changed since step \d+; restore the file"):
        train(config, tmp_path / "run", data)


def cut_off(self: Trainer) -> None:
    if self.step == 7:
        self.saver.wait()
        raise RuntimeError("cut off")
