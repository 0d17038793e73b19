"""Checkpoints in shards, which all ranks of a run write and read at once, with
torch.distributed.checkpoint.

    step-00000400/   .metadata  __0_0.distcp  __1_0.distcp ..  state.json  sums.json

Each rank writes its own shards to a file of its own, and hashes it. Any number of ranks can read
them, one process without torch.distributed included: each reads what belongs to its own shards.
"""

from __future__ import annotations

import contextlib
import json
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor, distribute_tensor

from mtp.errors import BadInput
from mtp.files import atomic_folder, file_sha256

METADATA = ".metadata"


def save(
    final: Path,
    tensors: dict[str, Tensor],
    state: dict[str, Any],
    group: dist.ProcessGroup,
) -> None:
    """Write a checkpoint; every rank calls it with its shards. `final` appears at the end, whole.

    group  of the collectives; its backend must work on the CPU

    Raises OSError or an error of torch.distributed.checkpoint, on all ranks, if a rank cannot
    write; the checkpoints that are there stay.
    """
    first = dist.get_rank(group) == 0
    half = final.with_name(f".half-{final.name}")
    with atomic_folder(final) if first else contextlib.nullcontext():
        dist.barrier(group)  # the folder is there
        writer = FileSystemWriter(half, single_file_per_rank=True, sync_files=True)
        state_dict_saver.save(dict(tensors), storage_writer=writer, process_group=group)
        own = {p.name: file_sha256(p) for p in half.glob(f"__{dist.get_rank(group)}_*.distcp")}
        found: list[dict[str, str]] = [{}] * dist.get_world_size(group)
        dist.gather_object(own, found if first else None, group=group)
        if first:
            (half / "state.json").write_text(json.dumps(state))
            sums = {name: file_sha256(half / name) for name in (METADATA, "state.json")}
            for each in found:
                sums |= each
            (half / "sums.json").write_text(json.dumps(sums))
    dist.barrier(group)


def is_sharded(checkpoint: Path) -> bool:
    return (checkpoint / METADATA).exists()


def shapes(checkpoint: Path) -> dict[str, torch.Size]:
    """The shapes of a checkpoint's tensors by name. Raises BadInput if it is damaged."""
    try:
        found = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise BadInput(f"checkpoint file {checkpoint / METADATA} cannot be read: {error}") from None
    return {name: t.size for name, t in found.items() if isinstance(t, TensorStorageMetadata)}


def read_into(checkpoint: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, sharded ones too, from a checkpoint, whatever number of ranks wrote it. A
    collective call if torch.distributed is at work."""
    _load(checkpoint, tensors, alone=not dist.is_initialized())


def read(checkpoint: Path, names: Iterable[str]) -> dict[str, Tensor]:
    """Whole tensors on the CPU, in one process."""
    size = shapes(checkpoint)
    tensors = {name: torch.empty(size[name]) for name in names}
    _load(checkpoint, tensors, alone=True)
    return tensors


@torch.no_grad()
def _load(checkpoint: Path, tensors: Mapping[str, Tensor], alone: bool) -> None:
    with warnings.catch_warnings():  # torch announces that it loads in one process
        warnings.simplefilter("ignore", UserWarning)
        reader = FileSystemReader(checkpoint)
        state_dict_loader.load(dict(tensors), storage_reader=reader, no_dist=alone)


@torch.no_grad()
def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a full tensor, which every rank has, into a possibly sharded one. No communication."""
    if isinstance(target, DTensor):
        source = source.to(target.device)
        mesh, placements = target.device_mesh, target.placements
        source = distribute_tensor(source, mesh, placements, src_data_rank=None)
    target.copy_(source)
