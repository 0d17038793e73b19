"""Runs that differ in their budget alone share their beginning.

With lr_schedule=wsd a run is equal to every longer one until its learning rate falls. It keeps its
checkpoint of that step:

    RUN/stable/step-00000400/    as in RUN/checkpoint, for good

A longer run beside it that has no checkpoint of its own begins from there, and takes over what the
shorter one has logged and kept until then. So it ends as if it had been trained from the start: bit
for bit on a CPU, if both are executed alike. Budgets of 25, 50 and 100% cost as much as 1.15 runs
with wsd:0.2, and apart from each other 1.75.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp import checkpoint
from mtp.checkpoint import Saved, kept_file
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.files import atomic_path, parse_json, write_atomically
from mtp.training import distributed
from mtp.training.budgets import siblings, stable
from mtp.training.executions import executions, write_executions
from mtp.training.progress import is_trained, read_status
from mtp.training.rank import is_first_rank
from mtp.training.saving import Saver
from mtp.training.schedule import shared_steps


@dataclass(frozen=True)
class Branch:
    """The shorter run that a run continues, and its checkpoint from before its decay."""

    run: Path
    saved: Saved

    def take_over(self, folder: Path, keep_every: int) -> None:
        """Give the run in `folder` what the shorter one has logged and kept until there, and how it
        was executed. Rows and parts of later steps are dropped when training begins."""
        for step in kept_steps(keep_every, self.saved.step):
            _link(kept_file(self.run, step), kept_file(folder, step))
        write_atomically(folder / "metrics.jsonl", (self.run / "metrics.jsonl").read_bytes())
        parts = [part for part in executions(self.run) if part["from_step"] < self.saved.step]
        write_executions(folder, [{"run": self.run.name} | part for part in parts])


def kept_steps(keep_every: int, until: int) -> range:
    return range(keep_every, until + 1, keep_every) if keep_every else range(0)


Check = Callable[[dict[str, Any]], None]


def find(
    config: TrainConfig, folder: Path, shared: int, corpus: str, check: Check, saver: Saver
) -> tuple[Branch | None, list[str]]:
    """The run that the run of `config` in `folder` may continue, with the latest checkpoint of all,
    and a line for it and for each run beside it that should have one but has none of use. All ranks
    find the same; the lines are for the first.

    shared  how many steps the run has in common with longer ones; above 0
    corpus  the name of its corpus
    check   raises BadInput for the state of a checkpoint that cannot be continued here
    saver   finds damage in a checkpoint
    """
    own = config, folder, shared, corpus, check
    paths, notes = distributed.from_first_rank(_look(*own) if is_first_rank() else ([], []))
    for path in paths:
        run, damage = path.parents[1], saver.damage(path)
        if damage:
            notes.append(_refused(run, damage))
            continue
        saved = checkpoint.opened(path)
        notes.append(f"continues {run.name} at step {saved.step}; until there, both are alike")
        return Branch(run, saved), notes
    return None, notes


def _look(
    config: TrainConfig, folder: Path, shared: int, corpus: str, check: Check
) -> tuple[list[Path], list[str]]:
    """The checkpoints that may be continued, the latest first, before their tensors are verified;
    and a line for each run that should have one but has none."""
    found, notes = list[Path](), list[str]()
    for run in siblings(config, folder):
        path = next(reversed(checkpoint.saved(stable(run))), None)
        try:
            if path is None:
                _expect_none(config, run, shared)
            elif 0 < _step(path) <= shared:
                _check(config, run, folder, path, corpus, check)
                found.append(path)
        except BadInput as error:
            notes.append(_refused(run, str(error)))
    return sorted(found, key=_step, reverse=True), notes


def _refused(run: Path, why: str) -> str:
    return f"{run.name} begins alike and cannot be continued: {why}"


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _expect_none(config: TrainConfig, run: Path, shared: int) -> None:
    """Raise BadInput if a run without such a checkpoint should have one."""
    steps = int(str(read_status(run).get("steps") or 1))
    if is_trained(run) and 0 < shared_steps(config, steps) <= shared:
        raise BadInput(f"{stable(run)} is missing")


def _check(
    config: TrainConfig, run: Path, folder: Path, path: Path, corpus: str,
    check: Check,
) -> None:  # fmt: skip
    """Raise BadInput if the run in `folder` cannot begin from the checkpoint `path` of `run`."""
    for name, own in (("corpus", corpus), ("start", _text(folder / "start"))):
        if _text(run / name) != own:
            raise BadInput(f"its {name} is another, {_text(run / name) or 'not known'}")
    needed = [kept_file(run, step) for step in kept_steps(config.keep_every, _step(path))]
    for file in (run / "metrics.jsonl", *needed):
        if not file.is_file():
            raise BadInput(f"{file} is missing")
    try:
        state = dict(parse_json((path / "state.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        raise BadInput(f"{path / 'state.json'} is missing or torn") from None
    check(state)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _link(file: Path, dest: Path) -> None:
    """Make `dest` a second name of a file that nobody will write to again, or a copy where the file
    system has no links."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.unlink(missing_ok=True)  # renaming a name of a file to another of its names does nothing
    try:
        os.link(file, dest)
    except OSError:
        with atomic_path(dest) as half:
            shutil.copyfile(file, half)
