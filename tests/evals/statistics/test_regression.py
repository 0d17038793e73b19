"""Slopes: those of the textbook, and intervals that cover the truth where rows are alike."""

from math import sqrt

import numpy as np
import pytest

from evals.statistics import bootstrap
from evals.statistics.regression import slope

TRUTH = 0.3


def documents(
    rng: np.random.Generator, count: int, alike: float, lengths: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """y, x, the document of each row, and a control that is as high where x is high. Errors and x
    deviate by `alike` over documents and by 1 within; so does the logarithm of their lengths, by
    `lengths`."""
    size = np.maximum(2, 20 * rng.lognormal(0, lengths, count)).astype(int)
    of = np.repeat(np.arange(count), size)
    x = alike * rng.normal(size=count)[of] + rng.normal(size=len(of))
    control = rng.normal(size=len(of)) + 0.5 * x
    error = alike * rng.normal(size=count)[of] + rng.normal(size=len(of))
    return TRUTH * x + 0.8 * control + error, x, of, control[:, None]


@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize(("alike", "lengths"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.8)])
def test_nine_in_ten_intervals_cover_the_slope(
    count: int, alike: float, lengths: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "TIMES", 400)
    rng, times = np.random.default_rng(count), 200
    found = [slope(*documents(rng, count, alike, lengths)) for _ in range(times)]
    covered = np.mean([low <= TRUTH <= high for _, low, high in found])
    noise = 3 * sqrt(0.09 / times)  # 6 points
    assert 0.88 - noise < covered < 0.93 + noise


def test_rows_taken_as_independent_would_cover_less() -> None:
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        y, x, _, control = documents(rng, 30, 1.0, 0.0)
        design = np.column_stack([x, control, np.ones(len(y))])
        fit, (rest,) = np.linalg.lstsq(design, y, rcond=None)[:2]
        error = sqrt(rest / (len(y) - 3) * np.linalg.inv(design.T @ design)[0, 0])
        covered += abs(fit[0] - TRUTH) < 1.645 * error
    assert covered < 70


def test_the_slope_is_that_of_least_squares() -> None:
    y, x, of, control = documents(np.random.default_rng(1), 12, 0.5, 0.5)
    alone = np.cov(x, y)[0, 1] / np.var(x, ddof=1)
    assert slope(y, x, of).value == pytest.approx(alone)
    design = np.column_stack([x, control, np.ones(len(y))])
    found = slope(y, x, of, control)
    assert found.value == pytest.approx(np.linalg.lstsq(design, y, rcond=None)[0][0])
    assert found.low < found.value < found.high
    assert found == slope(y, x, of, control)  # each time the same
    # Neither names of documents, the order of rows nor units matter.
    names = np.array([f"{d:03}" for d in of])
    mixed = np.random.default_rng(2).permutation(len(y))
    again = slope(y[mixed], x[mixed], names[mixed], control[mixed])
    assert again == pytest.approx(found)
    scaled = slope(1e6 * y + 1e3, 1e-3 * x - 5, of, 1e5 * control)
    assert np.array(scaled) == pytest.approx(1e9 * np.array(found), rel=1e-5)


def test_controls_may_depend_on_each_other_and_be_of_one_document() -> None:
    y, x, of, control = documents(np.random.default_rng(3), 12, 0.5, 0.0)
    classes = np.eye(4)[np.random.default_rng(4).integers(0, 3, len(y))]
    classes[of == 0] = np.eye(4)[3]
    some = slope(y, x, of, np.column_stack([control, classes[:, 1:]]))
    every = slope(y, x, of, np.column_stack([control, classes, 2 * control, 0.1 + 0 * x]))
    assert every == pytest.approx(some, rel=1e-6)
    # A class of its own for one document leaves the others' slope, and nearly their interval.
    rest = of > 0
    others = slope(y[rest], x[rest], of[rest], np.column_stack([control, classes[:, 1:3]])[rest])
    assert some.value == pytest.approx(others.value, abs=0.1)
    assert some.high - some.low == pytest.approx(others.high - others.low, rel=0.5)


def test_an_exact_line_has_no_interval() -> None:
    x, of = np.arange(12.0), np.repeat([0, 1, 2], 4)
    assert slope(3 * x - 1, x, of) == pytest.approx((3, 3, 3))


def test_unusable_input_is_refused() -> None:
    x, of = np.arange(6.0), np.array([0, 0, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="constant or follows from the controls"):
        slope(x, np.full(6, 0.1), of)
    with pytest.raises(ValueError, match="constant or follows from the controls"):
        slope(x, x, of, (3 * x + 1)[:, None])
    with pytest.raises(ValueError, match="two or more"):
        slope(x, x, np.zeros(6, int))
    with pytest.raises(ValueError, match="must be numbers"):
        slope(np.array([*x[:-1], np.nan]), x, of)
    for args in ((x[:5], x, of), (x, x, of[:5]), (x, x, of, x), (x, x, of, x[:5, None])):
        with pytest.raises(ValueError, match="not \\(N,\\)"):
            slope(*args)
