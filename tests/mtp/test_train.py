"""python -m mtp.train: its arguments, and mistakes in one line."""

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.changes import Changes
from experiments.study import find, plan
from mtp import train as train_command
from mtp.checkpoint import run_config
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.overrides import to_json
from mtp.training.run import train
from tests.mtp.training.helpers import Make, command, fails


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data.source=stdlibb", ["'stdlibb'", "stdlib", "files:PATH"]),
        ("data.source=files:/nowhere", ["/nowhere"]),
        ("data.tokenizer=words", ["'words'", "bytes", "bpe"]),
        ("data.validation=1", ["validation", "1"]),
        ("model=3", ["model is a group of fields; set one, such as model.n=3"]),
        ("lr=fast", ["lr is 'fast'; it must be a number"]),
        ("model.head=medusa", ["'medusa'", "parallel"]),
        ("model.width=3", ["'width'", "dim"]),
        ("model.n=3", ["n 3", "3 layers", "at most 2, or more layers"]),
        ("model.vocab=100", ["model.vocab 100", "258"]),
        ("batch=4000", ["windows of 32 tokens", "batch of 4000"]),
        ("model.context=100000", ["windows of 100000 tokens", "smaller batch or context"]),
        ("epochs=0", ["exactly one"]),
        ("tokens=-5", ["tokens=-5", "exactly one", "positive"]),
        ("lr=nan", ["lr is nan", "finite"]),
        ("lr=-inf", ["lr is -inf", "finite"]),
        ("model.dim=1000000000", ["model.dim=1000000000", "larger than a tensor"]),
        ("model.dim=1000000", ["parameters", "this run needs about", "GB", "smaller model"]),
        ("seed=-3", ["seed", "-3"]),
        ("lr=1e30", ["not finite at step", "smaller lr than 1e+30"]),
    ],
)
def test_mistakes_are_reported_in_one_line(
    override: str,
    parts: list[str],
    make_config: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = command(make_config(), tmp_path / "run", data)[3:]
    line = fails(capsys, monkeypatch, *run, override)
    for part in parts:
        assert part in line
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_mistakes_about_the_folder_are_reported_in_one_line(
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

    train(config, tmp_path / "run", data)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    other = line("run", "lr=0.1", "model.n=1")
    assert other.endswith(
        "holds a run of another config (model.n 2 -> 1, lr 0.003 -> 0.1); choose another folder"
    )
    further = f"(tokens 128 -> 600); choose another folder, or start a new run with init={tmp_path}"
    assert line("run", "tokens=6e2").endswith(f"{further}/run")
    for override, words in {  # what is wrong in itself is not a run of another config
        "data.tokenizer=foo": "unknown tokenizer 'foo'",
        "data.tokenizer=llama:none": "no file none",
        "data.validation=2": "validation is 2.0",
        "data.max_mb=-1": "max_mb is -1.0",
        "tokens=-1": "the budget is tokens=-1",
    }.items():
        assert words in line("run", override) and "another config" not in line("run", override)
    assert "vocab is 10; a BPE" in line("run", "data.tokenizer=bpe", "data.vocab=10")
    assert before == {path: path.read_bytes() for path in before}
    (tmp_path / "file").write_text("")
    assert "cannot create" in line("file")
    assert "cannot create" in line("file/run")
    for name, content in {
        "torn": b'{"ba',
        "binary": b"\xff\xfe",
        "list": b"[]",
        "deep": b"[" * 10**5,
    }.items():
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


def test_a_new_run_needs_a_budget(
    make_config: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mistyped, the name of a run would else start another one, of nobody's choice."""
    run = tmp_path / "none"
    wanted = f"error: {run} is not a run; set tokens= or epochs= to start one"
    for overrides in ([], ["model.n=4"]):
        assert fails(capsys, monkeypatch, "--run", run, *overrides) == wanted
    assert "'modle'" in fails(capsys, monkeypatch, "--run", run, "modle.n=4")
    assert not run.exists()
    config = make_config(tokens=4 * 32)
    train(config, run, data)
    assert train_command.config_of(run, None, []) == config


# --------------------------------------------------------------------------------------------------
# the config that a command means


@pytest.fixture
def config_of(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., TrainConfig]:
    """The config with which the command would train in tmp_path/run."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr("mtp.training.run.train", lambda config, *_: seen.append(config))

    def call(*arguments: str) -> TrainConfig:
        run = ["mtp.train", "--run", str(tmp_path / "run"), "--data", str(data)]
        monkeypatch.setattr(sys, "argv", [*run, *arguments])
        train_command.main()
        return seen[-1]

    return call


def test_epochs_and_tokens_replace_each_other(
    config_of: Callable[..., TrainConfig], make_config: Make, tmp_path: Path
) -> None:
    def budget(*overrides: str) -> tuple[float, float]:
        config = config_of(*overrides)
        return config.epochs, config.tokens

    assert budget("epochs=3") == (3, 0)
    assert budget("tokens=5e5") == (0, 5e5)
    for name, config in {
        "tokens": make_config(tokens=2000),
        "epochs": make_config(tokens=0, epochs=2),
    }.items():
        file = tmp_path / f"{name}.json"
        file.write_text(to_json(config))
        assert budget("--config", str(file), "epochs=3") == (3, 0)
        assert budget("--config", str(file), "tokens=5e5") == (0, 5e5)
        assert budget("--config", str(file)) == (config.epochs, config.tokens)


def test_a_run_continues_with_its_own_config_and_what_is_changed(
    config_of: Callable[..., TrainConfig], make_config: Make, data: Path, tmp_path: Path
) -> None:
    config = make_config(tokens=4 * 4 * 32)
    train(config, tmp_path / "run", data)
    assert config_of() == config
    changed = config_of("micro=2", "log_every=1", "scheme=plain")
    assert changed == dataclasses.replace(config, micro=2, log_every=1, scheme="plain")
    train(changed, tmp_path / "run", data)
    assert run_config(tmp_path / "run") == changed
    with pytest.raises(BadInput, match=r"another config \(lr 0.003 -> 0.1\)"):
        train(config_of("lr=0.1", "log_every=3"), tmp_path / "run", data)


@pytest.mark.parametrize(
    ("overrides", "vocab"),
    [
        (["data.tokenizer=bytes"], 258),
        (["data.vocab=512"], 512),
        (["data.tokenizer=bytes", "data.vocab=512"], 258),
        (["data.tokenizer=bytes", "model.vocab=300"], 300),
        (["data.tokenizer=run:{run}"], 258),
        (["lr=1e-3"], 2048),
    ],
)
def test_the_vocabulary_follows_the_tokenizer_unless_it_is_set(
    overrides: list[str], vocab: int, make_config: Make, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    train(make_config(tokens=4 * 32), other, data)
    overrides = [text.format(run=other) for text in overrides]
    given = ["tokens=1e6", *overrides]
    assert train_command.config_of(tmp_path / "run", None, given).model.vocab == vocab
    (config, *_) = plan(find("sweep-n"), "cpu", Changes(tuple(overrides)))
    own = 512  # of the study, whatever its tokenizer becomes later
    left = any(text.startswith(("lr=", "data.tokenizer=run:")) for text in overrides)
    assert config.model.vocab == (own if left else vocab)


def test_a_run_that_has_begun_may_lose_the_tokenizer_it_names(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    other, run = tmp_path / "other", tmp_path / "run"
    train(make_config(tokens=4 * 32), other, data)
    overrides = [f"data.tokenizer=run:{other}"]
    config = make_config(tokens=4 * 32, data={"tokenizer": f"run:{other}"})
    train(config, run, data)
    shutil.rmtree(other)
    assert train_command.config_of(run, None, overrides) == config
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        train_command.config_of(tmp_path / "new", None, overrides)


@pytest.mark.parametrize(("steps", "warned"), [(5, True), (6, False)])
def test_a_warmup_as_long_as_the_run_is_said(
    steps: int,
    warned: bool,
    make_config: Make,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(make_config(tokens=steps * 4 * 32, warmup=5), tmp_path / "run", data)
    line = "warning: warmup is 5 steps and the run has 5, so the learning rate never reaches lr"
    assert (line in capsys.readouterr().err) == warned
