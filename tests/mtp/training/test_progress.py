"""What a run reports while it trains."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtp.training import clock, progress
from mtp.training.clock import Clock
from mtp.training.progress import Progress, read_status
from mtp.training.run import train
from mtp.training.schedule import learning_rate
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import Make, rows

FIELDS = {
    "step",
    "tokens",
    "loss",
    "lr",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_mb",
    "eta_seconds",
}


def test_the_log_has_every_field_and_the_loss_falls(
    make_config: Make, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, folder = make_config(tokens=80 * 4 * 32, log_every=8, lr=1e-2), tmp_path / "run"
    train(config, folder, data)
    found = rows(folder)
    assert [row["step"] for row in found] == list(range(8, 81, 8))
    for row in found:
        assert row.keys() == FIELDS  # no MFU: a CPU's peak is not known
        assert row["tokens"] == row["step"] * 4 * 32 and len(row["loss"]) == 2
        assert row["tokens_per_second"] > 0 and row["peak_memory_mb"] > 50
        assert row["eta_seconds"] >= 0 and row["grad_norm"] > 0
        assert row["lr"] == learning_rate(config, row["step"] - 1, 80)
    assert all(
        last < 0.6 * first for first, last in zip(found[0]["loss"], found[-1]["loss"], strict=True)
    )
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert 2 <= len(lines) <= 10 and lines[0].startswith("step 8/80")
    for part in ("step 80/80", "loss per head", "lr", "grad norm", "tokens/s", "MB", "ETA 0 s"):
        assert part in lines[-1]


# --------------------------------------------------------------------------------------------------
# the clock


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(progress, "time", fake)
    monkeypatch.setattr(clock, "time", fake)
    return fake


def test_the_clock_counts_steps_alone(fake: FakeTime) -> None:
    """It leaves out the first step, validation and saving, before and after a lap."""
    clock = Clock()
    fake.now += 100  # the first step compiles
    clock.step_done(7)
    assert clock.lap(7) is None and clock.mean(7) is None
    with clock.paused():
        fake.now += 50
    for step in (8, 9, 10):
        fake.now += 2
        clock.step_done(step)
    assert clock.lap(10) == pytest.approx(2) and clock.mean(10) == pytest.approx(2)
    with clock.paused():
        fake.now += 70
    fake.now += 5
    clock.step_done(11)
    assert clock.lap(11) == pytest.approx(5)
    assert clock.mean(11) == pytest.approx((3 * 2 + 5) / 4)
    assert clock.lap(11) is None  # no step since


def test_speed_and_eta_leave_out_validation_saving_and_the_first_step(
    make_config: Make,
    data: Path,
    tmp_path: Path,
    fake: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tokens=12 * 4 * 32, log_every=3, eval_every=2, save_every=2)
    costs = {"train_step": 0.5, "validate": 30.0, "save": 60.0}

    def costing(name: str) -> Callable[[Trainer], Any]:
        method = getattr(Trainer, name)

        def call(self: Trainer) -> Any:
            slow = name == "train_step" and self.step == 0
            fake.now += 100 if slow else costs[name]
            return method(self)

        return call

    for name in costs:
        monkeypatch.setattr(Trainer, name, costing(name))
    train(config, tmp_path / "run", data)
    logged = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in logged] == [3, 6, 9, 12]
    for row in logged:
        assert row["tokens_per_second"] == pytest.approx(4 * 32 / 0.5)
        assert row["eta_seconds"] == pytest.approx(0.5 * (12 - row["step"]))


def test_a_log_has_a_line_every_two_seconds_and_the_last(
    tmp_path: Path, fake: FakeTime, capfd: pytest.CaptureFixture[str]
) -> None:
    report = Progress(tmp_path, 0, 10)
    row = {"loss": [1.0], "lr": 1.0, "grad_norm": 1.0, "peak_memory_mb": 1.0}
    for step in range(1, 11):
        report.log(row | {"step": step})
        fake.now += 0.8
    shown = [line.split()[1] for line in capfd.readouterr().err.splitlines()]
    assert shown == ["1/10", "4/10", "7/10", "10/10"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 10  # there, every one


# --------------------------------------------------------------------------------------------------
# the log of a run that continues


def test_rows_after_the_last_checkpoint_and_torn_ones_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in (2, 4, 6)]
    file.write_text("".join(lines) + '{"step": 8, "lo')
    Progress(tmp_path, 4, 10)
    assert file.read_text() == "".join(lines[:2])
    Progress(tmp_path, 4, 10, quiet=True)  # another rank touches nothing
    assert file.read_text() == "".join(lines[:2])
    Progress(tmp_path, 0, 10)
    assert file.read_text() == ""


def test_status_says_how_far_the_run_is(tmp_path: Path, fake: FakeTime) -> None:
    assert read_status(tmp_path) == {}
    report = Progress(tmp_path, 4, 10)
    first = read_status(tmp_path)
    assert (first["state"], first["step"], first["steps"]) == ("running", 4, 10)
    assert first["eta_seconds"] is None
    report.tick(5)  # at once: not written
    assert read_status(tmp_path)["step"] == 4
    report.clock.step_done(5)
    fake.now += 3
    report.tick(6)
    assert (read_status(tmp_path)["step"], read_status(tmp_path)["eta_seconds"]) == (6, 12)
    report.finish("interrupted")
    assert read_status(tmp_path)["state"] == "interrupted"
    (tmp_path / "status.json").write_text("{")
    assert read_status(tmp_path) == {}
