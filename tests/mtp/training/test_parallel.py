"""How an engine is chosen, and FSDP2 for real: two processes on the CPU against one."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtp import checkpoint, hardware
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.model import loading
from mtp.overrides import config_id, to_json
from mtp.training import distributed
from mtp.training import engine as engines
from mtp.training.engine import Engine, choose_engine, resume_engine
from mtp.training.run import train
from tests.conftest import newest_step

Make = Callable[..., TrainConfig]


# --------------------------------------------------------------------------------------------------
# the engine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to be another machine."""

    def pretend(gain: float = 1.0, gpu: bool = False, seconds: float = 5, gxx: bool = True) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        monkeypatch.setattr(engines, "device_name", lambda: "NVIDIA H100" if gpu else "a CPU")
        monkeypatch.setattr(engines, "bf16_gain", lambda: gain)
        monkeypatch.setattr(engines, "_estimated_seconds", lambda config, device: seconds)
        monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if gxx else None)

    return pretend


def auto(make_config: Make, **changes: Any) -> TrainConfig:
    return make_config(precision="auto", compile="auto", attention="auto", **changes)


@pytest.mark.parametrize(("gain", "precision"), [(0.5, "float32"), (9.0, "bf16")])
def test_the_precision_follows_the_measured_gain(
    gain: float, precision: str, make_config: Make, machine: Callable[..., None]
) -> None:
    machine(gain=gain)
    engine = choose_engine(auto(make_config))
    assert engine.precision == precision
    assert f"{precision}: bf16 products are {gain:.1f}x float32 here" in engine.reason


@pytest.mark.parametrize(
    ("gpu", "context", "attention"),
    [(False, 32, "matmul"), (False, 512, "matmul"), (False, 4096, "sdpa"), (True, 32, "sdpa")],
)
def test_attention_is_spelled_out_where_a_cpus_sequences_are_short(
    gpu: bool, context: int, attention: str, make_config: Make, machine: Callable[..., None]
) -> None:
    machine(gpu=gpu)
    engine = choose_engine(auto(make_config, model={"context": context}))
    device = "cuda" if gpu else "cpu"
    assert (engine.attention, engine.device) == (attention, device)
    assert f"{attention} attention: T={context} on {device}" in engine.reason


@pytest.mark.parametrize(
    ("seconds", "gxx", "gpu", "compiled", "why"),
    [
        (5, True, False, False, "about 5 s of work would not repay it"),
        (500, True, False, True, "about 500 s of work"),
        (500, False, False, False, "no C++ compiler"),
        (500, False, True, True, "about 500 s of work"),
    ],
)
def test_long_runs_are_compiled_where_a_compiler_is(
    seconds: float,
    gxx: bool,
    gpu: bool,
    compiled: bool,
    why: str,
    make_config: Make,
    machine: Callable[..., None],
) -> None:
    machine(seconds=seconds, gxx=gxx, gpu=gpu)
    engine = choose_engine(auto(make_config))
    assert engine.compile == compiled
    assert engine.reason.endswith(f"compile {'on' if compiled else 'off'}: {why}")


def test_what_the_config_says_is_not_measured(
    make_config: Make, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    for name in ("bf16_gain", "_estimated_seconds"):
        monkeypatch.setattr(engines, name, lambda *_: pytest.fail("measured"))
    for precision, attention, compile_ in (("autocast", "sdpa", "on"), ("bf16", "matmul", "off")):
        config = make_config(precision=precision, attention=attention, compile=compile_)
        engine = choose_engine(config)
        assert (engine.precision, engine.attention) == (precision, attention)
        assert engine.compile == (compile_ == "on")
        assert "\n" not in engine.reason and "a CPU" in engine.reason


def test_this_machine_is_measured(make_config: Make) -> None:
    engine = choose_engine(auto(make_config))
    assert engine.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert engines.bf16_gain(size=64) > 0
    assert hardware.device_name() in engine.reason and "\n" not in engine.reason


def test_a_run_keeps_its_engine_on_the_same_device() -> None:
    now = Engine("cpu", "float32", "sdpa", False, 2, "measured")
    before = Engine("cpu", "bf16", "matmul", True, 8, "measured then")
    auto, saved = TrainConfig(tokens=1), json.loads(json.dumps(vars(before)))
    kept = resume_engine(now, saved, auto)
    assert kept == dataclasses.replace(before, threads=2, reason="as the run began")
    assert resume_engine(now, None, auto) == now
    assert resume_engine(now, vars(dataclasses.replace(before, device="cuda")), auto) == now


def test_attention_and_compilation_may_change_when_a_run_continues() -> None:
    now = Engine("cpu", "float32", "sdpa", False, 2, "measured")
    before = Engine("cpu", "bf16", "matmul", True, 8, "measured then")
    config = TrainConfig(tokens=1, attention="sdpa", compile="off")
    kept = resume_engine(now, vars(before), config)
    assert (kept.precision, kept.attention, kept.compile) == ("bf16", "sdpa", False)


def test_a_resumed_run_trains_as_it_began(
    make_config: Make, data: Path, tmp_path: Path, machine: Callable[..., None]
) -> None:
    config = auto(make_config, tokens=4 * 4 * 32, save_every=2)
    machine(gain=9)
    train(config, tmp_path / "whole", data)
    train(config, tmp_path / "run", data)
    shutil.rmtree(tmp_path / "run" / "checkpoint" / "step-00000004")
    machine(gain=1)
    train(config, tmp_path / "run", data)
    assert weights(tmp_path / "run") == weights(tmp_path / "whole")


def weights(folder: Path) -> dict[str, list[float]]:
    newest = sorted((folder / "checkpoint").glob("step-*"))[-1]
    return {k: w.flatten().tolist() for k, w in load_file(newest / "model.safetensors").items()}


# --------------------------------------------------------------------------------------------------
# two processes


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def rank_of_two(rank: int, port: int, config: TrainConfig, folder: Path, data: Path) -> None:
    """One rank's process, as torchrun would start it; the second finds bf16 slow."""
    engines.bf16_gain = lambda size=512: 9.0 - 8.0 * rank
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    train(config, folder, data)


def on_two(
    processes: ForkServerContext, config: TrainConfig, folder: Path, data: Path
) -> list[int | None]:
    """Train on two ranks; their exit codes."""
    port = free_port()
    both = [
        processes.Process(target=rank_of_two, args=(rank, port, config, folder, data))
        for rank in (0, 1)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
        process.kill()
    return [process.exitcode for process in both]


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


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
