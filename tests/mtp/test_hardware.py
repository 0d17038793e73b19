"""What the machine is: GPUs by the names that drivers report."""

import pytest

from mtp import hardware
from mtp.errors import BadInput
from mtp.hardware import PEAK_FLOPS, flops_of, gpu_part, peak_flops

PARTS = {
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H100 PCIe": "H100-PCIe",
    "NVIDIA H100 NVL": "H100-NVL",
    "NVIDIA H200": "H200",
    "NVIDIA H200 NVL": "H200-NVL",
    "NVIDIA GH200 480GB": "GH200",
    "NVIDIA B200": "B200",
    "NVIDIA A100-SXM4-80GB": "A100",
    "NVIDIA A100-SXM4-40GB": "A100",
    "NVIDIA A100-PCIE-40GB": "A100",
    "NVIDIA A100 80GB PCIe": "A100",
    "NVIDIA L40S": "L40S",
    "NVIDIA L4": "L4",
    "NVIDIA A10": "A10",
    "NVIDIA GeForce RTX 4090": "RTX-4090",
    # other parts, with other peaks
    "NVIDIA A10G": None,
    "NVIDIA L40": None,
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb": None,
    "NVIDIA GeForce RTX 4090 Laptop GPU": None,
    "AMD EPYC 9654 96-Core Processor": None,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_gpu_is_known_by_its_exact_part(name: str) -> None:
    part = PARTS[name]
    assert gpu_part(name) == part
    assert peak_flops(name) == (PEAK_FLOPS[part] if part else None)


def test_the_forms_of_the_h100_have_their_own_peaks() -> None:
    names = ("NVIDIA H100 80GB HBM3", "NVIDIA H100 NVL", "NVIDIA H100 PCIe")
    assert [peak_flops(name, "autocast") for name in names] == [989e12, 835e12, 756e12]


def test_float32_is_not_held_against_the_peak_of_bf16() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3", "float32") is None


def test_times_are_planned_for_every_known_gpu_and_for_no_other() -> None:
    assert PEAK_FLOPS.keys() == hardware.GPU_MEMORY.keys()
    for part, peak in PEAK_FLOPS.items():
        assert flops_of(part, 8) == (pytest.approx(hardware.GPU_SHARE * 8 * peak), f"8 x {part}")
        assert gpu_part(part) == part
    with pytest.raises(BadInput, match="H100-PCIe"):
        flops_of("H100 PCIe", 1)
