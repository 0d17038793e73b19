"""FSDP2 for real: two processes on the CPU train as one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtp import checkpoint
from mtp.errors import BadInput
from mtp.model import loading
from mtp.overrides import config_id, to_json
from mtp.training import distributed
from mtp.training.run import train
from tests.conftest import newest_step
from tests.mtp.training.helpers import Make, free_port, on_two, rows


def weights(folder: Path) -> dict[str, list[float]]:
    newest = sorted((folder / "checkpoint").glob("step-*"))[-1]
    return {k: w.flatten().tolist() for k, w in load_file(newest / "model.safetensors").items()}


def assert_alike(folder: Path, reference: Path, tolerance: float = 1e-4) -> None:
    """The same losses, gradient norms and weights, to a tolerance."""
    got, want = rows(folder), rows(reference)
    assert [row["step"] for row in got] == [row["step"] for row in want]
    for a, b in zip(got, want, strict=True):
        for key in {"loss", "validation_loss", "grad_norm", "lr"} & b.keys():
            assert a[key] == pytest.approx(b[key], rel=tolerance), (key, a["step"])
    ours, theirs = weights(folder), weights(reference)
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=0.01, abs=10 * tolerance), name


@pytest.mark.parametrize(
    ("head", "micro"), [("parallel", 0), ("anticausal", 1), ("linear", 0), ("replicated", 1)]
)
def test_two_processes_train_as_one_does(
    head: str,
    micro: int,
    make_config: Make,
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    """With clipping at every step, and evaluations between steps and before saves."""
    config = make_config(
        tokens=12 * 4 * 32,
        model={"head": head},
        micro=micro,
        clip=0.5,
        log_every=1,
        eval_every=3,
        save_every=6,
    )
    train(config, tmp_path / "one", data)
    assert all(row["grad_norm"] > 0.5 for row in rows(tmp_path / "one") if "loss" in row)
    assert on_two(processes, config, tmp_path / "two", data) == [0, 0]
    assert_alike(tmp_path / "two", tmp_path / "one")
    assert loading.load_model(tmp_path / "two").config == config.model


def test_a_run_moves_between_one_and_two_processes(
    make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config = make_config(tokens=12 * 4 * 32, save_every=6, log_every=1)
    train(config, tmp_path / "one", data)
    assert on_two(processes, config, tmp_path / "two", data) == [0, 0]
    for name, other in (("one", "from one to two"), ("two", "from two to one")):
        shutil.copytree(tmp_path / name, tmp_path / other)
        shutil.rmtree(tmp_path / other / "checkpoint" / "step-00000012")
    assert on_two(processes, config, tmp_path / "from one to two", data) == [0, 0]
    train(config, tmp_path / "from two to one", data)
    for other in ("from one to two", "from two to one"):
        assert [row["step"] for row in rows(tmp_path / other)] == list(range(1, 13))
        assert_alike(tmp_path / other, tmp_path / "one")


def test_two_processes_in_bf16_track_float32(
    make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config = make_config(tokens=20 * 4 * 32, log_every=4)
    train(config, tmp_path / "float32", data)
    # "auto": the ranks' measurements differ, and the first one's choice is everyone's
    low = make_config(tokens=20 * 4 * 32, log_every=4, precision="auto")
    assert on_two(processes, low, tmp_path / "bf16", data) == [0, 0]
    for a, b in zip(rows(tmp_path / "bf16"), rows(tmp_path / "float32"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.03)
    found = checkpoint.load(tmp_path / "bf16" / "checkpoint")
    assert found is not None and found.state["engine"]["precision"] == "bf16"
    saved = load_file(
        sorted((tmp_path / "bf16" / "checkpoint").glob("step-*"))[-1] / "model.safetensors"
    )
    assert all(w.dtype == torch.float32 for w in saved.values())


def test_torchrun_saves_and_stops_both_ranks_when_one_is_told(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    config, folder = make_config(tokens=1e8, log_every=1), tmp_path / "run"
    file = data / f"{config_id(config)}.json"
    file.write_text(to_json(config))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", str(free_port())]
    torchrun += ["-m", "mtp.train", "--", "--run", str(folder), "--data", str(data)]
    process = subprocess.Popen(
        [*torchrun, "--config", str(file)], stderr=subprocess.PIPE, text=True
    )
    try:
        while not (folder / "metrics.jsonl").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        pid = json.loads((folder / "status.json").read_text())["pid"]
        (other,) = children(process.pid) - {pid}
        os.kill(other, signal.SIGTERM)  # the rank that writes nothing
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert "interrupted by SIGTERM; saved; the same command continues" in told
    state = json.loads((folder / "status.json").read_text())
    assert state["state"] == "interrupted"
    assert state["step"] == newest_step(folder / "checkpoint") > 0
    assert checkpoint.load(folder / "checkpoint") is not None


def children(pid: int) -> set[int]:
    return {int(x) for x in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.parametrize("scheme", ["plain", "sequential"])
def test_only_the_fused_loss_runs_on_several_devices(scheme: Any, make_config: Make) -> None:
    distributed.check_scheme(make_config(scheme=scheme), 1)
    distributed.check_scheme(make_config(), 2)
    with pytest.raises(
        BadInput, match=f"scheme '{scheme}' runs on one device; choose scheme=fused for 2"
    ):
        distributed.check_scheme(make_config(scheme=scheme), 2)
