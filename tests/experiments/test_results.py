"""Rows: written whole or not at all, read exactly, collected from the runs that are planned."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from experiments import results
from experiments.results import COLUMNS, read, table, write
from experiments.study import collect, find, plan, record_file, rows_of, run_folder
from mtp.errors import BadInput

STUDY = dataclasses.replace(  # with two records a run
    find("sweep-n"), evaluations={name: lambda *_: [] for name in ("likelihood", "drafts")}
)
ODD = [0.1 + 0.2, 1 / 3, 5.04664153694452e-7, 87762.0, 1e22, 2**-1074]  # floats that rounding shows


def row(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(COLUMNS, "x") | {
        "seed": 0, "n": 1, "value": 1.5, "count": 3, "step": 20, "commit": "1234567",
        "data": "stdlib of Python 3.11, bpe-300", "run_id": "parallel-n1-s0-000000000001",
    }  # fmt: skip
    return values | changes


def test_rows_come_back_exactly(tmp_path: Path) -> None:
    file = tmp_path / "a" / "rows.csv"
    rows = [row(value=v, seed=i) for i, v in enumerate(ODD)]
    rows += [row(value=None, count=0), row(commit=""), row(commit="12e3456")]
    write(file, rows)
    got = read(file)
    assert list(got.columns) == COLUMNS and list(got.value[: len(ODD)]) == ODD
    assert pd.isna(got.value[len(ODD)]) and list(got.commit[-1:]) == ["12e3456"]
    before = file.read_bytes()
    write(file, got.to_dict("records"))  # type: ignore[arg-type]
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is not a results file"]),
        (b"\x89PNG\r\n\x1a\n\xff", ["is not a results file"]),
        (b"a,b\n1,2,3\n1\n1,2,3,4\n", ["rows.csv"]),
        ((",".join(COLUMNS[:-1]) + "\n").encode(), ["another version", "commit"]),
        ((",".join([*COLUMNS, "mood"]) + "\n").encode(), ["another version", "mood"]),
        ((",".join(reversed(COLUMNS)) + "\n").encode(), ["another version", "order"]),
    ],
)
def test_files_that_are_not_this_versions_are_named(
    tmp_path: Path, content: bytes, words: list[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    with pytest.raises(BadInput) as error:
        read(file)
    message = str(error.value)
    assert "rows.csv" in message and "\n" not in message
    assert all(word in message for word in words), message


def test_a_value_that_is_not_a_number_or_a_torn_line_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    write(file, [row(value="high")])
    with pytest.raises(BadInput, match=r"rows\.csv, line 2: value is 'high'; it must be a number"):
        read(file)
    write(file, [row(), row()])
    text = file.read_text()
    file.write_text(text[: text.rindex("parallel") + 4])  # torn inside the last line
    with pytest.raises(BadInput, match="line 3: "):
        read(file)
    with pytest.raises(BadInput, match="no results in"):
        read(tmp_path / "other.csv")
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path)


def test_a_write_that_fails_leaves_the_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rows.csv"
    write(file, [row()])
    before = file.read_bytes()

    def fails(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(BadInput, match=r"rows\.csv cannot be written: Permission denied"):
        write(file, [row(value=2)])
    assert file.read_bytes() == before and list(tmp_path.iterdir()) == [file]


def test_a_full_disk_leaves_rows_and_figure_as_they_were(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size=64k none {disk} && cd {os.getcwd()} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, small + "true"]).returncode:
        pytest.skip("this system lets nobody mount a small disk to fill")
    rows = tmp_path / "rows.csv"
    write(rows, [row(metric="bits per byte", value=2.5)])
    run = f"cp {rows} {disk}/a.csv; echo old >{disk}/a.svg; head -c 50000 /dev/zero >{disk}/fill; "
    code = tmp_path / "code.py"
    code.write_text(f"""
from pathlib import Path
from experiments import plot, results, study
from mtp.errors import exit_cleanly

file = Path("{disk}/a.csv")
for write in (
    lambda: plot.plot(study.find("sweep-n"), file, Path("results")),
    lambda: results.write(file, results.read(file).to_dict("records") * 99),
):
    try:
        exit_cleanly(write)()
    except SystemExit as left:
        print(left.code, flush=True)
""")
    run += f"{sys.executable} {code}; cat {disk}/a.svg; cmp {rows} {disk}/a.csv; ls -A {disk}"
    done = subprocess.run([*mount, small + run], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "2", "old", "a.csv", "a.svg", "fill"], done
    full = "error: no space left on the disk that holds"
    assert done.stderr.splitlines() == [f"{full} {disk}/a.svg", f"{full} {disk}/a.csv"]


# --------------------------------------------------------------------------------------------------
# collecting


def finish(
    runs: Path, place: int, value: float = 1 / 3, evaluations: str = "likelihood drafts"
) -> str:
    """Records as if run `place` of the smoke plan had been evaluated."""
    config = plan(STUDY, "smoke")[place]
    folder = run_folder(config, runs)
    for name in evaluations.split():
        file = record_file(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        measures = [{"metric": f"{name} of {config.model.n}", "value": value, "count": 7}]
        rest = {
            "data": "d",
            "step": 20,
            "precision": "float32",
            "device": "cpu",
            "versions": "v",
            "commit": "c",
        }
        file.write_text(json.dumps({"measures": measures} | rest))
    return folder.name


def collected(tmp_path: Path, runs: str, configs: Any = None) -> pd.DataFrame:
    configs = plan(STUDY, "smoke") if configs is None else configs
    return read(collect(STUDY, "smoke", configs, tmp_path / runs, tmp_path / "results"))


def test_rows_follow_the_plan_and_carry_the_run(tmp_path: Path) -> None:
    late, early = finish(tmp_path / "runs", 3), finish(tmp_path / "runs", 1)
    rows = collected(tmp_path, "runs")
    assert list(rows.run_id) == [early] * 2 + [late] * 2 and list(rows.n) == [2] * 2 + [6] * 2
    assert list(rows.metric[:2]) == ["likelihood of 2", "drafts of 2"]
    assert set(rows.scale) == {"smoke"} and set(rows.study) == {"sweep-n"}
    assert set(rows["size"]) == {"0.1M"} and set(rows.unit) == {"token"}


def test_rows_made_elsewhere_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    there = [finish(tmp_path / "there", i, value) for i, value in enumerate(ODD[:3])]
    before = collected(tmp_path, "there")
    file = tmp_path / "results" / "sweep-n" / "smoke.csv"
    text = file.read_text()
    here = finish(tmp_path / "here", 4)
    rows = collected(tmp_path, "here")
    assert list(rows.run_id.unique()) == [*there, here]
    assert rows[rows.run_id != here].equals(before) and file.read_text().startswith(text)


def test_runs_no_longer_planned_are_dropped_and_redone_ones_replaced(tmp_path: Path) -> None:
    names = [finish(tmp_path / "runs", i, 1.0) for i in range(3)]
    assert list(collected(tmp_path, "runs").run_id.unique()) == names
    finish(tmp_path / "runs", 1, 2.0)
    configs = plan(STUDY, "smoke")
    rows = collected(tmp_path, "runs", configs[1:])
    assert list(rows.run_id.unique()) == names[1:]
    assert list(rows[rows.run_id == names[1]].value) == [2.0] * 2


def test_a_run_under_evaluation_does_not_lose_its_earlier_rows(tmp_path: Path) -> None:
    name = finish(tmp_path / "runs", 0, 1.0)
    collected(tmp_path, "runs")
    record_file(tmp_path / "runs" / name, "drafts").write_text('{"measures": [{"torn')
    finish(tmp_path / "runs", 0, 2.0, "likelihood")
    assert list(collected(tmp_path, "runs").value) == [1.0] * 2


def test_without_a_finished_run_it_reports_so_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="sweep-n has no finished run at scale smoke"):
        collected(tmp_path, "runs")
    assert not (tmp_path / "results").exists()
    assert rows_of(STUDY, "smoke", plan(STUDY, "smoke")[0], tmp_path) == []


def test_the_summary_gives_means_and_spread_over_seeds() -> None:
    rows = pd.DataFrame(
        [row(metric="m", value=v, seed=i, n=n) for n in (1, 2) for i, v in enumerate((n, n + 1))]
        + [row(metric="k", value=None, n=2)]
    )
    lines = table(rows, ["n"], ["m", "k", "absent"]).splitlines()
    assert lines[0].split() == ["m", "k"]
    assert lines[2].split()[:4] == ["1", "1.500", "±", "0.500"]
    assert lines[3].split() == ["2", "2.500", "±", "0.500", "-"]


def test_the_papers_numbers_are_found_from_any_folder(tmp_path: Path) -> None:
    rows = results.paper(tmp_path)
    table_one = rows[(rows.artefact == "Table 1") & (rows.metric == "MBPP pass@1 (%)")]
    assert len(table_one) > 5 and rows.value.notna().all()
