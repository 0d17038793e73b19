"""Metrics in TensorBoard, W&B and trackio, without a network; and a run whose sink fails."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mtp.config import SINKS
from mtp.errors import BadInput
from mtp.overrides import config_id
from mtp.training import sinks
from mtp.training.run import train
from tests.mtp.training.helpers import Make, rows


def needs(package: str) -> None:
    pytest.importorskip(package, reason=f"the {package} extra is not installed")


def test_tensorboard_has_the_rows_of_the_log(make_config: Make, data: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(make_config(tokens=4 * 4 * 32, log_to="tensorboard"), tmp_path / "run", data)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss/head 1", "loss/head 2", "lr", "grad_norm"} <= set(events.Tags()["scalars"])
    expected = [(row["step"], row["loss"][1]) for row in rows(tmp_path / "run")]
    got = [(e.step, e.value) for e in events.Scalars("loss/head 2")]
    assert got == [(step, pytest.approx(value)) for step, value in expected]


def test_wandb_without_a_key_is_written_to_the_runs_folder(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # no .netrc
    train(make_config(tokens=4 * 4 * 32, log_to="wandb"), tmp_path / "run", data)
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert len(rows(tmp_path / "run")) == 2 and b"loss/head 2" in file.read_bytes()


def test_trackio_has_the_rows_of_the_log(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("trackio")
    import sqlite3

    from trackio import sqlite_storage  # pyright: ignore[reportMissingImports]

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    train(make_config(tokens=4 * 4 * 32, log_to="trackio"), tmp_path / "run", data)
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        found = database.execute("select step, metrics from metrics order by step").fetchall()
    assert [step for step, _ in found] == [row["step"] for row in rows(tmp_path / "run")]
    assert all(b"loss/head 2" in bytes(text) for _, text in found)


class Broken:
    """A sink that fails at the step it is told to: 0 at its start, -1 at its end."""

    at = 0

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        assert config["model"]["n"] == 2
        if self.at == 0:
            raise ConnectionError("no route\nto host")

    def log(self, step: int, values: dict[str, float]) -> None:
        if step == self.at:
            raise ConnectionError("no route\nto host")

    def close(self) -> None:
        if self.at < 0:
            raise ConnectionError("no route\nto host")


@pytest.mark.parametrize("at", [0, 2, -1])
def test_a_run_whose_sink_fails_goes_on_and_says_so_once(
    at: int, make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sinks.KINDS, "wandb", Broken)
    monkeypatch.setattr(sinks, "check", lambda names: None)
    monkeypatch.setattr(Broken, "at", at)
    train(make_config(tokens=4 * 4 * 32, log_to="wandb"), tmp_path / "run", data)
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot be reached" in line]
    file = tmp_path / "run" / "metrics.jsonl"
    assert said == [
        "wandb cannot be reached (no route to host); training goes on, and its metrics are in "
        f"{file}"
    ]
    assert len(rows(tmp_path / "run")) == 2


def test_a_missing_package_is_named_before_the_folder_is_claimed(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        BadInput, match=r"log_to=trackio needs .* \.venv/bin/pip install -e '\.\[trackio\]'"
    ):
        train(make_config(log_to="trackio"), tmp_path / "run", data)
    assert not (tmp_path / "run" / "config.json").exists()


def test_sinks_do_not_define_a_run_and_are_known_by_name(make_config: Make) -> None:
    plain = make_config()
    assert config_id(make_config(log_to="tensorboard,wandb")) == config_id(plain)
    assert tuple(sinks.KINDS) == SINKS
    with pytest.raises(BadInput, match="unknown log_to 'mlflow'; choose one of: tensorboard"):
        make_config(log_to="wandb,mlflow")
