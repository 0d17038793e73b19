"""pass@k: the chance that at least one of k programs for a problem passes."""

import math


def pass_at_k(n: int, c: int, k: int) -> float:
    """Unbiased estimate from n programs of which c passed (Chen et al. 2021): the share of the
    subsets of k that have one which passed, 1 - C(n-c, k) / C(n, k). nan if n < k."""
    if not 0 <= c <= n or k < 1:
        raise ValueError(f"pass@{k} of {c} passed among {n}")
    if n < k:
        return math.nan
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
