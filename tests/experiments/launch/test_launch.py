"""Launchers: runs that are killed, interrupted, started twice or that fail, for real; and slots."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from evals.probes import agreement
from experiments import jobs, results
from experiments.jobs import read_status
from experiments.launch import local
from experiments.launch.base import Job
from experiments.launch.debug import Debug
from experiments.launch.launchers import launch
from experiments.launch.local import Local, side_by_side
from experiments.launch.slurm import Slurm
from experiments.launch.slurm_options import SlurmOptions, slurm_options
from experiments.launch.squeue import Queue
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.overrides import to_json
from tests.conftest import Cli, newest_step
from tests.experiments.launch.helpers import (
    Started,
    folders,
    steps_logged,
    wait_for_step,
    wait_until,
)

# Runs of `sweep-n`, each of some seconds: two of them, or one.
LONG = ["--set=tokens=19_200", "--set=save_every=30", "--set=log_every=1"]  # 150 steps
LONG += ["--set=precision=float32", "--set=compile=off"]
ONE = [*LONG, "--set=model.n=2"]
TWO = [*LONG, "--set=model.head=parallel", "--set=model.extra_layers=0"]  # of sweep-heads


# --------------------------------------------------------------------------------------------------
# for real


def test_a_run_whose_parent_is_killed_goes_on_is_not_started_twice_and_survives_its_own_death(
    cli: Cli, start: Callable[..., Started], small: list[str]
) -> None:
    args = ("sweep-n", "--scale", "smoke", *small, *ONE)
    parent = start("sweep-n", *small, *ONE)
    wait_for_step(step=40)  # a checkpoint lies behind it
    parent.process.kill()
    parent.process.join()
    (folder,) = folders()
    pid = int(str(read_status(folder)["pid"]))
    assert f"running in process {pid}, step" in cli("status", *args).out

    again = cli("run", *args)
    assert again.code == 0 and f"{folder.name}, n=2: already under way" in again.out
    assert read_status(folder)["pid"] == pid and "to run by" not in again.out

    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "killed; will continue, step" in cli("status", *args).out)
    before = newest_step(folder / "checkpoint")
    last = cli("run", *args, "--launcher", "debug")
    assert last.code == 0 and "1 run, 0 finished" in last.out
    assert "1 run: 1 finished" in cli("status", *args).out
    steps = steps_logged(folder)
    assert steps == list(range(1, steps[-1] + 1)) and 0 < before < steps[-1]


def test_a_run_killed_under_its_parent_is_a_failed_run_until_it_is_retried(
    cli: Cli, start: Callable[..., Started], small: list[str]
) -> None:
    args = ("sweep-n", "--scale", "smoke", *small, *ONE)
    parent = start("sweep-n", *small, *ONE)
    wait_for_step()
    (folder,) = folders()
    os.kill(int(str(read_status(folder)["pid"])), signal.SIGKILL)
    code, _, err = parent.end()
    assert (
        code == 2
        and f"{folder.name}, n=2: FAILED at step" in err
        and "died without a message" in err
    )
    log = Path(err.split("; see ")[1].split("\n")[0])
    assert "engine:" in log.read_text()
    assert "FAILED at step" in cli("status", *args).out

    held_back = cli("run", *args, "--launcher", "debug")
    assert held_back.code == 2 and "run again with --retry" in held_back.err
    retried = cli("run", *args, "--launcher", "debug", "--retry")
    assert retried.code == 0 and read_status(folder)["state"] == "finished"


def test_ctrl_c_saves_every_run_and_the_same_command_goes_on(
    cli: Cli, start: Callable[..., Started], small: list[str]
) -> None:
    args = ("sweep-heads", "--scale", "smoke", *small, *TWO)
    both = len(os.sched_getaffinity(0)) > 1
    parent = start("sweep-heads", *small, *TWO)
    wait_for_step(2) if both else wait_until(lambda: folders() and steps_logged(folders()[0]))
    os.killpg(parent.pid, signal.SIGINT)  # as the terminal does: parent and children
    code, out, err = parent.end()
    assert code == 130 and "saved; the same command continues" in err
    assert "Traceback" not in out + err
    for folder in folders() if both else []:
        status = read_status(folder)
        assert status["state"] == "interrupted"
        assert newest_step(folder / "checkpoint") == status["step"]
    last = cli("run", *args, "--launcher", "debug")
    assert last.code == 0 and cli("status", *args).out.count("  finished\n") == 2


def test_two_commands_at_once_train_a_run_once(
    cli: Cli, start: Callable[..., Started], small: list[str]
) -> None:
    ends = [each.end() for each in [start("sweep-n", *small, *ONE) for _ in range(2)]]
    (folder,) = folders()
    assert sorted(code or 0 for code, _, _ in ends) in ([0, 0], [0, 2])
    for code, _, err in ends:
        assert "Traceback" not in err and "FAILED" not in err
        assert code == 0 or "1 run not finished; the same command continues" in err
    steps = steps_logged(folder)
    assert steps == list(range(1, steps[-1] + 1)) and read_status(folder)["state"] == "finished"


def test_a_failed_run_is_listed_and_left_until_it_is_retried_and_the_others_finish(
    cli: Cli, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("sweep-n", "--scale", "smoke", "--launcher", "debug", *small)
    calls, real = [], agreement.measure

    def broken(model: Any, *given: Any) -> Any:
        calls.append(model.config.n)
        if model.config.n == 2:
            raise RuntimeError("no luck\ntoday")
        return real(model, *given)

    monkeypatch.setattr(agreement, "measure", broken)
    first = cli("run", *args)
    lines = first.err.splitlines()
    assert first.code == 2 and lines[-1].startswith("error: 1 run failed") and calls[1] == 2
    assert lines[-2].startswith("parallel-n2-s0-") and lines[-2].endswith(
        "RuntimeError: no luck today"
    )
    (file,) = Path("results/mine/sweep-n").glob("*.csv")
    assert set(results.read(file).n) == {1, 4, 6, 8}
    (folder,) = Path("runs").glob("parallel-n2-*")
    assert "Traceback" in (folder / "error.txt").read_text()

    calls.clear()
    monkeypatch.setattr(agreement, "measure", real)
    second = cli("run", *args)
    assert second.code == 2 and "no luck" in second.err and read_status(folder)["state"] == "failed"
    assert set(results.read(file).n) == {1, 4, 6, 8}
    monkeypatch.setattr(jobs, "train", None)  # it has been trained
    third = cli("run", *args, "--retry")
    assert third.code == 0 and "5 runs, 4 finished" in third.out and "1 to run" in third.out
    assert set(results.read(file).n) == {1, 2, 4, 6, 8}


def test_a_run_that_cannot_train_names_its_cause(cli: Cli, small: list[str]) -> None:
    args = ("sweep-n", "--scale", "smoke", "--launcher", "debug", *small, "--set", "model.n=1")
    no_validation = ("--set", "data.validation=0", "--set", "eval_every=1")
    result = cli("run", *args, *no_validation)
    assert result.code == 2 and "FAILED at step 0: eval_every is 1, but the corpus" in result.err
    assert not Path("results").exists() and "Traceback" not in result.err


def test_an_evaluation_that_is_killed_is_not_passed_over(
    cli: Cli, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its status says that training finished; the command must not end as if all were well."""
    args = ("sweep-n", "--scale", "smoke", "--launcher", "debug", *small, "--set", "model.n=2")
    monkeypatch.setattr(Debug, "run", lambda self, job: train_only(job))
    result = cli("run", *args)
    assert result.code == 2 and "to be evaluated: likelihood, references" in result.err
    assert "1 run not finished; the same command continues" in result.err


def train_only(job: Job) -> None:
    from mtp.overrides import from_dict
    from mtp.training.run import train

    train(from_dict(TrainConfig, json.loads(job.config)), Path(job.folder), Path(job.data))


# --------------------------------------------------------------------------------------------------
# options and slots


def test_slurm_options_file_then_command_line(tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    assert slurm_options([], file) == SlurmOptions()
    file.write_text('partition = "long"\nhours = 2\ngpus = 4\n')
    assert slurm_options([], file) == SlurmOptions(partition="long", hours=2.0, gpus=4)
    got = slurm_options(["gpus=8", "account=me", "hours=0.5"], file)
    assert got == SlurmOptions(partition="long", account="me", hours=0.5, gpus=8)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"queue = 'x'", ("queue", "partition, account")),
        (b"hours = 'long'", ("hours", "long")),
        (b"gpus = [1]", ("gpus", "[1]")),
        (b"gpus = ", ("cannot be read",)),
        (b"\xff\xfe", ("cannot be read",)),
    ],
)
def test_a_bad_slurm_file_is_named(tmp_path: Path, text: bytes, words: tuple[str, ...]) -> None:
    file = tmp_path / "slurm.toml"
    file.write_bytes(text)
    with pytest.raises(BadInput) as reported:
        slurm_options([], file)
    assert all(word in str(reported.value) for word in ("slurm.toml", *words))


def job_of(config: TrainConfig, name: str = "run") -> Job:
    return Job("sweep-n", "smoke", to_json(config), name, "data")


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"),
    [(2, 10, (2, 1)), (8, 3, (3, 2)), (1, 5, (1, 1)), (4, 1, (1, 4)), (64, 10, (10, 6))],
)
def test_slots_on_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, jobs: int, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(local, "visible_gpus", list)
    monkeypatch.setattr(local, "free_memory", lambda: 1e12)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert side_by_side([job_of(TrainConfig(tokens=1e6))] * jobs, jobs) == expected


@pytest.mark.parametrize(
    ("gpus", "free", "expected"),
    [(1, 80e9, (4, 4)), (1, 12e9, (3, 5)), (2, 12e9, (6, 2)), (8, 1e9, (8, 2)), (8, 80e9, (32, 1))],
)
def test_slots_on_gpus_follow_the_largest_run(
    monkeypatch: pytest.MonkeyPatch, gpus: int, free: float, expected: tuple[int, int]
) -> None:
    monkeypatch.setattr(local, "visible_gpus", lambda: [str(i) for i in range(gpus)])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(local, "free_on", lambda _: free)
    sizes = {"small": 1e9, "large": 3.3e9}
    monkeypatch.setattr(
        local, "run_bytes", lambda c, _: sizes["large" if c.batch == 32 else "small"]
    )
    jobs = [job_of(TrainConfig(tokens=1, batch=b)) for b in (16, 32, 16)]
    assert side_by_side(jobs, len(jobs)) == expected


def test_the_last_run_of_a_study_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "visible_gpus", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(local, "free_memory", lambda: 1e12)
    job = job_of(TrainConfig(tokens=1e6))
    assert side_by_side([job] * 10, 10) == (2, 1) and side_by_side([job], 10) == (1, 1)
    monkeypatch.setattr(local, "run_bytes", lambda *_: 3e9)
    monkeypatch.setattr(local, "free_memory", lambda: 4e9)
    assert side_by_side([job] * 10, 10) == (1, 1)


def test_every_gpu_gets_its_share_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU that is free again is filled again, and only GPUs that this process may use."""
    given: dict[str, str] = {}
    done: set[str] = set()

    class Process:
        paths = SimpleNamespace(stdout="log")

        def __init__(self, job: Job) -> None:
            self.folder = job.folder
            Path(job.folder).mkdir()
            given[job.folder] = job.gpu

        def done(self) -> bool:
            return self.folder in done

    class Executor:
        def __init__(self, folder: Path) -> None: ...
        def update_parameters(self, **_: Any) -> None: ...
        def submit(self, job: Job) -> Process:
            return Process(job)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7b")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (int(9e9), 0))
    monkeypatch.setattr(local, "run_bytes", lambda *_: 4e9)
    monkeypatch.setattr(local.submitit, "LocalExecutor", Executor)
    jobs = [job_of(TrainConfig(tokens=1), str(tmp_path / f"run{i}")) for i in range(6)]
    it = launch("local", jobs, tmp_path / "logs", SlurmOptions(), len(jobs))
    assert isinstance(it, Local)
    assert it.slots == 4
    it.step()
    assert list(given.values()) == ["5", "GPU-7b"] * 2
    done |= {jobs[0].folder, jobs[2].folder}  # both on GPU 5
    it.step()
    assert list(given.values())[4:] == ["5", "5"]


def test_slurm_that_falls_silent_loses_no_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho 'slurm_load_jobs error: down' >&2; exit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Slurm, "submit", lambda *_: None)
    it = Slurm([], tmp_path / "logs", SlurmOptions())
    it.job_ids = {str(tmp_path): ["7_0"]}
    assert it.step() and it.job_ids
    assert "squeue does not answer: slurm_load_jobs error: down" in capsys.readouterr().err
    (tmp_path / "slurm-job").write_text("7_0")
    with pytest.raises(BadInput, match="squeue does not answer"):  # the job may be active
        Queue().has(tmp_path)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho '7_0|REQUEUED'\n")
    assert it.step() and Queue().has(tmp_path)
    (tmp_path / "squeue").write_text("#!/bin/sh\necho '7_0|COMPLETED'\n")
    assert not Queue().has(tmp_path) and not it.step()
    (tmp_path / "squeue").unlink()  # on a machine without Slurm
    assert not Queue().has(tmp_path)
