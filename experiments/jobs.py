"""The work of one job: train a run, then evaluate it; every evaluation is recorded once."""

import contextlib
import fcntl
import json
import os
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from experiments import study
from mtp import checkpoint, parallel, records
from mtp.config import TrainConfig, from_dict
from mtp.corpus import build
from mtp.errors import BadInput
from mtp.progress import write_status
from mtp.train import check_corpus, own_tokenizer, train

if TYPE_CHECKING:
    from experiments.launch import Job


def work(job: "Job") -> None:
    """Train, evaluate, and tell in status.json how it ended. Failures are recorded and raised."""
    if job.threads:
        torch.set_num_threads(job.threads)
    folder = Path(job.folder)
    config = from_dict(TrainConfig, json.loads(job.config))
    with alone(folder):
        try:
            if read_status(folder).get("state") != "finished":
                train(config, folder, Path(job.data))
            if is_first_rank():
                evaluate(study.find(job.study), job.scale, config, folder, Path(job.data))
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk; `error` says so already
                record_failure(folder, error)
            raise


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the run from its training to its last evaluation; BadInput where another process does.

    A moment's patience: `is_held` takes the lock for an instant when it looks.
    """
    with (folder / ".job").open("w") as lock:
        for patience in (0.05, 0.1, 0.2, 0.4, 0.0):
            try:
                if is_first_rank():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not patience:
                    raise BadInput(f"another process is at work in {folder}") from None
                time.sleep(patience)
        yield


def is_first_rank() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def record_failure(folder: Path, error: Exception) -> None:
    """The error in one line in status.json, and whole in error.txt."""
    kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
    status = read_status(folder)
    write_status(
        folder,
        state="failed",
        step=status.get("step", 0),
        steps=status.get("steps", 0),
        error=" ".join(f"{kind}{error}".split()),
    )
    (folder / "error.txt").write_text("".join(traceback.format_exception(error)))


def evaluate(which: study.Study, scale: str, config: TrainConfig, folder: Path, data: Path) -> None:
    """Make the records that are missing, with the run's last checkpoint, in float32."""
    todo = study.missing_evaluations(which, folder)
    if not todo:
        return
    step, done = checkpoint.newest_whole_step(folder / "checkpoint"), read_status(folder)["steps"]
    if step != done:
        raise BadInput(
            f"{folder} was trained to step {done}, but its last whole checkpoint is of step "
            f"{step}; run again with --retry to train from there"
        )
    device_kind = "cuda" if torch.cuda.is_available() else "cpu"
    model = checkpoint.load_model(folder, device_kind)
    corpus = build(config.data, data, own=own_tokenizer(folder))
    check_corpus(folder, corpus)
    python = f" of Python {corpus.manifest['python']}" if config.data.source == "stdlib" else ""
    for name in todo:
        print(f"evaluating {name}", flush=True)
        if name in which.evaluations:
            measures = [vars(m) for m in which.evaluations[name](model, corpus, scale)]
        else:
            measures = []
            for at in sorted({*range(config.keep_every, step + 1, config.keep_every), step}):
                try:
                    then = checkpoint.load_kept(folder, at, config.model).to(device_kind)
                except BadInput as error:
                    raise BadInput(f"{error}; delete {folder} to train anew") from None
                found = which.over_training[name](then, corpus, scale)
                measures += [vars(m) | {"step": at} for m in found]
        record = {
            "measures": measures,
            "data": f"{config.data.source}{python}, {corpus.tokenizer.name}",
            "step": step,
            "device": device(),
            "versions": records.versions(),
            "commit": records.commit(),
        }
        records.replace(study.record_file(folder, name), json.dumps(record, indent=1).encode())


def device() -> str:
    """E.g. "NVIDIA H100 80GB HBM3", or the processor with the threads in use."""
    name = parallel.device_name()
    return name if torch.cuda.is_available() else f"{name}, {torch.get_num_threads()} threads"


def read_status(folder: Path) -> dict[str, object]:
    """A run's status.json; empty where there is none or a torn one."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "status.json").read_text())
    return {}
