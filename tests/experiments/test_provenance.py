"""SCALE.json: curves are thinned, runs made elsewhere are kept, torn files are refused."""

import itertools
import json
from pathlib import Path

import pytest

from experiments import provenance
from experiments.changes import Changes
from experiments.study import collect, find, plan, record_file, run_folder, run_name
from mtp.config import TrainConfig
from mtp.errors import BadInput

STUDY = find("sweep-n")


def finished(runs: Path, config: TrainConfig) -> str:
    """A run's folder as training and evaluation leave it, with few numbers."""
    folder = run_folder(config, runs)
    for name in STUDY.records:
        file = record_file(folder, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        origin = dict.fromkeys(("data", "precision", "device", "versions", "commit"), "x")
        measures = [{"metric": name, "value": 1.0, "count": 1}]
        file.write_text(json.dumps({"measures": measures, "step": 2} | origin))
    lines = [{"step": i, "tokens": 10 * i, "lr": 0.1, "loss": [1.0 / i]} for i in (1, 2)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text + '{"step": 3, "tok')  # torn by a kill
    (folder / "engine.json").write_text('[{"from_step": 0, "device": "cpu", "precision": "bf16"}]')
    return folder.name


def test_a_long_curve_is_thinned_to_fifty_places_with_both_ends() -> None:
    rows = [{"step": i, "tokens": 10 * i, "lr": 1.0, "loss": [1 / i]} for i in range(1, 1001)]
    thin = provenance.curve(rows)
    assert len(thin["step"]) == 50 and thin["step"][0] == 1 and thin["step"][-1] == 1000
    assert {b - a for a, b in itertools.pairwise(thin["step"])} <= {20, 21}
    assert provenance.curve([])["step"] == [] and provenance.curve(rows[:1])["step"] == [1]


def test_runs_made_elsewhere_are_kept_and_others_leave(tmp_path: Path) -> None:
    configs, file = plan(STUDY, "smoke"), tmp_path / "results" / "sweep-n" / "smoke.json"
    there = [finished(tmp_path / "there", config) for config in configs[:2]]
    collect(STUDY, "smoke", configs, tmp_path / "there", tmp_path / "results")
    before = provenance.read(file)
    assert list(before) == there and before[there[0]]["curve"]["tokens"] == [10, 20]
    here = finished(tmp_path / "here", configs[4])
    collect(STUDY, "smoke", configs, tmp_path / "here", tmp_path / "results")
    found = provenance.read(file)
    assert list(found) == [*there, here] and {name: found[name] for name in there} == before
    collect(STUDY, "smoke", configs[1:], tmp_path / "here", tmp_path / "results")
    assert list(provenance.read(file)) == [there[1], here]


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    configs = plan(STUDY, "smoke")[:1]
    finished(tmp_path, configs[0])
    files = [collect(STUDY, "smoke", configs, tmp_path, tmp_path / name) for name in ("a", "b")]
    one, other = (file.with_suffix(".json").read_bytes() for file in files)
    assert one == other and len(one.splitlines()) == 3  # a line for each run


@pytest.mark.parametrize("content", ["", '{"runs": {"a"', "[]", "null", '{"runs": 3}'])
def test_a_torn_file_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    file.write_text(content)
    with pytest.raises(BadInput, match=r"cpu\.json cannot be read .*move it away") as error:
        provenance.read(file)
    assert "\n" not in str(error.value)
    assert provenance.read(tmp_path / "none.json") == {}


def test_precision_is_that_of_the_same_device(tmp_path: Path) -> None:
    folder = tmp_path / finished(tmp_path, plan(STUDY, "smoke")[0])
    assert provenance.precision_of(folder) == provenance.precision_of(folder, "cpu") == "bf16"
    assert provenance.precision_of(folder, "cuda") == ""
    assert provenance.precision_of(tmp_path / "none") == ""


def test_a_run_has_one_name_however_it_is_executed() -> None:
    config = plan(STUDY, "smoke")[0]
    again = plan(STUDY, "smoke", Changes(("micro=2", "log_every=1", "scheme=plain")))[0]
    assert again != config and run_name(again) == run_name(config)
