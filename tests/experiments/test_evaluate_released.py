"""The released checkpoints' evaluation, on four random models in their format."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from evals.harness.candidates import Candidate
from evals.probes import speculation
from experiments import evaluate_released
from experiments.evaluate_released import NAMES, figure
from experiments.figures import save
from mtp.config import ModelConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.formats.released import write_released
from mtp.model import loading
from mtp.model.model import MultiTokenTransformer
from tests.conftest import MBPP_LINES, Result
from tests.evals.sandbox.helpers import need

MODELS = [name for pair in NAMES.values() for name in pair]


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the hub gives it: one file each, the tokenizer beside them."""
    folder = tmp_path_factory.mktemp("download")
    for i, name in enumerate(MODELS):
        torch.manual_seed(i)
        config = ModelConfig(dim=16, layers=5, attn_heads=2, vocab=258, n=int(name[-1]))
        (folder / name).mkdir()
        write_released(folder / name, MultiTokenTransformer(config), None)
        (folder / name / "consolidated.00.pth").rename(folder / name / "consolidated.pth")
    ByteTokenizer().save(folder)
    return folder


@pytest.fixture
def evaluate(
    run_evals: Callable[..., Result], tmp_path: Path, data: Path, download: Path
) -> Callable[..., Result]:
    """The command at smoke scale, its files in tmp_path."""
    (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in MBPP_LINES))
    usual = ["--scale", "smoke", "--benchmarks", "humaneval,mbpp", "--own-data", "--data", data]
    usual += ["--runs", tmp_path / "runs", "--out", tmp_path / "out", "--data-dir", tmp_path]

    def run(*args: object, folder: Path = download) -> Result:
        return run_evals("--checkpoints", folder, *usual, *args, main=evaluate_released.main)

    return run


def test_all_rows_come_of_one_command_and_nothing_is_done_twice(
    evaluate: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need()
    loaded = list[str]()
    load = loading.load_model
    monkeypatch.setattr(loading, "load_model", lambda f, *to: loaded.append(f.name) or load(f, *to))
    result = evaluate()
    assert result.code == 0, result.err
    assert loaded == MODELS, "each once, for two benchmarks and decoding"
    assert re.findall(r"importing (\S+)", result.out) == MODELS
    rows = pd.read_csv(tmp_path / "out" / "smoke.csv", dtype={"temperature": str})
    for name in MODELS:
        for benchmark in ("humaneval", "mbpp"):
            mine = rows[(rows.checkpoint == name) & (rows.benchmark == benchmark)]
            passed = mine[mine.metric == "pass@1"]
            assert set(passed.temperature) == {"0.2", "0.8", "oracle", "cross-validated"}
            paired = mine[mine.metric == f"pass@1 minus {name[:-1]}1"]
            assert len(paired) == (0 if name.endswith("_1") else 4)
    speed = rows[rows.benchmark == "decoding"].set_index("metric")
    assert set(speed.checkpoint) == {"7B_1T_4"} and set(speed["count"]) == {4}
    assert speed.value["tokens per forward, k=1"] == speed.value["speedup, k=1"] == 1
    assert 1 <= speed.value["tokens per forward, k=4"] <= 4
    assert (tmp_path / "out" / "smoke.svg").read_text().startswith("<?xml")

    before = (tmp_path / "out" / "smoke.csv").read_bytes()
    monkeypatch.setattr("evals.harness.generation.protocol_answers", None)
    monkeypatch.setattr(speculation, "side_by_side", None)
    result = evaluate()
    assert result.code == 0 and "importing" not in result.out
    assert (tmp_path / "out" / "smoke.csv").read_bytes() == before

    (kept,) = tmp_path.glob("runs/answers-smoke/*/decoding.jsonl")
    first = kept.read_text().splitlines()[0]
    for line in ('{"x": 1}', '{"values": [1]}', '{"values": {"speedup, k=1": "fast"}}'):
        kept.write_text(f"{first}\n{line}\n")
        result = evaluate()
        reported = f"{kept} line 2 is not a record of decoding speeds; delete the file"
        assert result.code == 2 and reported in result.err and result.err.count("\n") == 1, (
            result.err
        )


def test_what_a_download_lacks_is_named(
    evaluate: Callable[..., Result], download: Path, tmp_path: Path
) -> None:
    def fails(folder: Path, reported: str, *args: object) -> None:
        result = evaluate(*args, folder=folder)
        assert result.code == 2 and result.err.count("\n") == 1, result
        assert re.search(reported, result.err), result.err
        assert not (tmp_path / "out").exists()

    fails(tmp_path / "none", "none lacks 7B_200B_1, 7B_200B_4, 7B_1T_1, 7B_1T_4; it must hold")
    copy = tmp_path / "copy"
    shutil.copytree(download, copy)
    fails(copy, "unknown scale 'cpu'; choose one of: smoke, paper", "--scale", "cpu")
    fails(copy, "Table 1: 'gsm8k'; choose one of: humaneval, mbpp", "--benchmarks", "gsm8k")
    fails(copy, "apps/test.jsonl cannot be read: No such file", "--benchmarks", "mbpp,apps")
    assert not (tmp_path / "runs").exists()
    (copy / "7B_1T_1" / "consolidated.pth").unlink()
    (copy / "7B_200B_4" / "params.json").unlink()
    fails(copy, r"copy lacks 7B_200B_4, 7B_1T_1; .* params.json and consolidated.pth, and tok")
    shutil.rmtree(copy)
    shutil.copytree(download, copy)
    (copy / "tokenizer.json").unlink()
    fails(copy, "copy has no tokenizer.model; it belongs beside")
    shutil.rmtree(copy / "7B_200B_1")
    shutil.copytree(copy / "7B_1T_4", copy / "7B_200B_1")
    ByteTokenizer().save(copy)
    fails(copy, "7B_200B_1 has 4 heads; its name says otherwise")


def test_the_figure_sets_the_papers_numbers_beside_ours(tmp_path: Path) -> None:
    """With ours made up: the paper's, one point higher."""
    paper = pd.read_csv(Path(evaluate_released.__file__).parents[1] / "results/paper/reported.csv")
    rows = list[dict[str, Any]]()
    for trained, pair in NAMES.items():
        table = paper[(paper.artefact == "Table 1") & paper.data.str.startswith(f"{trained} ")]
        for name in pair:
            mine = table[table.n == int(name[-1])]
            assert len(mine) == 9
            for own, theirs in evaluate_released.PAPER_NAMES.items():
                for k in (1, 10, 100):
                    (value,) = mine[mine.metric == f"{theirs} pass@{k} (%)"].value / 100
                    rows.append(
                        {
                            "benchmark": own, "checkpoint": name, "metric": f"pass@{k}",
                            "temperature": "oracle", "value": value + 0.01, "low": value - 0.02,
                            "high": value + 0.03, "protocol": '{"samples": 200}', "device": "none",
                        }
                    )  # fmt: skip
    for k in (1, 2, 3, 4):
        for metric in ("tokens per forward", "speedup", "tokens/s"):
            rows.append(
                {
                    "benchmark": "decoding", "checkpoint": "7B_1T_4", "value": 1 + 0.7 * (k - 1),
                    "metric": f"{metric}, k={k}", "temperature": "0", "device": "none",
                }
            )  # fmt: skip
    made = figure(pd.DataFrame(rows), paper)
    assert [axes.get_title(loc="left") for axes in made.axes] == [
        "HumanEval", "MBPP", "APPS/Intro", "7B_1T_4 as its own draft model",
    ]  # fmt: skip
    diamonds = [np.shape(points.get_offsets())[0] for points in made.axes[0].collections]
    assert diamonds.count(1) >= 12
    assert len(made.axes[3].lines) == 4 and all(
        np.size(x.get_xdata()) == 4 for x in made.axes[3].lines
    )
    save(made, tmp_path / "figure")


def test_weights_in_bf16_are_other_weights(runs: tuple[Path, Path]) -> None:
    one, other = Candidate(runs[0]), Candidate(runs[0], precision="bf16")
    assert other.model().embedding.weight.dtype == torch.bfloat16
    assert one.weights() != other.weights() and one.model() is Candidate(runs[0]).model()
