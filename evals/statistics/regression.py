"""Least squares where rows of a document (or seed) are not independent.

The tokens of one document resemble each other, so 100,000 tokens of 100 documents are worth far
fewer independent ones. Whole documents are weighted at random (the cluster bootstrap; Cameron,
Gelbach and Miller 2008, Bootstrap-based improvements for inference with clustered errors), as in
`bootstrap.py`.
"""

import numpy as np

from evals.statistics.bootstrap import deviations, weights
from evals.statistics.intervals import Estimate


def slope(
    y: np.ndarray, x: np.ndarray, cluster: np.ndarray, controls: np.ndarray | None = None
) -> Estimate:
    """By how much y is higher where x is higher by 1 and the controls are the same, and its 90%
    interval, in units of y per unit of x. The regression has an intercept.

    y, x      (N,)
    cluster   (N,): the document of each row, any labels; two or more documents
    controls  (N, C): numbers, or 0 and 1 for classes. They may depend on each other, so all classes
              may be given

    The interval is of the slope in all documents that there might be. It covers the truth in 87 to
    94% of simulations with 10 to 100 documents, of equal lengths and of lengths whose logarithm
    deviates by 0.8, with errors and regressors that are alike within documents or not. Of several
    seeds, take a slope each and compare these over seeds. Raises ValueError if x is constant or
    follows from the controls.
    """
    y, design, unit = _checked(y, x, cluster, controls)
    labels, rows = np.unique(cluster, return_inverse=True)
    width = design.shape[1]
    # Each document's own cross products. Weighted sums of these are all that a draw needs.
    squares = np.empty((len(labels), width, width))
    products = np.empty((len(labels), width))
    for i in range(width):
        products[:, i] = np.bincount(rows, design[:, i] * y)
        for j in range(i + 1):
            squares[:, i, j] = squares[:, j, i] = np.bincount(rows, design[:, i] * design[:, j])
    value = _first(squares.sum(0), products.sum(0))
    # Without a document a class may be gone, so not all coefficients have a value; x's does.
    less = np.linalg.pinv(squares.sum(0) - squares, rcond=1e-10, hermitian=True)
    without = np.einsum("gw,gw->g", less[:, 0], products.sum(0) - products)
    drawn = np.concatenate(
        [_first(np.tensordot(part, squares, 1), part @ products) for part in weights(len(labels))]
    )  # (R,)
    apart = np.quantile(deviations(drawn, value, without), (0.05, 0.95))
    return Estimate(*(float(v) for v in np.array([value, *(value + apart)]) / unit))


def _checked(
    y: np.ndarray, x: np.ndarray, cluster: np.ndarray, controls: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, float]:
    """y, the design (N, 1 + Q) and the unit of its first column in x's: x without what the controls
    say of it, then an orthonormal base of the controls and the intercept, so that dependent
    controls do no harm."""
    y, x = np.asarray(y, float), np.asarray(x, float)
    beside = np.empty((len(y), 0)) if controls is None else np.asarray(controls, float)
    if not (y.shape == x.shape == cluster.shape == beside.shape[:1]) or beside.ndim != 2:
        shapes = ", ".join(str(a.shape) for a in (y, x, cluster, beside))
        raise ValueError(f"y, x, clusters and controls are {shapes}, not (N,), (N,), (N,), (N, C)")
    if not all(np.isfinite(a).all() for a in (y, x, beside)):
        raise ValueError("y, x and controls must be numbers; some are not")
    if len(np.unique(cluster)) < 2:
        raise ValueError("an interval over documents needs two or more")
    centred = beside - beside.mean(0)
    scale = np.sqrt((centred**2).mean(0))
    varies = scale > 1e-9 * np.abs(beside).max(0)  # but for rounding
    centred = centred[:, varies] / scale[varies]
    base, size, _ = np.linalg.svd(centred, full_matrices=False)
    base = base[:, size > 1e-9 * size.max(initial=0)]
    base = np.column_stack([np.full(len(y), len(y) ** -0.5), base])
    own = x - x.mean()
    rest = own - base @ (base.T @ own)
    unit = float(np.linalg.norm(rest))
    if not unit > 1e-9 * np.linalg.norm(x):
        raise ValueError("x is constant or follows from the controls, so it has no slope")
    return y - y.mean(), np.column_stack([rest / unit, base]), unit


def _first(squares: np.ndarray, products: np.ndarray) -> np.ndarray:
    """The first coefficient of each draw, from (R, W, W) and (R, W)."""
    return np.linalg.solve(squares, products[..., None])[..., 0, 0]
