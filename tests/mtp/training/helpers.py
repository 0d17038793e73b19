"""What the tests of training share: tiny runs, their records, command lines, and two ranks."""

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp import checkpoint
from mtp import train as train_command
from mtp.checkpoint import Checkpoint
from mtp.config import ModelConfig, TrainConfig
from mtp.data.corpus import build
from mtp.data.tokenizer import ByteTokenizer, Tokenizer
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import config_id, from_dict, to_json
from mtp.training import engine as engines
from mtp.training.run import train
from mtp.training.trainer import Trainer
from tests.conftest import load_checkpoint

Make = Callable[..., TrainConfig]


def trainer(config: TrainConfig, folder: Path, data: Path) -> Trainer:
    return Trainer(config, build(config.data, data, progress=False), folder)


def command(config: TrainConfig, folder: Path, data: Path) -> list[str]:
    file = data / f"{config_id(config)}.json"
    file.write_text(to_json(config))
    run = [sys.executable, "-m", "mtp.train", "--run", str(folder), "--data", str(data)]
    return [*run, "--config", str(file)]


def final_weights(folder: Path) -> dict[str, Tensor]:
    """Model and optimizer of the newest checkpoint."""
    found = load_checkpoint(folder / "checkpoint")
    assert found is not None
    return found.model | found.optimizer


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The rows, without the values that depend on the clock."""
    clock = {"tokens_per_second", "peak_memory_mb", "eta_seconds", "mfu"}
    return [{k: v for k, v in row.items() if k not in clock} for row in rows(folder)]


def assert_same_run(folder: Path, reference: Path) -> None:
    got, want = final_weights(folder), final_weights(reference)
    assert got.keys() == want.keys()
    for name, weight in want.items():
        assert torch.equal(got[name], weight), name
    assert timeless(folder) == timeless(reference)
    assert status(folder)["state"] == "finished"


def assert_alike(folder: Path, reference: Path, tolerance: float = 1e-4) -> None:
    """The same losses, gradient norms and weights, to a tolerance."""
    got, want = rows(folder), rows(reference)
    assert [row["step"] for row in got] == [row["step"] for row in want]
    for a, b in zip(got, want, strict=True):
        for key in {"loss", "validation_loss", "grad_norm", "lr"} & b.keys():
            assert a[key] == pytest.approx(b[key], rel=tolerance), (key, a["step"])
    torch.testing.assert_close(
        final_weights(folder), final_weights(reference), rtol=0.01, atol=10 * tolerance
    )


def train_in_parts(
    config: TrainConfig, folder: Path, data: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train a run that fails at a step, and then to its end."""
    step = Trainer.train_step

    def until(self: Trainer) -> Any:
        if self.step == at:
            self.saver.wait()
            raise RuntimeError("cut off")
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", until)
        with pytest.raises(RuntimeError, match="cut off"):
            train(config, folder, data)
    train(config, folder, data)


SHAPE = {"dim": 32, "layers": 4, "attn_heads": 2, "vocab": 258, "n": 3, "context": 48}


def a_run(
    folder: Path, seed: int = 0, tokenizer: Tokenizer | None = None, **model: Any
) -> MultiTokenTransformer:
    """A finished run's folder, as mtp.train leaves it, and its model."""
    torch.manual_seed(seed)
    built = MultiTokenTransformer(from_dict(ModelConfig, SHAPE | model))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(TrainConfig(tokens=1e6, model=built.config)))
    (tokenizer or ByteTokenizer()).save(folder)
    weights = {name: w.detach() for name, w in built.named_parameters()}
    moments = {f"exp_avg.{name}": w for name, w in weights.items()}
    checkpoint.save(folder / "checkpoint", Checkpoint(7, weights, moments, {"step": 7}))
    return built


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


Runs = list[tuple[TrainConfig, Path]]  # and their folders


def one_rank(
    rank: int, world: int, port: int, runs: Runs, data: Path, die_in_step: int = 0
) -> None:
    """One rank, as torchrun would start it. On all ranks but the first bf16 seems slow."""
    engines.bf16_gain = lambda size=512: 9.0 if rank == 0 else 1.0
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    step = Trainer.train_step

    def until(self: Trainer) -> Any:
        if self.step == die_in_step - 1:
            self.saver.wait()  # the checkpoint before is whole
            raise Killed
        return step(self)

    Trainer.train_step = until
    for config, folder in runs:
        with contextlib.suppress(Killed):
            train(config, folder, data)


class Killed(BaseException):
    """A process ends here, as far as its run can tell."""


def on_ranks(
    processes: ForkServerContext, world: int, runs: Runs, data: Path, die_in_step: int = 0
) -> list[int | None]:
    """Train runs on the same ranks, one after the other, each to its end or to a step in which all
    ranks die; returns the exit codes."""
    started = start_ranks(processes, world, runs, data, die_in_step)
    for process in started:
        process.join(240)
        process.kill()
    return [process.exitcode for process in started]


def start_ranks(
    processes: ForkServerContext, world: int, runs: Runs, data: Path, die_in_step: int = 0
) -> list[ForkServerProcess]:
    port = free_port()
    started = [
        processes.Process(target=one_rank, args=(rank, world, port, runs, data, die_in_step))
        for rank in range(world)
    ]
    for process in started:
        process.start()
    return started


def after(seconds: float, folder: Path) -> Callable[[], bool]:
    """Whether so many seconds have passed since the process began to train (wrote status.json)."""
    before = (folder / "status.json").stat().st_mtime_ns if (folder / "status.json").exists() else 0
    begun: list[float] = []

    def moment() -> bool:
        if not begun:
            file = folder / "status.json"
            if file.exists() and file.stat().st_mtime_ns > before:
                begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] >= seconds

    return moment


def fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> str:
    """The one line that the command line prints on stderr besides the log, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["mtp.train", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        train_command.main()
    assert left.value.code == 2
    lines = [
        x
        for x in capsys.readouterr().err.splitlines()
        if not x.startswith(("engine:", "step", "reading", "tokenizing", "warning: warmup"))
    ]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]
