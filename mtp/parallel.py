"""Devices, precision and FSDP2: how one step runs on this machine.

`choose_engine` picks the device, the precision, the attention kernel and compilation for a config,
and says in one line what it chose and why. The rules come from measurements (make bench-engine);
what depends on the machine is measured at start-up. A run keeps its engine when it is resumed.
"""

import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer, flops_per_token
from mtp.transformer import use_kernel

# Dense bf16 peaks in FLOP/s, from the vendors' data sheets, for MFU.
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "B200": 2250e12, "A100": 312e12, "L40S": 362e12}

MATMUL_ATTENTION_UP_TO = 512  # positions, on a CPU; longer scores outgrow its caches
COMPILE_FROM_SECONDS = 30.0  # of estimated training; a compilation takes 10 to 30 s


@dataclass(frozen=True)
class Engine:
    """precision: float32 | bf16 (bf16 weights, float32 masters) | autocast.
    attention: sdpa | matmul (mtp/transformer.py)."""

    device: str
    precision: str
    attention: str
    compile: bool
    threads: int
    reason: str


def choose_engine(config: TrainConfig) -> Engine:
    """The engine for this config, its budget in tokens, on this machine."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    reasons = [device_name() + (f" x {threads} threads" if device == "cpu" else "")]
    precision, attention, compile_ = config.precision, config.attention, config.compile
    if precision == "auto":
        gain = bf16_gain(device)
        precision = "bf16" if gain > 1.5 else "float32"
        reasons.append(f"{precision}: bf16 products are {gain:.1f}x float32 here")
    if attention == "auto":
        short = device == "cpu" and config.model.context <= MATMUL_ATTENTION_UP_TO
        attention = "matmul" if short else "sdpa"
        reasons.append(f"{attention} attention: T={config.model.context} on {device}")
    if compile_ == "auto":
        seconds = _estimated_seconds(config, device)
        if device == "cpu" and not has_compiler():
            compile_, why = "off", "no C++ compiler"
        elif device == "cpu" and attention == "sdpa":
            # 0.83 and 1.08 of eager's tokens/s at 1024 positions in two runs of make bench-engine
            compile_, why = "off", "no gain with sdpa on a CPU"
        elif seconds < COMPILE_FROM_SECONDS:
            compile_, why = "off", f"about {seconds:.0f} s of work would not repay it"
        else:
            compile_, why = "on", f"about {seconds:.0f} s of work"
        reasons.append(f"compile {compile_}: {why}")
    return Engine(device, precision, attention, compile_ == "on", threads, "; ".join(reasons))


def device_name() -> str:
    """The accelerator's name, or the processor's."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line for line in file if line.startswith("model name"))
        return model.split(":")[1].strip()
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def bf16_gain(device: str, size: int = 512) -> float:
    """How many times faster a bf16 matrix product is than a float32 one (a few milliseconds)."""

    def seconds(dtype: torch.dtype) -> float:
        a, best = torch.ones(size, size, device=device, dtype=dtype), float("inf")
        for _ in range(5):
            synchronize(device)
            start = time.perf_counter()
            torch.mm(a, a)
            synchronize(device)
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(torch.float32) / seconds(torch.bfloat16)


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def peak_flops(engine: Engine) -> float | None:
    """The device's dense bf16 peak in FLOP/s, None where unknown."""
    name = device_name() if engine.device == "cuda" else ""
    return next((peak for key, peak in PEAK_FLOPS.items() if key in name), None)


def peak_memory(engine: Engine) -> float:
    """Peak memory so far in bytes: the device's allocations, or the process's resident size."""
    if engine.device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def expected_flops() -> tuple[float, str]:
    """A rough guess of the FLOP/s that training reaches here, and on what: 40% of a known GPU's
    peak, 1e11 per CPU core."""
    if not torch.cuda.is_available():
        return 1e11 * cores(), f"{cores()} cores of {device_name()}"
    gpus, name = torch.cuda.device_count(), torch.cuda.get_device_name()
    peak = next((peak for key, peak in PEAK_FLOPS.items() if key in name), 1e14)
    return 0.4 * peak * gpus, f"{gpus} x {name}"


def has_compiler() -> bool:
    """Whether torch.compile can work on a CPU."""
    return bool(shutil.which("g++") or shutil.which("clang++"))


def _estimated_seconds(config: TrainConfig, device: str) -> float:
    """A rough guess of the training time, for deciding on compilation."""
    rate = expected_flops()[0] if device == "cuda" else 1e11 * torch.get_num_threads()
    return config.tokens * flops_per_token(config.model) / rate


# --------------------------------------------------------------------------------------------------
# several devices


def start_distributed() -> tuple[int, int]:
    """(rank, world size), joining torch.distributed where torchrun or Slurm has set it up."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return (dist.get_rank(), world) if world > 1 else (0, 1)


def wait_for_all() -> None:
    """Until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def first_ranks(engine: Engine) -> Engine:
    """The first rank's engine on every rank: what each measures may differ."""
    if not dist.is_initialized():
        return engine
    told = [engine]
    dist.broadcast_object_list(told)
    return told[0]


def any_rank(flag: bool, device: str) -> bool:
    """True if any rank's flag is."""
    if not dist.is_initialized():
        return flag
    told = torch.tensor(float(flag), device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def sum_over_ranks(values: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


# --------------------------------------------------------------------------------------------------
# a model ready to train


class Trainable:
    """A model set up for an engine, and the float32 weights that the optimizer updates.

    bf16      the model computes with bf16 weights; float32 masters hold the truth
    FSDP2     weights are float32 shards, gathered in the compute type layer by layer
    otherwise the model's own float32 weights
    """

    def __init__(self, model: MultiTokenTransformer, engine: Engine, world: int = 1) -> None:
        model.to(engine.device)
        use_kernel(model, engine.attention, model.config.context, engine.device)
        self.engine = engine
        self.masters: dict[str, Tensor] | None = None
        if world > 1:
            shard(model, engine)
        elif engine.precision == "bf16":
            self.masters = {n: p.detach().clone() for n, p in model.named_parameters()}
            model.bfloat16()
        if engine.compile:
            for layer in (*model.trunk, *model.heads):
                layer.compile(dynamic=False)
        self.model = model

    def weights(self) -> dict[str, Tensor]:
        """The float32 weights by name."""
        return self.masters or dict(self.model.named_parameters())

    def collect_gradients(self) -> None:
        """After each backward: add the bf16 gradients to the masters' float32 ones."""
        if self.masters is None:
            return
        for master, p in zip(self.masters.values(), self.model.parameters(), strict=True):
            if p.grad is None:
                continue
            if master.grad is None:
                master.grad = p.grad.float()
            else:
                master.grad += p.grad
            p.grad = None

    @torch.no_grad()
    def publish(self) -> None:
        """After the optimizer's step: round the masters into the model's bf16 weights."""
        if self.masters is not None:
            for p, master in zip(self.model.parameters(), self.masters.values(), strict=True):
                p.copy_(master)

    def reshard(self) -> None:
        """After a forward pass without a backward, which would leave FSDP2's weights gathered."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()

    def autocast(self) -> torch.autocast:
        on = self.engine.precision == "autocast"
        return torch.autocast(self.engine.device, torch.bfloat16, enabled=on)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self.weights().items():
            assign(weight, weights[name])
        self.publish()


def shard(model: MultiTokenTransformer, engine: Engine) -> None:
    """Shard every layer, then the rest, with FSDP2; `latents` becomes a forward of its own."""
    dtype = None if engine.precision == "float32" else torch.bfloat16
    # the inputs' types are right already, and the rotary table stays float32
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for layer in (*model.trunk, *model.heads):
        if any(True for _ in layer.parameters()):
            fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    register_fsdp_forward_method(model, "latents")


def whole(tensor: Tensor) -> Tensor:
    """A full copy on the CPU of a possibly sharded tensor (a collective call where it is)."""
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.detach().cpu()


def assign(target: Tensor, source: Tensor) -> None:
    """Copy a full tensor into a possibly sharded one."""
    if isinstance(target, DTensor):
        source = distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
    target.copy_(source)


def clip_gradients(weights: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients to norm `limit` at most; the norm before, on every rank the same."""
    norm = nn.utils.clip_grad_norm_(weights, limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def check_scheme(config: TrainConfig, world: int) -> None:
    """FSDP sees one backward per step in `fused` alone."""
    if world > 1 and config.loss != "fused":
        raise BadInput(f"loss {config.loss!r} runs on one device; choose fused for {world}")


def keep_engine(chosen: Engine, saved: dict[str, object] | None) -> Engine:
    """The engine of a run that goes on: the saved choices, on today's threads and device."""
    if saved is None or saved["device"] != chosen.device:
        return chosen
    kept = {key: saved[key] for key in ("precision", "attention", "compile")}
    return dataclasses.replace(chosen, **kept, reason="as the run began")  # pyright: ignore
