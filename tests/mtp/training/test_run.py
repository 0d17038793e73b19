"""A run's folder: who may train in it, and with which config it continues."""

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mtp.checkpoint import run_config
from mtp.config import TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.errors import BadInput
from mtp.overrides import from_dict, to_json
from mtp.training import run as running
from mtp.training.executions import executions
from mtp.training.run import train
from mtp.training.signals import Interrupted
from mtp.training.trainer import Trainer
from tests.conftest import newest_step
from tests.mtp.training.helpers import (
    Make,
    after,
    assert_same_run,
    command,
    fails,
    final_weights,
    rows,
    status,
)


def test_a_finished_run_is_left_alone(make_config: Make, data: Path, tmp_path: Path) -> None:
    config, folder = make_config(tokens=5 * 4 * 32, log_every=0), tmp_path / "run"
    train(config, folder, data)
    (row,) = rows(folder)  # log_every=0: only the last step
    assert row["step"] == 5
    before = {path: path.stat().st_mtime_ns for path in (folder / "checkpoint").rglob("*")}
    train(config, folder, data)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "checkpoint").rglob("*")}
    assert rows(folder) == [row] and status(folder)["state"] == "finished"
    assert json.loads((folder / "config.json").read_text()) == json.loads(to_json(config))


def test_one_process_at_a_time(
    make_config: Make,
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, folder = make_config(tokens=1e9), tmp_path / "run"
    process = processes.Process(target=train, args=(config, folder, data))
    process.start()
    begun = after(0, folder)
    while not begun():
        assert process.is_alive()
        time.sleep(0.001)
    line = fails(capsys, monkeypatch, *command(config, folder, data)[3:])
    process.kill()
    process.join()
    assert line == f"error: another process is training in {folder}"


# --------------------------------------------------------------------------------------------------
# continuing with another config


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Send the next run SIGTERM while it trains the step after this one."""
    step = Trainer.train_step

    def stop(at: int) -> None:
        def stopping(self: Trainer) -> Any:
            if self.step == at:
                os.kill(os.getpid(), signal.SIGTERM)
                monkeypatch.setattr(Trainer, "train_step", step)
            return step(self)

        monkeypatch.setattr(Trainer, "train_step", stopping)

    return stop


@pytest.fixture(scope="module")
def whole(
    make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Callable[..., TrainConfig], Path]:
    """A config of 20 steps, which keywords change, and its run without a break."""

    def make(**changes: Any) -> TrainConfig:
        base = {"tokens": 20 * 4 * 32, "log_every": 1, "attention": "sdpa"}
        return make_config(**(base | changes))

    folder = tmp_path_factory.mktemp("whole") / "run"
    train(make(), folder, data)
    return make, folder


@pytest.mark.parametrize(
    ("changes", "exact"),
    [
        ({"log_every": 1, "save_every": 3, "eval_every": 10}, True),
        ({"micro": 2, "scheme": "sequential", "attention": "matmul", "save_every": 5}, False),
        ({"micro": 1, "scheme": "plain"}, False),
    ],
    ids=["logging and saving", "micro, scheme and attention", "micro and scheme"],
)
def test_how_a_run_is_executed_may_change_while_it_trains(
    changes: dict[str, Any],
    exact: bool,
    whole: tuple[Callable[..., TrainConfig], Path],
    stop_at: Callable[[int], None],
    data: Path,
    tmp_path: Path,
) -> None:
    (make, reference), folder = whole, tmp_path / "run"
    stop_at(6)
    with pytest.raises(Interrupted):
        train(make(), folder, data)
    (used,) = executions(folder)
    assert (used["micro"], used["attention"], used["from_step"]) == (0, "sdpa", 0)
    train(make(**changes), folder, data)
    assert run_config(folder) == make(**changes)
    first, used = executions(folder)
    assert first["from_step"] == 0 and first["log_every"] == make().log_every
    assert used["from_step"] == 7 and used["device"] and used["ranks"] == 1
    assert {name: used[name] for name in changes} == changes
    got, want = final_weights(folder), final_weights(reference)
    for name, weight in want.items():
        torch.testing.assert_close(
            got[name], weight, rtol=0 if exact else 1e-3, atol=0 if exact else 1e-4
        )
    train(make(), folder, data)  # finished: back to the first config, and nothing is trained
    assert run_config(folder) == make() and executions(folder) == [first, used]
    if exact:
        (folder / "metrics.jsonl").write_bytes((reference / "metrics.jsonl").read_bytes())
        assert_same_run(folder, reference)


def test_the_mean_loss_is_right_when_log_every_changes(
    whole: tuple[Callable[..., TrainConfig], Path],
    stop_at: Callable[[int], None],
    data: Path,
    tmp_path: Path,
) -> None:
    """Steps 5 and 6 are trained before the break and logged after it."""
    (make, reference), folder = whole, tmp_path / "run"
    stop_at(5)
    with pytest.raises(Interrupted):
        train(make(log_every=4), folder, data)
    assert newest_step(folder / "checkpoint") == 6
    train(make(log_every=9), folder, data)
    each = torch.tensor([row["loss"] for row in rows(reference)], dtype=torch.float64)
    found = {row["step"]: row["loss"] for row in rows(folder)}
    spans = {4: each[:4], 9: each[4:9], 18: each[9:18], 20: each[18:]}
    assert list(found) == list(spans)
    for step, losses in spans.items():
        assert found[step] == pytest.approx(losses.mean(0).tolist(), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.1}, "lr 0.003 -> 0.1"),
        ({"seed": 5}, "seed 0 -> 5"),
        ({"model": {"n": 1}}, "model.n 2 -> 1"),
        ({"keep_every": 3}, "keep_every 0 -> 3"),
        ({"precision": "bf16"}, "precision float32 -> bf16"),
        ({"data": {"validation": 0.2}}, "data.validation 0.1 -> 0.2"),
    ],
)
def test_what_defines_the_result_may_not_change(
    changes: dict[str, Any],
    message: str,
    whole: tuple[Callable[..., TrainConfig], Path],
    data: Path,
) -> None:
    make, folder = whole
    before = (folder / "config.json").read_bytes()
    with pytest.raises(BadInput) as error:
        train(make(micro=2, log_every=7, **changes), folder, data)
    assert f"another config ({message}); choose another folder" in str(error.value)
    assert (folder / "config.json").read_bytes() == before


def test_a_refused_continuation_changes_no_file(
    make_config: Make,
    data: Path,
    stop_at: Callable[[int], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tokens=4 * 4 * 32, eval_every=0)
    stop_at(2)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", data)

    def without_validation(*args: Any, **options: Any) -> Corpus:
        corpus = build(*args, **options)
        corpus.validation = SimpleNamespace(tokens=0)  # pyright: ignore
        return corpus

    monkeypatch.setattr(running, "build", without_validation)
    before = {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}
    with pytest.raises(BadInput, match="no validation documents"):
        train(dataclasses.replace(config, eval_every=7, micro=2), tmp_path / "run", data)
    assert before == {f: f.read_bytes() for f in (tmp_path / "run").rglob("*") if f.is_file()}


def test_a_run_that_was_refused_does_not_hold_its_folder(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    small = make_config(tokens=4 * 32, model={"vocab": 100})
    with pytest.raises(BadInput, match=r"model.vocab 100 is smaller"):
        train(small, tmp_path / "run", data)
    assert not list((tmp_path / "run").glob("[!.]*"))
    (tmp_path / "a.txt").write_text("another text\n" * 99)
    other = {"source": f"files:{tmp_path / 'a.txt'}", "validation": 0}
    train(make_config(tokens=4 * 32, data=other), tmp_path / "run", data)
    assert status(tmp_path / "run")["state"] == "finished"


def test_a_config_from_before_a_field_was_there_is_the_same_run(
    whole: tuple[Callable[..., TrainConfig], Path], data: Path
) -> None:
    make, folder = whole
    values = json.loads((folder / "config.json").read_text())
    del values["keep_every"], values["model"]["rope_scaling"], values["scheme"]
    assert from_dict(TrainConfig, values) == make()
    (folder / "config.json").write_text(json.dumps(values))
    train(make(), folder, data)
    assert status(folder)["state"] == "finished"
