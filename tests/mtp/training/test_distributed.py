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
from tests.mtp.training.helpers import Make, Runs, free_port, on_two, rows


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


CASES = [("parallel", 0), ("anticausal", 1), ("linear", 0), ("replicated", 1)]  # head, micro


@pytest.fixture(scope="module")
def runs(
    make_config: Make,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    processes: ForkServerContext,
) -> Path:
    """A folder of runs, each on one process and on two. The same two processes train all of them.

    HEAD/one, HEAD/two      with clipping in every step, and validation between steps and saves
    float32/one, bf16/two   "auto", where the ranks' measurements of bf16 differ
    moved/two, moved/one    continued from the other's checkpoint of step 3
    """
    root = tmp_path_factory.mktemp("runs")
    on_both: Runs = []
    for head, micro in CASES:
        config = make_config(
            tokens=6 * 4 * 32,
            model={"head": head},
            data={"validation": 0.05},
            micro=micro,
            clip=0.5,
            log_every=1,
            eval_every=3,
            save_every=3,
        )
        train(config, root / head / "one", data)
        on_both.append((config, root / head / "two"))
    train(make_config(tokens=12 * 4 * 32, log_every=4), root / "float32" / "one", data)
    low = make_config(tokens=12 * 4 * 32, log_every=4, precision="auto")
    on_both.append((low, root / "bf16" / "two"))
    on_both.append((on_both[0][0], to_step_3(root / "parallel" / "one", root / "moved" / "two")))
    assert on_two(processes, on_both, data) == [0, 0]
    train(on_both[0][0], to_step_3(root / "parallel" / "two", root / "moved" / "one"), data)
    return root


def to_step_3(run: Path, copy: Path) -> Path:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoint" / "step-00000006")
    return copy


@pytest.mark.parametrize("head", [head for head, _ in CASES])
def test_two_processes_train_as_one_does(head: str, runs: Path) -> None:
    one, two = runs / head / "one", runs / head / "two"
    assert all(row["grad_norm"] > 0.5 for row in rows(one) if "loss" in row)
    assert_alike(two, one)
    assert loading.load_model(two).config == checkpoint.run_config(one).model


@pytest.mark.parametrize("ranks", ["one", "two"])
def test_a_run_moves_between_one_and_two_processes(ranks: str, runs: Path) -> None:
    steps = [row["step"] for row in rows(runs / "moved" / ranks) if "loss" in row]
    assert steps == list(range(1, 7))
    assert_alike(runs / "moved" / ranks, runs / "parallel" / "one")
    used = json.loads((runs / "moved" / ranks / "engine.json").read_text())[-1]
    assert used["from_step"] == 3 and used["ranks"] == (1 if ranks == "one" else 2)


def test_two_processes_in_bf16_track_float32(runs: Path) -> None:
    """The first rank's choice of a precision is everyone's."""
    folder = runs / "bf16" / "two"
    for a, b in zip(rows(folder), rows(runs / "float32" / "one"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.03)
    found = checkpoint.load(folder / "checkpoint")
    assert found is not None and found.state["engine"]["precision"] == "bf16"
    assert all(w.dtype == torch.float32 for w in found.model.values())


def test_torchrun_saves_and_stops_both_ranks_when_one_gets_a_signal(
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
        message = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert "interrupted by SIGTERM; saved; the same command continues" in message
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
