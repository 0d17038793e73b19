"""A run's folder: one config, one corpus, one tokenizer; one process trains in it at a time.

    RUN/config.json     the frozen config         RUN/metrics.jsonl  a line per logged step
    RUN/status.json     state, step, ETA          RUN/checkpoint/    weights and optimizer
    RUN/engine.json     how it was executed       RUN/kept/          weights of earlier steps
    RUN/start           sha256 of its init        RUN/stable/        what longer runs begin from
    RUN/error.txt       why it failed             RUN/corpus         the corpus's folder

A run that was interrupted or killed continues with the same config; only the fields that say how it
is executed may differ.
"""

import contextlib
import dataclasses
from pathlib import Path

from mtp import checkpoint
from mtp.config import TrainConfig
from mtp.data.corpus import Corpus, build, check_values
from mtp.data.tokenizer import Tokenizer, from_name, load_if_any, same_tokenizer
from mtp.errors import BadInput
from mtp.files import parse_json, write_atomically
from mtp.locks import locked
from mtp.overrides import differences, execution, from_dict, same_run, to_json
from mtp.training.failures import clear_failure, record_failure
from mtp.training.progress import is_trained
from mtp.training.rank import is_first_rank


def train(
    config: TrainConfig, folder: Path, data: Path = Path("data"), precision: str = ""
) -> None:
    """Train `config` in `folder`, from its last checkpoint if it has one, else from that of a
    shorter run beside it (mtp/training/branch.py). Does nothing if the run is finished.

    precision  for a config that says "auto" (mtp/training/engine.py); "": what suits this machine

    Raises BadInput if the folder holds another config or another process trains in it, and
    Interrupted after a signal.
    """
    from mtp.training.trainer import Trainer  # torch takes a second to import

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create {folder}: {error.strerror}") from None
    first, begun = is_first_rank(), False
    lock = locked(folder / ".lock", f"another process is training in {folder}")
    with lock if first else contextlib.nullcontext():
        if first:
            check_config(folder, config)
            clear_failure(folder)
        saved = saved_tokenizer(folder)
        corpus = build(config.data, data, saved_tokenizer=saved)
        check_corpus(folder, corpus)
        if saved and not same_tokenizer(saved, corpus.tokenizer):
            raise BadInput(
                f"data.tokenizer={config.data.tokenizer} is not the tokenizer of the weights in "
                f"{folder}, {saved.name}; train with that one, or in another folder"
            )
        try:
            trainer = Trainer(config, corpus, folder, precision)
            if first:  # now that nothing is left to refuse
                if not saved:
                    corpus.tokenizer.save(folder)  # for decoding from the run's folder
                if not (folder / "corpus").exists():
                    write_atomically(folder / "corpus", corpus.folder.name.encode())
                write_atomically(folder / "config.json", to_json(config).encode())
                trainer.record_beginning()
            begun = True
            trainer.run()
        except Exception as error:
            if begun or not isinstance(error, BadInput):  # a refusal changes nothing
                with contextlib.suppress(OSError):  # a full disk; `error` says so already
                    record_failure(folder, error)
            raise


def saved_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer that a run's weights belong to; None if the run has not begun."""
    return load_if_any(folder) if checkpoint.any_saved(folder / "checkpoint") else None


def check_corpus(folder: Path, corpus: Corpus) -> None:
    """Raise BadInput if the run in `folder` began on another corpus: its source (a generator, say)
    has changed since."""
    file = folder / "corpus"
    if file.exists() and (there := file.read_text()) != corpus.folder.name:
        raise BadInput(
            f"{folder} was trained on corpus {there}; its source gives {corpus.folder.name} now. "
            f"Delete {folder} to train anew, or restore the source"
        )


def check_config(folder: Path, config: TrainConfig) -> None:
    """Raise BadInput if the folder holds a run that another config defines, or one that this
    version cannot read. How a run is executed may change. Values that no run can have come first:
    they are the mistake."""
    file = folder / "config.json"
    if not file.exists():
        return
    try:
        there = from_dict(TrainConfig, parse_json(file.read_bytes()))
    except ValueError:
        raise BadInput(f"{file} is torn; delete {folder} to start over") from None
    except BadInput as error:
        raise BadInput(
            f"{file} is not of this version: {error}; delete {folder} to start over"
        ) from None
    if not same_run(there, config):
        check_values(config.data)
        if config.data.tokenizer != there.data.tokenizer:
            from_name(config.data.tokenizer)
        changed = differences(there, dataclasses.replace(config, **execution(there)))
        same_model = not any(name.startswith(("model.", "data.tokenizer")) for name in changed)
        further = f", or start a new run with init={folder}"
        raise BadInput(
            f"{folder} holds a run of another config ({', '.join(changed)}); choose another folder"
            + further * (same_model and is_trained(folder))
        )
