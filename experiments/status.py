"""How far a study's runs are, by their files."""

from collections import Counter
from pathlib import Path
from typing import Literal

from experiments.launch.base import is_held
from experiments.launch.squeue import Queue, pending
from experiments.study import Study, missing_evaluations, run_folder, run_names
from mtp.config import TrainConfig
from mtp.training.progress import read_status

State = Literal["new", "active", "stopped", "trained", "finished", "failed"]


def state_of(study: Study, folder: Path, queue: Queue) -> tuple[State, str]:
    """A run's state, and the same in words.

    new: never started. active: at work, or queued by Slurm. stopped: interrupted or killed,
    continues when run again. trained: some evaluation is missing.
    """
    status = read_status(folder)
    state = status.get("state")
    at = f", step {status['step']}/{status['steps']}" if "steps" in status else ""
    if isinstance(seconds := status.get("eta_seconds"), float) and state == "running":
        at += f", {minutes(seconds)} left"
    todo = missing_evaluations(study, folder)
    if state == "finished" and not todo:
        return "finished", "finished"
    if is_held(folder):
        pid = f" in process {status['pid']}" if "pid" in status else ""
        return "active", f"running{pid}{at}"
    if state != "failed" and queue.has(folder):
        reason = queue.waits(folder)
        why = f" ({reason})" if reason not in (None, "", "None") else ""
        what = ", to be evaluated" if state == "finished" else at
        return "active", f"queued{what}{why}"
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


def count_of(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"


def minutes(seconds: float) -> str:
    """E.g. "<1 s", "30 s", "12 min", "3.4 h", "25 days"."""
    for unit, name in ((86400 * 2, "days"), (5400, "h"), (90, "min")):
        if seconds >= unit:
            size = {"days": 86400, "h": 3600, "min": 60}[name]
            return f"{seconds / size:.{1 if seconds < 10 * size else 0}f} {name}"
    return "<1 s" if seconds < 1 else f"{seconds:.0f} s"


def about(seconds: float) -> str:
    """The same in a sentence: "about 12 min", "under a second"."""
    return "under a second" if seconds < 1 else f"about {minutes(seconds)}"


WORDS = {
    "finished": "finished", "active": "running or queued", "trained": "to be evaluated",
    "stopped": "stopped", "failed": "failed", "new": "not started",
}  # fmt: skip


def show_status(
    study: Study, label: str, configs: list[TrainConfig], runs: Path, queue: Queue, every: bool
) -> None:
    """A summary line; with `every`, also a line per run, finished ones last."""
    states = [state_of(study, run_folder(config, runs), queue) for config in configs]
    counts = Counter(state for state, _ in states)
    parts = [f"{counts[state]} {words}" for state, words in WORDS.items() if counts[state]]
    folders = [run_folder(config, runs) for config in configs]
    active = [f for f, (state, _) in zip(folders, states, strict=True) if state == "active"]
    if waiting := pending(map(queue.waits, active)):
        parts.append(waiting)
    print(f"{study.name} at scale {label}, {count_of(len(configs))}: {', '.join(parts)}")
    if not every:
        return
    names = run_names(study, configs)
    wide = min(34, max(map(len, names)))
    for config, name, (_, text) in zip(configs, names, states, strict=True):
        print(f"  {name:{wide}}  {text}")
        print(f"  {'':{wide}}  {run_folder(config, runs)}")
