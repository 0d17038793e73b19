"""The work of one job: train a run, then evaluate it; every evaluation is recorded once."""

import contextlib
import json
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from experiments import results, study
from mtp import checkpoint, parallel
from mtp.config import TrainConfig, from_dict
from mtp.corpus import build
from mtp.errors import BadInput
from mtp.progress import write_status
from mtp.train import train

if TYPE_CHECKING:
    from experiments.launch import Job


def work(job: "Job") -> None:
    """Train, evaluate, and tell in status.json how it ended. Failures are recorded and raised."""
    if job.threads:
        torch.set_num_threads(job.threads)
    folder = Path(job.folder)
    config = from_dict(TrainConfig, json.loads(job.config))
    try:
        if read_status(folder).get("state") != "finished":
            train(config, folder, Path(job.data))
        if int(os.environ.get("RANK", "0")) == 0:
            evaluate(study.find(job.study), job.scale, config, folder, Path(job.data))
    except Exception as error:
        kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
        status = read_status(folder)
        write_status(
            folder,
            state="failed",
            step=status.get("step", 0),
            steps=status.get("steps", 0),
            error=f"{kind}{error}",
        )
        (folder / "error.txt").write_text(traceback.format_exc())
        raise


def evaluate(which: study.Study, scale: str, config: TrainConfig, folder: Path, data: Path) -> None:
    """Make the records that are missing, with the run's last checkpoint, in float32."""
    todo = study.missing_evaluations(which, folder)
    if not todo:
        return
    model = checkpoint.load_model(folder, "cuda" if torch.cuda.is_available() else "cpu")
    corpus = build(config.data, data)
    python = f" of Python {corpus.manifest['python']}" if config.data.source == "stdlib" else ""
    for name in todo:
        print(f"evaluating {name}", flush=True)
        measures = which.evaluations[name](model, corpus, scale)
        record = {
            "measures": [vars(m) for m in measures],
            "data": f"{config.data.source}{python}, {corpus.tokenizer.name}",
            "step": checkpoint.newest_step(folder / "checkpoint"),
            "device": device(),
            "versions": results.versions(),
            "commit": results.commit(),
        }
        file = study.record_file(folder, name)
        file.parent.mkdir(exist_ok=True)
        half = file.with_suffix(".half")
        half.write_text(json.dumps(record, indent=1))
        half.rename(file)


def device() -> str:
    """E.g. "NVIDIA H100 80GB HBM3", or the processor with the threads in use."""
    name = parallel.device_name()
    return name if torch.cuda.is_available() else f"{name}, {torch.get_num_threads()} threads"


def read_status(folder: Path) -> dict[str, object]:
    """A run's status.json; empty where there is none or a torn one."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "status.json").read_text())
    return {}
