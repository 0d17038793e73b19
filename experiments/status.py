"""How far a study's runs are, by their files."""

from pathlib import Path
from typing import Literal

from experiments.launch.base import is_held
from experiments.launch.slurm import is_queued
from experiments.study import Study, missing_evaluations, run_folder
from mtp.config import TrainConfig
from mtp.training.progress import read_status

State = Literal["new", "active", "stopped", "trained", "finished", "failed"]


def state_of(study: Study, folder: Path) -> tuple[State, str]:
    """A run's state, and the same in words.

    new: never started. active: at work, or queued by Slurm. stopped: interrupted or killed,
    continues when run again. trained: some evaluation is missing.
    """
    status = read_status(folder)
    state = status.get("state")
    at = f", step {status['step']}/{status['steps']}" if "steps" in status else ""
    todo = missing_evaluations(study, folder)
    if state == "finished" and not todo:
        return "finished", "finished"
    if is_held(folder):
        return "active", f"running{at}"
    if state != "failed" and is_queued(folder):
        return "active", f"queued{at}"
    if state == "failed":
        return "failed", f"FAILED at step {status.get('step')}: {status.get('error')}"
    if state == "finished":
        return "trained", f"trained, to be evaluated: {', '.join(todo)}"
    if state is None:
        return "new", "not started"
    return "stopped", f"{'killed; will continue' if state == 'running' else state}{at}"


def is_done(study: Study, folder: Path, status: dict[str, object]) -> bool:
    """Whether a run needs no more work, by its files alone."""
    if status.get("state") == "finished":
        return not missing_evaluations(study, folder)
    return status.get("state") == "failed"


def is_trained(folder: Path) -> bool:
    return read_status(folder).get("state") == "finished"


def show_status(study: Study, configs: list[TrainConfig], runs: Path) -> None:
    for config in configs:
        folder = run_folder(config, runs)
        print(f"{folder.name:40} {state_of(study, folder)[1]}")
