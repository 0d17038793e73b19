"""What rows say: differences within seeds, and what their spread decides."""

import math
import statistics

import pandas as pd
import pytest

from evals.statistics.intervals import student
from experiments.findings import against, differences, mean_and_range


def rows(**arms: list[float]) -> pd.DataFrame:
    """A value for each arm and seed."""
    return pd.DataFrame(
        [
            {"arm": a, "seed": s, "value": v}
            for a, values in arms.items()
            for s, v in enumerate(values)
        ]
    )


def test_students_interval_is_that_of_the_tables() -> None:
    # 2.920 and 1.796 are the 95% quantiles of Student's t with 2 and 11 degrees of freedom.
    for count, t in ((3, 2.920), (12, 1.796)):
        values = [math.sin(i) for i in range(count)]
        half = t * statistics.stdev(values) / math.sqrt(count)
        found = student(values)
        assert found is not None
        expected = statistics.fmean(values) - half, statistics.fmean(values) + half
        assert found == pytest.approx(expected, rel=2e-3)
    assert student([1.0]) is None and student([]) is None


def test_an_arm_is_compared_within_seeds() -> None:
    # The seeds differ by ten, the arms within a seed by 1 and 1.1.
    found = differences(rows(one=[0, 10, 20], two=[1, 11.1, 21]), "arm", "one")
    assert [d.arm for d in found] == ["two"]
    assert found[0].by_seed == pytest.approx([1, 1.1, 1]) and found[0].decided
    assert differences(rows(two=[1, 2]), "arm", "one") == []


def test_the_sentence_names_what_is_better_worse_and_undecided() -> None:
    table = rows(one=[2.0, 2.1], two=[2.5, 2.6], three=[1.0, 1.1], four=[1.9, 2.3])
    text = against(table, "arm", "one", "Loss", lower=True, digits=2)
    assert text == (
        "Loss (lower is better): one has 2.05; better: three by 1.00; worse: two by 0.50; "
        "undecided: four (-0.10 to +0.20 by seed). 90% intervals over 2 seeds."
    )
    assert "better: two by 0.50; worse: three" in against(table, "arm", "one", "x", False, 2)


def test_one_seed_decides_nothing() -> None:
    text = against(rows(one=[2.0], two=[3.0]), "arm", "one", "Loss", lower=True, digits=1)
    assert (
        text
        == "Loss (lower is better): one has 2.0; undecided: two (+1.0). One seed decides nothing."
    )
    assert "nothing to compare" in against(rows(one=[2.0]), "arm", "one", "Loss", lower=True)


def test_a_spread_is_the_mean_and_the_range_of_seeds() -> None:
    assert mean_and_range(pd.Series([1.0, 2.0])) == "1.50 (1.00 to 2.00)"
    assert mean_and_range(pd.Series([1.0])) == "1.00"
    assert mean_and_range(pd.Series([float("nan")])) == "not measured"
