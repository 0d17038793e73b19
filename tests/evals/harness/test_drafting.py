"""Heads draft where that is faster, and answers go on with as many as they began with."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.harness import drafting
from evals.harness.candidates import Candidate, Options
from evals.harness.journal import Journal, header
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol
from mtp.config import TrainConfig
from mtp.training.run import train
from tests.conftest import Result
from tests.evals.sandbox.test_sandbox import need

ASKED = {f"p{i}": Prompt([256, *f"{i}: the fox went".encode()], 0) for i in range(5)}
FILE = "microcode-complete-T0"
PROTOCOL = Protocol("b", "v", max_new=8, samples=2, temperature=0.5)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Seconds that k heads are said to take, and 0: how many prompts were timed."""
    seconds = dict[int, float]()

    def side_by_side(ways: Any, prompts: list[list[int]], *_: int) -> dict[int, Any]:
        seconds[0] = len(prompts)
        for way in ways.values():
            assert len(way(prompts).tokens) == len(prompts)
        return {k: SimpleNamespace(tokens=[[1] * 8], seconds=[9, seconds[k]]) for k in ways}

    monkeypatch.setattr("evals.probes.speculation.side_by_side", side_by_side)
    return seconds


def test_the_faster_way_is_taken_and_reported(
    runs: tuple[Path, Path], tmp_path: Path, timed: dict[int, float], capsys: Any
) -> None:
    model, n = Candidate(runs[0]).model(), Candidate(runs[0]).config.n
    file = tmp_path / "mine" / "b.jsonl"

    def found(**options: int) -> int:
        return drafting.heads(file, model, ASKED, PROTOCOL, Options(tmp_path, **options), 257)  # type: ignore[arg-type]

    for batch, count in ((32, 10), (2, 2)):
        timed |= {1: 1.0, n: 2.0}
        assert found(batch=batch) == 1 and timed[0] == count
        reported = f"mine b T=0.5: k=1, 2.00 times the tokens/s of k={n} on {count} prompts\n"
        assert capsys.readouterr().err == reported
    timed |= {1: 1.0, n: 0.8}
    assert found() == n
    timed.clear()
    assert found(k=2) == 2 and found(k=n + 2) == n and not timed
    with Journal(file, {"heads": 1}):
        pass
    assert found() == 1 and not timed
    assert drafting.heads(tmp_path / "no", model, {}, PROTOCOL, Options(tmp_path), 257) == n


def test_a_model_of_fewer_heads_drafts_with_those_it_has(
    make_config: Callable[..., TrainConfig], runs: tuple[Path, Path], data: Path, tmp_path: Path,
    run_evals: Callable[..., Result],
) -> None:  # fmt: skip
    """--k is of all checkpoints, and a usual comparison is with n=1."""
    need()
    config = make_config(model={"context": 192, "n": 1}, tokens=2 * 4 * 192)
    train(config, tmp_path / "one", data)
    args = ["--checkpoint", runs[0], tmp_path / "one", "--benchmarks", "microcode", "--k", 2]
    args += ["--limit", 2, "--samples", 1, "--temperatures", "0", "--max-new", 4]
    result = run_evals(*args, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    kept = [header(tmp_path / "out" / name / f"{FILE}.jsonl") for name in (runs[0].name, "one")]
    assert [reported["heads"] for reported in kept] == [2, 1]


def test_a_torn_first_line_is_not_a_header(tmp_path: Path) -> None:
    for content, expected in (("", {}), ('{"a": 1}', {}), ('{"a": 1}\n{', {"a": 1}), ("x\n", {})):
        (tmp_path / "j").write_text(content)
        assert header(tmp_path / "j") == expected
    assert header(tmp_path / "none") == {}


def test_a_killed_evaluation_keeps_its_heads(
    runs: tuple[Path, Path],
    tmp_path: Path,
    run_evals: Callable[..., Result],
    timed: dict[int, float],
) -> None:
    """Timed otherwise the second time, it ends with the same bytes."""
    need()
    n = Candidate(runs[0]).config.n
    args = ["--checkpoint", runs[0], "--benchmarks", "microcode", "--samples", 2, "--limit", 3]
    args += ["--max-new", 6, "--temperatures", "0.8", "--batch", 2, "--out", tmp_path]
    timed |= {1: 1.0, n: 2.0}
    assert run_evals(*args).code == 0
    (file,) = (tmp_path / runs[0].name).glob("*-T0.8.jsonl")
    whole = file.read_bytes()
    assert json.loads(whole.splitlines()[0])["heads"] == 1
    timed |= {1: 2.0, n: 1.0}
    start = whole.index(b"\n") + 1
    for cut in (start, (start + len(whole)) // 2, len(whole)):
        file.write_bytes(whole[:cut])
        assert run_evals(*args).code == 0 and file.read_bytes() == whole
