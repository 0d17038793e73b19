"""Contrasts of a study: what they compute from rows, and what becomes of predictions."""

from typing import Literal

import pandas as pd
import pytest

from evals.statistics.contrast import Contrast
from experiments.contrasts import Asked, sentence, sentences

Predicted = Literal["larger", "smaller", "equal", "nothing"]


def rows(values: dict[str, list[float]], step: int = 10, metric: str = "loss") -> pd.DataFrame:
    """Rows of arms that have a value for each seed."""
    return pd.DataFrame(
        [
            {"run_id": f"{arm} {seed}", "arm": arm, "seed": seed, "metric": metric,
             "value": value, "step": step}
            for arm, own in values.items()
            for seed, value in enumerate(own)
        ]
    )  # fmt: skip


def asked(
    predicted: Predicted = "equal", margin: float = 0.1, arms: dict[str, float] | None = None
) -> Asked:
    return Asked("depth", "loss", arms or {"b": 1, "a": -1}, margin, predicted, "nats")


def test_a_contrast_is_a_sum_of_arms_within_each_seed() -> None:
    """Of the four arms of an interaction; seed 2 lacks one, and an older step does not count."""
    now = rows({"a": [1, 2, 3], "b": [2, 4, 6], "c": [1, 1, 1], "d": [0.5, 1.5]})
    old = rows({"a": [9, 9, 9], "b": [0, 0, 0]}, step=5)
    other = rows({"a": [7, 7, 7]}, metric="accuracy")
    interaction = asked(arms={"b": 1, "a": -1, "c": -1, "d": 1})
    found = interaction.of(pd.concat([old, now, other]))
    assert found and found.by_seed == {0: 2 - 1 - 1 + 0.5, 1: 4 - 2 - 1 + 1.5}
    assert interaction.formula == "(b) - (a) - (c) + (d)"
    assert asked(arms={"b": 0.5, "a": -1, "c": 0.5}).formula == "0.5 (b) - (a) + 0.5 (c)"


def test_arms_without_rows_give_no_contrast() -> None:
    assert asked().of(rows({"a": [1, 2]})) is None
    assert sentences([asked()], rows({"a": [1, 2]})) == ["depth: no seed has its arms"]
    apart = pd.concat([rows({"a": [1.0]}), rows({"b": [2.0]}).assign(seed=1)])
    assert asked().of(apart) is None


def test_values_that_were_not_measured_are_left_out() -> None:
    found = asked().of(rows({"a": [1, 2, 3], "b": [2, float("nan"), 5]}))
    assert found and found.by_seed == {0: 1, 2: 2}


def test_coefficients_must_add_up_to_nothing() -> None:
    with pytest.raises(ValueError, match="contrast depth: coefficients add up to 0"):
        asked(arms={"b": 1, "a": -2})


@pytest.mark.parametrize(
    ("differences", "equal", "larger", "smaller"),
    [
        ([0.30, 0.31, 0.32], "fails", "holds", "fails"),  # beyond the margin
        ([-0.30, -0.31, -0.32], "fails", "fails", "holds"),
        ([0.01, -0.01, 0.0], "holds", "fails", "fails"),  # within it
        ([0.03, 0.04, 0.05], "holds", "fails", "fails"),  # above 0, but it does not matter
        ([0.05, 0.10, 0.15], "open", "open", "fails"),  # above 0, by how much is open
        ([-0.5, 0.0, 0.5], "open", "open", "open"),  # anything
        ([0.3], "open", "open", "open"),  # one seed decides nothing
    ],
)
def test_predictions_hold_fail_or_stay_open(
    differences: list[float], equal: str, larger: str, smaller: str
) -> None:
    found = Contrast(dict(enumerate(differences)), 0.1)
    outcomes = (asked("equal"), asked("larger"), asked("smaller"))
    assert [each.outcome(found) for each in outcomes] == [equal, larger, smaller]


@pytest.mark.parametrize(
    ("differences", "predicted", "text"),
    [
        (
            [0.30, 0.32],
            "larger",
            "depth, (b) - (a): +0.310 nats [+0.247, +0.373], larger by more than 0.1, as predicted",
        ),
        (
            [0.30, 0.32],
            "equal",
            "depth, (b) - (a): +0.310 nats [+0.247, +0.373], larger by more than 0.1; predicted: "
            "equal within 0.1, which fails",
        ),
        (
            [-0.5, 0.5],
            "smaller",
            "depth, (b) - (a): +0.000 nats [-3.157, +3.157], undecided with 2 seeds (about 543 "
            "needed); predicted: smaller by more than 0.1",
        ),
        (
            [0.3],
            "larger",
            "depth, (b) - (a): +0.300 nats, undecided with 1 seed; predicted: larger by more than "
            "0.1",
        ),
        (
            [0.30, 0.32],
            "nothing",
            "depth, (b) - (a): +0.310 nats [+0.247, +0.373], larger by more than 0.1; asked after "
            "the run",
        ),
    ],
)
def test_sentences(differences: list[float], predicted: Predicted, text: str) -> None:
    own = asked(predicted)
    found = own.of(rows({"a": [1.0] * len(differences), "b": [1 + d for d in differences]}))
    assert found and sentence(own, found) == text
