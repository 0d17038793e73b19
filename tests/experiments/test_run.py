"""A study's precision is decided once, and every job carries it."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import results
from experiments import run as running
from experiments.launch import debug
from experiments.launch.base import Job
from experiments.run import study_precision
from experiments.study import find, plan, run_folder
from tests.conftest import Cli

CONFIGS = plan(find("sweep-n"), "smoke")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this machine is found to be good at, changed by tests; each look is recorded."""
    looks: list[str] = []

    def look(device: str) -> tuple[str, str]:
        looks.append(device)
        return "bf16" if len(looks) == 1 else "float32", "pretended"

    monkeypatch.setattr(running, "auto_precision", look)
    return looks


def begun(folder: Path, **engine: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "engine.json").write_text(json.dumps([{"from_step": 0} | engine]))


def test_it_is_measured_once_for_all_runs(tmp_path: Path, measured: list[str]) -> None:
    assert study_precision(CONFIGS, tmp_path) == "bf16" and len(measured) == 1


def test_runs_that_have_begun_decide(tmp_path: Path, measured: list[str]) -> None:
    begun(run_folder(CONFIGS[3], tmp_path), device="cpu", precision="float32")
    assert study_precision(CONFIGS, tmp_path) == "float32" and not measured


def test_runs_on_another_device_do_not(tmp_path: Path, measured: list[str]) -> None:
    begun(run_folder(CONFIGS[0], tmp_path), device="cuda", precision="float32")
    assert study_precision(CONFIGS, tmp_path) == "bf16"


def test_a_set_precision_is_not_measured(tmp_path: Path, measured: list[str]) -> None:
    configs = plan(find("sweep-n"), "smoke", ["precision=float32"])
    assert study_precision(configs, tmp_path) == "" and not measured


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
    monkeypatch.setattr(running, "auto_precision", lambda device: ("float32", "pretended"))
    one = ["--set", "model.n=2"]
    done = cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *small, *one)
    assert done.code == 0, done.err
    (file,) = Path("results/sweep-n").glob("smoke-*.json")
    (described,) = json.loads(file.read_text())["runs"].values()
    (execution,) = described["execution"]
    assert execution["precision"] == "float32" and "study's other runs" in execution["reason"]
    assert set(results.read(file.with_suffix(".csv")).precision) == {"float32"}
