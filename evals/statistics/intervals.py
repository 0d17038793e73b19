"""Confidence intervals."""

import math
import random
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

Z90 = 1.6448536269514722  # the normal distribution has 90% within so many standard deviations


class Estimate(NamedTuple):
    """A value and its 90% interval, all in the value's unit."""

    value: float
    low: float
    high: float


def wilson(share: float, count: int, z: float = Z90) -> tuple[float, float]:
    """Wilson's interval for a probability, after a `share` of `count` trials succeeded; (0, 1)
    without a trial."""
    if count == 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    inside = share * (1 - share) / count + (z / (2 * count)) ** 2
    half = z / (1 + z * z / count) * math.sqrt(inside)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(groups: Sequence[Sequence[bool]], times: int = 1000) -> tuple[float, float]:
    """90% interval for the share that is true if the items of a group (the questions on one story)
    are not independent: groups are drawn anew, with replacement. (0, 1) without groups."""
    counts = [(sum(group), len(group)) for group in groups if group]
    if not counts:
        return 0.0, 1.0
    draw, shares = random.Random(0), []
    for _ in range(times):
        right, asked = map(sum, zip(*draw.choices(counts, k=len(counts)), strict=True))
        shares.append(right / asked)
    shares.sort()
    return shares[round(0.05 * (times - 1))], shares[round(0.95 * (times - 1))]


# Student's t for a two-sided 90% interval, by degrees of freedom; beyond ten, the first
# terms of its expansion about the normal's are right to 0.001.
T90 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)


def t90(free: int) -> float:
    """Student's t with `free` >= 1 degrees of freedom has 90% between minus and plus this."""
    if free < 1:
        raise ValueError(f"Student's t has 1 degree of freedom or more, not {free}")
    return T90[free - 1] if free <= len(T90) else Z90 + 1.524 / free + 1.420 / free**2


def student(values: Sequence[float]) -> tuple[float, float] | None:
    """The 90% interval of the mean of independent, about normal values, seeds' say; None of fewer
    than two, which have no spread."""
    if len(values) < 2:
        return None
    mean = fmean(values)
    half = t90(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half
