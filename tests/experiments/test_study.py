"""The three sweeps at smoke scale, for real, through the command line: rows, figures, runs shared.

One folder of runs and results for all tests of this file; they go from an empty one on, in order.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments import provenance, results
from experiments.evaluations import ALONG, CONSTANT, COPIES, FIRST, WHOLE
from experiments.study import find, plan, record_file, run_folder, run_name
from mtp import records
from mtp.config import TrainConfig
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.overrides import from_dict
from tests.conftest import Cli, Result

Made = Callable[..., Result]


@pytest.fixture
def made(cli: Cli, tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Made]:
    """The shared folder, and a function that runs a study in it at smoke scale. The first call
    runs all three sweeps, in this process (tests of the local launcher are in launch/)."""
    folder = tmp_path_factory.getbasetemp() / "study"

    def run(study: str, *args: str, command: str = "run") -> Result:
        places = ("--runs", str(folder / "runs"), "--results", str(folder / "results"))
        return cli(command, study, "--scale", "smoke", *places, "--data", str(data), *args)

    if not folder.exists():
        folder.mkdir()
        for study in ("sweep-n", "sweep-heads", "sweep-bytes"):
            result = run(study, "--launcher", "debug")
            (folder / f"{study}.out").write_text(result.out)
            assert result.code == 0, result
    return folder, run


def rows_of(folder: Path, study: str) -> pd.DataFrame:
    return results.read(folder / "results" / study / "smoke.csv")


def value(rows: pd.DataFrame, metric: str) -> float:
    (found,) = rows[rows.metric == metric].value
    return float(found)


def test_sweep_n_has_one_row_per_number_for_every_n(made: tuple[Path, Made]) -> None:
    folder, _ = made
    rows = rows_of(folder, "sweep-n")
    assert list(rows.columns) == results.COLUMNS
    assert not rows.duplicated(["run_id", "metric"]).any()
    assert list(rows.n.unique()) == [1, 2, 4, 6, 8] and rows.run_id.nunique() == 5
    for n, mine in rows.groupby("n"):
        assert isinstance(n, int)
        per_head = {f"loss, head {i} (nats)" for i in range(1, n + 1)}
        per_head |= {f"accuracy, head {i} (%)" for i in range(1, n + 1)}
        drafts = {f"agreement along text, head {i} (%)" for i in range(2, min(n, 4) + 1)}
        others = {"bits per byte", COPIES, CONSTANT, *([ALONG] if n > 1 else [])}
        others |= {WHOLE, "statements before a mistake", "distinct 4-grams (%)"}
        lines = {f"bits per byte, {line}" for line in ("unigram", "bigram", "5-gram", "xz")}
        levels = ("real text", "5-gram", "constant")
        lines |= {f"{metric}, {level}" for metric in (FIRST, WHOLE) for level in levels}
        assert set(mine.metric) == per_head | drafts | others | (lines if n == 1 else set())
        assert mine.value.notna().all() and (mine[~mine.metric.isin(lines)]["count"] > 0).all()


def test_beside_the_rows_stands_what_each_run_was(made: tuple[Path, Made]) -> None:
    folder, _ = made
    file = folder / "results" / "sweep-n" / "smoke.json"
    runs, rows = provenance.read(file), rows_of(folder, "sweep-n")
    assert list(runs) == list(rows.run_id.unique())
    for config in plan(find("sweep-n"), "smoke"):
        run, own = runs[run_name(config)], folder / "runs" / run_name(config)
        assert from_dict(TrainConfig, run["config"]) == config
        assert run["parameters"] == parameter_counts(config.model)
        assert run["tokens"] == 20 * 4 * 32  # steps, sequences, positions
        assert run["flops"] == run["tokens"] * flops_per_token(config.model)
        (used,) = run["execution"]
        assert used["precision"] in ("float32", "bf16") and used["from_step"] == 0
        assert set(rows[rows.run_id == own.name].precision) == {used["precision"]}
        logged = [json.loads(line) for line in (own / "metrics.jsonl").read_text().splitlines()]
        assert run["curve"]["step"] == [5, 10, 15, 20] == [row["step"] for row in logged]
        assert len(run["curve"]["loss"]) == config.model.n
        for i, losses in enumerate(run["curve"]["loss"]):
            assert losses == pytest.approx([row["loss"][i] for row in logged], abs=1e-5)


def test_its_numbers_agree_with_each_other(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "sweep-n")
    for n, mine in rows.groupby("n"):
        agreement = mine[mine.metric.str.startswith("agreement")].value
        assert len(agreement) == min(int(str(n)), 4) - 1 and agreement.between(0, 100).all()
        if int(str(n)) > 1:  # a draft counts only behind the others
            first = float(agreement.iloc[0]) / 100
            assert 1 + first <= value(mine, ALONG) + 1e-9 <= 1 + len(agreement) * first + 2e-9
        assert 3 < value(mine, "bits per byte") < 8 and value(mine, "accuracy, head 1 (%)") > 1
        losses = mine[mine.metric.str.startswith("loss")].value
        assert losses.between(3, 5.71).all()  # below ln 300, as at the start: it has learnt


def test_rows_say_where_they_come_from(made: tuple[Path, Made]) -> None:
    folder, _ = made
    rows = rows_of(folder, "sweep-n")
    assert set(rows.unit) == {"token"} and set(rows["size"]) == {"0.1M"} and set(rows.seed) == {0}
    assert set(rows.step) == {20} and rows.data.str.startswith("stdlib of Python 3.").all()
    assert rows.data.str.endswith(", bpe-300").all() and rows.device.str.contains("thread").all()
    folders = [run_folder(c, folder / "runs") for c in plan(find("sweep-n"), "smoke")]
    assert list(rows.run_id.unique()) == [f.name for f in folders if f.is_dir()]
    assert set(rows.commit) == {records.commit()} or rows.commit.isna().all()


def test_the_figure_and_the_summary_are_there(made: tuple[Path, Made]) -> None:
    folder, _ = made
    for study, count in (("sweep-n", 5), ("sweep-heads", 7), ("sweep-bytes", 6)):
        stem = folder / "results" / study / "smoke"
        assert stem.with_suffix(".svg").read_text().startswith("<?xml")
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        result = (folder / f"{study}.out").read_text()
        assert f"{study} at scale smoke: {count} runs" in result
        assert f"figure: {stem}.png" in result


def test_sweep_heads_trains_only_what_sweep_n_has_not(made: tuple[Path, Made]) -> None:
    folder, _ = made
    assert "7 runs, 2 finished\n5 to run by debug" in (folder / "sweep-heads.out").read_text()
    rows, shared = rows_of(folder, "sweep-heads"), rows_of(folder, "sweep-n")
    assert list(rows.drop_duplicates("run_id")["head"]) == [
        "parallel", "parallel", "parallel +3 layers", "causal", "anticausal", "linear",
        "replicated",
    ]  # fmt: skip
    for n in (1, 4):
        (run,) = shared[shared.n == n].run_id.unique()
        columns = ["metric", "value", "count", "device"]
        mine, theirs = (each[each.run_id == run][columns] for each in (rows, shared))
        assert mine.reset_index(drop=True).equals(theirs.reset_index(drop=True))
    assert set(rows[rows.metric == ALONG].n) == {4}


def test_sweep_bytes_compares_units_by_bits_per_byte(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "sweep-bytes")
    bits = rows[rows.metric == "bits per byte"]
    assert list(zip(bits.unit, bits.n, strict=True)) == [
        ("token", 1), ("byte", 1), ("byte", 1), ("byte", 2), ("byte", 8), ("byte", 8),
    ]  # fmt: skip
    assert bits.value.between(1, 8).all()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time and content, logs and locks apart."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "logs" not in file.parts and not file.name.startswith("."):
            time_ns = file.stat().st_mtime_ns if "runs" in file.parts else 0
            found[str(file.relative_to(folder))] = (time_ns, file.read_bytes())
    return found


def test_running_again_does_nothing_and_needs_no_corpus(
    made: tuple[Path, Made], tmp_path: Path
) -> None:
    folder, run = made
    before, start = snapshot(folder), time.monotonic()
    result = run("sweep-n", "--data", str(tmp_path / "no data"))
    assert result.code == 0 and "5 runs, 5 finished" in result.out and "to run by" not in result.out
    assert snapshot(folder) == before and not (tmp_path / "no data").exists()
    assert time.monotonic() - start < 20  # a figure; nothing is trained
    assert run("sweep-n", command="status").out.count("  finished\n") == 5


def test_a_missing_record_is_made_again_and_nothing_else(made: tuple[Path, Made]) -> None:
    folder, run = made
    config = plan(find("sweep-n"), "smoke")[1]
    record = record_file(run_folder(config, folder / "runs"), "likelihood")
    before = snapshot(folder)
    record.unlink()
    assert "trained, to be evaluated: likelihood" in run("sweep-n", command="status").out
    result = run("sweep-n", "--launcher", "debug")
    assert result.code == 0 and "5 runs, 4 finished" in result.out
    after, name = snapshot(folder), str(record.relative_to(folder))
    changed = {other for other in after if before.get(other) != after[other]}
    rows = {f"results/sweep-n/smoke.{kind}" for kind in ("csv", "svg", "png")} | {"runs/index.tsv"}
    assert name in changed and changed <= {name, *rows}  # other threads may round otherwise
    then, now = (json.loads(each[name][1])["measures"] for each in (before, after))
    assert [m["metric"] for m in then] == [m["metric"] for m in now]
    assert [m["value"] for m in then] == pytest.approx([m["value"] for m in now], rel=1e-5)


def test_an_override_gets_other_runs_and_another_file(made: tuple[Path, Made]) -> None:
    folder, run = made
    before = snapshot(folder)
    narrow = ("--set", "model.dim=16", "--set", "model.n=2")
    result = run("sweep-n", "--launcher", "debug", *narrow)
    assert result.code == 0 and "1 run, 0 finished" in result.out
    after = snapshot(folder)
    before.pop("runs/index.tsv")  # has more lines now
    assert {name: after[name] for name in before} == before
    assert len(list((folder / "results" / "sweep-n").glob("smoke-*.csv"))) == 1
    assert "1 run, 1 finished" in run("sweep-n", *narrow).out
    assert "not started" in run("sweep-n", "--set", "model.dim=48", command="status").out


def test_plot_alone_redraws_every_figure(made: tuple[Path, Made], cli: Cli) -> None:
    folder, _ = made
    before = snapshot(folder / "results")
    for figure in (folder / "results").rglob("*.svg"):
        figure.unlink()
    result = cli("plot", "--results", str(folder / "results"))
    assert result.code == 0 and snapshot(folder / "results") == before


def test_one_thread_per_run_where_runs_stand_side_by_side(made: tuple[Path, Made]) -> None:
    if len(os.sched_getaffinity(0)) > 5 or sys.platform != "linux":
        pytest.skip("more cores than runs: each run gets several")
    rows = rows_of(made[0], "sweep-n")
    assert rows[rows.n == 8].device.str.endswith(", 1 thread").all()
