"""information: its runs are those of sweep-controls, and what rows say of slopes and the lemma."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments import controls, results
from experiments.evaluations import PROGRESS_BITS
from experiments.studies import information
from experiments.studies.information import (
    AHEAD,
    ARMS,
    EARLIER,
    MUTUAL,
    SLOPE,
    SLOPES,
    TERMS,
    finding,
    lemma_gap,
    numbered,
    over_documents,
)
from experiments.study import find, plan, run_folder, run_name
from tests.conftest import Cli

STUDY = find("information")
DOCUMENTS, TENTHS = 12, 10
Slope = Callable[[str], float]


def made_up(slope: Slope, seeds: int = 3) -> pd.DataFrame:
    """Rows as the runs of cpu scale would give them, in which each arm's loss has this slope."""
    draw, rows = np.random.default_rng(0), []
    for config in plan(STUDY, "cpu"):
        if config.seed >= seeds:
            continue
        arm = STUDY.arm(config)
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": "cpu", "run_id": run_folder(config, Path()).name, "size": "0.2M", "arm": arm,
            "seed": config.seed, "n": config.model.n, "changed": "", "data": "installed, bpe-512",
            "count": 10, "device": "cpu", "head": "linear", "step": 700,
        }  # fmt: skip
        luck = draw.normal(0, 1e-4)
        numerators = 100 * (slope(arm) + luck + draw.normal(0, 1e-4, DOCUMENTS))
        values = {SLOPE: numerators.sum() / DOCUMENTS / 100, "bits per byte": 2.1}
        values |= {f"numerator, document {i}": v for i, v in enumerate(numerators, 1)}
        places = np.arange(TENTHS) - 4.5
        values |= {f"loss, tenth {i + 1} (nats)": 3 + slope(arm) * x for i, x in enumerate(places)}
        if arm == "n=1":
            values |= {f"denominator, document {i + 1}": 100.0 for i in range(DOCUMENTS)}
            values |= {f"relevance, tenth {i + 1} (nats)": x for i, x in enumerate(places)}
            values[MUTUAL["5-gram"]] = 1.3
        x, y, given = 3.0, 4.0 + luck, 3.25
        for way in ("head 1", *["heads"] * (arm != "n=1")):
            terms = (x, y, given, x + given - y, y - given)
            pairs = zip(TERMS, terms, strict=True)
            values |= {f"{term}, {way} (nats)": value for term, value in pairs}
        rows += [common | {"metric": name, "value": value} for name, value in values.items()]
        for step in range(100, 701, 100):
            bits = 3 - step / (800 if arm == "n=1" else 1000)
            for name, value in ((PROGRESS_BITS, bits), (EARLIER, slope(arm) + 0.1 * bits)):
                rows.append(common | {"metric": name, "value": value, "step": step})
    return pd.DataFrame(rows, columns=results.COLUMNS)


def falls(arm: str) -> float:
    """As predicted: looking ahead with linear heads alone changes the slope."""
    return 0.02 - 0.03 * (arm == controls.LINEAR)


# --------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("scale", STUDY.scales)
def test_it_trains_nothing_that_sweep_controls_does_not(scale: str) -> None:
    own, theirs = plan(STUDY, scale), plan(find("sweep-controls"), scale)
    assert {run_name(config) for config in own} < {run_name(config) for config in theirs}
    seeds = own[-1].seed + 1
    assert [STUDY.arm(config) for config in own] == [*ARMS] * seeds
    assert all(config.keep_every for config in own)


def test_contrasts_are_of_arms_that_there_are() -> None:
    assert {arm for each in STUDY.contrasts for arm in each.arms} <= {*ARMS} and {*AHEAD} < {*ARMS}


# --------------------------------------------------------------------------------------------------
# from rows to what is said


def test_predictions_hold_if_linear_heads_learn_what_is_relevant() -> None:
    rows = made_up(falls)
    outcomes = {each.name: each.outcome(found) for each in SLOPES if (found := each.of(rows))}
    assert outcomes == dict.fromkeys([each.name for each in SLOPES], "holds")
    none = made_up(lambda arm: 0.02)
    outcomes = {each.name: each.outcome(found) for each in SLOPES if (found := each.of(none))}
    assert {name for name, outcome in outcomes.items() if outcome == "fails"} == {
        "relevance", "lookahead", "at equal bits",
    }  # fmt: skip


def test_slopes_have_an_interval_over_seeds_and_documents() -> None:
    rows = made_up(falls)
    found = over_documents(rows, controls.LINEAR, controls.ONE)
    assert found and found.low < -0.03 < found.high and found.high - found.low < 0.002
    assert found.value == pytest.approx(-0.03, abs=5e-4)
    assert over_documents(rows[rows.seed == 0], controls.LINEAR, controls.ONE) is None
    assert over_documents(rows[rows.arm != "n=1"], controls.LINEAR, controls.ONE) is None
    without = rows[~rows.metric.str.startswith("denominator")]
    assert over_documents(without, controls.LINEAR, controls.ONE) is None


def test_the_lemma_is_checked_on_the_rows() -> None:
    rows = made_up(falls)
    assert lemma_gap(rows) < 1e-12
    wrong = rows.copy()
    wrong.loc[(rows.metric == "H(x|y), heads (nats)") & (rows.arm == "n=4"), "value"] += 0.01
    assert lemma_gap(wrong) == pytest.approx(0.01)
    assert np.isnan(lemma_gap(rows[rows.metric == SLOPE]))
    assert "Lemma L.3 holds" in finding(rows) and "Lemma" not in finding(rows[rows.metric == SLOPE])


def test_numbered_rows_are_found_by_their_pattern() -> None:
    rows = pd.DataFrame({"metric": ["a, 1 (x)", "a, 12 (x)", "a, b (x)", "b, a, 1 (x)"]})
    assert numbered(rows, "a, {} (x)").number.tolist() == [1, 12]


def test_the_finding_has_the_slope_and_the_information() -> None:
    text = finding(made_up(falls))
    assert text.startswith("relevance, (n=4, linear) - (n=1): -0.030 nats per nat [-0.03")
    assert "as predicted (over seeds and documents [-0.03" in text
    assert (
        "at equal bits, (n=4, linear) - (n=1): -0.030" in text
        and "; information, (n=4, linear)" in text
    )
    one = finding(made_up(falls, seeds=1))
    assert "undecided with 1 seed" in one and "over seeds and documents" not in one
    rows = made_up(falls)
    assert finding(rows[rows.metric == "bits per byte"]) == "No run has been measured."


@pytest.mark.parametrize(("arms", "seeds"), [(ARMS, 3), (ARMS[:1], 1), (ARMS[1:3], 3)])
def test_the_figure_is_drawn_from_the_rows_alone(arms: tuple[str, ...], seeds: int) -> None:
    rows = made_up(falls, seeds)
    rows = rows[rows.arm.isin(arms)]
    before = rows.copy()
    figure = STUDY.figure(rows, results.paper())
    figure.canvas.draw()
    assert rows.equals(before)
    left, middle, _ = figure.axes
    shown = sum(len(c.get_offsets()) for c in left.collections)  # pyright: ignore
    assert shown == seeds * (len(arms) + len({*AHEAD} & {*arms}))
    assert len(middle.lines) == (len(arms) if "n=1" in arms else 1)
    plt.close(figure)


# --------------------------------------------------------------------------------------------------
# for real


def test_runs_from_the_command_line(cli: Cli, tmp_path: Path, data: Path) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", "--set", "tokens=1280")
    result = cli("run", "information", *fast, *places)
    assert result.code == 0, result.err
    rows = results.read(tmp_path / "information" / "smoke-tokens=1280.csv")
    assert list(dict.fromkeys(rows.arm)) == [*ARMS]
    assert lemma_gap(rows) < 1e-9
    exact = rows[rows.metric == MUTUAL["head 1"]]
    assert set(exact.arm) == {*ARMS} and (exact["count"] > 0).all()
    assert set(rows[rows.metric == MUTUAL["heads"]].arm) == {*ARMS} - {"n=1"}
    whole = rows[rows.metric.str.startswith("denominator")].value.sum()
    for arm in ARMS:
        own = rows[rows.arm == arm]
        parts = own[own.metric.str.startswith("numerator")].value.sum()
        (slope,) = own[own.metric == SLOPE].value
        assert slope == pytest.approx(parts / whole)
        assert own[own.metric == EARLIER].step.tolist() == [10]
    for each in STUDY.contrasts[:4]:
        assert f"{each.name}, {each.formula}: " in result.out
    assert information.SLOPE in result.out
