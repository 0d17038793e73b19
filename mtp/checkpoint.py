"""Checkpoints: saved atomically, verified when loaded.

    RUN/checkpoint/step-00000400/   model.safetensors  optimizer.safetensors  state.json  sums.json

A checkpoint is written beside its place, flushed to disk and renamed, so that a kill at any moment
leaves either all of it or nothing. sums.json holds every file's sha256: a torn or altered file is
named when it is read, and the checkpoint before it is used. The last two are kept.

    RUN/kept/step-00000400.safetensors      weights alone, of every keep_every-th step, for good
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtp.config import ModelConfig, TrainConfig, from_dict
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer
from mtp.parse import parse
from mtp.shards import file_sha256, sync

KEEP = 2

# The weights of a layer: ours, which are Meta's too, and Hugging Face's.
LAYER = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@dataclass(frozen=True)
class Checkpoint:
    """`sha256` is that of the file the weights were read from."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]
    sha256: str = ""


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` and drop all but the newest KEEP.

    Raises OSError (a full disk) without touching what is there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    half = folder / f".half-{checkpoint.step:08d}"
    for left in folder.glob(".half-*"):  # by a killed save
        shutil.rmtree(left, ignore_errors=True)
    try:
        half.mkdir()
        save_tensors(checkpoint.model, half / "model.safetensors")
        save_tensors(checkpoint.optimizer, half / "optimizer.safetensors")
        (half / "state.json").write_text(json.dumps(checkpoint.state))
        sums = {path.name: file_sha256(path) for path in sorted(half.iterdir())}
        (half / "sums.json").write_text(json.dumps(sums))
        for path in half.iterdir():
            sync(path)
        sync(half)
    except OSError:
        shutil.rmtree(half, ignore_errors=True)
        raise
    if final.exists():  # saved before, then found damaged
        shutil.rmtree(final)
    half.rename(final)
    sync(folder)
    for old in _saved(folder)[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load(folder: Path, weights_only: bool = False) -> Checkpoint | None:
    """The newest checkpoint in `folder` that is whole; None where there is none at all.

    A damaged one is named on stderr and the one before it is taken. Raises BadInput where
    checkpoints exist and all are damaged. `weights_only` leaves the optimizer unread.
    """
    damage = ""
    for path in reversed(_saved(folder)):
        try:
            return _read(path, weights_only)
        except BadInput as error:
            damage = str(error)
            print(f"warning: {damage}; trying the checkpoint before it", file=sys.stderr)
    if damage:
        raise BadInput(f"{damage}; no earlier one is whole: delete {folder} to start over")
    return None


def load_model(run: Path, device: str = "cpu") -> MultiTokenTransformer:
    """The trained model of a run's folder, in float32. Raises BadInput where there is none."""
    return with_weights(run_config(run).model, trained(run).model, run).to(device)


def run_config(run: Path) -> TrainConfig:
    """The config of a run's folder; BadInput where it is none."""
    try:
        return from_dict(TrainConfig, parse((run / "config.json").read_bytes()))
    except (OSError, ValueError) as error:
        raise BadInput(f"{run} is no run: its config.json cannot be read ({error})") from None
    except BadInput as error:
        raise BadInput(f"{run} is no run: {error}") from None


def trained(run: Path) -> Checkpoint:
    """A run's newest whole checkpoint, its weights alone; BadInput where there is none."""
    must_be_saved(run)
    found = load(run / "checkpoint", weights_only=True)
    assert found is not None
    return found


def must_be_saved(run: Path, step: int | None = None) -> None:
    """BadInput where a run has no weights, or none kept of a step. Nothing is read."""
    if step is not None and not (file := kept_file(run, step)).is_file():
        raise BadInput(f"{file} cannot be read: No such file")
    if step is None and not any_saved(run / "checkpoint"):
        raise BadInput(f"{run} has no checkpoint yet; train it first")


def with_weights(
    config: ModelConfig, weights: dict[str, Tensor], where: object = "the checkpoint"
) -> MultiTokenTransformer:
    """A model of this config holding these weights; BadInput where they do not fit. `where` they
    are from."""
    expected = shapes_of(config, weights, where)
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(set(expected.items()) ^ set(got.items())):
        name = wrong[0][0]
        raise BadInput(
            f"checkpoint weight {name!r} has shape {got.get(name, 'none')}, "
            f"the config wants {expected.get(name, 'none')}"
        )
    model = MultiTokenTransformer.uninitialised(config)
    model.load_state_dict(weights)
    return model


def shapes_of(
    config: ModelConfig, found: Mapping[str, Tensor], where: object
) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights, by our names. BadInput where those that are `found`, under
    whichever format's names, are of fewer layers or heads, or none can be as large."""
    # first, since the names and shapes of a billion layers would fill the memory
    wanted, held = config.layers + config.extra_layers, layers_among(found)
    if wanted > held:
        raise BadInput(f"{where} has the weights of {held} layers; its config wants {wanted}")
    if config.n > len(found):  # heads that are no layers have a weight each
        raise BadInput(f"{where} has {len(found)} weights; its config wants {config.n} heads")
    try:
        with torch.device("meta"):
            model = MultiTokenTransformer(config)
    except (RuntimeError, TypeError, OverflowError):  # what torch has for sizes past 64 bits
        raise BadInput(f"the config of {where} wants weights larger than a tensor can be") from None
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def layers_among(names: Iterable[str]) -> int:
    """How many transformer layers weights of these names belong to, whichever format's they are."""
    ends = tuple(f".{part}.weight" for pair in LAYER.items() for part in pair)
    return len({name.removesuffix(end) for name in names for end in ends if name.endswith(end)})


def keep(run: Path, step: int, weights: dict[str, Tensor]) -> None:
    """Write the weights of a step to RUN/kept, whole or not at all."""
    folder = run / "kept"
    folder.mkdir(exist_ok=True)
    half = folder / f".half-{step:08d}"
    try:
        save_tensors(weights, half)
        sync(half)
    except OSError:
        half.unlink(missing_ok=True)
        raise
    half.rename(kept_file(run, step))
    sync(folder)


def kept_file(run: Path, step: int) -> Path:
    return run / "kept" / f"step-{step:08d}.safetensors"


def kept_step(file: Path) -> int | None:
    """The step of a path RUN/kept/step-STEP.safetensors; None: it is no such path."""
    found = re.fullmatch(r"step-(\d{8,})\.safetensors", file.name)
    return int(found[1]) if found and file.absolute().parent.name == "kept" else None


def load_kept(run: Path, step: int, config: ModelConfig) -> MultiTokenTransformer:
    """The model as it was at a kept step. BadInput where its file is no whole one."""
    file = kept_file(run, step)
    try:
        return with_weights(config, load_file(file))
    except (OSError, SafetensorError, BadInput) as error:
        raise BadInput(f"kept weights {file} cannot be read: {error}") from None


def any_saved(folder: Path) -> bool:
    """Whether there are checkpoints in `folder`, whole or not."""
    return bool(_saved(folder))


def newest_whole_step(folder: Path) -> int:
    """The step of the checkpoint that `load` would take; 0 where there is none."""
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
    optimizer = {} if weights_only else load_file(path / "optimizer.safetensors")
    state = json.loads((path / "state.json").read_text())
    model = load_file(path / "model.safetensors")
    return Checkpoint(state["step"], model, optimizer, state, sums["model.safetensors"])


def save_tensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file; OSError where the disk is full."""
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata)
    except SafetensorError as error:  # it hides the operating system's error
        if number := re.search(r"os error (\d+)", str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
        raise
