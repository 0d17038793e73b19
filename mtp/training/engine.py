"""The engine: device, precision, attention kernel and compilation of a run on this machine.

`choose_engine` chooses all four for a config and says in one line what it chose and why. The rules
come from measurements (make bench-engine). A run keeps its engine when it continues.
"""

import time
from dataclasses import dataclass
from typing import Any

import torch

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.hardware import core_flops, default_device, device_name, expected_flops, has_compiler
from mtp.model.sizes import run_flops_per_token

MATMUL_ATTENTION_UP_TO = 512  # positions, on a CPU; scores of longer texts outgrow its caches
COMPILE_FROM_SECONDS = 30.0  # of estimated training; compiling takes 10 to 30 s


@dataclass(frozen=True)
class Engine:
    """precision: float32 | bf16 (bf16 weights, float32 masters) | autocast.
    attention: sdpa | matmul (mtp/model/transformer.py)."""

    device: str
    precision: str
    attention: str
    compile: bool
    threads: int
    reason: str


def choose_engine(
    config: TrainConfig, precision: str = "", begun: dict[str, Any] | None = None
) -> Engine:
    """The engine on this machine for a config whose budget is in tokens.

    precision  for a config that says "auto", if a launcher has decided it for all runs of a study
    begun      the engine of a run that continues, from its checkpoint. On the same device its
               precision is kept, since it defines the result; so are attention and compilation
               where the config leaves them open. On another device all is chosen anew.
    """
    device = default_device()
    if begun and begun["device"] != device:
        begun = None
    threads = torch.get_num_threads()
    reasons = [device_name() + (f" x {threads} threads" if device == "cpu" else "")]
    attention, compile_ = config.attention, config.compile
    if begun:
        precision = begun["precision"]
        reasons.append(f"{precision}, as the run began")
    elif config.precision != "auto":
        precision = config.precision
    elif precision:
        reasons.append(f"{precision}, as in the study's other runs")
    else:
        precision, reason = auto_precision(device)
        reasons.append(f"{precision}: {reason}")
    if attention == "auto" and begun:
        attention = begun["attention"]
        reasons.append(f"{attention} attention, as the run began")
    elif attention == "auto":
        short = device == "cpu" and config.model.context <= MATMUL_ATTENTION_UP_TO
        attention = "matmul" if short else "sdpa"
        reasons.append(f"{attention} attention: T={config.model.context} on {device}")
    if compile_ == "on" and device == "cpu" and not has_compiler():
        raise BadInput("compile=on needs a C++ compiler such as g++; install one, or compile=auto")
    if compile_ == "auto" and begun:
        compile_ = "on" if begun["compile"] else "off"
        reasons.append(f"compile {compile_}, as the run began")
    elif compile_ == "auto":
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


def auto_precision(device: str) -> tuple[str, str]:
    """The precision to train in, and why. A GPU's compute capability decides, on a CPU a
    measurement."""
    if device == "cuda":
        major, minor = torch.cuda.get_device_capability()
        fast = (major, minor) >= (8, 0)
        return "bf16" if fast else "float32", f"compute capability {major}.{minor}"
    gain = bf16_gain()
    precision = "bf16" if gain > 1.5 else "float32"
    return precision, f"bf16 products are {gain:.1f}x float32 here"


def bf16_gain(size: int = 512) -> float:
    """How many times faster a bf16 matrix product is than a float32 one on this CPU, measured in a
    few milliseconds."""

    def seconds(dtype: torch.dtype) -> float:
        a, best = torch.ones(size, size, dtype=dtype), float("inf")
        for _ in range(5):
            start = time.perf_counter()
            torch.mm(a, a)
            best = min(best, time.perf_counter() - start)
        return best

    return seconds(torch.float32) / seconds(torch.bfloat16)


def _estimated_seconds(config: TrainConfig, device: str) -> float:
    """A rough guess of the training time, for deciding on compilation."""
    on_cpu = core_flops(config.model.dim) * torch.get_num_threads()
    rate = expected_flops()[0] if device == "cuda" else on_cpu
    return config.tokens * run_flops_per_token(config) / rate
