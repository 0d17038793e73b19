"""A shuffled order of any length without a table of it.

A Feistel network permutes the numbers of 2 x `half` bits: each round replaces (left, right) by
(right, left ^ hash(right, key of the round)), which can be undone whatever the hash is. A number
that leaves 0 .. size - 1 is permuted again until it is back ("cycle walking"), so that what is left
is a permutation of exactly these. One place costs a few operations on integers, whatever the size.
"""

import numpy as np

ROUNDS = 6
LEAST_BITS = 4  # of a half: narrower ones can reach few of the permutations


def shuffled(places: np.ndarray, size: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers (int64) at these places of a shuffled 0 .. size - 1, an order for each seed and
    epoch, the same in every version of numpy."""
    half = max(LEAST_BITS, (int(size - 1).bit_length() + 1) // 2)
    keys = np.random.PCG64([seed, epoch]).random_raw(ROUNDS)
    found = places.astype(np.uint64)
    outside = np.ones(len(found), dtype=bool)
    while outside.any():
        found[outside] = _permute(found[outside], half, keys)
        outside = found >= size
    return found.astype(np.int64)


def _permute(numbers: np.ndarray, half: int, keys: np.ndarray) -> np.ndarray:
    mask = np.uint64(2**half - 1)
    left, right = numbers >> np.uint64(half), numbers & mask
    for key in keys:
        left, right = right, left ^ (_hash(right ^ key) & mask)
    return (left << np.uint64(half)) | right


def _hash(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64: each bit of x changes half of the result's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
