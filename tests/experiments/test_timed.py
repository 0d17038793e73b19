"""Evaluations that time something: their precision, and their turns on a GPU."""

import gc
import json
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import jobs, timed
from experiments.results import Measure
from experiments.study import STUDIES, Evaluation, Study, find, record_file, rows_of, run_folder
from experiments.timed import alone_on, precision_for
from mtp.config import TrainConfig
from mtp.data.corpus import Corpus
from mtp.model.model import MultiTokenTransformer
from mtp.training.run import train


def a_study(config: TrainConfig, evaluations: dict[str, Evaluation]) -> Study:
    return Study(
        name="by-hand",
        artefact="",
        question="",
        runs=lambda scale: [config],
        evaluations=evaluations,
        figure=lambda rows, paper: pytest.fail("no figure is drawn"),
        finding=lambda rows: "",
        table=(),
        paper=pd.DataFrame.copy,
    )


def test_a_gpu_times_in_bf16_and_scores_in_float32() -> None:
    found = {
        (study, name)
        for study in STUDIES
        for name, evaluation in find(study).evaluations.items()
        if precision_for(evaluation, "cuda") == "bf16"
    }
    assert found == {("decoding", "speeds"), ("decoding-bytes", "speeds")}
    for study, name in found:
        assert precision_for(find(study).evaluations[name], "cpu") == "float32"


def test_a_row_says_in_what_it_was_decoded_and_one_model_is_held_at_a_time(
    make_config: Callable[..., TrainConfig],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models: dict[str, weakref.ref[MultiTokenTransformer]] = {}
    kept: list[Path] = []

    def measured(name: str) -> Evaluation:
        def evaluation(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
            gc.collect()
            assert all(ref() in (None, model) for ref in models.values())
            models[name] = weakref.ref(model)
            return [Measure(str(model.embedding.weight.dtype), 1.0)]

        return evaluation

    def resumable(
        model: MultiTokenTransformer, corpus: Corpus, scale: str, keep: Path | None = None
    ) -> list[Measure]:
        assert keep
        kept.append(keep)
        return measured("resumable")(model, corpus, scale)

    evaluations = {
        "first": measured("first"),
        "second": timed.timed(measured("second")),
        "third": resumable,
    }
    monkeypatch.setattr(
        timed, "default_precision", lambda device, timed: "bf16" if timed else "float32"
    )
    config = make_config(tokens=128)
    folder, study = run_folder(config, tmp_path), a_study(config, evaluations)
    train(config, folder, data)
    jobs.evaluate(study, "smoke", config, folder, data)
    found = {row["metric"]: row["precision"] for row in rows_of(study, "smoke", config, tmp_path)}
    assert found == {
        "torch.float32": "float32",  # as it was trained
        "torch.bfloat16": "float32, decoded in bf16",
    }
    for name, dtype in (("first", "float32"), ("second", "bfloat16"), ("third", "float32")):
        record = json.loads(record_file(folder, name).read_text())
        assert record["measures"][0]["metric"] == f"torch.{dtype}"
    assert kept == [folder / "evals" / ".third.partial"]


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timed.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(timed, "gpu_id", lambda device: {"cuda:1": "GPU-7"}.get(device, "GPU-5"))


@pytest.mark.usefixtures("locks")
def test_timings_on_one_gpu_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    entered = threading.Event()

    def other(device: str) -> threading.Thread:
        def work() -> None:
            with alone_on(device):
                entered.set()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    with alone_on("cuda"):
        for elsewhere in ("cuda:1", "cpu"):
            other(elsewhere).join(10)
            assert entered.is_set()
            entered.clear()
        assert capsys.readouterr().out == ""
        same = other("cuda:0")  # the same GPU by another name
        assert not entered.wait(1.5)
    same.join(10)
    assert entered.is_set()
    said = "waiting: another evaluation times something on cuda:0\n"
    assert capsys.readouterr().out == said


@pytest.mark.usefixtures("locks")
def test_a_timed_evaluation_holds_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []
    monkeypatch.setattr(timed, "alone_on", lambda device: held.append(device) or torch.no_grad())
    evaluation = timed.timed(lambda model, corpus, scale: [Measure(scale, float(len(held)))])
    model = torch.nn.Module()
    model.embedding = torch.nn.Embedding(1, 1)
    assert evaluation(model, None, "smoke") == [Measure("smoke", 1.0)]  # type: ignore[arg-type]
    assert held == ["cpu"]
