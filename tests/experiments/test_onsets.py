"""Onsets from rows, and contrasts of their logarithms when some runs end without one."""

import itertools
import math
from collections.abc import Mapping

import pandas as pd
import pytest

from evals.statistics.onset import Onset
from experiments.contrasts import sentence
from experiments.onsets import AskedOfOnsets, Bounded, Curve, bounded, compared, onsets, sign_test

CURVE = Curve("right", 70.0)
FALLS = Curve("nats", 0.5, falling=True)


def rows_of(runs: Mapping[tuple[str, int], list[float]], metric: str = "right") -> pd.DataFrame:
    """(arm, seed) -> values at steps 10, 20, .."""
    made = [
        {"run_id": f"{arm} {seed}", "arm": arm, "seed": seed, "n": 1, "size": "0.2M",
         "metric": metric, "step": 10 * (i + 1), "value": value}
        for (arm, seed), values in runs.items()
        for i, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(made).sample(frac=1, random_state=0)  # in any order


def table(times: Mapping[str, list[float]], end: float = 1000) -> pd.DataFrame:
    """arm -> its seeds' onsets, inf without one."""
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "time": min(time, end), "seen": time <= end}
        for arm, own in times.items()
        for seed, time in enumerate(own)
    )


def test_onsets_of_rising_and_of_falling_curves() -> None:
    runs = {("a", 0): [10.0, 80, 20, 70, 90], ("a", 1): [10.0, 20, 30, 40, 99], ("b", 0): [99.0]}
    found = onsets(rows_of(runs), CURVE).sort_values("seed")
    assert found[["arm", "seed", "time", "seen"]].values.tolist() == [
        ["a", 0, 40.0, True], ["a", 1, 50.0, False],
    ]  # fmt: skip
    falls = rows_of({("a", 0): [2.0, 0.5, 0.4, 2.0]}, "nats")
    assert onsets(falls, FALLS).time.tolist() == [20.0]
    assert onsets(falls, CURVE).empty and "time" in onsets(falls, CURVE)


def test_a_contrast_without_censored_runs_is_one_of_logarithms() -> None:
    found = bounded(table({"a": [200, 400, 800], "b": [100, 100, 100]}), {"a": 1, "b": -1}, 0.2)
    assert found and found.by_seed == pytest.approx({0: 1.0, 1: 2.0, 2: 3.0})
    assert found.verdict == "larger by more than 0.2" and found.seeds_needed


def test_censored_runs_are_bounds() -> None:
    late = {"a": [800, math.inf, math.inf], "b": [100, 100, math.inf]}
    found = bounded(table(late), {"a": 1, "b": -1}, 0.2)
    assert found and (found.at_least, found.at_most, found.left_out) == (1, 0, 1)
    assert found.by_seed == pytest.approx({0: 3.0, 1: math.log2(10)})
    turned = bounded(table(late), {"b": 1, "a": -1}, 0.2)
    assert turned and (turned.at_least, turned.at_most) == (0, 1)
    assert "(1 of 2 differences are bounds, 1 seed left out)" in found.verdict
    assert found.verdict.startswith("undecided") and found.seeds_needed is None


def test_bounds_decide_by_the_signs_of_five_seeds() -> None:
    times = {"a": [math.inf] * 2 + [800.0] * 3, "b": [100.0] * 5}
    found = bounded(table(times), {"a": 1, "b": -1}, 0.2)
    assert found and found.verdict.startswith("larger by more than 0.2 (2 of 5")
    four = bounded(table({arm: own[:4] for arm, own in times.items()}), {"a": 1, "b": -1}, 0.2)
    assert four and four.verdict.startswith("undecided")
    early = {"a": [100.0] * 5, "b": [math.inf] * 2 + [800.0] * 3}
    assert bounded(table(early), {"a": 1, "b": -1}, 0.2).verdict.startswith("smaller by")  # type: ignore[union-attr]


def test_bounds_on_the_wrong_side_or_near_zero_decide_nothing() -> None:
    values = {seed: 1.0 for seed in range(8)}
    assert Bounded(values, 0.2, at_least=2).sign == 1
    assert Bounded(values, 0.2, at_most=2).sign == 0, "they may be below 0"
    near = Bounded({seed: 0.01 for seed in range(8)}, 0.2, at_least=1)
    assert near.sign == 1 and not near.within_margin and not near.beyond_margin
    assert Bounded({seed: 0.01 * (-1) ** seed for seed in range(8)}, 0.2).within_margin


def test_an_interaction_leaves_out_seeds_censored_on_both_sides() -> None:
    arms = {"a": 1.0, "b": -1.0, "c": -1.0, "d": 1.0}
    times = {"a": [400, math.inf], "b": [100, 100], "c": [100, math.inf], "d": [200, 100]}
    found = bounded(table(times), arms, 0.2)
    assert found and found.by_seed == pytest.approx({0: 3.0}) and found.left_out == 1
    missing = table(times)
    assert bounded(missing[missing.arm != "d"], arms, 0.2) is None


def test_a_seed_with_a_missing_run_is_left_out() -> None:
    own = table({"a": [400, 400], "b": [100, 100]})
    found = bounded(own[~((own.arm == "b") & (own.seed == 1))], {"a": 1, "b": -1}, 0.2)
    assert found and list(found.by_seed) == [0] and found.left_out == 0


def test_several_curves_of_one_arm_are_compared() -> None:
    curves = (Curve("right", 70.0, what=": names"), Curve("score", 0.5, what=": head"))
    arms = {"a: head": 1.0, "a: names": -1.0}
    asked = AskedOfOnsets(
        "together", "log2 of the onset", arms, 0.25, "equal", "log2 steps", curves
    )
    names = rows_of({("a", seed): [0.0, 0, 80, 80] for seed in range(3)})
    heads = rows_of({("a", seed): [0.0, 0.6, 0.6, 0.6] for seed in range(3)}, "score")
    found = asked.of(pd.concat([names, heads]))
    assert found and found.by_seed == pytest.approx({seed: math.log2(20 / 30) for seed in range(3)})
    text = sentence(asked, found)
    assert text.startswith("together, (a: head) - (a: names): -0.585 log2 steps")
    assert "fails" in text and asked.of(names) is None


@pytest.mark.parametrize("count", [1, 3, 5, 8])
def test_the_sign_test_counts_all_signs(count: int) -> None:
    every = list(itertools.product((0, 1), repeat=count))
    for right in range(count + 1):
        tail = sum(sum(signs) >= right for signs in every) / len(every)
        assert sign_test(right, count) == (min(1, 2 * tail) if 2 * right > count else 1)


def test_two_arms_in_words() -> None:
    early, late = [Onset(100, True)] * 3, [Onset(900, True), *[Onset(1000, False)] * 2]
    assert compared(late, early, "steps") == (
        "later, median none against 100 steps, log-rank p = 0.1, 1 of 3 seeds against 3 of 3 by "
        "1000"
    )
