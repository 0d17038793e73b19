"""Checkpoints: saved atomically, verified when read.

    RUN/checkpoint/step-00000400/   model.safetensors  optimizer.safetensors  state.json  sums.json

A checkpoint is written under another name, flushed to the disk and renamed, so that a kill at any
moment leaves all of it or nothing. sums.json holds the sha256 of every file: if a file is torn or
altered, reading names it and takes the checkpoint before. The last two checkpoints are kept. A run
of several ranks writes its checkpoints in shards (mtp/sharded.py); any number of ranks reads both.

    RUN/kept/step-00000400.safetensors      only the weights, of every keep_every-th step, for good
    RUN/stable/step-00000400/               what longer runs begin from (mtp/training/branch.py)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
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
WEIGHTS, MOMENTS = "model.safetensors", "optimizer.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What is saved: `model` holds the weights by name, `optimizer` their moments as
    exp_avg.NAME and exp_avg_sq.NAME, or nothing."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class Saved:
    """A checkpoint on the disk, whose files are whole. Its tensors are read when asked for."""

    path: Path
    state: dict[str, Any]
    sums: dict[str, str]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    @property
    def has_moments(self) -> bool:
        """False for step 0 of a run that starts from another run's weights."""
        return bool(self.step)

    @property
    def sha256(self) -> str:
        """Identifies the weights."""
        return (
            self.sums.get(WEIGHTS)
            or hashlib.sha256(str(sorted(self.sums.items())).encode()).hexdigest()
        )

    def weights(self) -> dict[str, Tensor]:
        """All weights, whole, on the CPU."""
        from mtp import sharded

        if sharded.is_sharded(self.path):
            names = [name for name in sharded.shapes(self.path) if name.startswith("model.")]
            found = sharded.read(self.path, names)
            return {name.removeprefix("model."): tensor for name, tensor in found.items()}
        from safetensors.torch import load_file

        return load_file(self.path / WEIGHTS)

    def read_into(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """Fill weights and moments, on any device and sharded or not, one tensor at a time. Raises
        BadInput if one of them is missing or has another shape."""
        from mtp import sharded

        if sharded.is_sharded(self.path):
            tensors = {f"model.{name}": w for name, w in weights.items()} | dict(moments)
            self._check(tensors, sharded.shapes(self.path))
            sharded.read_into(self.path, tensors)
            return
        from safetensors import safe_open

        for tensors, file in ((weights, WEIGHTS), (moments, MOMENTS)):
            if not tensors:
                continue
            with safe_open(self.path / file, "pt") as there:
                shapes = {name: there.get_slice(name).get_shape() for name in there.keys()}  # noqa: SIM118
                self._check(tensors, shapes)
                for name, tensor in tensors.items():
                    sharded.copy_into(tensor, there.get_tensor(name))

    def _check(self, wanted: Mapping[str, Tensor], there: Mapping[str, Any]) -> None:
        for name, tensor in wanted.items():
            if tuple(there.get(name, ())) != tuple(tensor.shape):
                raise BadInput(
                    f"checkpoint {self.path} has {name} of shape {tuple(there.get(name, ()))}; the "
                    f"run wants {tuple(tensor.shape)}"
                )


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` and delete all but the newest CHECKPOINTS_KEPT.

    Raises OSError (a full disk) without touching the checkpoints that are there.
    """
    prepare(folder)
    final = path_of(folder, checkpoint.step)  # if it exists, it is damaged
    with atomic_folder(final) as half:
        save_tensors(checkpoint.model, half / WEIGHTS)
        save_tensors(checkpoint.optimizer, half / MOMENTS)
        (half / "state.json").write_text(json.dumps(checkpoint.state))
        sums = {path.name: file_sha256(path) for path in sorted(half.iterdir())}
        (half / "sums.json").write_text(json.dumps(sums))
    drop_old(folder)
    return final


def path_of(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def prepare(folder: Path) -> None:
    """Make the folder of checkpoints, and clear away what a killed save left in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".half-*"):
        shutil.rmtree(left, ignore_errors=True)


def drop_old(folder: Path) -> None:
    """Delete all checkpoints but the newest CHECKPOINTS_KEPT."""
    for old in saved(folder)[:-CHECKPOINTS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def newest(
    folder: Path,
    weights_only: bool = False,
    check: Callable[[Path, bool], str] | None = None,
    paths: list[Path] | None = None,
) -> Saved | None:
    """The newest undamaged checkpoint in `folder`; None if there are no checkpoints.

    If it is damaged, it is named on stderr, and the one before it is taken. Raises BadInput if
    there are checkpoints and all are damaged.

    weights_only  does not verify the optimizer's file
    check, paths  for several ranks, which must agree: what finds damage (`damage`), and the
                  checkpoints to look at
    """
    damaged = list[str]()
    for path in reversed(saved(folder) if paths is None else paths):
        if found := (check or damage)(path, weights_only):
            damaged.append(found)
            continue
        if damaged:
            print(f"warning: {damaged[0]}; using {path.name}, from before it", file=sys.stderr)
        return opened(path)
    if damaged:
        others = "there is no other" if len(damaged) == 1 else "so is every earlier checkpoint"
        raise BadInput(f"{damaged[0]}; {others}: delete {folder} to start over")
    return None


def opened(path: Path) -> Saved:
    """A checkpoint that is undamaged."""
    state, sums = (json.loads((path / name).read_text()) for name in ("state.json", "sums.json"))
    return Saved(path, state, sums)


def damage(path: Path, weights_only: bool = False, rank: int = 0, world: int = 1) -> str:
    """What is wrong with a checkpoint; "" if nothing is. Of `world` ranks, each reads and hashes
    its share of the files."""
    try:
        sums = dict(json.loads((path / "sums.json").read_text()))
    except (OSError, ValueError, TypeError):
        return f"checkpoint file {path / 'sums.json'} is missing or torn"
    names = sorted(set(sums) | ({WEIGHTS, "state.json"} if not _sharded(sums) else set()))
    for name in names[rank::world]:
        if weights_only and name == MOMENTS:
            continue
        if not (path / name).exists() or file_sha256(path / name) != sums.get(name):
            return f"checkpoint file {path / name} is missing, torn or altered"
    return ""


def _sharded(sums: dict[str, str]) -> bool:
    return any(name.endswith(".distcp") for name in sums)


def run_config(run: Path) -> TrainConfig:
    """The config in a run's folder. Raises BadInput if the folder is not a run."""
    if not run.exists():
        raise BadInput(f"{run}: no such folder")
    try:
        return from_dict(TrainConfig, parse_json((run / "config.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise BadInput(f"{run} is not a run: its config.json cannot be read ({error})") from None
    except BadInput as error:
        raise BadInput(f"{run} is not a run: {error}") from None


def newest_of(run: Path) -> Saved:
    """A run's newest undamaged checkpoint, its optimizer not verified; BadInput if it has none."""
    must_be_saved(run)
    found = newest(run / "checkpoint", weights_only=True)
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
    return bool(saved(folder))


def saved(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, damaged or not, the newest last."""
    return sorted(folder.glob("step-*"))


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
