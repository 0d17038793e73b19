"""Comparing studies and runs: arms named by what differs, curves in one plot, differences."""

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from experiments import index
from experiments.arms import arm_names
from experiments.bases import base, with_model
from experiments.study import find, plan
from mtp.config import CorpusConfig, TrainConfig
from mtp.errors import BadInput
from mtp.overrides import to_json
from tests.conftest import Cli

BASE = base("smoke")


def a_run(folder: Path, losses: list[float], bits: float, **changes: object) -> None:
    """The files of a trained run, with a loss for every hundred tokens."""
    config = dataclasses.replace(BASE, **changes)  # type: ignore[arg-type]
    (folder / "evals").mkdir(parents=True)
    (folder / "config.json").write_text(to_json(config))
    rows = [{"step": i, "tokens": 100 * i, "lr": 1, "loss": [x, 9]} for i, x in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    measures = [{"metric": "bits per byte", "value": bits, "count": 5}]
    (folder / "evals" / "held-out.json").write_text(json.dumps({"measures": measures}))


def test_arms_are_named_by_what_differs() -> None:
    def named(*configs: TrainConfig, seeds: bool = True) -> list[str]:
        return arm_names(configs, seeds)

    slow = dataclasses.replace(BASE, lr=1e-4)
    assert named(BASE, slow) == ["lr=0.003", "lr=0.0001"]
    assert named(with_model(BASE, 0, n=2), with_model(BASE, 1, n=4)) == ["n=2 seed=0", "n=4 seed=1"]
    assert named(with_model(BASE, 0), with_model(BASE, 1), seeds=False) == ["n=1", "n=1"]
    assert named(BASE) == ["n=1"]
    bytes_ = dataclasses.replace(BASE, data=CorpusConfig(tokenizer="bytes"))
    assert named(BASE, bytes_)[1].startswith("bytes")
    # what the execution changes tells no arms apart
    assert named(BASE, dataclasses.replace(slow, micro=2))[1] == "lr=0.0001"
    # in every study, every run has a name of its own
    for scale in ("smoke", "cpu", "gpu", "paper"):
        for name in ("sweep-heads", "sweep-bytes", "synthetic-pauses", "synthetic-induction-books"):
            if scale not in find(name).scales:
                continue
            configs = plan(find(name), scale)
            assert len(set(arm_names(configs))) == len(configs), (name, scale)


def test_runs_are_compared(cli: Cli, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        a_run(tmp_path / f"slow{seed}", [4, 3, 2], 2.0 + seed / 10, lr=1e-4, seed=seed)
        a_run(tmp_path / f"fast{seed}", [4, 2, 1], 1.5 + seed / 10, lr=1e-3, seed=seed)
    names = [f"{kind}{seed}" for kind in ("slow", "fast") for seed in (0, 1, 2)]
    done = cli("compare", *names, "--out", "both")
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert ["lr=0.0001", "2.1000", "3", "seeds"] in lines
    assert ["lr=0.001", "1.6000", "3", "seeds", "-0.5000", "[-0.5000,", "-0.5000]"] in lines
    rows = pd.read_csv(tmp_path / "both.csv")
    assert set(rows.arm) == {"lr=0.0001", "lr=0.001"} and len(rows) == 6 * 2
    assert (tmp_path / "both.png").exists() and (tmp_path / "both.svg").exists()


def test_a_run_that_comes_twice_is_no_further_seed(cli: Cli, tmp_path: Path) -> None:
    """Nor is another run of the same config; and a run that is not finished says its step."""
    for name, lr in (("a", 1e-4), ("again", 1e-4), ("b", 1e-3)):
        a_run(tmp_path / name, [4, 3], 2.0, lr=lr, micro=2 if name == "again" else 0)
    status = {"state": "interrupted", "step": 20, "steps": 40}
    (tmp_path / "b" / "status.json").write_text(json.dumps(status))
    done = cli("compare", "a", "again", "b", "b")
    assert done.code == 0, done.err
    assert done.out.splitlines()[:3] == [
        "again repeats a: the same config and seed; left out",
        "b is there twice: the same config and seed; left out",
        "b is not finished: step 20 of 40",
    ]
    lines = [line.split() for line in done.out.splitlines()]
    assert ["lr=0.0001", "2.0000", "1", "seed"] in lines
    assert "differences: from lr=0.0001, within seeds; an interval needs two seeds" in done.out
    assert "90%" not in done.out
    same = cli("compare", "a", "again")
    assert same.code == 2 and "one config and seed; compare needs two or more" in same.err


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["nothing", "one"], ["nothing is neither", "results/mine/nothing/cpu.csv"]),
        (["one"], ["one is one run", "two or more"]),
        (["one", "empty"], ["empty has no metrics yet"]),
    ],
)
def test_what_cannot_be_compared(
    cli: Cli, tmp_path: Path, names: list[str], words: list[str]
) -> None:
    a_run(tmp_path / "one", [1, 2], 1.0)
    a_run(tmp_path / "empty", [], 1.0)
    done = cli("compare", *names)
    assert done.code == 2 and done.err.count("\n") == 1
    assert all(word in done.err for word in words), done.err
    assert not (tmp_path / "results").exists()


def test_several_values_end_in_a_comparison(cli: Cli, small: list[str], tmp_path: Path) -> None:
    values = ("--n", "2", "--set", "lr=1e-3,3e-3")
    done = cli("run", "sweep-n", "--scale", "smoke", "--launcher", "debug", *small, *values)
    assert done.code == 0, done.err
    made = tmp_path / "results" / "mine" / "sweep-n"
    labels = [f.stem for f in sorted(made.glob("smoke-*.csv"))]
    assert len(labels) == 2 and "lr=0.001" in labels[0] and "lr=0.003" in labels[1]
    assert set(pd.read_csv(made.parent / "sweep-n-compared.csv").arm) == {"lr=0.001", "lr=0.003"}
    assert "differences: from lr=0.001, within seeds" in done.out
    assert cli("plot").code == 0  # takes no comparison for rows
    again = cli("compare", f"sweep-n/{labels[0]}", str(made / f"{labels[1]}.csv"))
    assert again.code == 0 and "lr=0.003" in again.out
    lines = (tmp_path / "runs" / "index.tsv").read_text().splitlines()
    assert lines[0] == index.HEADER and len(lines) == 3


def test_the_index_keeps_other_studies_and_forgets_runs_that_a_study_has_no_more(
    tmp_path: Path,
) -> None:
    index.add(tmp_path, "a", "cpu", {"run1": "n=1", "run2": "n=2"})
    index.add(tmp_path, "b", "cpu", {"run1": "seed=0"})
    file = index.add(tmp_path, "a", "cpu", {"run3": "n=3"})
    assert file.read_text().splitlines()[1:] == ["run1\tb\tcpu\tseed=0", "run3\ta\tcpu\tn=3"]
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot create .*file/runs"):
        index.add(tmp_path / "file" / "runs", "a", "cpu", {})
