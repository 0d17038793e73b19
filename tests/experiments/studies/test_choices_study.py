"""synthetic-choices: its arms, the weight that rows give a choice, and what the study says."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments import results
from experiments.choices import (
    HALF,
    LOSS,
    counted,
    in_words,
    informed,
    onsets,
    read_off,
    steps_to_half,
)
from experiments.contrasts import sentences
from experiments.studies.synthetic_choices import ARMS, CONTRASTS, NIGHT, arm_of, finding, measured
from experiments.study import find, plan, run_folder
from mtp.config import TrainConfig
from mtp.data.sources import generator_options
from mtp.head_types import HEADS
from synthetic.choices import task

STUDY = find("synthetic-choices")
# steps to half at A's choices, and the weight that B/A is made up for
Onset = Callable[[TrainConfig], tuple[float, float]]
SLOPE = 0.4  # of log B/A by log weight


def made_up(onset: Onset, scale: str = "cpu", seeds: int = 3) -> pd.DataFrame:
    """Rows as the runs of a scale would give them; losses fall in a line from ln 16 on."""
    rows = []
    for config in plan(STUDY, scale):
        if config.seed >= seeds:
            continue
        a, weight = onset(config)
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": scale, "run_id": run_folder(config, Path()).name, "size": "0.2M",
            "arm": arm_of(config), "seed": config.seed, "n": config.model.n, "changed": "",
            "head": "linear" if "linear" in arm_of(config) else "parallel",
            "data": f"{config.data.source}, bytes", "count": 512, "device": "cpu",
        }  # fmt: skip
        halves = {"A": a, "B": a * weight**SLOPE}
        for kind, half in halves.items():
            for step in range(100, 801, 100):
                loss = max(0.0, 2 * HALF - HALF * step / half)
                rows.append(common | {"metric": LOSS[kind], "value": loss, "step": step})
        for metric in STUDY.table:
            rows.append(common | {"metric": metric, "value": 90.0, "step": 800})
    return pd.DataFrame(rows, columns=results.COLUMNS)


def weight_in(config: TrainConfig) -> float:
    text = config.objective.token_weights.removeprefix("labels:choice_A=")
    return float(text or 1)


def as_counted(config: TrainConfig) -> tuple[float, float]:
    """Linear heads weight choices as the paper counts, heads with a layer not at all; n > 1 is
    slower, and seeds differ in their tables."""
    m, n = task(generator_options(config.data.source)[1]).m, config.model.n
    luck = 1 + 0.05 * config.seed  # of a table, to be cancelled
    weight = weight_in(config) * (counted(n, m) if config.model.head == "linear" else 1)
    return 100.0 + 20 * n, weight * luck


# --------------------------------------------------------------------------------------------------
# the plan


def test_the_arms_are_named_apart_and_share_their_tables() -> None:
    configs = plan(STUDY, "cpu")
    names = [arm_of(config) for config in configs]
    assert len(set(names)) == len(ARMS["cpu"]) == 13 and len(configs) == 39
    for config in configs:
        options = generator_options(config.data.source)[1]
        given = task(options)
        assert given.tables == config.seed and given.context == config.model.context
        steps = config.tokens / config.batch / config.model.context
        assert steps == 800 and given.count * 0.98 > config.batch * steps, "no block comes twice"
    assert {arm for asked in CONTRASTS for arm in asked.arms} <= set(names)


def test_every_path_to_the_next_token_has_three_layers_but_that_of_anticausal_heads() -> None:
    for config in plan(STUDY, "night"):
        m = config.model
        own = HEADS[m.head].layers(m.n)
        trunk = m.layers + m.extra_layers - own
        path = trunk + (own if m.head == "anticausal" else bool(own))  # head 1 is its chain's last
        assert path == (6 if m.head == "anticausal" else 3)


def test_night_has_the_arms_of_cpu_and_a_scale_for_each_task() -> None:
    assert set(ARMS["cpu"]) < set(NIGHT) and len(set(NIGHT)) == len(NIGHT)
    configs = plan(STUDY, "night")
    assert len({arm_of(config) for config in configs}) == len(NIGHT)
    tasks = {(arm.m, arm.gap) for arm in NIGHT if arm.n > 1 and arm.m}
    assert tasks == {(arm.m, arm.gap) for arm in NIGHT if arm.weight > 1}


# --------------------------------------------------------------------------------------------------
# counts


def test_the_papers_count_is_its_formula() -> None:
    for n in range(1, 10):
        assert counted(n, n - 1) == pytest.approx((n + 1) / 2) == counted(n, 50)
        assert counted(n, 0) == 1
    terms = dict[int, int]()  # of n=4 heads at places before the choice: it and its correlates
    for m in range(5):
        places = range(-4, 0)
        terms[m] = sum(0 <= place + i <= m for place in places for i in range(1, 5))
        assert counted(4, m) == terms[m] / 4
    assert terms[3] == 4 * 5 / 2


def test_the_informed_count_looks_from_the_question_on() -> None:
    for n, m, gap in ((4, 3, 0), (4, 3, 2), (8, 3, 1), (2, 7, 5), (8, 7, 8)):
        places = range(-min(n, gap + 1), 0)
        a = sum(0 <= place + i <= m for place in places for i in range(1, n + 1))
        assert informed(n, m, gap) == a / len(places)
    assert informed(4, 3, 8) == counted(4, 3), "with a long gap all n places know the question"


# --------------------------------------------------------------------------------------------------
# from rows to weights


def test_half_is_reached_between_two_steps() -> None:
    def of(*points: tuple[int, float]) -> float:
        return steps_to_half([step for step, _ in points], [HALF * share for _, share in points])

    assert of((10, 1.5), (20, 0.5), (30, 0.1)) == pytest.approx(15)
    assert of((20, 0.5), (10, 1.5)) == pytest.approx(15), "in whatever order"
    assert of((10, 0.0)) == pytest.approx(5), "from ln 16 at step 0"
    assert of((10, 0.9), (20, 1.2), (30, 0.1)) < 10, "the first time"
    assert math.isnan(of((10, 1.5), (20, 1.0)))


def test_a_scale_is_read_between_its_weights_and_ends_with_them() -> None:
    places, weights = [0.2, 0.6], [2.0, 8.0]
    assert read_off(0.0, places, weights) == 1
    assert read_off(0.1, places, weights) == pytest.approx(2**0.5)
    assert read_off(0.4, places, weights) == pytest.approx(4)
    assert read_off(5.0, places, weights) == pytest.approx(8)
    assert read_off(-0.4, places, weights) == pytest.approx(1 / 4)
    assert read_off(0.15, [0.2, 0.1, 0.6], [2.0, 3.0, 8.0]) < 2, "a scale that falls back is noise"


def test_the_measured_weight_is_the_one_that_was_made_up() -> None:
    found = measured(onsets(made_up(as_counted)))
    assert len(found) == 7 * 3
    for _, run in found.iterrows():
        wanted = run.counted if run["head"] == "linear" else 1.0
        assert run.measured == pytest.approx(wanted, rel=0.08), run.arm  # lines for a curve


def test_what_is_never_learned_has_no_weight() -> None:
    def slow(config: TrainConfig) -> tuple[float, float]:
        return (5000.0 if config.model.n == 8 else 100.0), 1.5

    found = measured(onsets(made_up(slow))).groupby("n").measured.count()
    assert found[8] == 0 and found[4] > 0
    assert "n=8 linear, m=3: not learned" in finding(made_up(slow))


def test_runs_without_a_scale_have_no_weight() -> None:
    rows = made_up(as_counted)
    table = onsets(rows[~rows.arm.str.contains("weight")])
    assert measured(table).measured.isna().all() and len(table) == 9 * 3


# --------------------------------------------------------------------------------------------------
# what is said


def test_the_finding_has_each_arms_weight_and_interval() -> None:
    text = finding(made_up(as_counted))
    assert text.startswith("Weight of choices with consequences (90% over 3 seeds). n=2 lin")
    assert "n=4 parallel +3 layers, m=3: 1.00 (1.00 to 1.00), counted 2.5" in text
    assert "one seed decides nothing" in finding(made_up(as_counted, seeds=1))

    def beyond(config: TrainConfig) -> tuple[float, float]:
        return 100.0, 20.0 if config.model.n > 1 else weight_in(config)

    assert "n=4 linear, m=3: at least 8.00, counted 2.5" in finding(made_up(beyond))


def test_seeds_that_are_left_out_and_bounds_are_said() -> None:
    nan = math.nan
    assert in_words([2.0, 2.0, nan], 8) == "2.00 (2.00 to 2.00) in 2 of 3 seeds"
    assert in_words([2.0, nan], 8) == "2.00 in 1 of 2 seeds" and in_words([nan], 8) == "not learned"
    assert in_words([4.0, 2.0, 8.0], 8) == "at least 4.00", "a mean with the end of the scale in it"
    low, high = (float(part) for part in in_words([2.0, 4.0], 8)[6:-1].split(" to "))
    assert low < 2 and high > 4 and low * high == pytest.approx(8, rel=0.1)


def as_informed(config: TrainConfig) -> tuple[float, float]:
    a, weight = as_counted(config)
    n, m = config.model.n, task(generator_options(config.data.source)[1]).m
    return a, weight * (informed(n, m, 0) / counted(n, m) if config.model.head == "linear" else 1)


def outcomes(rows: pd.DataFrame) -> dict[str, bool]:
    """The contrasts that came out as predicted; the others fail."""
    said = sentences(CONTRASTS, rows)
    assert all("as predicted" in line or line.endswith("which fails") for line in said)
    return {line.partition(",")[0]: "as predicted" in line for line in said}


def test_all_predictions_hold_if_the_informed_count_is_right() -> None:
    assert outcomes(made_up(as_informed)) == {asked.name: True for asked in CONTRASTS}


def test_three_predictions_fail_if_the_papers_count_is_right() -> None:
    failed = {name for name, holds in outcomes(made_up(as_counted)).items() if not holds}
    assert failed == {"paper's count", "informed count", "more heads"}


def test_the_figure_is_drawn_from_the_rows_alone() -> None:
    rows = made_up(as_counted)
    before = rows.copy()
    figure = STUDY.figure(rows, results.paper())
    figure.canvas.draw()
    assert rows.equals(before)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["Weight of A's choices", "Loss at choices, m=3", "Steps to half of the loss"]
    plt.close(figure)
