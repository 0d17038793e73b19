"""This machine: its accelerator or processor, peak speed, memory and compiler.

torch takes a second to import, so each function that asks it does so itself.
"""

import os
import shutil
import sys
from typing import NamedTuple

from mtp.errors import choose

# Files of the drivers of NVIDIA, Jetson, AMD, and Windows's Linux.
DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/nvgpu", "/dev/kfd", "/dev/dxg")


class GPU(NamedTuple):
    """Dense bf16 peak in FLOP/s and memory in bytes, from the vendor's data sheet."""

    peak: float
    memory: float


# By the words of the name that the driver gives; those of one part differ by form: "NVIDIA H100
# 80GB HBM3" is the SXM part, "NVIDIA H100 PCIe" has three quarters of its peak.
GPUS = {
    "H100": GPU(989e12, 80e9),
    "H100 PCIe": GPU(756e12, 80e9),
    "H100 NVL": GPU(835e12, 94e9),
    "H200": GPU(989e12, 141e9),
    "H200 NVL": GPU(835e12, 141e9),
    "GH200": GPU(990e12, 96e9),
    "B200": GPU(2250e12, 180e9),
    "A100": GPU(312e12, 80e9),
    "A100 40GB": GPU(312e12, 40e9),
    "L40S": GPU(362e12, 48e9),
    "L4": GPU(121e12, 24e9),
    "A10": GPU(125e12, 24e9),
    "RTX 4090": GPU(165e12, 24e9),
}
GPU_SHARE = 0.4  # of its peak that training is expected to reach


def has_gpu() -> bool:
    """Whether torch can use a GPU. Where no driver has its device file, torch is not asked."""
    if "torch" not in sys.modules and not any(map(os.path.exists, DRIVERS)):
        return False
    import torch

    return torch.cuda.is_available()


def default_device() -> str:
    """cuda if there is a GPU, else cpu."""
    return "cuda" if has_gpu() else "cpu"


def device_name() -> str:
    """The name of the accelerator, or of the processor if there is none."""
    if has_gpu():
        import torch

        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line for line in file if line.startswith("model name"))
        return model.split(":")[1].strip()
    except (OSError, StopIteration):
        import platform

        return platform.processor() or platform.machine()


def cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


def gpu_named(name: str) -> GPU | None:
    """The GPU that the driver calls `name`; None if it is unknown, or a part of one (MIG).

    >>> gpu_named("NVIDIA H100 PCIe").peak
    756000000000000.0
    """
    words = set(name.replace("-", " ").split())
    keys = [key for key in GPUS if words.issuperset(key.split())]
    return None if "MIG" in words or not keys else GPUS[max(keys, key=len)]


def peak_flops(name: str) -> float | None:
    """The dense bf16 peak, in FLOP/s, of the accelerator of this name; None if unknown."""
    gpu = gpu_named(name)
    return gpu.peak if gpu else None


def total_memory(device: str) -> float:
    """Bytes of this GPU's memory, or of the machine's."""
    import torch

    if device == "cuda":
        return float(torch.cuda.get_device_properties().total_memory)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def peak_memory(device: str) -> float:
    """Peak memory so far in bytes: allocations on a GPU, the process's resident size on a CPU."""
    import torch

    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def expected_flops() -> tuple[float, str]:
    """A rough guess of the FLOP/s that training reaches here, and the hardware that it is for: 40%
    of a known GPU's peak, or 1e11 per CPU core."""
    if not has_gpu():
        return 1e11 * cores(), f"{cores()} cores of {device_name()}"
    import torch

    gpus, name = torch.cuda.device_count(), torch.cuda.get_device_name()
    return GPU_SHARE * (peak_flops(name) or 1e14) * gpus, f"{gpus} x {name}"


def flops_of(gpu: str, count: int) -> tuple[float, str]:
    """The same for `count` GPUs of a name in GPUS, which this machine need not have."""
    choose("GPU", gpu, GPUS)
    return GPU_SHARE * GPUS[gpu].peak * count, f"{count} x {gpu}"


def other_load() -> str:
    """A line of advice if other programs keep this machine's cores busy and torch uses several;
    else ""."""
    import torch

    threads = torch.get_num_threads()
    if has_gpu() or threads == 1 or not hasattr(os, "getloadavg"):
        return ""
    load = os.getloadavg()[0]
    if load < cores():
        return ""
    return (
        f"warning: other programs keep the {cores()} cores busy (load {load:.1f}); with "
        "OMP_NUM_THREADS=1 threads do not wait for each other"
    )


def has_compiler() -> bool:
    """Whether torch.compile can work on a CPU."""

    return bool(shutil.which("g++") or shutil.which("clang++"))
