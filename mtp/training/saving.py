"""Saving and finding the checkpoints of a run, whatever the number of its ranks.

One process writes safetensors. Several write their shards at once (mtp/sharded.py), from a copy in
main memory and in a thread of its own, so that training goes on meanwhile.
"""

import functools
import threading
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from mtp import checkpoint, sharded
from mtp.checkpoint import Checkpoint, Saved
from mtp.training import distributed


class Saver:
    """Reads and writes a run's checkpoints, in `folder`. All ranks make one and call it alike."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thread: threading.Thread | None = None
        self.error: Exception | None = None
        self.group = distributed.new_cpu_group()  # for the thread
        self.meshes: dict[DeviceMesh, DeviceMesh] = {}
        self.seconds = 0.0  # that the last save took, from its call to its end

    def newest(self) -> Saved | None:
        """The newest checkpoint that all ranks find undamaged, each having verified its share of
        the files; they see the folder that the first rank sees. As checkpoint.newest otherwise."""
        if self.group is None:
            return checkpoint.newest(self.folder)
        paths = distributed.from_first_rank(checkpoint.saved(self.folder))
        return checkpoint.newest(self.folder, check=self.damage, paths=paths)

    def damage(self, path: Path, weights_only: bool = False) -> str:
        """What is wrong with a checkpoint, of any folder, the same on all ranks; "" if nothing is.
        Each rank verifies its share of the files."""
        if self.group is None:
            return checkpoint.damage(path, weights_only)
        own = checkpoint.damage(path, weights_only, dist.get_rank(), dist.get_world_size())
        return distributed.first_of_ranks(own, self.group)

    def save(
        self,
        weights: dict[str, Tensor],
        moments: dict[str, Tensor],
        state: dict[str, Any],
        folder: Path | None = None,
    ) -> None:
        """Save a checkpoint of step `state["step"]`, after the one before it is written, into
        another `folder` if one is given. Several ranks have only begun to write when this returns;
        `wait` waits for them. Raises what went wrong with the checkpoint before."""
        self.wait()
        folder = folder or self.folder
        began = time.monotonic()
        if self.group is None:
            whole = Checkpoint(state["step"], weights, moments, state)
            checkpoint.save(folder, whole)
            self.seconds = time.monotonic() - began
            return
        named = {f"model.{name}": w for name, w in weights.items()} | moments
        copies = distributed.staged(named, self.meshes)
        write = functools.partial(self._write, folder, copies, state, began)
        self.thread = threading.Thread(target=write, name="saving", daemon=True)
        self.thread.start()

    def wait(self) -> None:
        """Wait until the checkpoint is written. Raises what went wrong."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def _write(
        self, folder: Path, tensors: dict[str, Tensor], state: dict[str, Any], began: float
    ) -> None:
        first = dist.get_rank() == 0
        assert self.group is not None
        try:
            if first:
                checkpoint.prepare(folder)
            final = checkpoint.path_of(folder, state["step"])
            sharded.save(final, tensors, state, self.group)
            if first:
                checkpoint.drop_old(folder)
            self.seconds = time.monotonic() - began
        except Exception as error:  # raised by `wait`, in the thread that trains
            self.error = error
