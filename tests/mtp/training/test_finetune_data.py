"""Finetuning on MBPP and SciTLDR: the loss on held-out completions falls.

MBPP and SCITLDR name the files; without them the tests skip."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtp.config import TrainConfig
from mtp.data.corpus import build
from mtp.data.pairs import Pairs
from mtp.overrides import from_dict
from mtp.training.finetune import override_from_start
from mtp.training.run import train
from tests.conftest import BENCHMARK_DATA
from tests.mtp.training.helpers import rows

FILES = {
    "MBPP": Path(os.environ.get("MBPP", BENCHMARK_DATA / "mbpp/mbpp.jsonl")),
    "SCITLDR": Path(os.environ.get("SCITLDR", BENCHMARK_DATA / "scitldr/SciTLDR-A.dev.jsonl")),
}
QUICK = ["precision=float32", "compile=off", "batch=8", "warmup=5", "log_every=0"]


def mbpp(file: Path) -> Iterator[tuple[str, str]]:
    """The train split, tasks 601 to 974."""
    for record in map(json.loads, file.read_text().splitlines()):
        if record["task_id"] > 600:
            yield record["text"] + "\n", record["code"]


def scitldr(file: Path) -> Iterator[tuple[str, str]]:
    for record in map(json.loads, file.read_text().splitlines()[:300]):
        yield " ".join(record["source"]) + "\nTL;DR: ", record["target"][0]


RECORDS = {"MBPP": mbpp, "SCITLDR": scitldr}


@pytest.fixture(scope="module")
def start(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four heads that has read some of this repository."""
    model = {"dim": 48, "layers": 5, "attn_heads": 2, "vocab": 512, "n": 4, "context": 128}
    source = {"source": f"files:{Path(__file__).parent}", "vocab": 512, "validation": 0.0}
    values = {"model": model, "data": source, "tokens": 30 * 8 * 128, "lr": 5e-3}
    config = override_from_start(from_dict(TrainConfig, values), QUICK)
    folder = tmp_path_factory.mktemp("starts") / "start"
    train(config, folder, data)
    return folder


@pytest.mark.parametrize(("name", "n"), [("MBPP", 1), ("MBPP", 4), ("SCITLDR", 1)])
def test_held_out_completions_become_likelier(
    name: str, n: int, start: Path, data: Path, tmp_path: Path
) -> None:
    file = FILES[name]
    if not file.is_file():
        pytest.skip(f"no {name}: {file} is missing; set {name} to its file")
    jsonl = tmp_path / f"{name}.jsonl"
    lines = [json.dumps({"prompt": p, "completion": c}) for p, c in RECORDS[name](file)]
    jsonl.write_text("\n".join(lines))
    given = [f"init={start}", f"data.source=pairs:{jsonl}", "data.validation=0.2", *QUICK]
    config = override_from_start(
        TrainConfig(epochs=1.0), [*given, f"model.n={n}", "lr=2e-3", "eval_every=1000"]
    )
    train(config, tmp_path / "run", data)
    corpus = build(config.data, data, progress=False)
    assert isinstance(corpus.train, Pairs) and isinstance(corpus.validation, Pairs)
    assert corpus.train.records + corpus.validation.records >= 0.98 * len(lines)
    assert sum(corpus.train.cuts(128)[:2]) > 0
    before, after = (
        row["validation_loss"] for row in rows(tmp_path / "run") if "validation_loss" in row
    )
    assert len(before) == len(after) == n
    assert all(b < a - 0.3 and math.isfinite(b) for a, b in zip(before, after, strict=True))
