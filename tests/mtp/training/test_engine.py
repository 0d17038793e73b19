"""How an engine is chosen, and kept when a run continues."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp import hardware
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.training import engine as engines
from mtp.training.engine import Engine, choose_engine
from mtp.training.executions import executions, record_execution
from mtp.training.run import train
from tests.mtp.training.helpers import Make, final_weights


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
    ("capability", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "float32"), ((12, 0), "bf16")],
)
def test_a_gpus_precision_follows_its_capability_and_is_not_measured(
    capability: tuple[int, int],
    precision: str,
    make_config: Make,
    machine: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(gpu=True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(engines, "bf16_gain", lambda *_: pytest.fail("measured"))
    reason = f"compute capability {capability[0]}.{capability[1]}"
    assert engines.auto_precision("cuda") == (precision, reason)
    engine = choose_engine(auto(make_config))
    assert engine.precision == precision and f"{precision}: {reason}" in engine.reason


def test_a_launchers_precision_is_for_configs_that_leave_it_open(
    make_config: Make, machine: Callable[..., None]
) -> None:
    machine(gain=9)
    assert choose_engine(auto(make_config), "float32").precision == "float32"
    assert choose_engine(make_config(precision="bf16"), "float32").precision == "bf16"


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


def test_compilation_without_a_compiler_is_refused(
    make_config: Make, machine: Callable[..., None]
) -> None:
    machine(gxx=False)
    with pytest.raises(BadInput, match=r"compile=on needs a C\+\+ compiler"):
        choose_engine(make_config(compile="on"))


BEGUN = Engine("cpu", "bf16", "matmul", True, 8, "measured then")


def test_a_run_keeps_its_engine_on_the_same_device(
    make_config: Make, machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    for name in ("bf16_gain", "_estimated_seconds"):
        monkeypatch.setattr(engines, name, lambda *_: pytest.fail("measured"))
    begun = json.loads(json.dumps(vars(BEGUN)))
    kept = choose_engine(auto(make_config), "float32", begun)
    assert (kept.precision, kept.attention, kept.compile) == ("bf16", "matmul", True)
    assert kept.threads == torch.get_num_threads()
    assert kept.reason.count("as the run began") == 3 and "study" not in kept.reason


def test_on_another_device_all_is_chosen_anew(
    make_config: Make, machine: Callable[..., None]
) -> None:
    machine()
    config, begun = auto(make_config), vars(dataclasses.replace(BEGUN, device="cuda"))
    assert choose_engine(config, begun=begun) == choose_engine(config)
    assert choose_engine(config).precision == "float32"


def test_attention_and_compilation_may_change_when_a_run_continues(
    make_config: Make, machine: Callable[..., None]
) -> None:
    machine()
    config = make_config(precision="auto", attention="sdpa", compile="off")
    kept = choose_engine(config, begun=vars(BEGUN))
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
    got, want = final_weights(tmp_path / "run"), final_weights(tmp_path / "whole")
    assert all(torch.equal(got[name], weight) for name, weight in want.items())


def test_a_file_says_how_a_run_was_executed_part_by_part(tmp_path: Path) -> None:
    assert executions(tmp_path) == []
    for step, micro in ((0, 0), (10, 0), (10, 2), (30, 4)):
        record_execution(tmp_path, {"from_step": step, "micro": micro})
    parts = [{"from_step": i, "micro": n} for i, n in ((0, 0), (10, 2), (30, 4))]
    assert executions(tmp_path) == parts
    record_execution(tmp_path, {"from_step": 20, "micro": 1})  # from an earlier checkpoint again
    assert executions(tmp_path) == [*parts[:2], {"from_step": 20, "micro": 1}]
    (tmp_path / "engine.json").write_text('[{"from_')
    assert executions(tmp_path) == []
