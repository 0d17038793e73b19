"""Confidence intervals."""

import math

Z90 = 1.6448536269514722  # the normal distribution has 90% within so many standard deviations


def wilson(share: float, count: int, z: float = Z90) -> tuple[float, float]:
    """Wilson's interval for a probability of which `share` of `count` trials were seen; (0, 1)
    without a trial."""
    if count == 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    inside = share * (1 - share) / count + (z / (2 * count)) ** 2
    half = z / (1 + z * z / count) * math.sqrt(inside)
    return max(0.0, middle - half), min(1.0, middle + half)
