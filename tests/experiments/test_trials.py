"""Trials of learning rates: the same for every arm, on a seed of their own; which one is best."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from experiments import arithmetic, results
from experiments.study import find, plan, trials
from experiments.trials import SEED, best, finding_of
from mtp.errors import BadInput
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
STUDY = """
from experiments.bases import base, with_model
from experiments.evaluations import likelihood
from experiments.figures import finish, panels
from experiments.study import Study

STUDY = Study(
    name="mine", artefact="mine", question="?", table=("bits per byte",),
    runs=lambda scale: [with_model(base(scale), seed, n=n) for seed in (0, 1) for n in (1, 2)],
    evaluations={"likelihood": likelihood}, rates=(1e-3, 2e-3),
    figure=lambda rows, paper: finish(panels(1)[0], ""), finding=lambda rows: "",
)
"""


def rows(values: dict[str, dict[float, float]]) -> pd.DataFrame:
    made = [
        {"arm": f"{arm}, lr={rate:g}", "value": value, "seed": SEED, "metric": "bits per byte"}
        for arm, own in values.items()
        for rate, value in own.items()
    ]
    return pd.DataFrame(made)


@pytest.mark.parametrize("name", ["sweep-n", "sweep-heads", "sweep-controls"])
@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_every_arm_is_tried_at_every_rate_on_another_seed(name: str, scale: str) -> None:
    study, tried = find(name), find(f"{name}/trials")
    configs, own = plan(tried, scale), plan(study, scale)
    whole = [c for c in own if c.tokens == max(each.tokens for each in own)]
    arms = list(dict.fromkeys(study.arm(c) for c in whole))
    assert [tried.arm(c) for c in configs] == [
        f"{arm}, lr={rate:g}" for arm in arms for rate in study.rates
    ]
    assert {c.seed for c in configs} == {SEED} and SEED not in {c.seed for c in own}
    assert {c.tokens for c in configs} == {study.trial_share * whole[0].tokens}
    assert set(tried.evaluations) == {"likelihood"} and not tried.contrasts


def test_a_trial_with_the_whole_budget_is_a_run_of_the_study_with_another_seed() -> None:
    study, tried = find("synthetic-polynomials"), find("synthetic-polynomials/trials")
    own = {study.arm(c): c for c in plan(study, "cpu")}
    configs = plan(tried, "cpu")
    assert len(configs) == len(own) * len(study.rates)
    for config in configs:
        arm = tried.arm(config).partition(", lr=")[0]
        assert config == dataclasses.replace(own[arm], seed=SEED, lr=config.lr)
    assert tried.limits.endswith("and the whole budget.")


def test_arms_of_the_polynomials_have_the_best_rate_of_their_trials() -> None:
    rows = results.read(ROOT / "results" / "synthetic-polynomials" / "trials" / "cpu.csv")
    found = best(rows[rows.metric == find("synthetic-polynomials").selects[1]])
    assert {arm: rate for arm, (rate, _) in found.items()} == arithmetic.BEST
    assert all(inside for _, inside in found.values()), "none at the edge of what was tried"


def test_the_best_rate_of_an_arm_and_whether_it_is_between_others() -> None:
    nan = float("nan")
    found = best(
        rows({
            "n=1": {0.1: 3.0, 0.2: 2.0, 0.4: 2.5},
            "n=4, linear": {0.1: 2.0, 0.2: 3.0, 0.4: 4.0},
            "n=8": {0.1: 3.0, 0.2: 2.0, 0.4: nan},
            "never": {0.1: nan},
        })
    )  # fmt: skip
    assert found == {"n=1": (0.2, True), "n=4, linear": (0.1, False), "n=8": (0.2, False)}
    text = finding_of(rows({"a": {0.1: 3, 0.2: 2, 0.4: 3}, "b": {0.1: 1, 0.2: 2}}), "loss")
    assert text == ("Lowest loss, one seed: at 0.1 b | at 0.2 a. At the edge of what was tried: b.")


def test_a_study_without_rates_has_no_trials() -> None:
    with pytest.raises(BadInput, match="synthetic-choices tries no learning rates"):
        find("synthetic-choices/trials")
    with pytest.raises(BadInput, match="unknown study 'sweep-m'"):
        find("sweep-m/trials")


def test_trials_of_a_study_in_a_file(cli: Cli, tmp_path: Path, data: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(STUDY)
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", "--set", "tokens=384")
    result = cli("run", f"{file}/trials", *fast, *places)
    assert result.code == 0, result.err
    found = results.read(tmp_path / "mine" / "trials" / "smoke-tokens=384.csv")
    assert list(dict.fromkeys(found.arm)) == [
        f"n={n}, lr={rate}" for n in (1, 2) for rate in ("0.001", "0.002")
    ]
    assert set(found.seed) == {SEED} and set(found.study) == {"mine/trials"}
    assert result.out.count("\nLowest bits per byte, one seed: at ") == 1
    assert (tmp_path / "mine" / "trials" / "smoke-tokens=384.svg").exists()
    assert trials(find(str(file))).name == "mine/trials"


def test_a_sweep_takes_the_best_of_its_committed_trials() -> None:
    """The rate of each arm of a study with committed trials, unless another is as good within the
    noise of a seed."""
    root = Path(__file__).parents[2] / "results"
    files = sorted(root.glob("*/trials/*.csv"))
    for file in files:
        study = find(file.parent.parent.name)
        own = {study.arm(c): c.lr for c in plan(study, file.stem)}
        table = results.read(file)
        table = table[table.metric == study.selects[1]]
        for arm, (rate, _) in best(table).items():
            at = {r: v for r, v in zip(table.arm, table.value, strict=True)}
            chosen = at[f"{arm}, lr={own[arm]:g}"]
            assert chosen - at[f"{arm}, lr={rate:g}"] < 0.02, arm
