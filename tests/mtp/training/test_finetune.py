"""Runs that start with another run's weights: what they take and refuse, how they continue."""

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp import checkpoint, convert
from mtp import train as train_command
from mtp.config import ModelConfig, TrainConfig
from mtp.data.pairs import Pairs
from mtp.data.tokenizer import BPE, ByteTokenizer, load
from mtp.data.window import IGNORE
from mtp.errors import BadInput
from mtp.model.loading import load_model
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads, dropped_config
from mtp.objective_config import ObjectiveConfig
from mtp.overrides import from_dict, identity, override, to_json
from mtp.training.finetune import override_from_start, save_start_weights
from mtp.training.run import train
from mtp.training.signals import Interrupted
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import (
    SHAPE,
    Make,
    a_run,
    assert_same_run,
    on_ranks,
    rows,
    status,
    trainer,
)


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 records whose answers a small model learns."""
    file = tmp_path_factory.mktemp("pairs") / "sums.jsonl"
    records = [{"prompt": f"{i} and one is ", "completion": f"{i + 1}."} for i in range(60)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


@pytest.fixture
def start(tmp_path: Path) -> Path:
    a_run(tmp_path / "start")
    return tmp_path / "start"


@pytest.fixture
def tuned(make_config: Make, questions: Path, start: Path) -> Callable[..., TrainConfig]:
    """A config of 30 steps of 4 records from `start`; arguments are overrides."""

    def make(*assignments: str) -> TrainConfig:
        config = make_config(data={"source": f"pairs:{questions}", "validation": 0.2}, log_every=5)
        given = [f"init={start}", "tokens=5760", "eval_every=10", "save_every=4"]
        return override_from_start(config, [*given, *assignments])

    return make


# --------------------------------------------------------------------------------------------------
# what is taken


def test_model_and_tokenizer_are_the_starts(tmp_path: Path) -> None:
    bpe = BPE.train([Path(__file__).read_text()], 300)
    model = a_run(tmp_path / "start", tokenizer=bpe, vocab=300, extra_layers=1)
    base = TrainConfig(epochs=1)
    init = f"init={tmp_path / 'start'}"
    same = override_from_start(base, [init, "lr=1e-5"])
    assert same.model == model.config and same.lr == 1e-5
    assert same.data.tokenizer == f"run:{tmp_path / 'start'}"
    one = override_from_start(base, ["model.n=1", init, "model.context=32"])
    assert one.model == dataclasses.replace(drop_heads(model, 1).config, context=32)
    assert one.model.trunk_layers == model.config.trunk_layers == 2
    assert override_from_start(base, [init, "data.tokenizer=bytes"]).data.tokenizer == "bytes"
    assert override_from_start(base, ["model.n=2"]) == override(base, ["model.n=2"])
    # a config that fits only together with what is assigned
    listed = TrainConfig(epochs=1, objective=ObjectiveConfig(weights="2"))
    assert override_from_start(listed, [init, "objective.weights=equal"]).model.n == 3
    # what the command wrote is read again as it is
    assert from_dict(TrainConfig, json.loads(to_json(one))) == one
    assert "init" not in identity(base)


@pytest.mark.parametrize("head", ["parallel", "causal", "anticausal", "linear", "replicated"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_config_of_fewer_heads_is_that_of_the_model(head: Any, n: int) -> None:
    model = MultiTokenTransformer(from_dict(ModelConfig, SHAPE | {"head": head}))
    assert dropped_config(model.config, n) == drop_heads(model, n).config


@pytest.mark.parametrize("n", [1, 2, 3])
def test_it_begins_with_the_weights_and_a_fresh_optimizer(
    n: int, tuned: Callable[..., TrainConfig], start: Path, data: Path, tmp_path: Path
) -> None:
    config = tuned(f"model.n={n}")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(config))
    run = trainer(config, tmp_path / "run", data)
    expected = dict(drop_heads(load_model(start), n).named_parameters())
    weights = run.trainable.weights()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], w) for name, w in expected.items())
    assert (run.step, run.steps) == (0, 30) and not run.optimizer.state
    assert run.train_step()[2] == pytest.approx(config.lr / config.warmup)
    # before the first step, the folder is the start itself
    again = load_model(tmp_path / "run")
    assert all(torch.equal(w, expected[name]) for name, w in again.named_parameters())


def test_a_pass_is_every_record_once(
    tuned: Callable[..., TrainConfig], data: Path, tmp_path: Path
) -> None:
    run = trainer(tuned("tokens=0", "epochs=3"), tmp_path / "run", data)
    split = run.corpus.train
    assert isinstance(split, Pairs)
    assert run.steps == round(3 * split.records / 4)


def test_the_loss_is_that_of_the_completions(
    tuned: Callable[..., TrainConfig], start: Path, data: Path, tmp_path: Path
) -> None:
    """Against a loop over tokens in float64."""
    config = tuned()
    run = trainer(config, tmp_path / "run", data)
    text = run.corpus.tokenizer
    model = load_model(start).double()
    sums, counts = [0.0] * 3, [0] * 3
    split = run.corpus.validation
    assert isinstance(split, Pairs) and split.records > 3
    for index, document in enumerate(split.documents()):
        question, answer = text.decode(document.tolist()).split(" is ")
        prompt = [text.bos, *text.encode(question + " is ")]
        ids = [*prompt, *text.encode(answer), text.eos]
        assert ids == document.tolist() and split.lengths[index, 1] == len(prompt)
        with torch.no_grad():
            logits = model(torch.tensor([ids]))
        for i in range(3):
            for t in range(len(ids)):
                if len(prompt) <= t + i + 1 < len(ids):
                    p = logits[i][0, t].log_softmax(0)
                    sums[i] -= float(p[ids[t + i + 1]])
                    counts[i] += 1
    expected = [a / b for a, b in zip(sums, counts, strict=True)]
    assert run.validate() == pytest.approx(expected, rel=1e-4)
    # a step's loss likewise, from the batch that it takes
    window = run.batches.next()
    tokens, targets = window.inputs, window.targets()
    run.batches.load_state(run.batches.state() | {"windows": 0})
    with torch.no_grad():
        log_p = [each.log_softmax(-1) for each in model(tokens)]
    means = []
    for i in range(3):
        places = (targets[i] != IGNORE).nonzero().tolist()
        means.append(-sum(float(log_p[i][b, t, targets[i, b, t]]) for b, t in places) / len(places))
    assert run.train_step()[0].tolist() == pytest.approx(means, rel=1e-4)


# --------------------------------------------------------------------------------------------------
# the command, and going on


class Command:
    """mtp.train's command line, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, folder: Path, data: Path, *overrides: str) -> str:
        argv = ["mtp.train", "--run", str(folder), "--data", str(data), *overrides]
        self.monkeypatch.setattr(sys, "argv", argv)
        train_command.main()
        return self.capfd.readouterr().err

    def fails(self, folder: Path, data: Path, *overrides: str) -> str:
        with pytest.raises(SystemExit) as left:
            self(folder, data, *overrides)
        *built, error = self.capfd.readouterr().err.splitlines()
        assert left.value.code == 2 and error.startswith("error: "), error
        assert all(line.startswith(("reading", "training", "tokenizing")) for line in built)
        return error


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capfd)


QUICK = ("precision=float32", "compile=off", "warmup=5", "lr=1e-2", "batch=8")


def test_the_command_finetunes_and_reports(
    command: Command, questions: Path, start: Path, data: Path, tmp_path: Path
) -> None:
    source = [f"data.source=pairs:{questions}", "data.validation=0.2", *QUICK]
    more = ["epochs=20", "model.n=1", "model.context=24", "eval_every=1000"]
    result = command(tmp_path / "run", data, f"init={start}", *source, *more)
    assert f"start: {start} at step 7, n=3 -> 1 parallel, dim 32, 2 layers, context 24" in result
    assert "records; a context of 24 cuts 0 prompts and 0 completions" in result
    found = [row for row in rows(tmp_path / "run") if "validation_loss" in row]
    (before,), (after,) = (row["validation_loss"] for row in found)
    assert found[0]["step"] == 0 and after < 0.5 * before
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (written["init"], written["data"]["tokenizer"]) == (str(start), "bytes")
    assert load(tmp_path / "run").name == "bytes"
    command(tmp_path / "run", data)  # finished: left alone
    assert [row for row in rows(tmp_path / "run") if "validation_loss" in row] == found


def test_a_tuned_run_is_a_start_too(
    command: Command, questions: Path, start: Path, data: Path, tmp_path: Path
) -> None:
    source = [f"data.source=pairs:{questions}", *QUICK, "tokens=2000"]
    command(tmp_path / "one", data, f"init={start}", *source, "model.n=2")
    result = command(tmp_path / "two", data, f"init={tmp_path / 'one'}", *source, "model.n=1")
    assert "n=2 -> 1" in result
    assert load_model(tmp_path / "two").config.n == 1


def test_a_tuned_run_has_its_heads_dropped_and_grown(
    tuned: Callable[..., TrainConfig],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result is a run of its own, whatever the source began with."""
    train(tuned("model.n=2", "tokens=400", "eval_every=0"), tmp_path / "run", data)
    for how, n in (("drop", "1"), ("grow", "4")):
        made = tmp_path / how
        argv = ["mtp.convert", how, str(tmp_path / "run"), str(made), "--n", n]
        monkeypatch.setattr(sys, "argv", argv)
        convert.main()
        config = checkpoint.run_config(made)
        assert (config.init, config.model.n) == ("", int(n))
        train(config, made, data)
        assert not (made / "start").exists()
        with pytest.raises(BadInput, match=rf"{how} has weights of its own"):
            save_start_weights(tuned(), ByteTokenizer(), made)


def test_a_stopped_run_ends_with_the_same_weights(
    tuned: Callable[..., TrainConfig], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tuned("model.n=2")
    train(config, tmp_path / "whole", data)
    step, stops = Trainer.train_step, [3, 10, 21]

    def until(self: Trainer) -> Any:
        if stops and self.step == stops[0]:
            number = stops.pop(0)
            if number == 10:  # asked to stop: saves first
                os.kill(os.getpid(), signal.SIGTERM)
            else:
                raise RuntimeError("cut off")
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", until)
    for error in (RuntimeError, Interrupted, RuntimeError):
        with pytest.raises(error):
            train(config, tmp_path / "parts", data)
    train(config, tmp_path / "parts", data)
    assert not stops
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "parts") if "validation_loss" in row] == [
        *(0, 10, 20, 30)
    ]


def test_two_processes_tune_as_one_does(
    tuned: Callable[..., TrainConfig], data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config = tuned("model.n=2", "tokens=1000", "eval_every=0")
    train(config, tmp_path / "one", data)
    assert on_ranks(processes, 2, [(config, tmp_path / "two")], data) == [0, 0]
    one, two = (dict(load_model(tmp_path / name).named_parameters()) for name in ("one", "two"))
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


# --------------------------------------------------------------------------------------------------
# what is refused


def test_a_changed_start_is_refused_and_nothing_is_lost(
    tuned: Callable[..., TrainConfig], start: Path, data: Path, tmp_path: Path
) -> None:
    config, folder = tuned("eval_every=0"), tmp_path / "run"
    train(config, folder, data)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    shutil.move(start, tmp_path / "as it was")
    a_run(start, seed=1)
    with pytest.raises(BadInput, match=r"run began with other weights than .*start has now"):
        train(config, folder, data)
    assert before == {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    shutil.rmtree(start)
    shutil.move(tmp_path / "as it was", start)
    train(config, folder, data)
    assert status(folder)["state"] == "finished"


def test_a_run_that_has_begun_does_not_need_its_start(
    command: Command,
    questions: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same command continues without it, then finds the run finished and changes nothing."""
    start, folder = tmp_path / "start", tmp_path / "run"
    a_run(start, tokenizer=BPE.train([Path(__file__).read_text()], 300), vocab=300)
    source = [f"data.source=pairs:{questions}", *QUICK, "tokens=2000", "save_every=1"]
    given = [f"init={start}", *source, "model.n=2"]
    step = Trainer.train_step

    def until(self: Trainer) -> Any:
        if self.step == 2:
            raise RuntimeError("cut off")
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", until)
    with pytest.raises(RuntimeError):
        command(folder, data, *given)
    monkeypatch.setattr(Trainer, "train_step", step)
    shutil.rmtree(start)
    assert f"start: {start}, which is gone" in command(folder, data, *given)
    assert status(folder)["state"] == "finished"
    command(folder, data, *given)
    command(folder, data)
    assert "model.n 2 -> 1" in command.fails(folder, data, *given, "model.n=1")
    assert "start: no such folder" in command.fails(tmp_path / "new", data, *given)


def test_killed_before_its_first_checkpoint_it_begins_again(
    tuned: Callable[..., TrainConfig], start: Path, data: Path, tmp_path: Path
) -> None:
    config, folder = tuned(), tmp_path / "run"
    save_start_weights(config, ByteTokenizer(), folder)
    shutil.rmtree(folder / "checkpoint")  # the pin alone is written
    save_start_weights(config, ByteTokenizer(), folder)
    found = checkpoint.newest(folder / "checkpoint")
    assert found is not None and found.step == 0
    assert checkpoint.any_saved(folder / "checkpoint")
    shutil.rmtree(folder / "checkpoint")
    shutil.rmtree(start)
    a_run(start, seed=1)
    with pytest.raises(BadInput, match="began with other weights"):
        save_start_weights(config, ByteTokenizer(), folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    {
        "more heads": (["model.n=4"], "model.n 4 parallel heads leave no trunk in 4 layers"),
        "no heads": (["model.n=0"], "0 heads cannot be kept; the model has 3"),
        "half a head": (["model.n=1.5"], "model.n is '1.5'; it must be a whole number"),
        "width": (
            ["model.dim=64"],
            "model.dim 32 -> 64: the model is the one of .*; only n, the context",
        ),
        "layers": (["model.layers=9"], "model.layers 4 -> 9"),
        "rope": (["model.rope_base=5e5"], "model.rope_base 10000 -> 500000"),
        "tokenizer": (["data.tokenizer=bpe", "data.vocab=258"], "not the one that .*=bytes"),
        "no start": (["init=nowhere"], "init: nowhere: no such folder"),
        "other heads": (
            ["model.head=causal"],
            "head parallel -> causal: .*start has 3 parallel heads; .*mtp.convert drop .*start",
        ),
        "fewer and other heads": (["model.n=2", "model.head=causal"], "start has 3 parallel heads"),
        "a head in no file": (["model.head=no.py:x"], "model.head: no.py: no such file"),
        "layers of no head": (
            ["model.extra_layers=5"],
            "model.extra_layers 0 -> 5: only new heads add layers; set model.n above the 3 of",
        ),
        "more layers than heads": (
            ["freeze=trunk", "model.n=5", "model.extra_layers=5"],
            "model.extra_layers 2 -> 5: new heads add their own layers alone; set the former",
        ),
        "no pairs": (["data.source=pairs:none.jsonl"], "none.jsonl: no such file"),
        "a batch too large": (["batch=100"], "fewer than one batch of 100"),
    }.values(),
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input(
    overrides: list[str],
    message: str,
    command: Command,
    questions: Path,
    start: Path,
    data: Path,
    tmp_path: Path,
) -> None:
    given = [f"init={start}", f"data.source=pairs:{questions}", "epochs=1", *QUICK, *overrides]
    assert re.search(message, command.fails(tmp_path / "run", data, *given))


def test_other_heads_for_a_run_of_one_head_are_new_heads(
    command: Command, questions: Path, data: Path, tmp_path: Path
) -> None:
    """The message says what to do, and that works."""
    a_run(tmp_path / "one", n=1)
    source = (f"init={tmp_path / 'one'}", f"data.source=pairs:{questions}", "tokens=400", *QUICK)
    message = command.fails(tmp_path / "run", data, *source, "model.head=linear")
    assert "one has no other heads; set model.n above 1 for heads of that type" in message
    command(tmp_path / "new", data, *source, "model.head=linear", "model.n=2")


def test_a_damaged_or_untrained_start_is_named(
    tuned: Callable[..., TrainConfig], start: Path, data: Path, tmp_path: Path
) -> None:
    config = tuned()
    (weights,) = start.glob("checkpoint/step-*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(BadInput, match=r"model.safetensors is missing, torn or altered"):
        train(config, tmp_path / "run", data)
    shutil.rmtree(start / "checkpoint")
    with pytest.raises(BadInput, match="start has no checkpoint yet"):
        train(config, tmp_path / "run", data)
    assert not (tmp_path / "run" / "checkpoint").exists()
