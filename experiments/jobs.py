"""The work of one job: train a run, then evaluate it; every evaluation is recorded once."""

import contextlib
import gc
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments import study
from experiments.provenance import precision_of
from mtp import checkpoint, records
from mtp.config import TrainConfig
from mtp.data.corpus import build
from mtp.errors import BadInput
from mtp.files import locked, write_atomically
from mtp.hardware import default_device, device_name
from mtp.model import loading
from mtp.overrides import from_dict
from mtp.training.failures import clear_failure, record_failure
from mtp.training.progress import is_trained, read_status, write_status
from mtp.training.rank import is_first_rank
from mtp.training.run import check_corpus, saved_tokenizer, train


def work(
    study_name: str,
    scale: str,
    config_json: str,
    folder: Path,
    data: Path,
    threads: int = 0,
    precision: str = "",
    part: str = "both",
) -> None:
    """Train, evaluate, and write into status.json how it ended. Failures are recorded and raised.

    threads    for torch; 0: its own choice
    precision  for a config that says "auto"; "": this machine's
    part       train | evaluate | both. Several processes may train; one of them evaluates
    """
    if threads:
        torch.set_num_threads(threads)
    which = study.find(study_name)  # a file of the user's may add head types that the config names
    config = from_dict(TrainConfig, json.loads(config_json))
    with lock_run(folder):
        if is_first_rank():
            clear_failure(folder)
        try:
            if part != "evaluate" and not is_trained(folder):
                train(config, folder, data, precision)
                free_memory()
            if part != "train" and is_first_rank():
                evaluate(which, scale, config, folder, data)
        except Exception as error:
            with contextlib.suppress(OSError):  # a full disk; `error` says so already
                record_failure(folder, error)
            raise


@contextlib.contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Hold the run from training to its last evaluation; BadInput if another process holds it."""
    if not is_first_rank():
        yield
        return
    with locked(folder / ".job", f"another process is at work in {folder}"):
        yield


def free_memory() -> None:
    """Free what the training has left behind (its parts refer to each other in circles)."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def evaluate(which: study.Study, scale: str, config: TrainConfig, folder: Path, data: Path) -> None:
    """Make the records that are missing, with the run's last checkpoint, in float32."""
    if not is_trained(folder):
        raise BadInput(f"{folder} is not trained; run it again")
    status = read_status(folder)
    done = status["steps"]
    if status["state"] == "failed":  # an evaluation of an earlier job
        write_status(folder, state="finished", step=done, steps=done)
    todo = study.missing_evaluations(which, folder)
    if not todo:
        return
    found = checkpoint.load(folder / "checkpoint", weights_only=True)
    step = found.step if found else 0
    if not found or step != done:
        write_status(folder, state="interrupted", step=step, steps=done)
        raise BadInput(
            f"{folder} was trained to step {done}, but its last whole checkpoint is of step "
            f"{step}; run again with --retry to train from there"
        )
    device = default_device()
    where = folder / "checkpoint"
    model = loading.with_weights(config.model, found.model, where).to(device)
    del found
    corpus = build(config.data, data, saved_tokenizer=saved_tokenizer(folder))
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
                    then = loading.load_kept(folder, at, config.model).to(device)
                except BadInput as error:
                    raise BadInput(f"{error}; delete {folder} to train anew") from None
                found = which.over_training[name](then, corpus, scale)
                measures += [vars(m) | {"step": at} for m in found]
        record = {
            "measures": measures,
            "data": f"{config.data.source}{python}, {corpus.tokenizer.name}",
            "step": step,
            "precision": precision_of(folder),
            "device": device_and_threads(),
            "versions": records.versions(),
            "commit": records.commit(),
        }
        write_atomically(study.record_file(folder, name), json.dumps(record, indent=1).encode())


def device_and_threads() -> str:
    """E.g. "NVIDIA H100 80GB HBM3", or the processor with the threads in use."""
    name = device_name()
    if torch.cuda.is_available():
        return name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
