"""Several processes that train one run: ranks, collectives, and sharding with FSDP2.

The ranks form a mesh (replicas, shards): the weights are sharded over `shards` ranks, and each
group of that many ranks has all of them. With one replica this is FSDP, with several HSDP, whose
gathers stay within a group, a node say.
"""

import os
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

T = TypeVar("T")
TIMEOUT = timedelta(hours=2)  # of a collective; the first rank may read or write for long


def start() -> tuple[int, int]:
    """Rank and world size; joins torch.distributed if torchrun or Slurm has set it up.

    Tensors on the CPU go through gloo, those on GPUs through NCCL.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        backend = "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=TIMEOUT)
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
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


def true_on_any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. Through main memory, so that no GPU is waited for."""
    if not dist.is_initialized():
        return flag
    either = torch.tensor(float(flag))
    dist.all_reduce(either, dist.ReduceOp.MAX)
    return bool(either.item())


def first_of_ranks(message: str, group: dist.ProcessGroup | None) -> str:
    """The message of the first rank that has one, on every rank of the group; "" if none has."""
    messages: list[str] = [""] * dist.get_world_size(group)
    dist.all_gather_object(messages, message, group=group)
    return next(filter(None, messages), "")


def new_cpu_group() -> dist.ProcessGroup | None:
    """A group of all ranks through main memory, for another thread or for Python objects; made by
    all ranks at once. None in a run of one process."""
    if not dist.is_initialized():
        return None
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)
    return group


def sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


# --------------------------------------------------------------------------------------------------
# sharding


def mesh_of(world: int, shards: int, device: str) -> DeviceMesh | None:
    """The mesh of a run; None for one process. `shards` ranks hold the weights together (0: all).
    Raises BadInput if they do not divide the ranks."""
    if world == 1:
        return None
    shards = shards or world
    if world % shards:
        raise BadInput(f"shard={shards} does not divide the run's {world} ranks; choose a divisor")
    if shards == world:
        return init_device_mesh(device, (world,), mesh_dim_names=("shards",))
    return init_device_mesh(
        device, (world // shards, shards), mesh_dim_names=("replicas", "shards")
    )


def shard(model: MultiTokenTransformer, precision: str, mesh: DeviceMesh) -> None:
    """Shard every layer, then the rest, with FSDP2, of averaged copies first; `latents` and the
    like count as forward methods too."""
    dtype = None if precision == "float32" else torch.bfloat16
    # inputs have the right types already, and the rotary table stays in float32
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for each in (*model.copies().values(), model):
        for layer in (*each.trunk, *each.heads):
            if any(True for _ in layer.parameters()):
                fully_shard(layer, mesh=mesh, mp_policy=policy)
        fully_shard(each, mesh=mesh, mp_policy=policy)
        for method in ("latents", "latents_of_leaf", "first_latent"):
            register_fsdp_forward_method(each, method)


def reduce_next(model: torch.nn.Module, reduce: bool) -> None:
    """Whether the next backward pass of a sharded model reduces and shards the gradients. If not,
    they stay whole on each rank, and the next ones are added: that saves a reduction for each
    accumulation step but the last, for the memory of whole gradients."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(reduce)
        model.set_is_last_backward(reduce)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor; a collective call if the tensor is sharded."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def staged(tensors: dict[str, Tensor], meshes: dict[DeviceMesh, DeviceMesh]) -> dict[str, Tensor]:
    """Copies of sharded tensors in main memory, each rank of its own shards. `meshes` keeps the
    meshes of processors that are made for those of GPUs."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        assert isinstance(tensor, DTensor)
        mesh = tensor.device_mesh
        if mesh not in meshes:
            on_cpu = mesh.device_type == "cpu"
            names = mesh.mesh_dim_names
            meshes[mesh] = mesh if on_cpu else DeviceMesh("cpu", mesh.mesh, mesh_dim_names=names)
        found[name] = DTensor.from_local(
            tensor.to_local().detach().to("cpu", copy=True),
            meshes[mesh],
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )
    return found


def check_scheme(config: TrainConfig, world: int) -> None:
    """Raise BadInput for a scheme that FSDP cannot train: only `fused` has one backward pass."""
    if world > 1 and config.scheme != "fused":
        raise BadInput(
            f"scheme {config.scheme!r} runs on one device; choose scheme=fused for {world}"
        )


def check_pairs(config: TrainConfig, world: int) -> None:
    """Raise BadInput if a rank's sequences are no pairs, which targets=shuffled exchanges."""
    if config.objective.targets == "shuffled" and config.batch // world % 2:
        raise BadInput(
            f"objective.targets=shuffled exchanges pairs of sequences; batch {config.batch} over "
            f"{world} ranks must be an even number for each"
        )
