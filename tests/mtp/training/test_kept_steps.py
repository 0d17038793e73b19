"""Kept steps of a run: they can be evaluated, and compared on the validation split."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from evals import __main__ as evaluate
from evals.harness.candidates import Candidate
from mtp.config import TrainConfig
from mtp.model import loading
from mtp.training.run import train
from tests.conftest import Cli, write_jsonl


@pytest.fixture(scope="module")
def run(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Kept at steps 2 and 4 of 5."""
    folder = tmp_path_factory.mktemp("kept") / "tuned"
    config = make_config(model={"context": 192}, tokens=5 * 4 * 192, keep_every=2)
    train(config, folder, data)
    return folder


def file(run: Path, step: int) -> Path:
    return run / "kept" / f"step-{step:08d}.safetensors"


def test_a_kept_step_is_a_checkpoint(run: Path) -> None:
    last, early = Candidate(run), Candidate(file(run, 2))
    assert (early.name, early.folder) == ("tuned-step-00000002", run)
    expected = loading.load_kept(run, 2, last.config).state_dict()
    found = early.model().state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    sums = {Candidate(place).weights() for place in (run, file(run, 2), file(run, 4))}
    assert len(sums) == 3 and early.model() is Candidate(file(run, 2)).model()


def test_a_kept_step_is_found_from_beside_it_and_read_again_when_it_changes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    monkeypatch.chdir(copy / "kept")
    here = Candidate(Path(file(copy, 2).name))
    assert here.name == "copy-step-00000002" and here.weights() == Candidate(file(run, 2)).weights()
    shutil.copyfile(file(run, 4), file(copy, 2))
    assert here.weights() == Candidate(file(run, 4)).weights()


def test_steps_are_compared_on_the_validation_split(
    run: Path, tmp_path: Path, run_evals: Cli
) -> None:
    for split in ("dev", "test"):
        records = [{"document": f"{split} {i}", "summary": "short"} for i in range(3)]
        write_jsonl(tmp_path / "xsum" / f"{split}.jsonl", *records)
    args = ["--checkpoint", file(run, 2), file(run, 4), "--benchmarks", "xsum", "--max-new", 8]
    args += ["--data-dir", tmp_path, "--out", tmp_path / "out", "--variant"]
    for variant in ("xsum=finetuned-dev", "xsum=finetuned"):
        result = run_evals(*args, variant, main=evaluate.main)
        assert result.code == 0, result.err
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(rows.checkpoint) == {"tuned-step-00000002", "tuned-step-00000004"}
    files = {(variant, data.split()[0]) for variant, data in rows[["variant", "data"]].to_numpy()}
    assert files == {("finetuned", "test.jsonl"), ("finetuned-dev", "dev.jsonl")}


def test_a_missing_step_is_reported(run: Path, tmp_path: Path, run_evals: Cli) -> None:
    for place in (file(run, 3), file(tmp_path, 2)):
        result = run_evals("--checkpoint", place, "--benchmarks", "microcode", main=evaluate.main)
        assert result.code == 2 and result.err.count("\n") == 1 and "Traceback" not in result.err
        assert str(place if place.parent.parent == run else tmp_path) in result.err
