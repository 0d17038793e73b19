"""pass@k over temperatures: the oracle looks at the answer, cross-validation does not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evals.statistics import pass_at_k

tables = st.tuples(st.integers(1, 4), st.integers(1, 30)).flatmap(
    lambda shape: arrays(float, shape, elements=st.floats(0, 1, width=16))
)


def value_of(choice: pass_at_k.Choice, table: np.ndarray) -> float:
    """The mean over all problems, each weighing the same."""
    return float(choice(table, np.ones((1, table.shape[1]))).mean())


def held(table: np.ndarray) -> np.ndarray:
    """Each problem's score where its temperature was chosen without it."""
    return pass_at_k.cross_validated(table, np.ones((1, table.shape[1])))[0]


def unseen(problems: int) -> float:
    """The share of problems that may all have been missed: with as many as this, one of 20 sets of
    so many problems has none."""
    return 1 - 0.05 ** (1 / problems)


@settings(max_examples=50, deadline=None)
@given(tables)
def test_no_choice_beats_the_oracle_and_each_lies_in_its_range(table: np.ndarray) -> None:
    means = table.mean(1)
    assert value_of(pass_at_k.oracle, table) == pytest.approx(means.max())
    for choice in (pass_at_k.oracle, pass_at_k.cross_validated):
        value, low, high = pass_at_k.estimate(table, choice)
        assert 0 <= low <= high <= 1
        missed = unseen(table.shape[1]) + 0.02
        assert table.min() - missed <= low and high <= table.max() + missed
        assert table.min(0).mean() - 1e-9 <= value <= table.max(0).mean() + 1e-9


def test_one_temperature_leaves_nothing_to_choose() -> None:
    table = np.random.default_rng(0).random((1, 40))
    found = [pass_at_k.estimate(table, c) for c in (pass_at_k.mean, *pass_at_k.CHOICES.values())]
    assert found[0] == found[1] == found[2]


def test_on_noise_the_oracle_is_too_high_and_cross_validation_is_not() -> None:
    rng = np.random.default_rng(1)
    gains: dict[str, list[float]] = {name: [] for name in pass_at_k.CHOICES}
    for _ in range(200):
        table = (rng.random((4, 50)) < 0.3).astype(float)
        for name, choice in pass_at_k.CHOICES.items():
            gains[name].append(value_of(choice, table) - 0.3)
    error = 0.3 * 0.7 / 50  # variance of a mean
    assert np.mean(gains["oracle"]) > 0.04
    assert abs(np.mean(gains["cross-validated"])) < 4 * (error / 200) ** 0.5


def test_no_problem_has_a_say_in_its_own_temperature() -> None:
    rng = np.random.default_rng(2)
    table = rng.random((3, 20))
    chosen = held(table)
    for problem in range(20):
        changed = table.copy()
        changed[:, problem] += 100 * np.arange(3)
        at = np.flatnonzero(table[:, problem] == chosen[problem])
        assert held(changed)[problem] == changed[at[0], problem]


def test_a_clearly_better_temperature_is_chosen() -> None:
    table = np.stack([np.zeros(10), np.ones(10)])
    assert value_of(pass_at_k.cross_validated, table) == 1


def test_intervals_cover() -> None:
    rng, covered = np.random.default_rng(3), 0
    for _ in range(200):
        value = pass_at_k.estimate((rng.random((1, 60)) < 0.5).astype(float), pass_at_k.mean)
        covered += value.low <= 0.5 <= value.high
    assert 0.83 < covered / 200 < 0.97


def test_intervals_of_a_temperature_chosen_from_equal_ones_cover() -> None:
    """The choice is part of what is drawn anew."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(60):
        table = (rng.random((4, 164)) < 0.3).astype(float)
        value = pass_at_k.estimate(table, pass_at_k.cross_validated)
        covered += value.low <= 0.3 <= value.high
    assert covered >= 54


def test_a_draws_choice_is_that_of_its_weights_written_out() -> None:
    rng = np.random.default_rng(6)
    table, weights = rng.random((3, 23)), rng.integers(4, size=(5, 23)).astype(float)
    part = np.random.default_rng(0).permutation(23) % pass_at_k.FOLDS
    best = pass_at_k.oracle(table, weights)
    found = pass_at_k.cross_validated(table, weights)
    for draw, own in enumerate(weights):
        drawn = np.repeat(np.arange(23), own.astype(int))
        assert (best[draw] == table[table[:, drawn].mean(1).argmax()]).all()
        for problem in range(23):
            others = drawn[part[drawn] != part[problem]]
            assert found[draw, problem] == table[table[:, others].mean(1).argmax(), problem]


def test_a_group_is_scored_at_the_temperature_all_choose() -> None:
    rng = np.random.default_rng(7)
    table, inside = rng.random((3, 40)), np.arange(40) < 8
    part = pass_at_k.estimate(table, pass_at_k.cross_validated, inside)
    chosen = held(table)
    assert part.value == pytest.approx(chosen[inside].mean()) and part.low < part.value < part.high
    one = pass_at_k.estimate(table, pass_at_k.cross_validated, np.arange(40) == 3)
    assert 0 <= one.low <= chosen[3] <= one.high <= 1 and one.high - one.low > 0.9


def test_a_groups_interval_is_that_of_its_problems_alone() -> None:
    """Where there is nothing to choose; up to the draws, which are others."""
    table = np.random.default_rng(8).random((1, 60))
    inside = np.arange(60) % 2 == 0
    group = pass_at_k.estimate(table, pass_at_k.cross_validated, inside)
    assert group == pytest.approx(pass_at_k.estimate(table[:, inside], pass_at_k.mean), abs=0.01)


@pytest.mark.parametrize("choice", [pass_at_k.mean, *pass_at_k.CHOICES.values()])
def test_nothing_solved_is_no_proof_of_zero(choice: pass_at_k.Choice) -> None:
    none, every = np.zeros((2, 30)), np.ones((2, 30))
    missed = pytest.approx(unseen(30), rel=0.02)
    value, low, high = pass_at_k.estimate(none, choice)
    assert value == low == 0 and high == missed
    value, low, high = pass_at_k.estimate(every, choice)
    assert value == high == pytest.approx(1) and 1 - low == missed
    for ours, theirs, value in ((none, none, 0), (every, none, 1), (none, every, -1)):
        found = pass_at_k.difference(ours, theirs, choice)
        assert found.value == value and -1 <= found.low <= value <= found.high <= 1
        assert 0.05 < found.high - found.low < 0.2


def test_differences_are_paired() -> None:
    """Two models, one better by a tenth on every problem: certain, however different those are. The
    same scores of problems that do not belong together prove nothing."""
    rng = np.random.default_rng(4)
    table = rng.random((2, 300)) * 0.8
    better = table + 0.1 + 0.001 * rng.random(300)
    value, low, high = pass_at_k.difference(better, table, pass_at_k.oracle)
    missed = unseen(300) * 1.1 + 0.002
    assert 0.1 - missed < low < value < high < 0.1 + missed
    mixed = rng.permuted(better, axis=1)
    apart = pass_at_k.difference(mixed, table, pass_at_k.mean)
    assert apart.high - apart.low > 3 * (high - low)
    with pytest.raises(ValueError, match="not paired"):
        pass_at_k.difference(table, table[:, 1:], pass_at_k.mean)


def test_table_is_pass_at_k() -> None:
    passed = [[(10, 3), (10, 0)], [(10, 10), (10, 1)]]
    table = pass_at_k.table(passed, 5)
    assert table.shape == (2, 2)
    assert table[0, 0] == pass_at_k.pass_at_k(10, 3, 5) and table[1, 0] == 1 and table[0, 1] == 0
    assert np.isnan(pass_at_k.table(passed, 100)).all()
