"""Benchmarks end to end: one protocol for all candidates, the command line, rows, the figure.

Models are tiny and know nothing; what they say is replaced where a score is wanted.
"""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from evals.__main__ import report_skipped
from evals.benchmarks import mbpp, programs
from evals.benchmarks.names import NAMES
from evals.benchmarks.registry import BENCHMARKS, chosen
from evals.harness import generation
from evals.harness import rows as rows_file
from evals.harness.candidates import Candidate, Measured, Options, fitted
from evals.harness.many_samples import Sampled, Teller, by_rule
from evals.harness.one_answer import Scored
from evals.harness.problems import Dataset, Problem
from experiments import evaluate
from mtp.errors import BadInput
from tests.conftest import Result
from tests.evals.sandbox.helpers import need


def test_all_candidates_get_one_protocol_that_fits(runs: tuple[Path, Path], tmp_path: Path) -> None:
    candidates = [Candidate(run) for run in runs]
    made = fitted(mbpp.INCODER, Options(tmp_path), candidates)
    assert made.max_new == 96 and made.samples == 200  # half of 192
    made = fitted(mbpp.INCODER, Options(tmp_path, max_new=10, samples=3), candidates)
    assert made.max_new == 10 and made.samples == 3
    for wrong in ({"samples": 0}, {"temperatures": (0.1, 0.1)}, {"temperatures": (-1.0,)}):
        with pytest.raises(BadInput):
            Options(tmp_path, **wrong)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------
# the command line


def test_two_models_are_scored_as_their_answers_deserve(
    runs: tuple[Path, Path],
    files: Path,
    tmp_path: Path,
    run_evals: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The models' answers replaced: run0 solves problem 11 in half of its samples, run1 all but
    problem 13 always."""
    need()
    current = list[str]()
    model = Candidate.model
    monkeypatch.setattr(Candidate, "model", lambda self: current.append(self.name) or model(self))

    def reported(_: object, text: Any, asked: list[list[int]], *rest: Any) -> list[str]:
        made = []
        for i, tokens in enumerate(asked):
            number = int(re.findall(r"add (\d+)", text.decode(tokens))[-1])
            right = number == 11 and i % 2 if current[-1] == "run0" else number != 13
            made.append(f"def add_{number}(n):\n    return n + {number if right else 0}\n")
        return made

    monkeypatch.setattr(generation, "protocol_answers", reported)
    args = ["--checkpoint", *runs, "--benchmarks", "mbpp", "--data-dir", files, "--own-data"]
    args += ["--samples", 10, "--temperatures", "0.2,0.8", "--max-new", 8, "--out", tmp_path]
    result = run_evals(*args, main=evaluate.main)
    assert result.code == 0, result.err
    rows = pd.read_csv(tmp_path / "results.csv")
    assert list(rows.columns) == rows_file.COLUMNS
    found = rows.set_index(["checkpoint", "metric", "temperature"]).value
    for temperature in ("0.2", "0.8", "oracle", "cross-validated"):
        assert found["run0", "pass@1", temperature] == pytest.approx(1 / 6)
        assert found["run0", "pass@10", temperature] == pytest.approx(1 / 3)
        assert found["run1", "pass@1", temperature] == pytest.approx(2 / 3)
        assert found["run1", "pass@1 minus run0", temperature] == pytest.approx(1 / 2)
    assert "pass@100" not in set(rows.metric)
    told_with = rows[rows.low.notna()]
    assert (told_with.low <= told_with.value).all() and (told_with.value <= told_with.high).all()
    protocol = json.loads(rows.protocol[0])
    assert protocol["samples"] == 10 and protocol["max_new"] == 8
    assert protocol["stops"] == list(mbpp.INCODER.stops)
    assert re.search(r"0\.1667 \[0\.0\d{3}, 0\.\d{4}\]", result.out)
    assert "results.png" in result.out
    assert (tmp_path / "results.svg").read_text().startswith("<?xml")
    # Again: nothing is drawn or judged, and the rows are the same.
    before = (tmp_path / "results.csv").read_bytes()
    monkeypatch.setattr(generation, "protocol_answers", None)
    assert run_evals(*args).code == 0 and (tmp_path / "results.csv").read_bytes() == before
    # Verdicts are another judge's, or came about within other walls, or of programs put together in
    # another way; answers are no matter of it.
    frame = programs.mbpp
    for name, other, what in (
        ("harness.many_samples.JUDGE", 1, "judge"),
        ("harness.many_samples.check_available", lambda _: "limits", "walls"),
        (
            "benchmarks.programs.mbpp",
            lambda *of: dataclasses.replace(frame(*of), setup="import re"),
            "job",
        ),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(f"evals.{name}", other)
            result = run_evals(*args)
            assert (
                result.code == 2 and f"verdicts.jsonl has results of another {what};" in result.err
            )
    # A whole line of something else is told by its place.
    verdicts = tmp_path / "run0" / "mbpp-incoder-T0.2-verdicts.jsonl"
    whole = verdicts.read_bytes()
    for line in ('{"x": 1}', '{"problem": [], "answer": "", "verdict": ""}'):
        verdicts.write_text(whole.decode() + line + "\n")
        result = run_evals(*args)
        number = whole.count(b"\n") + 1
        wanted = f"{verdicts} line {number} is not a record of a verdict; delete the file"
        assert result.code == 2 and wanted in result.err and result.err.count("\n") == 1, result.err
    verdicts.write_bytes(whole)
    # Another protocol does not take these answers for its own.
    result = run_evals(*args[:-1], tmp_path, "--max-new", 9)
    assert result.code == 2 and "has results of another protocol" in result.err


def test_a_model_is_evaluated_for_real(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Callable[..., Result]
) -> None:
    need()
    args = ("--checkpoint", runs[0], "--samples", 2, "--max-new", 6, "--limit", 3)
    args = (*args, "--data-dir", files, "--own-data", "--temperatures", "0,0.5")
    result = run_evals(*args, "--benchmarks", "humaneval,microcode,gsm8k,mbpp", "--out", tmp_path)
    none = "none of the 3 problems of humaneval fits run0's context of 192 tokens; no rows"
    assert result.code == 2 and result.err.splitlines()[-1] == f"error: {none}"
    rows = pd.read_csv(tmp_path / "results.csv")
    assert set(rows.benchmark) == {"microcode", "gsm8k", "mbpp"}
    greedy = rows[(rows.temperature == "0") & (rows.metric == "pass@1")]
    assert len(greedy) == 3 and all('"samples": 1,' in p for p in greedy.protocol)
    skipped = rows[rows.metric == "skipped"].set_index("benchmark").value
    assert skipped["microcode"] == 0 and skipped.max() < 1  # of 192 bytes
    shots = rows[rows.metric == "shots given"].set_index("benchmark").value
    assert 0 <= shots["gsm8k"] < 8
    judged = {file.name.split("-")[0] for file in tmp_path.glob("run0/*-verdicts.jsonl")}
    assert judged == {"humaneval", "microcode", "mbpp"}  # a rule is as fast as reading would be
    assert set(rows[rows.metric == "pass@1"]["count"]) == {3}
    limited = set(rows.benchmark[rows.protocol.str.contains('"judge"')])
    assert limited == {"microcode", "mbpp"}  # a rule has no limits


def test_every_benchmark_can_be_asked_for_by_name() -> None:
    assert tuple(BENCHMARKS) == NAMES


def test_problems_that_do_not_fit_are_reported(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = Candidate(runs[0])

    def skipped(share: float, benchmark: str) -> Measured:
        return Measured(
            benchmark, "raw", candidate.name, "skipped", "", share, None, None, 140, "", ""
        )

    assert report_skipped([skipped(0.0, "a"), skipped(0.25, "b")], [candidate]) == ""
    assert capsys.readouterr().err == (
        "warning: 35 of 140 problems of b do not fit run0's context of 192 tokens and count as "
        "unsolved\n"
    )
    none = "none of the 140 problems of c fits run0's context of 192 tokens; no rows"
    assert report_skipped([skipped(0.0, "a"), skipped(1.0, "c")], [candidate]) == none


def test_imported_and_trained_on_models_are_told_apart(
    runs: tuple[Path, Path], tmp_path: Path, run_evals: Callable[..., Result]
) -> None:
    need()
    shutil.copytree(runs[0], tmp_path / "run")
    args = ["--benchmarks", "microcode", "--samples", 1, "--max-new", 4, "--limit", 2]
    args += ["--temperatures", "0", "--out", tmp_path / "out", "--checkpoint", tmp_path / "run"]
    assert run_evals(*args).code == 0
    shutil.rmtree(tmp_path / "run")
    shutil.copytree(runs[1], tmp_path / "run")
    result = run_evals(*args)
    assert result.code == 2 and "another weights" in result.err


@pytest.mark.parametrize(
    ("args", "reported"),
    [
        (["--benchmarks", "humanevil"], "unknown benchmark 'humanevil'; choose one of: humaneval"),
        (["--benchmarks", "mbpp,mbpp"], "mbpp comes twice"),
        (["--variant", "mbpp=own"], "unknown variant of mbpp 'own'; choose one of: incoder, aus"),
        (["--variant", "gsm8k=wei"], "unknown benchmark of --variant 'gsm8k'"),
        (["--temperatures", "a"], "are not numbers"),
        (["--samples", "0"], "samples is 0"),
        (["--k", "3"], "--k is 3; it must be from 1 to 2, the most heads there are"),
        (["--checkpoint", "/none"], "/none is not a run"),
        (["--data-dir", "/none"], "/none/mbpp.jsonl cannot be read"),
    ],
)
def test_bad_input_is_one_line(
    runs: tuple[Path, Path],
    tmp_path: Path,
    run_evals: Callable[..., Result],
    args: list[str],
    reported: str,
) -> None:
    need()
    usual = ["--checkpoint", runs[0], "--benchmarks", "mbpp", "--out", tmp_path / "out"]
    result = run_evals(*usual, *args)
    assert result.code == 2 and reported in result.err and result.err.count("\n") == 1
    result = run_evals(*usual, "--checkpoint", runs[0], runs[0])
    assert result.code == 2 and "two checkpoints are called run0" in result.err


SLOW = ("torch", "pandas", "matplotlib", "scipy", "nltk", "datasets", "transformers")
STARTED = """
import json, sys
from evals.__main__ import main
for argv in json.loads(sys.argv[1]):
    sys.argv = ["evals", *argv]
    try:
        main()
    except SystemExit as left:
        print(json.dumps([argv, left.code, [name for name in SLOW if name in sys.modules]]))
""".replace("SLOW", repr(SLOW))


def test_help_and_refusals_import_nothing_that_is_slow(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    """One after the other in one process, so that the first that does shows."""
    need()
    run, out = ["--checkpoint", str(runs[0])], ["--out", str(tmp_path / "out")]
    mbpp = [*run, *out, "--data-dir", str(tmp_path), "--benchmarks", "mbpp"]
    refused = [
        [*run, "--benchmarks", "humanevil"],
        [*mbpp[2:], "--checkpoint", str(tmp_path / "none")],
        [*mbpp, "--time-limit", "0"],
        [*mbpp, "--temperatures", "a"],
        [*mbpp, "--samples", "none"],
        [*mbpp, "--k", "3"],
        [*mbpp, "--variant", "mbpp=none"],
        [*run, *out, "--benchmarks", "piqa,scitldr", "--export-samples", str(tmp_path / "s")],
        [*mbpp, "--device", "tpu"],
        mbpp,  # has no file
        [*mbpp[:-1], "mbpp,piqa,scitldr,nq-open,gsm8k"],
        [*mbpp[2:], "--samples", __file__],
    ]
    done = subprocess.run(
        [sys.executable, "-c", STARTED, json.dumps([["--help"], *refused])],
        capture_output=True, text=True,
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == 1 + len(refused), done.stderr
    assert [line[1:] for line in lines] == [[0, []]] + [[2, []]] * len(refused), lines


def test_spaces_between_benchmarks_do_no_harm(
    runs: tuple[Path, Path], files: Path, tmp_path: Path, run_evals: Callable[..., Result]
) -> None:
    args = ["--checkpoint", runs[0], "--benchmarks", " gsm8k, nq-open ", "--data-dir", files]
    result = run_evals(*args, "--own-data", "--out", tmp_path / "out")
    assert "NQ-open.dev.jsonl cannot be read: No such file" in result.err
    result = run_evals(*args[:3], "gsm8k, ,mbpp", "--out", tmp_path / "out")
    assert result.err.startswith("error: unknown benchmark ''; choose one of: humaneval")


def test_what_is_missing_is_reported_before_anything_is_drawn(
    runs: tuple[Path, Path],
    files: Path,
    tmp_path: Path,
    run_evals: Callable[..., Result],
    monkeypatch: Any,
) -> None:
    """Of the last benchmark and the last checkpoint, too."""
    need()
    untrained = tmp_path / "untrained"
    shutil.copytree(runs[1], untrained, ignore=shutil.ignore_patterns("checkpoint"))
    kept = runs[1] / "kept" / "step-00000003.safetensors"

    def reported(text: str, benchmarks: str, *checkpoints: Path) -> None:
        args = ["--checkpoint", runs[0], *checkpoints, "--benchmarks", benchmarks]
        result = run_evals(*args, "--data-dir", files, "--own-data", "--out", tmp_path / "out")
        assert result.code == 2 and text in result.err and result.err.count("\n") == 1, result.err
        assert not (tmp_path / "out").exists()

    reported("samsum/test.jsonl cannot be read: No such file", "microcode,samsum")
    reported("apps/test.jsonl cannot be read: No such file", "microcode,apps")
    reported(f"{untrained} has no checkpoint yet; train it first", "microcode", untrained)
    reported(f"{kept} cannot be read: No such file", "microcode", kept)

    def refuse(_: bool) -> str:
        raise BadInput("programs written by a model need a sandbox")

    monkeypatch.setattr("evals.harness.many_samples.check_available", refuse)
    reported("need a sandbox", "gsm8k,microcode")


def test_every_benchmark_has_its_own_name_and_protocols() -> None:
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.name == name and isinstance(benchmark, Sampled | Scored)
        assert len({protocol.variant for protocol in benchmark.variants}) == len(benchmark.variants)
        for protocol in benchmark.variants:
            assert protocol.benchmark == name
            assert benchmark.protocol(protocol.variant) is protocol
            assert json.loads(protocol.text())["post"]
    ((_, protocol),) = chosen("mbpp", ["mbpp=austin"])
    assert protocol is mbpp.AUSTIN


def test_a_choice_among_temperatures_tells_the_protocol_of_samples() -> None:
    """Of greedy and drawn answers, too."""
    data = Dataset((Problem("p", {}, {}),), (), "data")
    protocol = dataclasses.replace(mbpp.INCODER, samples=4)
    rows = Teller(protocol, (0.0, 0.8), data, "a", "a").rows([[(1, 1)], [(4, 2)]], None)
    reported = {row.temperature: json.loads(row.protocol) for row in rows if row.metric == "pass@1"}
    assert reported["0"]["samples"] == 1 and reported["0"]["temperature"] == 0
    for temperature, own in (("0.8", 0.8), ("oracle", [0, 0.8]), ("cross-validated", [0, 0.8])):
        row = reported[temperature]
        assert (row["samples"], row["top_p"], row["temperature"]) == (4, 0.95, own)


def test_a_rule_judges_text() -> None:
    check = by_rule(lambda problem, answer: answer == problem.id)
    asked = [(Problem("a", {}, {}), answer) for answer in "ab"]
    assert list(check.verdicts(asked, mbpp.INCODER, False)) == ["passed", "failed"]


# --------------------------------------------------------------------------------------------------
# the file of rows


def measured(benchmark: str, value: float | None = 0.1 + 0.2, checkpoint: str = "a") -> Measured:
    return Measured(
        benchmark, "v", checkpoint, "pass@1", "0.2", value, value, value, 3, "{}", "data, none"
    )  # fmt: skip


def test_rows_of_other_commands_stay(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    minus = dataclasses.replace(measured("x", checkpoint="b"), metric="pass@1 minus a")
    rows_file.write(file, [measured("x"), measured("x", checkpoint="b"), minus])
    first = file.read_bytes()
    with warnings.catch_warnings(action="error"):  # pandas has nothing to complain about
        rows = rows_file.write(file, [measured("y", None)])
    assert file.read_bytes().startswith(first) and list(rows.benchmark) == ["x", "x", "x", "y"]
    assert rows.value[0] == 0.1 + 0.2 and pd.isna(rows.value[3])
    rows = rows_file.write(file, [measured("x", 0.5)])
    assert sorted(rows.checkpoint + rows.benchmark) == ["ax", "ay", "bx", "bx"]
    assert list(rows.value[rows.benchmark + rows.checkpoint == "xa"]) == [0.5]
    assert (rows.metric == "pass@1 minus a").sum() == 1
    whole = file.read_text()
    for content in (
        "another,table\n",
        whole.replace("0.5,0.5,0.5,3", "0.5,low,0.5,3"),
        whole.replace("0.5,0.5,0.5,3", "True,0.5,0.5,3"),
        whole.replace("0.5,0.5,0.5,3", "0.5,0.5,0.5,"),
        whole.replace("0.5,0.5,0.5,3", f"0.5,0.5,0.5,{'9' * 25}"),
    ):
        assert content != whole
        file.write_text(content)
        with pytest.raises(BadInput, match="is not a table of results"):
            rows_file.write(file, [measured("x")])
        assert file.read_text() == content


def test_commands_at_the_same_time_lose_no_rows(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: rows_file.write(file, [measured(f"b{i}")]), range(24)))
    assert set(pd.read_csv(file).benchmark) == {f"b{i}" for i in range(24)}


def test_the_figure_shows_checkpoints_of_different_benchmarks(tmp_path: Path) -> None:
    file = tmp_path / "results.csv"
    scored = dataclasses.replace(measured("y", checkpoint="b"), metric="accuracy", temperature="")
    made = evaluate.figure(rows_file.write(file, [measured("x"), scored]))
    assert [axes.get_title(loc="left") for axes in made.axes] == ["Answers", "Choices"]
    legend = made.axes[0].get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_a_tall_figures_caption_lies_close_below_it(tmp_path: Path) -> None:
    rows = rows_file.write(tmp_path / "rows.csv", [measured(f"b{i}") for i in range(60)])
    made = evaluate.figure(rows)
    made.canvas.draw()
    height = made.get_figheight()
    bottom = made.axes[0].get_tightbbox().y0 / made.dpi  # type: ignore[union-attr]
    (caption,) = made.texts
    assert height > 12 and 0 < bottom - caption.get_window_extent().y1 / made.dpi < 0.4
