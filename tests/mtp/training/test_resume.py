"""Stopping and continuing: no kill, signal or mistake costs a run more than time."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from mtp.config import TrainConfig
from mtp.training.run import train
from mtp.training.signals import Interrupted
from mtp.training.trainer import Trainer
from tests.conftest import newest_step
from tests.mtp.helpers import start_command
from tests.mtp.training.helpers import Make, after, assert_same_run, command, rows, status

# --------------------------------------------------------------------------------------------------
# killed


LONG = {"tokens": 90 * 4 * 32, "save_every": 3, "log_every": 2, "eval_every": 30}


@pytest.fixture(scope="module")
def uninterrupted(
    make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A config and its run of 90 steps in one go."""
    config, folder = make_config(**LONG), tmp_path_factory.mktemp("whole") / "run"
    train(config, folder, data)
    assert [row["step"] for row in rows(folder) if "loss" in row] == list(range(2, 91, 2))
    assert [row["step"] for row in rows(folder) if "validation_loss" in row] == [30, 60, 90]
    return config, folder


def kill_when(pid: int, moment: Callable[[], bool], alive: Callable[[], bool]) -> bool:
    """Send SIGKILL as soon as `moment` is true; returns False if the process ended before."""
    while alive():
        if moment():
            os.kill(pid, signal.SIGKILL)
            return True
        time.sleep(0.0002)
    return False


def halves(folder: Path) -> set[tuple[str, int]]:
    """The folders of unfinished saves, by inode, so that an old one is not taken for a new one."""
    found = os.scandir(folder / "checkpoint") if (folder / "checkpoint").exists() else ()
    return {(entry.name, entry.inode()) for entry in found if entry.name.startswith(".half-")}


def in_a_save(folder: Path) -> Callable[[], bool]:
    """Whether a save is being written that began after this call."""
    before = halves(folder)
    return lambda: bool(halves(folder) - before)


def test_killed_at_many_moments_it_ends_with_the_same_weights(
    uninterrupted: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    config, reference = uninterrupted
    rng, folder = random.Random(0), tmp_path / "run"
    kills = torn_saves = 0
    for attempt in range(100):
        in_save, at_random = in_a_save(folder), after(rng.uniform(0, 0.15), folder)
        process = processes.Process(target=train, args=(config, folder, data))
        process.start()
        assert process.pid
        if attempt < 14:
            moment = in_save if attempt % 3 == 2 else at_random
            kills += kill_when(process.pid, moment, process.is_alive)
        process.join()
        torn_saves += in_save()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert kills >= 8 and torn_saves >= 2, (kills, torn_saves)
    assert_same_run(folder, reference)
    assert not halves(folder)


def test_the_command_line_killed_twice_ends_with_the_same_weights(
    uninterrupted: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    config, reference = uninterrupted
    folder, arguments = tmp_path / "run", command(config, tmp_path / "run", data)[3:]
    for moment in (in_a_save(folder), after(0.1, folder), None):
        process = start_command(processes, "mtp.train", arguments, os.devnull, tmp_path / "stderr")
        assert process.pid
        if moment:
            assert kill_when(process.pid, moment, process.is_alive)
        process.join()
        assert process.exitcode == (-signal.SIGKILL if moment else 0)
    assert_same_run(folder, reference)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    uninterrupted: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config, reference = uninterrupted
    folder = tmp_path / "run"
    process = processes.Process(target=train, args=(config, folder, data))
    process.start()
    assert process.pid
    two_saved = lambda: newest_step(folder / "checkpoint") >= 9  # noqa: E731
    assert kill_when(process.pid, two_saved, process.is_alive)
    process.join()
    newest = sorted((folder / "checkpoint").glob("step-*"))[-1]
    os.truncate(newest / "optimizer.safetensors", 100)
    train(config, folder, data)
    assert (
        f"{newest / 'optimizer.safetensors'} is missing, torn or altered" in capfd.readouterr().err
    )
    assert_same_run(folder, reference)


# --------------------------------------------------------------------------------------------------
# asked to stop


@pytest.fixture(scope="module")
def unasked(
    make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A config without periodic saves and its run of 60 steps in one go."""
    config, folder = make_config(tokens=60 * 4 * 32), tmp_path_factory.mktemp("unasked") / "run"
    train(config, folder, data)
    assert newest_step(folder / "checkpoint") == 60
    return config, folder


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_and_the_run_continues(
    signum: signal.Signals,
    unasked: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process: the signal arrives in the middle of step 7."""
    config, reference = unasked
    folder, step = tmp_path / "run", Trainer.train_step
    handlers = signal.getsignal(signum)

    def interrupted_step(self: Trainer) -> Any:
        if self.step == 6:
            os.kill(os.getpid(), signum)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted_step)
        with pytest.raises(Interrupted) as stopped:
            train(config, folder, data)
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) == handlers
    assert newest_step(folder / "checkpoint") == 7
    message = status(folder)
    assert (message["state"], message["step"], message["steps"]) == ("interrupted", 7, 60)
    train(config, folder, data)
    assert_same_run(folder, reference)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_reports_a_stop_in_one_line(
    signum: signal.Signals,
    unasked: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    """SIGTERM goes to a real `python -m mtp.train`, SIGINT to a forked one."""
    config, reference = unasked
    folder, err, run = (
        tmp_path / "run",
        tmp_path / "stderr",
        command(config, tmp_path / "run", data),
    )
    begun = after(0, folder)
    if signum == signal.SIGTERM:
        with err.open("w") as stream, subprocess.Popen(run, stderr=stream) as process:
            while not begun():
                assert process.poll() is None
                time.sleep(0.001)
            process.send_signal(signum)
        code = process.returncode
    else:
        process = start_command(processes, "mtp.train", run[3:], os.devnull, err)
        while not begun():
            assert process.is_alive()
            time.sleep(0.001)
        assert process.pid
        os.kill(process.pid, signum)
        process.join()
        code = process.exitcode
    lines = err.read_text().splitlines()
    assert code == 128 + signum
    assert lines[-1] == f"interrupted by {signum.name}; saved; the same command continues"
    assert lines[0].startswith("engine: ") and all(x.startswith("step ") for x in lines[1:-1])
    assert newest_step(folder / "checkpoint") < 60
    again = start_command(processes, "mtp.train", run[3:], os.devnull, tmp_path / "again")
    again.join()
    assert again.exitcode == 0 and "Traceback" not in (tmp_path / "again").read_text()
    assert_same_run(folder, reference)
