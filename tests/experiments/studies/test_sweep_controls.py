"""The controls of the sweeps: arms that differ in one thing, and their contrasts."""

import dataclasses
from pathlib import Path

import pytest

from experiments import results
from experiments.changes import Changes
from experiments.contrasts import Asked
from experiments.studies import sweep_controls
from experiments.study import find, plan
from mtp.model.sizes import parameter_counts
from tests.conftest import Cli

STUDY = find("sweep-controls")


@pytest.mark.parametrize("scale", STUDY.scales)
def test_runs_have_the_names_of_their_arms(scale: str) -> None:
    """Each seed has every arm, and all of a seed see the same batches."""
    configs = plan(STUDY, scale)
    names, seeds = list(sweep_controls.ARMS), configs[-1].seed + 1
    assert [STUDY.arm(config) for config in configs] == names * seeds
    assert [config.seed for config in configs] == [s for s in range(seeds) for _ in names]
    assert len({(c.data, c.batch, c.tokens, c.lr, c.model.context) for c in configs}) == 1


def test_arms_differ_in_what_they_are_named_for() -> None:
    arms = dict(zip(sweep_controls.ARMS, plan(STUDY, "cpu"), strict=False))
    depth = {arm: config.model.trunk_layers for arm, config in arms.items()}
    path = {arm: layers + ("linear" not in arm) for arm, layers in depth.items()}
    assert path["n=1, short"] == path["n=4"] == 3
    assert all(layers == 6 for arm, layers in path.items() if arm not in ("n=1, short", "n=4"))
    size = {arm: parameter_counts(config.model)["non_embedding"] for arm, config in arms.items()}
    assert size["n=1"] == size["n=4"] and size["n=4, linear"] < 1.05 * size["n=1"]
    assert arms["n=1"].tokens >= 7.5 * size["n=1"]
    ramped = dataclasses.replace(arms["n=4, linear, ramped"], objective=arms["n=4"].objective)
    assert ramped == arms["n=4, linear"]


def test_an_override_keeps_the_names() -> None:
    configs = plan(STUDY, "smoke", Changes(("lr=1e-3", "model.dim=48")))
    assert [STUDY.arm(config) for config in configs] == list(sweep_controls.ARMS)


def test_contrasts_are_of_arms_that_there_are() -> None:
    for each in STUDY.contrasts:
        assert isinstance(each, Asked) and each.arms.keys() <= sweep_controls.ARMS.keys()


def test_a_run_from_the_command_line(cli: Cli, tmp_path: Path, data: Path) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", "--set", "tokens=384")
    result = cli("run", "sweep-controls", *fast, *places)
    assert result.code == 0, result.err
    rows = results.read(tmp_path / "sweep-controls" / "smoke-tokens=384.csv")
    assert list(dict.fromkeys(rows.arm)) == list(sweep_controls.ARMS)
    lines = rows[rows.metric.isin(sweep_controls.LINES)]
    assert set(lines.arm) == {"n=1", "n=1, short"} and (lines.value > 0).all()
    values = lines.groupby("metric").value
    assert (values.max() == values.min()).all()  # they depend on the text alone
    for each in STUDY.contrasts:
        found = each.of(rows)
        assert found and f"{each.name}, {each.formula}: {found.mean:+.3f} bits" in result.out
    assert "undecided with 1 seed; predicted: larger by more than 0.1" in result.out
    assert "\nn=4, linear, same target " in result.out  # the table is by arm
