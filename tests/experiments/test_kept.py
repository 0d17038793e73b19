"""keep_every: weights kept over training, evaluated there, and no older run renamed by it."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from experiments import jobs, results, study
from experiments.changes import Changes
from experiments.results import Measure
from experiments.study import Study, collect, find, plan, record_file, rows_of, run_folder
from mtp.config import TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.data.tokenizer import BPE
from mtp.errors import BadInput
from mtp.model.loading import load_kept, load_model
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import config_id, differences, from_dict, identity, override, to_json
from mtp.training.run import check_corpus, train
from mtp.training.signals import Interrupted
from mtp.training.trainer import Trainer
from tests.conftest import Cli
from tests.mtp.training.helpers import Make, assert_same_run

BASE = TrainConfig(tokens=1e6)
STEP = 4 * 32  # tokens of a step of make_config's

# --------------------------------------------------------------------------------------------------
# configs


def kept_steps(run: Path) -> list[int]:
    files = sorted((run / "kept").glob("step-*.safetensors"))
    return [int(file.stem.removeprefix("step-")) for file in files]


def test_a_default_leaves_the_id_as_it_was() -> None:
    assert identity(BASE) == {"tokens": 1e6}
    assert override(BASE, ["keep_every=0"]) == BASE
    assert from_dict(TrainConfig, json.loads(to_json(BASE))) == BASE


def test_another_value_round_trips_and_is_another_run() -> None:
    kept = override(BASE, ["keep_every=50"])
    assert json.loads(to_json(kept)) == json.loads(to_json(BASE)) | {"keep_every": 50}
    assert from_dict(TrainConfig, json.loads(to_json(kept))) == kept
    assert config_id(kept) not in (config_id(BASE), config_id(override(BASE, ["keep_every=51"])))
    assert differences(BASE, kept) == ["keep_every 0 -> 50"]


def test_a_negative_period_is_bad_input() -> None:
    with pytest.raises(BadInput, match=r"keep_every is -1; it must be at least 0"):
        override(BASE, ["keep_every=-1"])


# --------------------------------------------------------------------------------------------------
# training


@pytest.fixture(scope="module")
def config(make_config: Make) -> TrainConfig:
    return make_config(tokens=10 * STEP, keep_every=2, save_every=3)


@pytest.fixture(scope="module")
def run(config: TrainConfig, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps in one go, under the name that a study gives them."""
    folder = run_folder(config, tmp_path_factory.mktemp("runs"))
    train(config, folder, data)
    return folder


def kept_files(folder: Path) -> dict[str, bytes]:
    """All files under kept, hidden ones too."""
    return {file.name: file.read_bytes() for file in (folder / "kept").iterdir()}


def test_every_second_step_is_kept(run: Path) -> None:
    assert sorted(kept_files(run)) == [f"step-{i:08}.safetensors" for i in (2, 4, 6, 8, 10)]
    assert kept_steps(run) == [2, 4, 6, 8, 10]


def test_the_last_step_is_kept_and_evaluated(make_config: Make, data: Path, tmp_path: Path) -> None:
    config = make_config(tokens=5 * STEP, keep_every=2)
    folder = run_folder(config, tmp_path)
    train(config, folder, data)
    assert kept_steps(folder) == [2, 4, 5]
    last = load_kept(folder, 5, config.model).state_dict()
    assert all(torch.equal(w, last[name]) for name, w in load_model(folder).state_dict().items())
    by_hand = a_study(config, evaluations={})
    jobs.evaluate(by_hand, "smoke", config, folder, data)
    rows = rows_of(by_hand, "smoke", config, tmp_path)
    assert [row["step"] for row in rows if row["metric"] == "weight"] == [2, 4, 5]


def test_weights_change_from_one_to_the_next_and_end_as_the_checkpoints(
    run: Path, config: TrainConfig
) -> None:
    kept = [load_kept(run, step, config.model).state_dict() for step in kept_steps(run)]
    for before, after in itertools.pairwise(kept):
        assert before.keys() == after.keys()
        assert not any(torch.equal(before[name], after[name]) for name in before)
    last = load_model(run).state_dict()
    assert last.keys() == kept[-1].keys()
    assert all(torch.equal(last[name], kept[-1][name]) for name in last)


def test_a_kept_step_is_that_of_the_run_in_between(
    run: Path, config: TrainConfig, data: Path, tmp_path: Path
) -> None:
    """The checkpoint of a run that was stopped at step 4 has its weights."""
    stop_at(config, tmp_path / "run", data, 4)
    want = load_kept(run, 4, config.model).state_dict()
    got = load_model(tmp_path / "run").state_dict()
    assert all(torch.equal(got[name], want[name]) for name in want)


def test_keeping_changes_no_training(
    make_config: Make, run: Path, data: Path, tmp_path: Path
) -> None:
    plain = make_config(tokens=10 * STEP, save_every=3)
    train(plain, tmp_path / "run", data)
    assert not (tmp_path / "run" / "kept").exists() and kept_steps(tmp_path / "run") == []
    assert_same_run(tmp_path / "run", run)


def test_a_folder_without_the_field_is_of_a_run_that_keeps_nothing(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    train(make_config(tokens=2 * STEP), tmp_path, data)
    file = tmp_path / "config.json"
    values = json.loads(file.read_text())
    assert values.pop("keep_every") == 0
    file.write_text(json.dumps(values))
    train(make_config(tokens=2 * STEP), tmp_path, data)
    with pytest.raises(BadInput, match=r"another config \(keep_every 0 -> 2\)"):
        train(make_config(tokens=2 * STEP, keep_every=2), tmp_path, data)


# --------------------------------------------------------------------------------------------------
# stopped and gone on


def in_step(number: int, happens: Callable[[], object]) -> Callable[[Trainer], Any]:
    step = Trainer.train_step

    def stepping(self: Trainer) -> Any:
        if self.step == number - 1:
            happens()
        return step(self)

    return stepping


def stop_at(config: TrainConfig, folder: Path, data: Path, step: int) -> None:
    """Train up to a step, in which a signal arrives: saved there."""
    with pytest.MonkeyPatch.context() as patch:
        stop = in_step(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        patch.setattr(Trainer, "train_step", stop)
        with pytest.raises(Interrupted):
            train(config, folder, data)


@pytest.mark.parametrize("step", [1, 4, 7])
def test_interrupted_and_resumed_it_keeps_the_same(
    run: Path, config: TrainConfig, data: Path, tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "run"
    stop_at(config, folder, data, step)
    assert kept_steps(folder) == list(range(2, step + 1, 2))
    train(config, folder, data)
    assert kept_files(folder) == kept_files(run)
    assert_same_run(folder, run)


def test_dead_after_a_kept_step_it_keeps_it_again(
    run: Path, config: TrainConfig, data: Path, tmp_path: Path
) -> None:
    """Saved at step 6, kept at 8, dead in 9: steps 7 and 8 are made again. So is a torn file."""

    def die() -> None:
        raise RuntimeError("dead")

    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", in_step(9, die))
        with pytest.raises(RuntimeError, match="dead"):
            train(config, folder, data)
    assert kept_steps(folder) == [2, 4, 6, 8]
    os.truncate(folder / "kept" / "step-00000008.safetensors", 100)
    (folder / "kept" / ".half-step-00000010.safetensors").write_bytes(b"of a killed process")
    assert kept_steps(folder) == [2, 4, 6, 8]  # the half one is none
    train(config, folder, data)
    assert kept_files(folder) == kept_files(run)
    assert_same_run(folder, run)


# --------------------------------------------------------------------------------------------------
# the corpus of a run


def test_a_run_tells_its_corpus_and_takes_no_other(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    config = make_config(tokens=2 * STEP)
    folder = run_folder(config, tmp_path)
    train(config, folder, data)
    mine = build(config.data, data, progress=False)
    file = folder / "corpus"
    assert file.read_text() == mine.folder.name
    check_corpus(folder, mine)
    check_corpus(tmp_path / "new", mine)
    file.write_text("texts-as-they-were")
    by_hand = a_study(config, over_training={})
    reported = rf"{folder.name} was trained on corpus texts-as-they-were; .* {mine.folder.name} now"
    for again in (
        lambda: check_corpus(folder, mine),
        lambda: train(config, folder, data),
        lambda: jobs.evaluate(by_hand, "smoke", config, folder, data),
    ):
        with pytest.raises(BadInput, match=reported) as error:
            again()
        assert "\n" not in str(error.value)
    assert file.read_text() == "texts-as-they-were" and not (folder / "evals").exists()
    file.unlink()  # of a run made before there was such a file
    jobs.evaluate(by_hand, "smoke", config, folder, data)
    assert study.missing_evaluations(by_hand, folder) == []


def test_a_study_goes_on_with_the_tokenizer_that_its_run_has_kept(
    cli: Cli, texts: Path, data: Path, tmp_path: Path
) -> None:
    """Where its config names one by a folder, and there is none any more."""
    base = tmp_path / "base"
    base.mkdir()
    BPE.train(["the cat went to the hill"], 300).save(base)
    given = ["model.n=1", f"data.source=files:{texts}", f"data.tokenizer=run:{base}"]
    (config,) = plan(find("sweep-n"), "smoke", Changes(tuple(given)))
    folder = run_folder(config, tmp_path / "runs")
    stop_at(config, folder, data, 1)
    shutil.rmtree(base)
    sets = [part for text in given for part in ("--set", text)]
    places = ("--runs", str(folder.parent), "--data", str(data), "--results", str(tmp_path))
    result = cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *places, *sets)
    assert result.code == 0, result.err
    record_file(folder, "likelihood").unlink()  # trained, to be evaluated
    result = cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *places, *sets)
    assert result.code == 0, result.err
    assert not study.missing_evaluations(find("sweep-n"), folder)


# --------------------------------------------------------------------------------------------------
# damage


@pytest.mark.parametrize("size", [0, 4, 100, 10_000, None])
def test_a_torn_kept_file_is_named(
    run: Path, config: TrainConfig, tmp_path: Path, size: int | None
) -> None:
    (tmp_path / "kept").mkdir()
    file = tmp_path / "kept" / "step-00000004.safetensors"
    if size is not None:
        file.write_bytes(kept_files(run)[file.name][:size])
    with pytest.raises(BadInput) as error:
        load_kept(tmp_path, 4, config.model)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_weights_of_another_model_are_bad_input(run: Path, config: TrainConfig) -> None:
    other = dataclasses.replace(config.model, n=1)
    with pytest.raises(BadInput, match=r"checkpoint weight 'heads\.1\."):
        load_kept(run, 4, other)


# --------------------------------------------------------------------------------------------------
# evaluated over training


def mean_weight(model: MultiTokenTransformer) -> float:
    return float(torch.cat([p.flatten() for p in model.parameters()]).abs().mean().detach())


def measured(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
    assert corpus.train.tokens > 0 and scale == "smoke"
    return [Measure("weight", mean_weight(model), 3), Measure("one", 1.0, 1)]


def no_figure(rows: pd.DataFrame, paper: pd.DataFrame) -> Figure:
    return Figure()


def a_study(config: TrainConfig, **changes: Any) -> Study:
    return Study(
        **{
            "name": "by-hand",
            "artefact": "Figure 0",
            "question": "is every kept step measured?",
            "runs": lambda scale: [config],
            "evaluations": {"end": measured},
            "figure": no_figure,
            "finding": lambda rows: "nothing",
            "paper": lambda rows: rows,
            "table": ("weight",),
            "over_training": {"then": measured},
        }
        | changes
    )


@pytest.fixture
def evaluated(run: Path, config: TrainConfig, data: Path) -> tuple[Study, list[dict[str, Any]]]:
    by_hand = a_study(config)
    for record in (run / "evals").glob("*.json"):
        record.unlink()
    assert study.missing_evaluations(by_hand, run) == ["end", "then"]
    jobs.evaluate(by_hand, "smoke", config, run, data)
    assert study.missing_evaluations(by_hand, run) == []
    return by_hand, rows_of(by_hand, "smoke", config, run.parent)


def test_every_kept_step_has_its_rows(
    run: Path, config: TrainConfig, evaluated: tuple[Study, list[dict[str, Any]]]
) -> None:
    end, then = evaluated[1][:2], evaluated[1][2:]
    assert [(row["step"], row["metric"]) for row in end] == [(10, "weight"), (10, "one")]
    assert [(row["step"], row["metric"]) for row in then] == [
        (step, metric) for step in (2, 4, 6, 8, 10) for metric in ("weight", "one")
    ]
    for row in then[::2]:
        model = load_kept(run, row["step"], config.model)
        assert row["value"] == pytest.approx(mean_weight(model), rel=1e-5)
    assert len({row["value"] for row in then[::2]}) == 5
    assert end[0]["value"] == then[-2]["value"] and end[0]["count"] == then[0]["count"] == 3
    assert {row["run_id"] for row in evaluated[1]} == {run.name}


def test_the_steps_come_through_the_results_file(
    run: Path, config: TrainConfig, tmp_path: Path, evaluated: tuple[Study, list[dict[str, Any]]]
) -> None:
    rows = results.read(collect(evaluated[0], "smoke", [config], run.parent, tmp_path))
    assert list(rows.columns) == results.COLUMNS
    assert list(rows[rows.metric == "one"].step) == [10, 2, 4, 6, 8, 10]


def test_a_record_is_made_once_and_alone(
    run: Path, config: TrainConfig, data: Path, evaluated: tuple[Study, list[dict[str, Any]]]
) -> None:
    def never(*_: object) -> list[Measure]:
        pytest.fail("measured again")

    before = {file: file.read_bytes() for file in (run / "evals").iterdir()}
    never_again = a_study(config, evaluations={"end": never}, over_training={"then": never})
    jobs.evaluate(never_again, "smoke", config, run, data)
    record_file(run, "then").unlink()
    jobs.evaluate(a_study(config, evaluations={"end": never}), "smoke", config, run, data)
    assert {file: file.read_bytes() for file in (run / "evals").iterdir()} == before


def test_a_torn_kept_file_stops_the_evaluation_and_records_nothing(
    run: Path, config: TrainConfig, data: Path, evaluated: tuple[Study, list[dict[str, Any]]]
) -> None:
    file = run / "kept" / "step-00000006.safetensors"
    whole = file.read_bytes()
    record_file(run, "then").unlink()
    file.write_bytes(whole[:500])
    try:
        with pytest.raises(BadInput, match="step-00000006"):
            jobs.evaluate(evaluated[0], "smoke", config, run, data)
    finally:
        file.write_bytes(whole)
    assert study.missing_evaluations(evaluated[0], run) == ["then"]
