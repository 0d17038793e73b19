"""Runs that begin with others are started once these have come far enough, with no slot idle."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.launch import base, local
from experiments.launch.base import Job
from experiments.launch.launchers import launch
from experiments.launch.local import Local
from experiments.launch.slurm import Slurm
from experiments.launch.slurm_options import SlurmOptions
from experiments.run import beginnings
from experiments.study import find, plan, run_folder
from mtp.config import TrainConfig
from mtp.overrides import to_json
from mtp.training.executions import executions
from mtp.training.progress import read_status, write_status
from tests.conftest import Cli

STUDY = """
import dataclasses
from matplotlib.figure import Figure
from experiments.evaluations import likelihood
from experiments.study import find

SWEEP = find("sweep-n")
FIRST = dataclasses.replace(SWEEP.runs("smoke")[0], lr_schedule="wsd:0.2", warmup=1)

def runs(scale):
    return [
        dataclasses.replace(FIRST, seed=seed, tokens=128 * steps)
        for seed in (0,) for steps in (20, 5, 10)
    ]

STUDY = dataclasses.replace(
    SWEEP, name="budgets", runs=runs, evaluations={"likelihood": likelihood},
    table=("bits per byte",), figure=lambda rows, paper: Figure(), finding=lambda rows: "",
)
"""


def test_shorter_budgets_run_first_and_the_longer_ones_continue_them(
    cli: Cli, small: list[str], tmp_path: Path
) -> None:
    (tmp_path / "budgets.py").write_text(STUDY)
    command = ("budgets.py", "--scale", "smoke", *small, "--set", "precision=float32")
    lines = cli("plan", *command).out.splitlines()
    flops = [float(re.split(r" {2,}", line)[3]) for line in lines[2:5]]
    assert flops[0] / flops[1] == pytest.approx(12 / 5, rel=0.05)  # 8 of the 20 steps are shared
    assert flops[2] / flops[1] == pytest.approx(6 / 5, rel=0.05)
    assert lines[-2].endswith("(shared steps counted once)") and len(lines[-2]) <= 80
    done = cli("run", *command, "--launcher", "debug")
    assert done.code == 0 and "3 to run by debug" in done.out, done.err
    folders = {read_status(folder)["steps"]: folder for folder in Path("runs").glob("parallel-*")}
    used = [(part.get("run"), part["from_step"]) for part in executions(folders[20])]
    assert used == [(folders[5].name, 0), (folders[10].name, 4), (None, 8)]
    assert "3 runs, 3 finished" in cli("run", *command).out


# --------------------------------------------------------------------------------------------------
# what is ready


def job(name: Path, start: Path | str = "", shorter: Path | str = "") -> Job:
    config = to_json(TrainConfig(tokens=1e6))
    own = Job("s", "smoke", config, str(name), "data")
    return dataclasses.replace(own, start=str(start), shorter=str(shorter))


def come_so_far(run: Path, state: str = "running", stable: bool = False) -> None:
    run.mkdir(exist_ok=True)
    write_status(run, state=state, step=8 + 2 * (state == "finished"), steps=10)
    if stable:
        (run / "stable" / "step-00000008").mkdir(parents=True)


class Processes:
    """What Local starts, until it ends."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started, self.ended = list[str](), set[str]()
        monkeypatch.setattr(local.submitit, "LocalExecutor", lambda folder: self)
        monkeypatch.setattr(local, "side_by_side", lambda jobs, planned: (2, 1))
        monkeypatch.setattr(local, "visible_gpus", list)

    def update_parameters(self, **_: Any) -> None: ...

    def submit(self, job: Job) -> SimpleNamespace:
        name = Path(job.folder).name
        self.started.append(name)
        done: Callable[[], bool] = lambda: name in self.ended  # noqa: E731
        return SimpleNamespace(done=done, paths=SimpleNamespace(stdout="log"))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    yield Processes(monkeypatch)


def test_both_slots_are_busy_and_a_longer_run_begins_when_the_shorter_one_decays(
    processes: Processes, tmp_path: Path
) -> None:
    a, b, c, other = (tmp_path / name for name in ("a", "b", "c", "other"))
    jobs = [job(c, shorter=b), job(b, shorter=a), job(a), job(other)]
    it = launch("local", jobs, tmp_path / "logs", SlurmOptions(), 4)
    assert isinstance(it, Local)
    assert it.step() and processes.started == ["a", "other"]
    come_so_far(other, "finished")
    processes.ended.add("other")
    assert it.step() and processes.started == ["a", "other"], "nothing is ready"
    come_so_far(a, stable=True)  # and still at work
    assert it.step() and processes.started == ["a", "other", "b"]
    come_so_far(a, "finished")
    come_so_far(b, "failed")  # before its decay: the longest trains from the start
    processes.ended |= {"a", "b"}
    assert it.step() and processes.started == ["a", "other", "b", "c"]
    processes.ended.add("c")
    assert not it.step() and not it.waiting


def test_a_run_needs_its_start_trained_at_any_depth(processes: Processes, tmp_path: Path) -> None:
    names = ("a", "b", "c", "d")
    a, b, c, d = (tmp_path / name for name in names)
    it = launch(
        "local", [job(c, start=b), job(b, start=a), job(a), job(d, start=tmp_path / "gone")],
        tmp_path / "logs", SlurmOptions(), 4,
    )  # fmt: skip
    assert it.step() and processes.started == ["a"]
    come_so_far(a, "finished")  # its evaluations go on
    assert it.step() and processes.started == ["a", "b"]
    come_so_far(b, "failed")
    processes.ended |= {"a", "b"}
    assert not it.step() and not it.waiting, "c and d are given up"
    assert processes.started == ["a", "b"]


def test_a_run_at_work_elsewhere_is_waited_for(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {tmp_path / "a"}
    monkeypatch.setattr(base, "is_held", lambda run: run in held)
    jobs = [job(tmp_path / "b", shorter=tmp_path / "a"), job(tmp_path / "c", start=tmp_path / "a")]
    it = launch("local", jobs, tmp_path / "logs", SlurmOptions(), 2)
    assert it.step() and not processes.started
    come_so_far(tmp_path / "a", "finished")
    held.clear()
    assert it.step() and processes.started == ["b", "c"]


def test_a_run_with_steps_of_its_own_waits_for_no_shorter_one(
    processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "b" / "checkpoint" / "step-00000000").mkdir(parents=True)
    jobs = [job(tmp_path / "a"), job(tmp_path / "b", shorter=tmp_path / "a")]
    it = launch("local", jobs, tmp_path / "logs", SlurmOptions(), 2)
    assert it.step() and processes.started == ["a"], "weights of its init are none of its steps"
    (tmp_path / "b" / "checkpoint" / "step-00000004").mkdir(parents=True)
    assert it.step() and processes.started == ["a", "b"]


def test_slurm_gets_a_longer_run_once_the_shorter_one_decays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text("#!/bin/sh\necho '1_0|RUNNING|None'\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    submitted = list[list[str]]()

    def submit(self: Slurm, jobs: list[Job]) -> None:
        submitted.append([Path(job.folder).name for job in jobs])
        self.job_ids |= {job.folder: [f"{len(submitted)}_0"] for job in jobs}

    monkeypatch.setattr(Slurm, "submit", submit)
    a, b = tmp_path / "a", tmp_path / "b"
    it = Slurm([job(b, shorter=a), job(a)], tmp_path / "logs", SlurmOptions())
    assert it.step() and submitted == [["a"]]
    assert it.stop().endswith("; not submitted, since they wait for others: 1")
    come_so_far(a, stable=True)
    assert it.step() and submitted == [["a"], ["b"]] and not it.waiting
    assert it.stop() == "Slurm's jobs continue by themselves"


def test_a_plan_says_which_runs_begin_with_which(tmp_path: Path) -> None:
    configs = [
        dataclasses.replace(plan(find("sweep-n"), "smoke")[0], lr_schedule="wsd:0.2", tokens=tokens)
        for tokens in (4e6, 1e6, 2e6)
    ]
    folders = [str(run_folder(config, tmp_path)) for config in configs]
    found = [begin.get("shorter") for begin in beginnings(configs, tmp_path).values()]
    assert found == [folders[2], None, folders[1]]
