"""The work of one job: train a run, then evaluate it; every evaluation is recorded once."""

import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from experiments import study
from experiments.provenance import precision_of
from experiments.timed import precision_for
from mtp import checkpoint, records
from mtp.checkpoint import Saved
from mtp.config import ModelConfig, TrainConfig
from mtp.data.corpus import build
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.hardware import default_device, device_name, dtype_of, free_memory
from mtp.locks import locked
from mtp.model import loading
from mtp.model.model import MultiTokenTransformer
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
                free_memory(default_device())
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


def evaluate(which: study.Study, scale: str, config: TrainConfig, folder: Path, data: Path) -> None:
    """Make the records that are missing, with the run's last checkpoint: in float32, or as
    experiments/timed.py says. Evaluations with a parameter `keep` get a file for partial results.
    """
    if not is_trained(folder):
        raise BadInput(f"{folder} is not trained; run it again")
    status = read_status(folder)
    done = status["steps"]
    if status["state"] == "failed":  # an evaluation of an earlier job
        write_status(folder, state="finished", step=done, steps=done)
    todo = study.missing_evaluations(which, folder)
    if not todo:
        return
    found = checkpoint.newest(folder / "checkpoint", weights_only=True)
    step = found.step if found else 0
    if not found or step != done:
        write_status(folder, state="interrupted", step=step, steps=done)
        raise BadInput(
            f"{folder} was trained to step {done}, but its last whole checkpoint is of step "
            f"{step}; run again with --retry to train from there"
        )
    device = default_device()
    last = LastModel(config.model, found, device)
    corpus = build(config.data, data, saved_tokenizer=saved_tokenizer(folder))
    check_corpus(folder, corpus)
    python = f" of Python {corpus.manifest['python']}" if config.data.source == "stdlib" else ""
    for name in todo:
        print(f"evaluating {name}", flush=True)
        precision = precision_of(folder)
        if name in which.evaluations:
            evaluation = which.evaluations[name]
            has_keep = "keep" in inspect.signature(evaluation).parameters
            keep = {"keep": folder / "evals" / f".{name}.partial"} if has_keep else {}
            model = last.load(precision_for(evaluation, device))
            measures = [vars(m) for m in evaluation(model, corpus, scale, **keep)]
            if last.precision != "float32":
                precision += f", decoded in {last.precision}"
            del model  # so that the next one can replace it
        else:
            last.free()
            measures = []
            for at in sorted({*range(config.keep_every, step + 1, config.keep_every), step}):
                try:
                    then = loading.load_kept(folder, at, config.model, device)
                except BadInput as error:
                    raise BadInput(f"{error}; delete {folder} to train anew") from None
                found = which.over_training[name](then, corpus, scale)
                measures += [vars(m) | {"step": at} for m in found]
        record = {
            "measures": measures,
            "data": f"{config.data.source}{python}, {corpus.tokenizer.name}",
            "step": step,
            "precision": precision,
            "device": device_and_threads(),
            "versions": records.versions(),
            "commit": records.commit(),
        }
        write_atomically(study.record_file(folder, name), json.dumps(record, indent=1).encode())


class LastModel:
    """A run's model, in memory in one precision at a time, from a checkpoint that is verified."""

    def __init__(self, config: ModelConfig, saved: Saved, device: str) -> None:
        self.config, self.saved, self.device = config, saved, device
        self.model: MultiTokenTransformer | None = None
        self.precision = ""

    def load(self, precision: str) -> MultiTokenTransformer:
        if self.model is None or precision != self.precision:
            self.free()
            self.precision = precision
            self.model = loading.from_checkpoint(
                self.config, self.saved, self.device, dtype_of(precision)
            )
        return self.model

    def free(self) -> None:
        self.model = None
        free_memory(self.device)


def device_and_threads() -> str:
    """E.g. "NVIDIA H100 80GB HBM3", or the processor with the threads in use."""
    name = device_name()
    if torch.cuda.is_available():
        return name
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' * (threads > 1)}"
