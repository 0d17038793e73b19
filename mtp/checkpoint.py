"""Checkpoints: saved atomically, verified when loaded.

    RUN/checkpoint/step-00000400/   model.safetensors  optimizer.safetensors  state.json  sums.json

A checkpoint is written under another name, flushed to the disk and renamed, so that a kill at any
moment leaves all of it or nothing. sums.json holds the sha256 of every file: if a file is torn or
altered, loading names it and takes the checkpoint before. The last two checkpoints are kept.

    RUN/kept/step-00000400.safetensors      only the weights, of every keep_every-th step, for good
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.files import atomic_folder, atomic_path, file_sha256, parse_json
from mtp.overrides import from_dict

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """`sha256` is the hash of the file that the weights were read from."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str = ""


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` and delete all but the newest CHECKPOINTS_KEPT.

    Raises OSError (a full disk) without touching the checkpoints that are there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".half-*"):  # by a killed save
        shutil.rmtree(left, ignore_errors=True)
    final = folder / f"step-{checkpoint.step:08d}"  # if it exists, it is damaged
    with atomic_folder(final) as half:
        save_tensors(checkpoint.model, half / "model.safetensors")
        save_tensors(checkpoint.optimizer, half / "optimizer.safetensors")
        (half / "state.json").write_text(json.dumps(checkpoint.state))
        sums = {path.name: file_sha256(path) for path in sorted(half.iterdir())}
        (half / "sums.json").write_text(json.dumps(sums))
    for old in _saved(folder)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(folder: Path, weights_only: bool = False) -> Checkpoint | None:
    """The newest undamaged checkpoint in `folder`; None if there are no checkpoints.

    A damaged one is named on stderr, and the one before it is taken. Raises BadInput if there are
    checkpoints and all are damaged. `weights_only` skips the optimizer.
    """
    damage = ""
    for path in reversed(_saved(folder)):
        try:
            return _read(path, weights_only)
        except BadInput as error:
            damage = str(error)
            print(f"warning: {damage}; trying the checkpoint before it", file=sys.stderr)
    if damage:
        raise BadInput(f"{damage}; every earlier one is damaged too: delete {folder} to start over")
    return None


def run_config(run: Path) -> TrainConfig:
    """The config in a run's folder. Raises BadInput if the folder is not a run."""
    try:
        return from_dict(TrainConfig, parse_json((run / "config.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise BadInput(f"{run} is not a run: its config.json cannot be read ({error})") from None
    except BadInput as error:
        raise BadInput(f"{run} is not a run: {error}") from None


def load_weights(run: Path) -> Checkpoint:
    """A run's newest undamaged checkpoint, without the optimizer; BadInput if it has none."""
    must_be_saved(run)
    found = load(run / "checkpoint", weights_only=True)
    assert found is not None
    return found


def must_be_saved(run: Path, step: int | None = None) -> None:
    """Raise BadInput if a run has no checkpoint, or no weights kept at `step`. Reads nothing."""
    if step is not None and not (file := kept_file(run, step)).is_file():
        raise BadInput(f"{file} cannot be read: No such file")
    if step is None and not any_saved(run / "checkpoint"):
        raise BadInput(f"{run} has no checkpoint yet; train it first")


def save_kept_weights(run: Path, step: int, weights: dict[str, Tensor]) -> None:
    """Write a step's weights to RUN/kept, whole or not at all."""
    file = kept_file(run, step)
    file.parent.mkdir(exist_ok=True)
    with atomic_path(file, flush=True) as half:
        save_tensors(weights, half)


def kept_file(run: Path, step: int) -> Path:
    return run / "kept" / f"step-{step:08d}.safetensors"


def kept_step(file: Path) -> int | None:
    """STEP of a path RUN/kept/step-STEP.safetensors; None if the path is not of this form."""
    found = re.fullmatch(r"step-(\d{8,})\.safetensors", file.name)
    return int(found[1]) if found and file.absolute().parent.name == "kept" else None


def any_saved(folder: Path) -> bool:
    """Whether there are checkpoints in `folder`, damaged or not."""
    return bool(_saved(folder))


def newest_whole_step(folder: Path) -> int:
    """The step of the checkpoint that `load` would take; 0 if there is none."""
    found = load(folder, weights_only=True)
    return found.step if found else 0


def _saved(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _read(path: Path, weights_only: bool) -> Checkpoint:
    names = ["model.safetensors", "state.json"]
    names += [] if weights_only else ["optimizer.safetensors"]
    try:
        sums = dict(json.loads((path / "sums.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise BadInput(f"checkpoint file {path / 'sums.json'} is missing or torn") from None
    for name in names:
        if not (path / name).exists() or file_sha256(path / name) != sums.get(name):
            raise BadInput(f"checkpoint file {path / name} is missing, torn or altered")
    from safetensors.torch import load_file

    optimizer = {} if weights_only else load_file(path / "optimizer.safetensors")
    state = json.loads((path / "state.json").read_text())
    model = load_file(path / "model.safetensors")
    return Checkpoint(state["step"], model, optimizer, state, sums["model.safetensors"])


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. Raises OSError if the disk is full."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        path.touch()
        mode = path.stat().st_mode  # safetensors would give access to the owner alone
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata)
        path.chmod(mode)
    except SafetensorError as error:  # which hides the operating system's error
        if number := re.search(r"os error (\d+)", str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
        raise
