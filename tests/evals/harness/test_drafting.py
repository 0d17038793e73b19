"""Heads and threads are those that draw fastest, and answers go on with what they began with."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from evals.harness import drafting, generation
from evals.harness.candidates import Candidate, Options
from evals.harness.journal import Journal, header
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol
from mtp.config import TrainConfig
from mtp.training.run import train
from tests.conftest import Result, write_jsonl
from tests.evals.sandbox.helpers import need

ASKED = {f"p{i}": Prompt([256, *f"{i}: the fox went".encode()], 0) for i in range(5)}
FILE = "microcode-complete-T0"
PROTOCOL = Protocol("b", "v", max_new=8, samples=2, temperature=0.5)


class Timed:
    """Stands in for a clock. seconds: that a way is said to take; asked: the ways that were timed;
    prompts: how many there were."""

    def __init__(self) -> None:
        self.seconds, self.asked = dict[tuple[int, int], float](), list[tuple[int, int]]()
        self.prompts = 0

    def side_by_side(self, ways: Any, prompts: list[list[int]], *_: int) -> dict[Any, Any]:
        self.prompts, self.asked = len(prompts), [tuple(way) for way in ways]
        for way in ways.values():
            assert len(way(prompts).tokens) == len(prompts)
        return {
            way: SimpleNamespace(tokens=[[1] * 8], seconds=[9, self.seconds[way]]) for way in ways
        }


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    found = Timed()
    monkeypatch.setattr("evals.probes.speculation.side_by_side", found.side_by_side)
    return found


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Torch is said to have 6 threads; the last of the list is what it was set to."""
    told = [6]
    monkeypatch.setattr(torch, "get_num_threads", lambda: told[-1])
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    return told


def test_the_faster_way_is_taken_and_reported(
    runs: tuple[Path, Path], tmp_path: Path, timed: Timed, capsys: Any
) -> None:
    model, n = Candidate(runs[0]).model(), Candidate(runs[0]).config.n
    file = tmp_path / "mine" / "b.jsonl"

    def found(**options: int) -> drafting.Way:
        return drafting.way(file, model, ASKED, PROTOCOL, Options(tmp_path, **options), 257)  # type: ignore[arg-type]

    for batch, count in ((32, 10), (2, 2)):
        timed.seconds |= {(1, 1): 1.0, (n, 1): 2.0}
        assert found(batch=batch) == (1, 1) and timed.prompts == count
        told = f"2.00 times the tokens/s of k={n} on 1 thread on {count} prompts"
        assert capsys.readouterr().err == f"mine b T=0.5: k=1 on 1 thread, {told}\n"
    timed.seconds |= {(1, 1): 1.0, (n, 1): 0.8}
    assert found() == (n, 1)
    timed.asked.clear()
    assert found(k=2) == (2, 1) and found(k=n + 2) == (n, 1) and not timed.asked
    with Journal(file, {"heads": 1, "threads": 1}):
        pass
    assert found() == (1, 1) and not timed.asked
    nothing = drafting.way(tmp_path / "no", model, {}, PROTOCOL, Options(tmp_path), 257)
    assert nothing == (n, 1) and not timed.asked


@pytest.mark.parametrize("fastest", [(1, 1), (1, 6), (2, 4), (2, 6)])
def test_the_fastest_number_of_threads_is_taken(
    runs: tuple[Path, Path],
    tmp_path: Path,
    timed: Timed,
    threads: list[int],
    fastest: tuple[int, int],
    capsys: Any,
) -> None:
    """Heads and threads are timed together, and torch's own number stays."""
    model, n = Candidate(runs[0]).model(), Candidate(runs[0]).config.n
    assert n == 2
    every = {(k, count) for k in (1, 2) for count in (1, 4, 6)}
    timed.seconds |= dict.fromkeys(every, 4.0) | {fastest: 1.0}
    file = tmp_path / "mine" / "b.jsonl"

    def found(**options: int) -> drafting.Way:
        return drafting.way(file, model, ASKED, PROTOCOL, Options(tmp_path, **options), 257)  # type: ignore[arg-type]

    assert found() == fastest and set(timed.asked) == every
    assert threads[1::2] == [count for _, count in timed.asked]  # each way on its own
    assert set(threads[::2]) == {6}
    plural = "" if fastest[1] == 1 else "s"
    told = f"mine b T=0.5: k={fastest[0]} on {fastest[1]} thread{plural}, 4.00 times the tokens/s"
    assert capsys.readouterr().err.startswith(told)
    # What is given is not timed.
    timed.seconds |= {(1, 6): 0.5, (2, 3): 3.0, (1, 3): 2.0}
    assert found(k=1) == (1, 6) and {k for k, _ in timed.asked} == {1}
    assert found(threads=3) == (1, 3) and {count for _, count in timed.asked} == {3}
    timed.asked.clear()
    assert found(k=2, threads=5) == (2, 5) and not timed.asked
    # What the file began with is kept.
    with Journal(file, {"heads": 2, "threads": 9}):
        pass
    assert found() == (2, 9) and not timed.asked


def test_numbers_of_threads_that_are_tried() -> None:
    assert [drafting.counts(most) for most in (1, 2, 4, 5, 64)] == [
        [1], [1, 2], [1, 4], [1, 4, 5], [1, 4, 16, 64]
    ]  # fmt: skip


def test_a_gpus_threads_are_not_timed(runs: tuple[Path, Path], tmp_path: Path) -> None:
    model = Candidate(runs[0]).model()
    elsewhere = SimpleNamespace(
        config=model.config, parameters=lambda: iter([torch.empty(1, device="meta")])
    )
    options = Options(tmp_path, k=2)
    found = drafting.way(tmp_path / "b", elsewhere, ASKED, PROTOCOL, options, 257)  # type: ignore[arg-type]
    assert found == (2, None) and str(found) == "k=2"
    before = torch.get_num_threads()
    with drafting.on_threads(None):
        assert torch.get_num_threads() == before


def test_torch_has_its_threads_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), drafting.on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_rows_and_answers_tell_how_they_were_drawn(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """With other heads at one temperature than at the other, on three threads."""
    seen = list[int]()
    draw = generation.protocol_answers

    def watched(*args: Any) -> list[str]:
        seen.append(torch.get_num_threads())
        return draw(*args)

    def told(file: Path, *_: Any) -> drafting.Way:
        return drafting.Way(1 if "T0.5" in file.name else 2, 3)

    monkeypatch.setattr(generation, "protocol_answers", watched)
    for module in ("many_samples", "one_answer"):
        monkeypatch.setattr(f"evals.harness.{module}.way", told)
    summary = {"document": "An owl sat on the hill.", "summary": "An owl sat."}
    write_jsonl(tmp_path / "data" / "samsum" / "test.jsonl", summary)
    shutil.copytree(files, tmp_path / "data", dirs_exist_ok=True)
    args = ["--checkpoint", runs[0], "--benchmarks", "gsm8k,samsum", "--data-dir"]
    args += [tmp_path / "data", "--own-data", "--max-new", 4, "--samples", 1, "--limit", 2]
    result = run_evals(*args, "--temperatures", "0.5,0.9", "--out", tmp_path)
    assert result.code == 0, result.err
    assert set(seen) == {3} and torch.get_num_threads() == 1
    kept = header(tmp_path / "run0" / "gsm8k-wei-T0.9.jsonl")
    assert (kept["heads"], kept["threads"]) == (2, 3)
    rows = pd.read_csv(tmp_path / "results.csv", dtype={"temperature": str}).set_index("benchmark")
    with_interval = rows[rows.low.notna()]
    gsm8k = with_interval.loc["gsm8k"].set_index("temperature").protocol
    assert {at: json.loads(text)["heads"] for at, text in gsm8k.items()} == {
        "0.5": 1, "0.9": 2, "oracle": [1, 2], "cross-validated": [1, 2]
    }  # fmt: skip
    for text in [*gsm8k, *rows.loc["samsum"].protocol]:
        assert json.loads(text)["threads"] == 3


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
    timed: Timed,
) -> None:
    """Timed otherwise the second time, it ends with the same bytes."""
    need()
    n = Candidate(runs[0]).config.n
    args = ["--checkpoint", runs[0], "--benchmarks", "microcode", "--samples", 2, "--limit", 3]
    args += ["--max-new", 6, "--temperatures", "0.8", "--batch", 2, "--out", tmp_path]
    timed.seconds |= {(1, 1): 1.0, (n, 1): 2.0}
    assert run_evals(*args).code == 0
    (file,) = (tmp_path / runs[0].name).glob("*-T0.8.jsonl")
    whole = file.read_bytes()
    assert json.loads(whole.splitlines()[0])["heads"] == 1
    timed.seconds |= {(1, 1): 2.0, (n, 1): 1.0}
    start = whole.index(b"\n") + 1
    for cut in (start, (start + len(whole)) // 2, len(whole)):
        file.write_bytes(whole[:cut])
        assert run_evals(*args).code == 0 and file.read_bytes() == whole
