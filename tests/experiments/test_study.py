"""The three sweeps at smoke scale, trained and evaluated through the command line: rows, figures,
shared runs.

All tests of this file use one folder of runs and results. It starts empty; the tests run in order.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from experiments import provenance, results
from experiments.study import find, plan, record_file, run_folder, run_name, scale_label
from mtp import records
from mtp.config import TrainConfig
from mtp.model.model import flops_per_token, parameter_counts
from mtp.overrides import from_dict
from tests.conftest import Cli, Said

Run = Callable[..., Said]

SMALL = ["data.validation=0.05"]  # a quarter of what the scale holds out
LABEL = scale_label("smoke", SMALL)


@pytest.fixture
def sweeps(cli: Cli, tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Run]:
    """The shared folder, and a function that runs a study in it at smoke scale. The first call
    trains the three sweeps, the last one with the local launcher. That one shares two runs with
    sweep-heads."""
    folder = tmp_path_factory.getbasetemp() / "study"

    def run(study: str, *args: str, command: str = "run") -> Said:
        places = ("--runs", str(folder / "runs"), "--results", str(folder / "results"))
        sets = [part for text in SMALL for part in ("--set", text)]
        return cli(command, study, "--scale", "smoke", *sets, *places, "--data", str(data), *args)

    if not folder.exists():
        folder.mkdir()
        for study, launcher in (
            ("sweep-bytes", "debug"),
            ("sweep-heads", "debug"),
            ("sweep-n", "local"),
        ):
            done = run(study, "--launcher", launcher)
            (folder / f"{study}.out").write_text(done.out)
            assert done.code == 0, done
    return folder, run


def rows_of(folder: Path, study: str) -> pd.DataFrame:
    return results.read(folder / "results" / study / f"{LABEL}.csv")


def value(rows: pd.DataFrame, metric: str) -> float:
    (found,) = rows[rows.metric == metric].value
    return float(found)


def test_sweep_n_has_one_row_per_number_for_every_n(sweeps: tuple[Path, Run]) -> None:
    folder, _ = sweeps
    rows = rows_of(folder, "sweep-n")
    assert list(rows.columns) == results.COLUMNS
    assert not rows.duplicated(["run_id", "metric"]).any()
    assert list(rows.n.unique()) == [1, 2, 4, 6, 8] and rows.run_id.nunique() == 5
    for n, mine in rows.groupby("n"):
        assert isinstance(n, int)
        per_head = {f"loss, head {i} (nats)" for i in range(1, n + 1)}
        per_head |= {f"accuracy, head {i} (%)" for i in range(1, n + 1)}
        drafts = {f"acceptance, head {i} (%)" for i in range(2, n + 1)}
        others = {"bits per byte", "tokens per forward", "speedup over k=1", "same tokens as k=1"}
        others |= {"tokens/s, k=1", "tokens/s, k=n"}
        assert set(mine.metric) == per_head | drafts | others
        assert mine.value.notna().all() and (mine["count"] > 0).all()


def test_a_file_beside_the_rows_describes_each_run(sweeps: tuple[Path, Run]) -> None:
    folder, _ = sweeps
    file = folder / "results" / "sweep-n" / f"{LABEL}.json"
    runs, rows = provenance.read(file), rows_of(folder, "sweep-n")
    assert list(runs) == list(rows.run_id.unique())
    for config in plan(find("sweep-n"), "smoke", SMALL):
        run, own = runs[run_name(config)], folder / "runs" / run_name(config)
        assert from_dict(TrainConfig, run["config"]) == config
        assert run["parameters"] == parameter_counts(config.model)
        assert run["tokens"] == 20 * 4 * 32  # steps, sequences, positions
        assert run["flops"] == run["tokens"] * flops_per_token(config.model)
        assert run["execution"]["precision"] in ("float32", "bf16")
        assert set(rows[rows.run_id == own.name].precision) == {run["execution"]["precision"]}
        logged = [json.loads(line) for line in (own / "metrics.jsonl").read_text().splitlines()]
        assert run["curve"]["step"] == [5, 10, 15, 20] == [row["step"] for row in logged]
        assert len(run["curve"]["loss"]) == config.model.n
        for i, losses in enumerate(run["curve"]["loss"]):
            assert losses == pytest.approx([row["loss"][i] for row in logged], abs=1e-5)


def test_a_long_curve_is_thinned_to_fifty_places_with_both_ends() -> None:
    rows = [{"step": i, "tokens": 10 * i, "lr": 1.0, "loss": [1 / i]} for i in range(1, 1001)]
    thin = provenance.curve(rows)
    assert len(thin["step"]) == 50 and thin["step"][0] == 1 and thin["step"][-1] == 1000
    assert {b - a for a, b in itertools.pairwise(thin["step"])} <= {20, 21}
    assert provenance.curve([])["step"] == [] and provenance.curve(rows[:1])["step"] == [1]


def test_its_numbers_agree_with_each_other(sweeps: tuple[Path, Run]) -> None:
    rows = rows_of(sweeps[0], "sweep-n")
    for n, mine in rows.groupby("n"):
        acceptance = mine[mine.metric.str.startswith("acceptance")].value
        assert len(acceptance) == int(str(n)) - 1 and acceptance.between(0, 100).all()
        assert (acceptance.diff().dropna() <= 1e-9).all()  # a draft counts only behind the others
        forward = value(mine, "tokens per forward")
        assert forward == pytest.approx(1 + acceptance.sum() / 100, rel=1e-12)
        assert value(mine, "same tokens as k=1") == 1
        speeds = value(mine, "tokens/s, k=n") / value(mine, "tokens/s, k=1")
        assert value(mine, "speedup over k=1") == pytest.approx(speeds)
        assert 3 < value(mine, "bits per byte") < 8 and value(mine, "accuracy, head 1 (%)") > 2
        losses = mine[mine.metric.str.startswith("loss")].value
        assert losses.between(3, 5.71).all()  # below ln 300, as at the start: it has learnt


def test_rows_name_their_origin(sweeps: tuple[Path, Run]) -> None:
    folder, _ = sweeps
    rows = rows_of(folder, "sweep-n")
    assert set(rows.unit) == {"token"} and set(rows["size"]) == {"0.1M"} and set(rows.seed) == {0}
    assert set(rows.step) == {20} and rows.data.str.startswith("stdlib of Python 3.").all()
    assert rows.data.str.endswith(", bpe-300").all() and rows.device.str.contains("threads").all()
    folders = [run_folder(c, folder / "runs") for c in plan(find("sweep-n"), "smoke", SMALL)]
    assert list(rows.run_id.unique()) == [f.name for f in folders if f.is_dir()]
    assert set(rows.commit) == {records.commit()} or rows.commit.isna().all()


def test_the_figure_and_the_summary_are_there(sweeps: tuple[Path, Run]) -> None:
    folder, _ = sweeps
    for study, count in (("sweep-n", 5), ("sweep-heads", 7), ("sweep-bytes", 5)):
        stem = folder / "results" / study / LABEL
        assert stem.with_suffix(".svg").read_text().startswith("<?xml")
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        output = (folder / f"{study}.out").read_text()
        assert f"{study} at scale {LABEL}: {count} runs" in output
        assert f"figure: {stem}.png" in output


def test_sweep_n_trains_only_what_sweep_heads_has_not(sweeps: tuple[Path, Run]) -> None:
    folder, _ = sweeps
    assert "5 runs, 2 finished\n3 to run by local" in (folder / "sweep-n.out").read_text()
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
    assert (rows[rows.metric == "same tokens as k=1"].value == 1).all()


def test_sweep_bytes_compares_units_by_bits_per_byte(sweeps: tuple[Path, Run]) -> None:
    rows = rows_of(sweeps[0], "sweep-bytes")
    bits = rows[rows.metric == "bits per byte"]
    assert list(zip(bits.unit, bits.n, strict=True)) == [
        ("token", 1), ("byte", 1), ("byte", 8), ("byte", 16), ("byte", 32),
    ]  # fmt: skip
    assert bits.value.between(1, 8).all()
    assert (rows[rows.metric == "same tokens as k=1"].value == 1).all()


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file's time and content, except logs and locks."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "logs" not in file.parts and not file.name.startswith("."):
            time_ns = file.stat().st_mtime_ns if "runs" in file.parts else 0
            found[str(file.relative_to(folder))] = (time_ns, file.read_bytes())
    return found


def test_running_again_does_nothing_and_needs_no_corpus(
    sweeps: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, run = sweeps
    before, start = snapshot(folder), time.monotonic()
    done = run("sweep-n", "--data", str(tmp_path / "no data"))
    assert done.code == 0 and "5 runs, 5 finished" in done.out and "to run by" not in done.out
    assert snapshot(folder) == before and not (tmp_path / "no data").exists()
    assert time.monotonic() - start < 20  # a figure; nothing is trained
    assert run("sweep-n", command="status").out.count(" finished\n") == 5


def test_only_a_missing_record_is_measured_again(sweeps: tuple[Path, Run]) -> None:
    folder, run = sweeps
    config = plan(find("sweep-n"), "smoke", SMALL)[1]
    record = record_file(run_folder(config, folder / "runs"), "likelihood")
    before = snapshot(folder)
    record.unlink()
    assert "trained, to be evaluated: likelihood" in run("sweep-n", command="status").out
    done = run("sweep-n", "--launcher", "debug")
    assert done.code == 0 and "5 runs, 4 finished" in done.out
    after, name = snapshot(folder), str(record.relative_to(folder))
    changed = {other for other in after if before.get(other) != after[other]}
    rows = {f"results/sweep-n/{LABEL}.{kind}" for kind in ("csv", "svg", "png")}
    assert name in changed and changed <= {name, *rows}  # other threads may round otherwise
    then, now = (json.loads(each[name][1])["measures"] for each in (before, after))
    assert [m["metric"] for m in then] == [m["metric"] for m in now]
    assert [m["value"] for m in then] == pytest.approx([m["value"] for m in now], rel=1e-5)


def test_an_override_gets_other_runs_and_another_file(sweeps: tuple[Path, Run]) -> None:
    folder, run = sweeps
    before = snapshot(folder)
    narrow = ("--set", "model.dim=16", "--set", "model.n=2")
    done = run("sweep-n", "--launcher", "debug", *narrow)
    assert done.code == 0 and "1 runs, 0 finished" in done.out
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    assert len(list((folder / "results" / "sweep-n").glob("smoke-*.csv"))) == 2
    assert "1 runs, 1 finished" in run("sweep-n", *narrow).out
    assert "not started" in run("sweep-n", "--set", "model.dim=48", command="status").out


def test_plot_alone_redraws_every_figure(sweeps: tuple[Path, Run], cli: Cli) -> None:
    folder, _ = sweeps
    before = snapshot(folder / "results")
    for figure in (folder / "results").rglob("*.svg"):
        figure.unlink()
    done = cli("plot", "--results", str(folder / "results"))
    assert done.code == 0 and snapshot(folder / "results") == before


def test_runs_side_by_side_have_one_thread_each(sweeps: tuple[Path, Run]) -> None:
    if len(os.sched_getaffinity(0)) > 5 or sys.platform != "linux":
        pytest.skip("more cores than runs: each run gets several")
    rows = rows_of(sweeps[0], "sweep-n")
    assert rows[rows.n == 8].device.str.endswith(", 1 threads").all()
