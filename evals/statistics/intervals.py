"""Confidence intervals."""

import math
import random
from collections.abc import Sequence

Z90 = 1.6448536269514722  # the normal distribution has 90% within so many standard deviations


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
