"""FSDP2 for real: two processes on the CPU train as one does."""

import dataclasses
import json
import os
import random
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

from mtp import checkpoint, hardware
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.model import loading
from mtp.overrides import config_id, to_json
from mtp.training import distributed, failures
from mtp.training.executions import executions
from mtp.training.run import train
from tests.conftest import load_checkpoint, newest_step
from tests.mtp.training.helpers import (
    Make,
    Runs,
    assert_alike,
    free_port,
    on_ranks,
    rows,
    start_ranks,
    status,
)

HEADS = (
    *("parallel", "causal", "anticausal", "linear", "replicated"),
    *("inject", "sequential-shared"),  # which read tokens; the second uses a layer several times
)
MICRO = {"anticausal": 1, "replicated": 1, "inject": 1}  # several accumulation steps


def six_steps(make_config: Make, head: str, **changes: Any) -> TrainConfig:
    """With clipping in every step, and validation between steps and saves."""
    values = {
        "tokens": 6 * 4 * 32,
        "model": {"head": head},
        "data": {"validation": 0.05},
        "micro": MICRO.get(head, 0),
        "clip": 0.5,
        "log_every": 1,
        "eval_every": 3,
        "save_every": 3,
    }
    return make_config(**values | changes)


@pytest.fixture(scope="module")
def runs(
    make_config: Make,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    processes: ForkServerContext,
) -> Path:
    """A folder of runs. The same two or four processes train all of theirs.

    HEAD/one, HEAD/two      on one process and on two
    HEAD/killed             on four, which die in step 5, then on two
    parallel/replicas       on four: two replicas of two shards, recomputing every second layer
    parallel/compiled       on two, compiled
    float32/one, bf16/two   "auto", where the ranks' measurements of bf16 differ
    moved/two, moved/one    continued from the other's checkpoint of step 3
    """
    root = tmp_path_factory.mktemp("runs")
    configs = {head: six_steps(make_config, head) for head in HEADS}
    for head, config in configs.items():
        train(config, root / head / "one", data)
    four: Runs = [(config, root / head / "killed") for head, config in configs.items()]
    assert on_ranks(processes, 4, four, data, die_in_step=5) == [0] * 4
    replicas = six_steps(make_config, "parallel", shard=2, recompute=2)
    whole: Runs = [(replicas, root / "parallel" / "replicas")]
    assert on_ranks(processes, 4, whole, data) == [0] * 4

    two: Runs = [(config, root / head / "two") for head, config in configs.items()]
    two += four
    train(make_config(tokens=12 * 4 * 32, log_every=4), root / "float32" / "one", data)
    low = make_config(tokens=12 * 4 * 32, log_every=4, precision="auto")
    two.append((low, root / "bf16" / "two"))
    parallel = configs["parallel"]
    two.append((parallel, to_step_3(root / "parallel" / "one", root / "moved" / "two")))
    if hardware.has_compiler():
        compiled = six_steps(make_config, "parallel", compile="on")
        two.append((compiled, root / "parallel" / "compiled"))
    assert on_ranks(processes, 2, two, data) == [0, 0]
    train(parallel, to_step_3(root / "parallel" / "two", root / "moved" / "one"), data)
    return root


def to_step_3(run: Path, copy: Path) -> Path:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoint" / "step-00000006")
    return copy


@pytest.mark.parametrize("head", HEADS)
def test_two_processes_train_as_one_does(head: str, runs: Path) -> None:
    one, two = runs / head / "one", runs / head / "two"
    assert all(row["grad_norm"] > 0.5 for row in rows(one) if "loss" in row)
    assert_alike(two, one)
    assert loading.load_model(two).config == checkpoint.run_config(one).model


@pytest.mark.parametrize("head", HEADS)
def test_four_processes_die_and_two_go_on_as_one_would(head: str, runs: Path) -> None:
    """All of them read the checkpoint that four have written in shards."""
    folder = runs / head / "killed"
    assert_alike(folder, runs / head / "one")
    ranks = [(part["from_step"], part["ranks"]) for part in executions(folder)]
    assert ranks == [(0, 4), (3, 2)]


def test_replicas_of_shards_train_as_one_process_does(runs: Path) -> None:
    assert_alike(runs / "parallel" / "replicas", runs / "parallel" / "one")


@pytest.mark.skipif(not hardware.has_compiler(), reason="needs a C++ compiler")
def test_compiled_shards_train_as_one_process_does(runs: Path) -> None:
    assert_alike(runs / "parallel" / "compiled", runs / "parallel" / "one", tolerance=1e-3)


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
    found = load_checkpoint(folder / "checkpoint")
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
    assert checkpoint.newest(folder / "checkpoint") is not None


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_with_a_reason_and_a_restart_goes_on(
    victim: int, make_config: Make, data: Path, tmp_path: Path,
    processes: ForkServerContext,
) -> None:  # fmt: skip
    """SIGKILL for real, at a random moment after the first checkpoint."""
    config = six_steps(make_config, "parallel", tokens=80 * 4 * 32, eval_every=0, log_every=10)
    folder = tmp_path / "run"
    started = start_ranks(processes, 2, [(config, folder)], data)
    while newest_step(folder / "checkpoint") == 0:
        assert all(process.is_alive() for process in started)
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))
    started[victim].kill()
    began = time.monotonic()
    for process in started:
        process.join(60)
    assert time.monotonic() - began < 50, "the other rank has noticed"
    assert started[victim].exitcode == -signal.SIGKILL and started[1 - victim].exitcode == 1
    found = status(folder)
    assert found["state"] == "failed" and found["error"].startswith(f"rank {1 - victim}: ")
    assert (folder / "error.txt").read_text().startswith(found["error"] + "\n")

    saved = newest_step(folder / "checkpoint")
    short = dataclasses.replace(config, save_every=0)  # how it is executed may change
    assert on_ranks(processes, 2, [(short, folder)], data) == [0, 0]
    assert status(folder)["state"] == "finished" and not (folder / "error.txt").exists()
    assert executions(folder)[-1]["from_step"] == saved > 0


def test_the_rank_that_failed_first_gives_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    failures.record_failure(tmp_path, MemoryError("no memory\nfor 8 GB"))
    monkeypatch.setenv("RANK", "0")
    failures.record_failure(tmp_path, RuntimeError("connection closed by peer"))
    assert status(tmp_path)["error"] == "rank 3: MemoryError: no memory for 8 GB"
    assert "connection" not in (tmp_path / "error.txt").read_text()
    failures.clear_failure(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "1")
    failures.record_failure(tmp_path, BadInput("lr is -1"))
    assert status(tmp_path)["error"] == "lr is -1"


def test_a_shard_that_does_not_divide_the_ranks_is_refused() -> None:
    with pytest.raises(BadInput, match="shard=3 does not divide the run's 8 ranks"):
        distributed.mesh_of(8, 3, "cpu")


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
