"""Several processes that train one run: ranks, collectives, and sharding with FSDP2."""

import os
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

T = TypeVar("T")


def start() -> tuple[int, int]:
    """Rank and world size; joins torch.distributed if torchrun or Slurm has set it up."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), world) if world > 1 else (0, 1)


def wait_for_all() -> None:
    """Wait until every rank has called this."""
    if dist.is_initialized():
        dist.barrier()


def from_first_rank(value: T) -> T:
    """The first rank's value, on every rank."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def true_on_any_rank(flag: bool, device: str) -> bool:
    """Whether the flag is set on any rank."""
    if not dist.is_initialized():
        return flag
    either = torch.tensor(float(flag), device=device)
    dist.all_reduce(either, dist.ReduceOp.MAX)
    return bool(either.item())


def sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def shard(model: MultiTokenTransformer, precision: str) -> None:
    """Shard every layer, then the rest, with FSDP2; `latents` counts as a forward method too."""
    dtype = None if precision == "float32" else torch.bfloat16
    # inputs have the right types already, and the rotary table stays in float32
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for layer in (*model.trunk, *model.heads):
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    register_fsdp_forward_method(model, "latents")


def full_copy(tensor: Tensor) -> Tensor:
    """A full copy, on the CPU, of a tensor; a collective call if the tensor is sharded."""
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.detach().cpu()


def copy_into(target: Tensor, source: Tensor) -> None:
    """Copy a full tensor into a possibly sharded one."""
    if isinstance(target, DTensor):
        source = distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
    target.copy_(source)


def check_scheme(config: TrainConfig, world: int) -> None:
    """Raise BadInput for a scheme that FSDP cannot train: only `fused` has one backward pass."""
    if world > 1 and config.scheme != "fused":
        raise BadInput(
            f"scheme {config.scheme!r} runs on one device; choose scheme=fused for {world}"
        )
