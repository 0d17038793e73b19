"""Whether vectors that a term predicts have become alike."""

import torch
from torch import Tensor

ROWS = 512  # vectors of a part that are looked at, at most


def collapse(vectors: Tensor) -> dict[str, float]:
    """Of vectors (N, D): effective_rank, exp of the entropy of their singular values divided by the
    sum of these, from 1 (all on a line through 0) to min(N, D); and variance over the vectors, the
    mean of the dimensions. 0 both if there are none.

    Roy, Vetterli 2007, "The effective rank: a measure of effective dimensionality".
    """
    if not len(vectors):
        return {"effective_rank": 0.0, "variance": 0.0}
    values = torch.linalg.svdvals(vectors.float())
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    rank = torch.special.entr(shares).sum().exp()
    return {"effective_rank": float(rank), "variance": float(vectors.float().var(0, False).mean())}
