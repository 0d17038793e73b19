"""This machine: its accelerator or processor, peak speed, memory and compiler.

torch takes a second to import, so each function that asks it does so itself.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

from mtp.errors import BadInput, choose

if TYPE_CHECKING:
    import torch

# Files of the drivers of NVIDIA, Jetson, AMD, and Windows's Linux.
DRIVERS = ("/dev/nvidiactl", "/dev/nvhost-ctrl", "/dev/nvgpu", "/dev/kfd", "/dev/dxg")

# Dense bf16 peaks with float32 accumulation, in FLOP/s, by part, from the vendor's data sheets
# (half of a number "with sparsity"). Without a form in its name, a part is the SXM one.
PEAK_FLOPS = {
    "H100": 989e12,
    "H200": 989e12,
    "H100-NVL": 835e12,
    "H200-NVL": 835e12,
    "H100-PCIe": 756e12,
    "GH200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX-4090": 165e12,
}
# Words of the names that drivers report which do not tell these parts apart.
NO_PART = re.compile(r"NVIDIA|TESLA|GEFORCE|SXM\d?|HBM3E?|\d+GB")
GPU_MEMORY = {  # bytes, by the same names; of parts that come in two sizes the larger
    "H100": 80e9, "H100-PCIe": 80e9, "H100-NVL": 94e9, "H200": 141e9, "H200-NVL": 141e9,
    "GH200": 96e9, "B200": 180e9, "A100": 80e9, "L40S": 48e9, "L4": 24e9, "A10": 24e9,
    "RTX-4090": 24e9,
}  # fmt: skip
PRECISIONS = {"float32": "float32", "bf16": "bfloat16"}  # of weights: torch's names
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


def use_device(name: str) -> str:
    """`name` (cpu, cuda or cuda:N), where cuda:N becomes the GPU that torch means by "cuda". Raises
    BadInput for any other name and for a GPU that is not here."""
    if name == "cpu":
        return name
    if not (found := re.fullmatch(r"cuda(?::(\d{1,4}))?", name)):
        raise BadInput(f"unknown device {name!r}; choose one of: cpu, cuda, cuda:N")
    if not has_gpu():
        raise BadInput(f"there is no {name}: torch sees no GPU here; choose cpu")
    import torch

    if found[1]:
        if int(found[1]) >= (count := torch.cuda.device_count()):
            raise BadInput(f"there is no {name}; the last of the {count} GPUs is cuda:{count - 1}")
        torch.cuda.set_device(int(found[1]))
    return name


def dtype_of(precision: str) -> torch.dtype:
    """torch's type for float32 or bf16; BadInput for anything else."""
    choose("precision", precision, PRECISIONS)
    import torch

    return getattr(torch, PRECISIONS[precision])


def device_name(device: str = "") -> str:
    """The name of a device, by default of the accelerator, or of the processor if there is none."""
    if has_gpu() and device != "cpu":
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


def free_memory(device: str) -> None:
    """Give back what Python objects that are gone still hold of the device's memory."""
    import gc

    import torch

    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def gpu_part(name: str) -> str | None:
    """The key in PEAK_FLOPS of a GPU's full name; None if it is another part, or a slice of one.

    >>> gpu_part("NVIDIA H100 80GB HBM3"), gpu_part("NVIDIA H100 PCIe"), gpu_part("NVIDIA A10G")
    ('H100', 'H100-PCIe', None)
    """
    words = [word for word in re.split(r"[ -]+", name.upper()) if not NO_PART.fullmatch(word)]
    if words == ["A100", "PCIE"]:  # as fast as the SXM one
        words = ["A100"]
    return next((part for part in PEAK_FLOPS if part.upper().split("-") == words), None)


def peak_flops(name: str, precision: str = "bf16") -> float | None:
    """The peak in FLOP/s, for MFU, of the accelerator of this name. None if it is unknown, and for
    float32, whose products run on other units."""
    part = gpu_part(name)
    return None if part is None or precision == "float32" else PEAK_FLOPS[part]


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


def core_flops(dim: int) -> float:
    """A rough guess of the FLOP/s that training reaches on a CPU core: 1e11, less where a narrow
    model has small matrix products (2e10 to 3e10 at dim 48 and 64, 7e10 at 128)."""
    return min(1e11, 4.5e8 * dim)


def expected_flops(dim: int = 1024) -> tuple[float, str]:
    """A rough guess of the FLOP/s that training a model of this width reaches here, and the
    hardware that it is for: 40% of a known GPU's peak, or `core_flops` per CPU core."""
    if not has_gpu():
        return core_flops(dim) * cores(), f"{cores()} cores of {device_name()}"
    import torch

    gpus, name = torch.cuda.device_count(), torch.cuda.get_device_name()
    return GPU_SHARE * (peak_flops(name) or 1e14) * gpus, f"{gpus} x {name}"


def flops_of(gpu: str, count: int) -> tuple[float, str]:
    """The same for `count` GPUs of a name in PEAK_FLOPS, which this machine need not have."""
    choose("GPU", gpu, PEAK_FLOPS)
    return GPU_SHARE * PEAK_FLOPS[gpu] * count, f"{count} x {gpu}"


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
        f"warning: other programs are using the cores (load {load:.1f}); OMP_NUM_THREADS=1 may be "
        "faster"
    )


def has_compiler() -> bool:
    """Whether torch.compile can work on a CPU."""

    return bool(shutil.which("g++") or shutil.which("clang++"))
