"""A study's precision is decided once, and every job carries it."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import results
from experiments import run as running
from experiments.changes import Changes
from experiments.launch import debug
from experiments.launch.base import Job
from experiments.run import study_precision
from experiments.study import find, plan, run_folder
from mtp.errors import BadInput
from mtp.training import engine
from tests.conftest import Cli

CONFIGS = plan(find("sweep-n"), "smoke")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine is found to be good at, changed by tests; each look is recorded."""
    looks: list[str] = []

    def look(device: str) -> tuple[str, str]:
        looks.append(device)
        return "bf16" if len(looks) == 1 else "float32", "pretended"

    monkeypatch.setattr(engine, "auto_precision", look)
    return looks


def begun(folder: Path, **engine: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps([{"from_step": 0} | engine]))


def test_it_is_measured_once_for_all_runs(tmp_path: Path, measured: list[str]) -> None:
    assert study_precision(CONFIGS, tmp_path, "cpu") == "bf16" and len(measured) == 1


def test_runs_that_have_begun_decide(tmp_path: Path, measured: list[str]) -> None:
    begun(run_folder(CONFIGS[3], tmp_path), device="cpu", precision="float32")
    assert study_precision(CONFIGS, tmp_path, "cpu") == "float32" and not measured


def test_runs_on_another_device_do_not(tmp_path: Path, measured: list[str]) -> None:
    begun(run_folder(CONFIGS[0], tmp_path), device="cuda", precision="float32")
    assert study_precision(CONFIGS, tmp_path, "cpu") == "bf16"


def test_a_set_precision_is_not_measured(tmp_path: Path, measured: list[str]) -> None:
    configs = plan(find("sweep-n"), "smoke", Changes(("precision=float32",)))
    assert study_precision(configs, tmp_path, "cpu") == "" and not measured


def test_a_gpu_that_only_the_jobs_see_decides_there(tmp_path: Path, measured: list[str]) -> None:
    assert study_precision(CONFIGS, tmp_path, "cuda") == "" and not measured
    begun(run_folder(CONFIGS[0], tmp_path), device="cuda", precision="bf16")
    assert study_precision(CONFIGS, tmp_path, "cuda") == "bf16"


@pytest.mark.parametrize(("gpus", "device"), [(0, "cpu"), (1, "cuda")])
def test_slurms_jobs_have_the_device_that_they_ask_for(
    gpus: int, device: str, cli: Cli, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def look(configs: object, runs: object, device: str) -> str:
        asked.append(device)
        raise BadInput("far enough")

    monkeypatch.setattr(running, "study_precision", look)
    monkeypatch.setattr(running, "check_launcher", lambda *_: None)
    options = ["--launcher", "slurm", "--slurm", f"gpus={gpus}"]
    assert cli("run", "sweep-n", "--scale", "smoke", *options, *small).code == 2
    assert asked == [device]


def test_a_run_folder_of_another_version_or_config_is_named(
    cli: Cli, small: list[str], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(debug.Debug, "run", lambda self, job: jobs.append(job))
    command = ("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *small)
    cli(*command)
    folder = Path(jobs[0].folder)
    for text, words in (
        (
            '{"tokens": 1, "loss": "fused"}',
            ["config.json is not of this version", "'loss'", "delete"],
        ),
        ('{"tokens": 1}', ["holds a run of another config", "choose another folder"]),
    ):
        (folder / "config.json").write_text(text)
        done = cli(*command)
        assert done.code == 2 and done.err.count("\n") == 1
        assert str(folder.name) in done.err and all(word in done.err for word in words), done.err


def test_every_job_carries_it(
    cli: Cli, small: list[str], measured: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(debug.Debug, "run", lambda self, job: jobs.append(job))
    cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *small)
    assert len(jobs) == 5 and {job.precision for job in jobs} == {"bf16"}


def test_what_was_trained_is_in_every_row(
    cli: Cli, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "auto_precision", lambda device: ("float32", "pretended"))
    one = ["--set", "model.n=2"]
    done = cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *small, *one)
    assert done.code == 0, done.err
    (file,) = Path("results/mine/sweep-n").glob("smoke-*.json")
    (described,) = json.loads(file.read_text())["runs"].values()
    (execution,) = described["execution"]
    assert execution["precision"] == "float32" and "study's other runs" in execution["reason"]
    assert set(results.read(file.with_suffix(".csv")).precision) == {"float32"}
