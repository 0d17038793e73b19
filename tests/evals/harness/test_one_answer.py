"""Choice tasks, closed-book questions and summaries through `python -m evals`: rows, differences,
what was cut off goes on, and what does not fit counts."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evals.benchmarks.choice import METRICS
from evals.benchmarks.registry import BENCHMARKS
from evals.harness import generation
from experiments import evaluate
from tests.conftest import Cli, write_jsonl

COPA = [
    {
        "premise": f"Ann has {i} cats.",
        "choice1": "She feeds them.",
        "choice2": "The sun shines on the hill." + "." * (400 if i == 5 else 0),
        "question": ("cause", "effect")[i % 2],
        "label": i % 2,
    }
    for i in range(6)
]
XSUM = [{"document": "the cat went to the hill " * i, "summary": "a cat"} for i in (1, 20)]
NQ = {"question": "who went to the hill", "answer": ["the cat"]}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    write_jsonl(folder / "copa" / "val.jsonl", *COPA)
    write_jsonl(folder / "xsum" / "test.jsonl", *XSUM)
    write_jsonl(folder / "NQ-open.dev.jsonl", NQ)
    return folder


def test_every_number_has_its_row(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Cli
) -> None:
    args = ["--checkpoint", *runs, "--benchmarks", "copa,xsum,nq-open", "--data-dir", files]
    args += ["--own-data", "--max-new", 12, "--batch", 4, "--out", tmp_path / "out"]
    reported = run_evals(*args, main=evaluate.main)
    assert reported.code == 0, reported.err
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    keys = ["checkpoint", "benchmark", "metric"]
    found = {tuple(row[:3]): row[3:] for row in rows[[*keys, "value", "low", "high"]].to_numpy()}
    for benchmark, metrics in (("copa", METRICS), ("xsum", BENCHMARKS["xsum"].metrics)):  # type: ignore[attr-defined]
        for metric in metrics:
            (zero, low, high), (one, _, _) = (found[r.name, benchmark, metric] for r in runs)
            assert 0 <= low <= zero <= high <= 1
            assert found["run1", benchmark, f"{metric} minus run0"][0] == pytest.approx(one - zero)
    value = {key: numbers[0] for key, numbers in found.items()}
    assert value["run0", "copa", "skipped"] == pytest.approx(1 / 6)  # its choice exceeds 192 bytes
    assert value["run0", "copa", "chance"] == 0.5
    assert value["run0", "xsum", "shortened"] == 0.5
    assert value["run0", "nq-open", "pass@1"] == 0
    assert set(rows["count"]) == {6, 2, 1}
    protocols = {
        name: json.loads(text) for name, text in zip(rows.benchmark, rows.protocol, strict=True)
    }
    assert protocols["xsum"]["shortens"] == "document" and protocols["xsum"]["max_new"] == 12
    assert protocols["copa"]["max_new"] == 0 and protocols["copa"]["solved"] == " {answer}\n\n"
    assert rows.data.str.contains("unverified|not the original").all()
    assert "ROUGE-L F1, unicode" in reported.out and "precision" not in reported.out
    before = (tmp_path / "out" / "results.csv").read_bytes()
    for name in ("copa-0-shot", "xsum-finetuned", "nq-open-0-shot-T0"):  # killed in the middle
        file = tmp_path / "out" / "run1" / f"{name}.jsonl"
        whole = file.read_bytes()
        file.write_bytes(whole[:-9])
        assert run_evals(*args).code == 0
        assert file.read_bytes() == whole
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_a_record_of_other_weights_or_another_protocol_is_refused(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Cli
) -> None:
    args = ["--checkpoint", runs[0], "--benchmarks", "copa", "--out", tmp_path / "out"]
    assert run_evals(*args, "--data-dir", files).code == 0
    assert (
        run_evals(*args, "--data-dir", files, "--k", 1, "--seed", 3).code == 0
    )  # of no consequence
    write_jsonl(files / "copa" / "val.jsonl", *COPA[:3])
    reported = run_evals(*args, "--data-dir", files)
    assert reported.code == 2 and "has results of another data, problems" in reported.err


@pytest.mark.parametrize(
    ("args", "reported"),
    [
        (["--benchmarks", "arc"], "unknown benchmark 'arc'; choose one of: "),
        (["--benchmarks", "copa", "--variant", "copa=5-shot"], "choose one of: 0-shot, two-spaces"),
        (["--benchmarks", "nq-open"], "NQ-open.dev.jsonl is not the original"),
        (["--benchmarks", "nq-open", "--own-data", "--variant", "nq-open=5-shot"], "NQ-open.train"),
        (["--benchmarks", "hellaswag"], "hellaswag_val.jsonl cannot be read: No such file"),
        (["--benchmarks", "samsum"], "test.jsonl cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_line(
    runs: tuple[Path, Path],
    files: Path,
    tmp_path: Path,
    run_evals: Cli,
    args: list[str],
    reported: str,
) -> None:
    found = run_evals(
        "--checkpoint", runs[0], "--data-dir", files, "--out", tmp_path / "out", *args
    )
    assert found.code == 2 and reported in found.err and found.err.count("\n") == 1


def test_an_interrupted_evaluation_keeps_what_it_has(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Cli, monkeypatch: Any
) -> None:
    args = ["--checkpoint", runs[0], "--benchmarks", "copa,xsum", "--data-dir", files]
    args += ["--max-new", 6, "--batch", 1, "--out", tmp_path / "out"]
    answers, calls = generation.protocol_answers, list[int]()

    def interrupted(*rest: Any) -> list[str]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answers(*rest)

    monkeypatch.setattr(generation, "protocol_answers", interrupted)
    reported = run_evals(*args)
    assert reported.code == 130 and reported.err.endswith("interrupted\n")
    assert set(pd.read_csv(tmp_path / "out" / "results.csv").benchmark) == {"copa"}
    assert run_evals(*args).code == 0 and len(calls) == 3  # the first answer is not made again
