"""The training loop: what it computes, and that no kill, signal or mistake costs more than time."""

import json
import math
import os
import random
import signal
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
from torch import Tensor

from mtp import checkpoint, train
from mtp.config import TrainConfig, config_id, to_json
from mtp.corpus import build
from mtp.errors import BadInput
from mtp.train import Interrupted, Trainer, learning_rate, new_optimizer

Make = Callable[..., TrainConfig]
FIELDS = {
    "step",
    "tokens",
    "loss",
    "lr",
    "grad_norm",
    "tokens_per_second",
    "peak_memory_mb",
    "eta_seconds",
}


def trainer(config: TrainConfig, folder: Path, data: Path) -> Trainer:
    return Trainer(config, build(config.data, data, progress=False), folder)


def command(config: TrainConfig, folder: Path, data: Path) -> list[str]:
    file = data / f"{config_id(config)}.json"
    file.write_text(to_json(config))
    run = [sys.executable, "-m", "mtp.train", "--run", str(folder), "--data", str(data)]
    return [*run, "--config", str(file)]


def final_weights(folder: Path) -> dict[str, Tensor]:
    """Model and optimizer of the newest checkpoint."""
    newest = sorted((folder / "checkpoint").glob("step-*"))[-1]
    return load_file(newest / "model.safetensors") | load_file(newest / "optimizer.safetensors")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def status(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "status.json").read_text())


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The rows without what depends on the clock."""
    clock = {"tokens_per_second", "peak_memory_mb", "eta_seconds", "mfu"}
    return [{k: v for k, v in row.items() if k not in clock} for row in rows(folder)]


def assert_same_run(folder: Path, reference: Path) -> None:
    got, want = final_weights(folder), final_weights(reference)
    assert got.keys() == want.keys()
    for name, weight in want.items():
        assert torch.equal(got[name], weight), name
    assert timeless(folder) == timeless(reference)
    assert status(folder)["state"] == "finished"


# --------------------------------------------------------------------------------------------------
# killed


LONG = {"tokens": 90 * 4 * 32, "save_every": 3, "log_every": 2, "eval_every": 30}


@pytest.fixture(scope="module")
def uninterrupted(
    make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A config and its run of 90 steps in one go."""
    config, folder = make_config(**LONG), tmp_path_factory.mktemp("whole") / "run"
    train.train(config, folder, data)
    assert [row["step"] for row in rows(folder) if "loss" in row] == list(range(2, 91, 2))
    assert [row["step"] for row in rows(folder) if "validation_loss" in row] == [30, 60, 90]
    return config, folder


def kill_when(pid: int, moment: Callable[[], bool], alive: Callable[[], bool]) -> bool:
    """SIGKILL at the first moment; False if the process ended before it."""
    while alive():
        if moment():
            os.kill(pid, signal.SIGKILL)
            return True
        time.sleep(0.0002)
    return False


def halves(folder: Path) -> set[tuple[str, int]]:
    """The folders of unfinished saves, by inode: one left behind is told from a new one."""
    found = os.scandir(folder / "checkpoint") if (folder / "checkpoint").exists() else ()
    return {(entry.name, entry.inode()) for entry in found if entry.name.startswith(".half-")}


def in_a_save(folder: Path) -> Callable[[], bool]:
    """While a save that begins from now on is written."""
    before = halves(folder)
    return lambda: bool(halves(folder) - before)


def after(seconds: float, folder: Path) -> Callable[[], bool]:
    """So long after the process has begun to train (it wrote status.json)."""
    before = (folder / "status.json").stat().st_mtime_ns if (folder / "status.json").exists() else 0
    begun: list[float] = []

    def moment() -> bool:
        if not begun:
            file = folder / "status.json"
            if file.exists() and file.stat().st_mtime_ns > before:
                begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] >= seconds

    return moment


def test_killed_at_many_moments_it_ends_with_the_same_weights(
    uninterrupted: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    config, reference = uninterrupted
    rng, folder = random.Random(0), tmp_path / "run"
    kills = torn_saves = 0
    for attempt in range(100):
        in_save, at_random = in_a_save(folder), after(rng.uniform(0, 0.15), folder)
        process = processes.Process(target=train.train, args=(config, folder, data))
        process.start()
        assert process.pid
        if attempt < 14:
            moment = in_save if attempt % 3 == 2 else at_random
            kills += kill_when(process.pid, moment, process.is_alive)
        process.join()
        torn_saves += in_save()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert kills >= 8 and torn_saves >= 2, (kills, torn_saves)
    assert_same_run(folder, reference)
    assert not halves(folder)


def test_the_command_line_killed_twice_ends_with_the_same_weights(
    uninterrupted: tuple[TrainConfig, Path], data: Path, tmp_path: Path
) -> None:
    config, reference = uninterrupted
    folder = tmp_path / "run"
    for moment in (in_a_save(folder), after(0.2, folder), None):
        with subprocess.Popen(command(config, folder, data), stderr=subprocess.PIPE) as process:
            if moment:
                assert kill_when(process.pid, moment, lambda p=process: p.poll() is None)
            process.communicate()
        assert process.returncode == (-signal.SIGKILL if moment else 0)
    assert_same_run(folder, reference)


def test_a_damaged_checkpoint_costs_only_the_steps_since_the_one_before(
    uninterrupted: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
    capfd: pytest.CaptureFixture[str],
) -> None:
    config, reference = uninterrupted
    folder = tmp_path / "run"
    process = processes.Process(target=train.train, args=(config, folder, data))
    process.start()
    assert process.pid
    two_saved = lambda: checkpoint.newest_step(folder / "checkpoint") >= 9  # noqa: E731
    assert kill_when(process.pid, two_saved, process.is_alive)
    process.join()
    newest = sorted((folder / "checkpoint").glob("step-*"))[-1]
    os.truncate(newest / "optimizer.safetensors", 100)
    train.train(config, folder, data)
    assert (
        f"{newest / 'optimizer.safetensors'} is missing, torn or altered" in capfd.readouterr().err
    )
    assert_same_run(folder, reference)


# --------------------------------------------------------------------------------------------------
# asked to stop


@pytest.fixture(scope="module")
def unasked(
    make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainConfig, Path]:
    """A config without periodic saves and its run of 60 steps in one go."""
    config, folder = make_config(tokens=60 * 4 * 32), tmp_path_factory.mktemp("unasked") / "run"
    train.train(config, folder, data)
    assert checkpoint.newest_step(folder / "checkpoint") == 60
    return config, folder


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on(
    signum: signal.Signals,
    unasked: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process: the signal arrives in the middle of step 7."""
    config, reference = unasked
    folder, step = tmp_path / "run", Trainer.train_step
    handlers = signal.getsignal(signum)

    def interrupted_step(self: Trainer) -> Any:
        if self.step == 6:
            os.kill(os.getpid(), signum)
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", interrupted_step)
        with pytest.raises(Interrupted) as stopped:
            train.train(config, folder, data)
    assert stopped.value.signum == signum
    assert signal.getsignal(signum) == handlers
    assert checkpoint.newest_step(folder / "checkpoint") == 7
    told = status(folder)
    assert (told["state"], told["step"], told["steps"]) == ("interrupted", 7, 60)
    train.train(config, folder, data)
    assert_same_run(folder, reference)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_the_command_line_tells_a_stop_in_one_line(
    signum: signal.Signals,
    unasked: tuple[TrainConfig, Path],
    data: Path,
    tmp_path: Path,
) -> None:
    config, reference = unasked
    folder = tmp_path / "run"
    run = command(config, folder, data)
    process = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)
    begun = after(0, folder)
    while not begun():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signum)
    told = process.communicate()[1].splitlines()
    assert process.returncode == 128 + signum
    assert told[-1] == f"interrupted by {signum.name}; saved; the same command goes on"
    assert told[0].startswith("engine: ") and all(x.startswith("step ") for x in told[1:-1])
    assert checkpoint.newest_step(folder / "checkpoint") < 60
    if signum == signal.SIGTERM:
        done = subprocess.run(run, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr
    else:
        train.train(config, folder, data)
    assert_same_run(folder, reference)


# --------------------------------------------------------------------------------------------------
# bad input


def fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> str:
    """What the command line says on stderr after the log: one line, with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["mtp.train", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        train.main()
    assert left.value.code == 2
    told = [
        x for x in capsys.readouterr().err.splitlines() if not x.startswith(("engine:", "step"))
    ]
    assert len(told) == 1 and told[0].startswith("error: "), told
    return told[0]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("data.source=stdlibb", ["'stdlibb'", "stdlib", "files:PATH"]),
        ("data.source=files:/nowhere", ["/nowhere"]),
        ("data.tokenizer=words", ["'words'", "bytes", "bpe"]),
        ("data.validation=1", ["validation", "1"]),
        ("model.head=medusa", ["'medusa'", "parallel"]),
        ("model.width=3", ["'width'", "dim"]),
        ("model.n=3", ["n 3", "3 layers", "up to 2"]),
        ("model.vocab=100", ["model.vocab 100", "258"]),
        ("batch=4000", ["windows of 32 tokens", "batch of 4000"]),
        ("model.context=100000", ["windows of 100000 tokens", "smaller batch or context"]),
        ("epochs=1", ["exactly one"]),
        ("seed=-3", ["seed", "-3"]),
        ("lr=1e30", ["not finite at step", "smaller lr than 1e+30"]),
    ],
)
def test_mistakes_are_told_in_one_line(
    override: str,
    told: list[str],
    make_config: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = command(make_config(), tmp_path / "run", data)[3:]
    line = fails(capsys, monkeypatch, *run, override)
    for part in told:
        assert part in line
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_mistakes_about_the_folder_are_told_in_one_line(
    make_config: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(tokens=4 * 32)
    run = command(config, tmp_path, data)[5:]  # after --run and its folder

    def line(name: str, *overrides: str) -> str:
        return fails(capsys, monkeypatch, "--run", tmp_path / name, *run, *overrides)

    train.train(config, tmp_path / "run", data)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert "another config (model.n 2 -> 1, lr 0.003 -> 0.1)" in line("run", "lr=0.1", "model.n=1")
    assert before == {path: path.read_bytes() for path in before}
    (tmp_path / "file").write_text("")
    assert "cannot be the run's folder" in line("file")
    assert "cannot be the run's folder" in line("file/run")
    for name, content in {"torn": b'{"ba', "binary": b"\xff\xfe", "list": b"[]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes(content)
        line(name)
        (tmp_path / f"{name}-config.json").write_bytes(content)
        fails(
            capsys,
            monkeypatch,
            "--run",
            tmp_path / "x",
            "--config",
            tmp_path / f"{name}-config.json",
        )
    fails(capsys, monkeypatch, "--run", tmp_path / "x", "--config", tmp_path / "missing.json")
    assert not (tmp_path / "x").exists()


def test_one_process_at_a_time(
    make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config, folder = make_config(tokens=1e9), tmp_path / "run"
    process = processes.Process(target=train.train, args=(config, folder, data))
    process.start()
    begun = after(0, folder)
    while not begun():
        assert process.is_alive()
        time.sleep(0.001)
    done = subprocess.run(command(config, folder, data), capture_output=True, text=True)
    process.kill()
    process.join()
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == f"error: another process is training in {folder}\n"


def test_a_periodic_evaluation_needs_held_out_text(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    config = make_config(eval_every=5, data={"validation": 0.0})
    with pytest.raises(BadInput, match="no validation documents"):
        trainer(config, tmp_path / "run", data)


def test_a_diverging_run_stops_before_it_saves(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = make_config(save_every=1, log_every=10), tmp_path / "run"
    step = Trainer.train_step

    def poisoned(self: Trainer) -> tuple[Tensor, Tensor, float]:
        losses, norm, rate = step(self)
        return losses, norm / 0 if self.step == 4 else norm, rate

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    with pytest.raises(BadInput, match=r"at step 4; choose a smaller lr than 0.003"):
        train.train(config, folder, data)
    assert checkpoint.newest_step(folder / "checkpoint") == 3
    assert status(folder)["state"] == "failed"


# --------------------------------------------------------------------------------------------------
# what a run computes


def test_a_finished_run_is_left_alone(make_config: Make, data: Path, tmp_path: Path) -> None:
    config, folder = make_config(tokens=5 * 4 * 32, log_every=0), tmp_path / "run"
    train.train(config, folder, data)
    (row,) = rows(folder)  # log_every=0: the last step alone
    assert row["step"] == 5
    before = {path: path.stat().st_mtime_ns for path in (folder / "checkpoint").rglob("*")}
    train.train(config, folder, data)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "checkpoint").rglob("*")}
    assert rows(folder) == [row] and status(folder)["state"] == "finished"
    assert json.loads((folder / "config.json").read_text()) == json.loads(to_json(config))


def test_the_log_tells_what_was_promised_and_the_loss_falls(
    make_config: Make, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, folder = make_config(tokens=80 * 4 * 32, log_every=8, lr=1e-2), tmp_path / "run"
    train.train(config, folder, data)
    found = rows(folder)
    assert [row["step"] for row in found] == list(range(8, 81, 8))
    for row in found:
        assert row.keys() == FIELDS  # no MFU: a CPU's peak is not known
        assert row["tokens"] == row["step"] * 4 * 32 and len(row["loss"]) == 2
        assert row["tokens_per_second"] > 0 and row["peak_memory_mb"] > 50
        assert row["eta_seconds"] >= 0 and row["grad_norm"] > 0
        assert row["lr"] == learning_rate(config, row["step"] - 1, 80)
    assert all(
        last < 0.6 * first for first, last in zip(found[0]["loss"], found[-1]["loss"], strict=True)
    )
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("step ")]
    assert len(lines) == 10
    for part in ("step 80/80", "loss per head", "lr", "grad norm", "tokens/s", "MB", "ETA 0 s"):
        assert part in lines[-1]


def test_the_mean_of_the_logged_losses_is_of_the_steps_between(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    every = trainer(make_config(), tmp_path / "a", data)
    each = torch.stack([every.train_step()[0] for _ in range(10)]).double()
    train.train(make_config(tokens=10 * 4 * 32, log_every=4, warmup=5), tmp_path / "b", data)
    logged = [row["loss"] for row in rows(tmp_path / "b")]
    # the schedules of 10 and 40 steps agree during warm-up
    torch.testing.assert_close(torch.tensor(logged[0], dtype=torch.float64), each[:4].mean(0))
    assert [row["step"] for row in rows(tmp_path / "b")] == [4, 8, 10]


def test_metrics_go_to_tensorboard(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MTP_TENSORBOARD", "1")
    train.train(make_config(tokens=4 * 4 * 32), tmp_path / "run", data)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert {"loss/head 1", "loss/head 2", "lr", "grad_norm"} <= set(events.Tags()["scalars"])
    expected = [(row["step"], row["loss"][1]) for row in rows(tmp_path / "run")]
    got = [(e.step, e.value) for e in events.Scalars("loss/head 2")]
    assert got == [(step, pytest.approx(value)) for step, value in expected]


def test_tensorboard_without_the_extra_is_bad_input(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTP_TENSORBOARD", "1")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadInput, match="tensorboard extra"):
        train.train(make_config(), tmp_path / "run", data)


def test_the_learning_rate_warms_up_and_decays_to_its_ratio(make_config: Make) -> None:
    config = make_config(lr=1.0, warmup=10, min_lr=0.1)
    rates = [learning_rate(config, step, 110) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[4] == pytest.approx(0.5)
    assert rates[9] == rates[10] == 1.0 == max(rates)
    assert rates[109] == pytest.approx(0.1) == pytest.approx(min(rates[10:]))
    middle = 10 + 99 / 2  # between peak and end
    around = (learning_rate(config, 59, 110) + learning_rate(config, 60, 110)) / 2
    assert middle == 59.5 and around == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    no_warmup = make_config(lr=1.0, warmup=0)
    assert learning_rate(no_warmup, 0, 1) == 1.0  # a run of one step trains at the peak
    assert all(math.isfinite(learning_rate(make_config(warmup=50), s, 20)) for s in range(20))


def test_weight_decay_is_for_matrices_alone(make_config: Make, data: Path, tmp_path: Path) -> None:
    run = trainer(make_config(weight_decay=0.1), tmp_path / "run", data)
    names = {id(w): name for name, w in run.trainable.weights().items()}
    decayed, spared = (
        {names[id(w)] for w in group["params"]} for group in run.optimizer.param_groups
    )
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.1, 0.0]
    assert run.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert spared == {name for name in names.values() if "norm" in name}
    assert decayed | spared == set(names.values()) and not decayed & spared
    # decoupled: without a gradient, a step shrinks matrices by lr * weight_decay
    weights = {"matrix": torch.ones(2, 2), "gain": torch.ones(2)}
    optimizer = new_optimizer(make_config(lr=0.5, weight_decay=0.1), weights)
    for w in weights.values():
        w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(weights["matrix"], torch.full((2, 2), 0.95))
    assert torch.equal(weights["gain"], torch.ones(2))


def test_micro_batches_add_up_to_the_batch(make_config: Make, data: Path, tmp_path: Path) -> None:
    runs = [trainer(make_config(micro=m), tmp_path / str(m), data) for m in (0, 2, 1)]
    for _ in range(5):
        results = [run.train_step() for run in runs]
        for losses, norm, rate in results[1:]:
            torch.testing.assert_close(losses, results[0][0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(norm, results[0][1], rtol=1e-4, atol=1e-5)
            assert rate == results[0][2]


@pytest.mark.parametrize("scheme", ["plain", "sequential"])
def test_every_loss_trains_alike(
    scheme: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    runs = [trainer(make_config(loss=s), tmp_path / s, data) for s in ("fused", scheme)]
    for _ in range(5):
        a, b = (run.train_step()[0] for run in runs)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_clipped_gradient_has_the_norm_it_is_clipped_to(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(make_config(clip=0.01), tmp_path / "run", data)
    seen = []

    def look(*_: object) -> None:
        squares = [w.grad.square().sum() for w in run.trainable.weights().values()]  # type: ignore[union-attr]
        seen.append(float(torch.stack(squares).sum().sqrt()))

    monkeypatch.setattr(run.optimizer, "step", look)
    _, norm, _ = run.train_step()
    assert float(norm) > 0.1 and seen[0] == pytest.approx(0.01, rel=1e-3)


def test_a_budget_of_epochs_is_one_of_tokens(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(make_config(tokens=0, epochs=2), tmp_path / "run", data)
    assert run.steps == round(2 * run.corpus.train.tokens / (4 * 32))
    assert run.steps * 4 / run.batches.windows_per_epoch == pytest.approx(2, abs=0.02)
    # on the command line, epochs replace the default budget of tokens
    seen: list[TrainConfig] = []
    monkeypatch.setattr(train, "train", lambda config, *_: seen.append(config))
    monkeypatch.setattr(sys, "argv", ["mtp.train", "--run", str(tmp_path / "x"), "epochs=3"])
    train.main()
    assert (seen[0].epochs, seen[0].tokens) == (3, 0)
    monkeypatch.setattr(sys, "argv", ["mtp.train", "--run", str(tmp_path / "x"), "tokens=5e5"])
    train.main()
    assert (seen[1].epochs, seen[1].tokens) == (0, 5e5)


@pytest.mark.parametrize("precision", ["bf16", "autocast"])
def test_low_precision_tracks_float32(
    precision: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    exact = trainer(make_config(), tmp_path / "float32", data)
    low = trainer(make_config(precision=precision), tmp_path / precision, data)
    assert all(w.dtype == torch.float32 for w in low.trainable.weights().values())
    want = torch.zeros(2)
    for _ in range(40):
        want = exact.train_step()[0]
        torch.testing.assert_close(low.train_step()[0], want, rtol=0.05, atol=0.05)
    assert want[0] < 4.5  # of ln 258 = 5.55: both learn
    low.save()
    saved = final_weights(tmp_path / precision)
    assert all(w.dtype == torch.float32 for w in saved.values())
    again = trainer(make_config(precision=precision), tmp_path / precision, data)
    assert again.step == 40
    for (name, w), v in zip(
        low.trainable.weights().items(), again.trainable.weights().values(), strict=True
    ):
        assert torch.equal(w, v), name
    assert torch.equal(low.train_step()[0], again.train_step()[0])


def test_the_seed_decides_everything(make_config: Make, data: Path, tmp_path: Path) -> None:
    a, b, c = (
        trainer(make_config(seed=seed), tmp_path / str(i), data).train_step()[0]
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert config_id(make_config(seed=0)) != config_id(make_config(seed=1))
