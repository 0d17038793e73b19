"""The controls of the sweeps: arms that differ in one thing, and their contrasts."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments import controls, panels, results
from experiments.changes import Changes
from experiments.contrasts import Asked, sentences
from experiments.equal_likelihood import AskedAtEqualLikelihood
from experiments.evaluations import FIRST, PROGRESS_BITS, WHOLE
from experiments.studies import sweep_controls
from experiments.study import find, plan
from mtp.model.sizes import parameter_counts
from tests.conftest import Cli

STUDY = find("sweep-controls")


@pytest.mark.parametrize("scale", STUDY.scales)
def test_runs_have_the_names_of_their_arms(scale: str) -> None:
    """Each seed has every arm, and all of a seed see the same batches."""
    configs = plan(STUDY, scale)
    names, seeds = list(controls.CONTROLS), configs[-1].seed + 1
    assert [STUDY.arm(config) for config in configs] == names * seeds
    assert [config.seed for config in configs] == [s for s in range(seeds) for _ in names]
    assert len({(c.data, c.batch, c.tokens, c.lr, c.model.context) for c in configs}) == 1


def test_arms_differ_in_what_they_are_named_for() -> None:
    arms = dict(zip(controls.CONTROLS, plan(STUDY, "cpu"), strict=False))
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
    assert [STUDY.arm(config) for config in configs] == list(controls.CONTROLS)


def test_contrasts_are_of_arms_that_there_are() -> None:
    for each in STUDY.contrasts:
        assert isinstance(each, Asked) and each.arms.keys() <= {*controls.CONTROLS}


def made_up(seeds: int = 3) -> pd.DataFrame:
    """Rows of cpu scale: n=4 costs bits per byte, and linear heads write 5 points more than n=1
    where it is as good."""
    rows = []
    for config in plan(STUDY, "cpu"):
        if config.seed >= seeds:
            continue
        arm = STUDY.arm(config)
        cost, more = 0.1 * (config.model.n - 1), 5 * (arm == controls.LINEAR)
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": "cpu", "run_id": f"{arm} {config.seed}", "arm": arm, "seed": config.seed,
            "n": config.model.n, "size": "0.2M", "data": "installed, bpe-512", "device": "cpu",
        }  # fmt: skip
        rows.append(common | {"metric": "bits per byte", "value": 2 + cost, "step": 700})
        rows.append(common | {"metric": f"{FIRST}, 5-gram", "value": 7.0, "step": 700})
        for step in range(100, 701, 100):
            bits = 2 + cost + (700 - step) / 700 + config.seed / 1000
            for name, value in ((PROGRESS_BITS, bits), (FIRST, 80 - 30 * bits + more)):
                rows.append(common | {"metric": name, "value": value, "step": step})
    return pd.DataFrame(rows, columns=results.COLUMNS)


def test_what_is_written_is_compared_at_equal_likelihood() -> None:
    rows = made_up()
    at_end, equal, layers = (each.of(rows) for each in sweep_controls.WRITTEN[:3])
    assert at_end and at_end.mean == pytest.approx(5 - 30 * 0.3)
    assert equal and equal.mean == pytest.approx(5) and layers and abs(layers.mean) < 1e-6
    outcomes = [each.outcome(f) for each in sweep_controls.WRITTEN[:3] if (f := each.of(rows))]
    assert outcomes == ["holds"] * 3
    assert "at equal bits, (n=4, linear) - (n=1): +5.0 points" in STUDY.finding(rows)
    assert "at equal bits" not in STUDY.finding(rows[rows.metric == "bits per byte"])


@pytest.mark.parametrize(("arms", "seeds"), [([*controls.CONTROLS], 3), (["n=4", "n=1, short"], 1)])
def test_the_figure_has_a_curve_for_each_arm_that_is_shown(arms: list[str], seeds: int) -> None:
    rows = made_up(seeds)
    figure = STUDY.figure(rows[rows.arm.isin(arms)], results.paper())
    figure.canvas.draw()
    right = figure.axes[2]
    shown = [arm for arm in sweep_controls.COLOURS if arm in arms]
    labels = [line.get_label() for line in right.lines]
    assert labels == [*shown, "5-gram"] and right.xaxis_inverted()
    assert [len(c.get_offsets()) for c in right.collections] == [seeds] * len(shown)  # pyright: ignore
    plt.close(figure)


def test_a_run_from_the_command_line(cli: Cli, tmp_path: Path, data: Path) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", "--set", "tokens=384")
    result = cli("run", "sweep-controls", *fast, *places)
    assert result.code == 0, result.err
    rows = results.read(tmp_path / "sweep-controls" / "smoke-tokens=384.csv")
    assert list(dict.fromkeys(rows.arm)) == list(controls.CONTROLS)
    lines = rows[rows.metric.isin(list(panels.LINES.values()))]
    assert set(lines.arm) == {"n=1", "n=1, short"} and (lines.value > 0).all()
    values = lines.groupby("metric").value
    assert (values.max() == values.min()).all()  # they depend on the text alone
    for line in sentences(STUDY.contrasts, rows):
        assert line in result.out
    for each in STUDY.contrasts:
        assert each.of(rows) or isinstance(each, AskedAtEqualLikelihood)
    assert "undecided with 1 seed; predicted: larger by more than 0.1" in result.out
    one = rows[rows.arm == "n=1"]
    floors = ("real text", "5-gram", "constant")
    assert {f"{name}, {floor}" for name in (FIRST, WHOLE) for floor in floors} < {*one.metric}
    assert set(rows[rows.metric == PROGRESS_BITS].arm) == {*controls.CONTROLS}
    assert "\n  n=4, linear, same target " in result.out  # the table is by arm
