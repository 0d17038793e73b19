"""Runs that differ in their budget alone: the longer one continues the shorter, and ends as if it
had been trained from the start."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from mtp import sharded
from mtp.checkpoint import kept_file, saved
from mtp.config import TrainConfig
from mtp.training.budgets import own_tokens, shorter, siblings, stable
from mtp.training.executions import executions
from mtp.training.run import train
from mtp.training.schedule import shared_steps
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import (
    Make,
    assert_alike,
    assert_same_run,
    on_ranks,
    rows,
    timeless,
    train_in_parts,
)

BUDGETS = (10, 20, 40)  # steps; wsd:0.2 shares 8, 16 and 32 of them


@pytest.fixture(scope="module")
def make(make_config: Make) -> Callable[..., TrainConfig]:
    def budget(steps: float, **changes: Any) -> TrainConfig:
        base = {"lr_schedule": "wsd:0.2", "keep_every": 4, "log_every": 3, "eval_every": 8}
        return make_config(tokens=steps * 4 * 32, **(base | changes))

    return budget


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The steps that are trained."""
    steps, step = list[int](), Trainer.train_step

    def counting(self: Trainer) -> Any:
        steps.append(self.step)
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", counting)
    yield steps


@pytest.fixture(scope="module")
def apart(
    make: Callable[..., TrainConfig], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """Each budget trained from the start, in a folder of its own."""
    folders = {steps: tmp_path_factory.mktemp("apart") / "run" for steps in BUDGETS}
    for steps, folder in folders.items():
        train(make(steps), folder, data)
    return folders


@pytest.fixture
def short(apart: dict[int, Path], tmp_path: Path) -> Path:
    """A copy of the shortest run, beside tmp_path / long."""
    return Path(shutil.copytree(apart[10], tmp_path / "short"))


def assert_same_kept(folder: Path, reference: Path) -> None:
    got, want = (
        {file.name: file.read_bytes() for file in (each / "kept").iterdir()}
        for each in (folder, reference)
    )
    assert got == want


def test_three_budgets_cost_little_more_than_the_longest_and_end_as_if_apart(
    make: Callable[..., TrainConfig],
    apart: dict[int, Path],
    data: Path,
    tmp_path: Path,
    trained: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = {steps: tmp_path / f"run{steps}" for steps in BUDGETS}
    for steps, folder in folders.items():
        train(make(steps), folder, data)
        assert_same_run(folder, apart[steps])
        assert_same_kept(folder, apart[steps])
        assert [path.name for path in saved(stable(folder))] == [f"step-{8 * steps // 10:08}"]
    assert trained == [*range(10), *range(8, 20), *range(16, 40)] and len(trained) == 1.15 * 40
    said = capsys.readouterr().err
    assert "continues run10 at step 8;" in said and "continues run20 at step 16;" in said

    assert kept_file(folders[40], 16).samefile(kept_file(folders[20], 16))
    assert not kept_file(folders[40], 20).samefile(kept_file(folders[20], 20))
    parts = [(part.get("run"), part["from_step"]) for part in executions(folders[40])]
    assert parts == [("run10", 0), ("run20", 8), (None, 16)]
    steps = [row["step"] for row in rows(folders[40]) if "loss" in row]
    assert steps == [*range(3, 40, 3), 40], "the curve is whole"


def test_terms_balance_and_averages_continue(
    make: Callable[..., TrainConfig], data: Path, tmp_path: Path, trained: list[int]
) -> None:
    """Whatever a checkpoint holds besides the weights."""
    objective = {"balance": "gradient", "measure_every": 3, "embedding": 0.5}
    objective |= {"embedding_target": "average"}
    for steps, folder in ((10, "short"), (20, "long"), (20, "apart/run")):
        train(make(steps, objective=objective), tmp_path / folder, data)
    assert len(trained) == 10 + 12 + 20
    assert_same_run(tmp_path / "long", tmp_path / "apart/run")


def test_a_run_that_is_cut_off_before_it_has_saved_begins_there_again(
    make: Callable[..., TrainConfig],
    apart: dict[int, Path],
    short: Path,
    data: Path,
    tmp_path: Path,
    trained: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "long"
    train_in_parts(make(20), folder, data, 14, monkeypatch)
    assert trained == [*range(8, 14), *range(8, 20)]
    assert_same_run(folder, apart[20])
    assert_same_kept(folder, apart[20])


def test_a_run_in_epochs_and_one_executed_otherwise_continue_too(
    make: Callable[..., TrainConfig], short: Path, data: Path, tmp_path: Path, trained: list[int]
) -> None:
    config = make(0, epochs=0.2, micro=2, log_every=5, scheme="sequential", attention="sdpa")
    train(config, tmp_path / "long", data)
    steps = len(trained) + 8
    assert trained[0] == 8 and steps > 20
    logged = [row["step"] for row in rows(tmp_path / "long") if "loss" in row]
    assert logged[:2] == [3, 6] and logged[2:4] == [10, 15], "logged at 10: steps 7 to 10"
    first, second = executions(tmp_path / "long")
    assert (first["run"], first["micro"]) == ("short", 0)
    assert (second["from_step"], second["micro"], second["attention"]) == (8, 2, "sdpa")


# --------------------------------------------------------------------------------------------------
# what is not continued


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": {"schedule": "ramp:0.2:0.4"}},
        {"lr_schedule": "cosine"},
        {"lr_schedule": "wsd:1"},
    ],
    ids=["weights by shares of the budget", "cosine", "decay from the start"],
)
def test_runs_that_go_by_shares_of_the_budget_share_nothing(
    changes: dict[str, Any],
    make: Callable[..., TrainConfig],
    data: Path,
    tmp_path: Path,
    trained: list[int],
) -> None:
    for steps in (10, 20):
        train(make(steps, **changes), tmp_path / str(steps), data)
        assert not stable(tmp_path / str(steps)).exists()
    assert trained == [*range(10), *range(20)]


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"lr": 1e-3}, {"keep_every": 5}, {"warmup": 4}, {"model": {"n": 1}}]
)
def test_only_the_budget_may_differ(
    changes: dict[str, Any], make: Callable[..., TrainConfig], short: Path, tmp_path: Path
) -> None:
    assert siblings(make(20), tmp_path / "long") == [short]
    assert siblings(make(20, **changes), tmp_path / "long") == []
    assert siblings(make(20), short) == []


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: tear(stable(run) / "step-00000008/optimizer.safetensors"), "torn or altered"),
        (lambda run: tear(stable(run) / "step-00000008/state.json"), "state.json is missing or"),
        (lambda run: shutil.rmtree(stable(run)), "stable is missing"),
        (lambda run: kept_file(run, 4).unlink(), "step-00000004.safetensors is missing"),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl is missing"),
        (lambda run: (run / "corpus").write_text("other"), "its corpus is another, other"),
        (lambda run: (run / "start").write_text("0" * 64), "its start is another, 000"),
    ],
    ids=["moments", "state", "stable", "kept", "metrics", "corpus", "start"],
)
def test_without_a_state_of_use_it_is_trained_from_the_start_and_one_line_says_why(
    harm: Callable[[Path], None],
    words: str,
    make: Callable[..., TrainConfig],
    apart: dict[int, Path],
    short: Path,
    data: Path,
    tmp_path: Path,
    trained: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    harm(short)
    train(make(20), tmp_path / "long", data)
    (line,) = (x for x in capsys.readouterr().err.splitlines() if "cannot be continued" in x)
    assert line.startswith("short begins alike and cannot be continued: ") and words in line
    assert trained == list(range(20))
    assert_same_run(tmp_path / "long", apart[20])


def test_another_precision_of_the_launcher_or_device_is_not_continued(
    make: Callable[..., TrainConfig],
    data: Path,
    tmp_path: Path,
    trained: list[int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(make(10, precision="auto"), tmp_path / "short", data, "float32")
    train(make(11, precision="auto"), tmp_path / "same", data, "float32")
    train(make(12, precision="auto"), tmp_path / "other", data, "autocast")
    assert trained == [*range(10), 8, 9, 10, *range(12)]
    assert "its precision is float32, not autocast" in capsys.readouterr().err
    assert [part["precision"] for part in executions(tmp_path / "same")] == ["float32"] * 2
    state = stable(tmp_path / "short") / "step-00000008" / "state.json"
    values = json.loads(state.read_text())
    values["engine"]["device"] = "cuda"
    state.write_text(json.dumps(values))
    train(make(13, precision="auto"), tmp_path / "moved", data, "bf16")
    assert "short begins alike and cannot be continued: its device is cuda, not cpu" in (
        capsys.readouterr().err
    )


def test_a_finetuned_run_continues_one_of_the_same_start(
    make: Callable[..., TrainConfig], data: Path, tmp_path: Path, trained: list[int]
) -> None:
    train(make(5, keep_every=0), tmp_path / "start", data)
    del trained[:]
    changes = {"init": "start", "seed": 1}
    for steps, folder in ((10, "short"), (20, "long")):
        train(make(steps, **changes), tmp_path / folder, data)
    assert trained == [*range(10), *range(8, 20)]
    shutil.rmtree(tmp_path / "short")
    train(make(20, **changes), tmp_path / "again", data)
    assert_same_run(tmp_path / "again", tmp_path / "long")
    assert timeless(tmp_path / "long")[0]["step"] == 0, "the loss before finetuning"


# --------------------------------------------------------------------------------------------------
# several ranks, several budgets


def test_shards_are_continued_by_any_number_of_ranks(
    make: Callable[..., TrainConfig],
    apart: dict[int, Path],
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    folders = {steps: tmp_path / f"run{steps}" for steps in BUDGETS}
    two = [(make(steps), folders[steps]) for steps in (10, 20)]
    assert on_ranks(processes, 2, two, data) == [0, 0]
    assert sharded.is_sharded(stable(folders[20]) / "step-00000016")
    train(make(40), folders[40], data)
    for steps in (20, 40):
        assert_alike(folders[steps], apart[steps])
    ranks = [(part["from_step"], part["ranks"]) for part in executions(folders[40])]
    assert ranks == [(0, 2), (8, 2), (16, 1)]


def test_each_run_of_a_plan_continues_the_next_shorter_one(
    make: Callable[..., TrainConfig],
) -> None:
    a, b, c = (make(steps) for steps in BUDGETS)
    other = make(40, seed=1)
    assert shorter([c, a, other, b]) == [b, None, None, a]
    assert shorter([make(20, micro=2), a]) == [a, None]
    assert shorter([make(20, lr_schedule="cosine"), make(10, lr_schedule="cosine")]) == [None] * 2
    assert shorter([make(0, epochs=2), make(0, epochs=1), a]) == [make(0, epochs=1), None, None]


def test_tokens_of_a_plan_are_those_that_each_run_trains_itself(
    make: Callable[..., TrainConfig],
) -> None:
    configs = [make(40), make(10), make(20), make(20, seed=1), make(0, epochs=1)]
    found = own_tokens(configs, lambda config: config.tokens or math.nan)
    assert [each / (4 * 32) for each in found[:4]] == [24, 10, 12, 20] and math.isnan(found[4])


def test_what_is_shared_grows_with_the_budget(make: Callable[..., TrainConfig]) -> None:
    for share in (0.01, 0.2, 0.5, 0.99):
        config = make(1, lr_schedule=f"wsd:{share}")
        shared = [shared_steps(config, steps) for steps in range(1, 300)]
        assert shared == sorted(shared) and shared[0] == 0
        assert all(each < steps for steps, each in enumerate(shared, 1))
