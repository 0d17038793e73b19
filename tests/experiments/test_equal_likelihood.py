"""Contrasts at equal likelihood: read off curves that are known."""

import pandas as pd
import pytest

from experiments.contrasts import sentences
from experiments.equal_likelihood import AskedAtEqualLikelihood, curves
from experiments.evaluations import PROGRESS_BITS

STEPS = range(10, 101, 10)
ASKED = AskedAtEqualLikelihood("equal", "share", {"slow": 1, "fast": -1}, 2, "equal", "points")


def rows(*arms: tuple[str, int, float, float]) -> pd.DataFrame:
    """Of arms (name, seed, rate, more): bits fall as fast as the rate says, and the share is 100
    less 20 per bit, and so much more."""
    made = []
    for arm, seed, rate, more in arms:
        for step in STEPS:
            bits = 4 - rate * step / 100
            for metric, value in ((PROGRESS_BITS, bits), ("share", 100 - 20 * bits + more)):
                made.append(
                    {"run_id": f"{arm} {seed}", "arm": arm, "seed": seed, "metric": metric,
                     "step": step, "value": value}
                )  # fmt: skip
    return pd.DataFrame(made)


def test_curves_have_a_row_per_kept_step() -> None:
    table = curves(rows(("fast", 0, 2, 0), ("slow", 0, 1, 5)), "share")
    assert len(table) == 20 and set(table.step) == set(STEPS)
    assert (table.value - (100 - 20 * table.bits) - 5 * (table.arm == "slow")).abs().max() < 1e-9
    assert curves(rows(("fast", 0, 2, 0)), "another").empty


def test_an_arm_that_is_only_slower_does_not_differ() -> None:
    found = ASKED.of(
        rows(("fast", 0, 2, 0), ("slow", 0, 1, 0), ("fast", 1, 2, 7), ("slow", 1, 1, 9))
    )
    assert found and found.by_seed == pytest.approx({0: 0, 1: 2})


def test_only_the_second_half_of_the_arm_counts() -> None:
    table = rows(("fast", 0, 2, 0), ("slow", 0, 1, 0))
    early = (table.arm == "slow") & (table.step <= 50) & (table.metric == "share")
    late = (table.arm == "slow") & (table.step == 100) & (table.metric == "share")
    table.loc[early, "value"] += 50
    table.loc[late, "value"] += 5  # one of five steps
    found = ASKED.of(table)
    assert found and found.by_seed == pytest.approx({0: 1})


def test_likelihoods_that_the_baseline_never_had_are_left_out() -> None:
    ahead = rows(("fast", 0, 1, 0), ("slow", 0, 1.5, 3))  # 3.1 to 3 bits are in common, at step 60
    found = ASKED.of(ahead)
    assert found and found.by_seed == pytest.approx({0: 3})
    assert ASKED.of(rows(("fast", 0, 1, 0), ("slow", 0, 3, 0))) is None
    some = pd.concat([ahead, rows(("fast", 1, 1, 0), ("slow", 1, 3, 0))])
    assert (found := ASKED.of(some)) and list(found.by_seed) == [0]


def test_arms_without_rows_give_no_contrast() -> None:
    one = rows(("slow", 0, 1, 0))
    assert ASKED.of(one) is None and ASKED.of(one[one.metric == "share"]) is None
    assert sentences([ASKED], one) == ["equal: no seed has its arms"]


def test_it_is_of_two_arms() -> None:
    other = AskedAtEqualLikelihood("x", "share", {"a": 1, "b": -0.5, "c": -0.5}, 2, "equal", "p")
    with pytest.raises(ValueError):
        other.of(rows(("a", 0, 1, 0)))
    with pytest.raises(ValueError, match="one arm minus another"):
        AskedAtEqualLikelihood("x", "share", {"a": -1, "b": 1}, 2, "equal", "p").of(rows())
