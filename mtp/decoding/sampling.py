"""How a token is chosen from the model's logits: the best one, or one drawn with temperature, top-k
and top-p."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from mtp.errors import BadInput


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens.

    temperature  0 takes the best token; otherwise the logits are divided by it
    top_k        only the k best tokens can be drawn (0: all)
    top_p        of these, only the fewest best tokens whose probabilities sum to at least top_p
    seed         of the random numbers
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise BadInput(f"temperature is {self.temperature}; it must be 0 (greedy) or positive")
        if self.top_k < 0:
            raise BadInput(f"top_k is {self.top_k}; it must be 0 (all tokens) or positive")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.temperature == 0 and (self.top_k or self.top_p < 1):
            raise BadInput("top_k and top_p need a temperature above 0; at 0 decoding is greedy")
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed is {self.seed}; it must be at least 0 and below 2**63")

    def probabilities(self, logits: Tensor) -> Tensor:
        """The distribution that tokens are drawn from: logits (..., V) -> (..., V), in float32 or
        wider. The temperature must be positive."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        logits = (logits - logits.amax(-1, keepdim=True)) / self.temperature  # no overflow
        if self.top_k == 0 and self.top_p == 1:
            return logits.softmax(-1)
        best, order = logits.sort(dim=-1, descending=True, stable=True)
        if self.top_k:
            best[..., self.top_k :] = -math.inf
        p = best.softmax(-1)
        if self.top_p < 1:
            p = p.where(p.cumsum(-1) - p < self.top_p, 0)  # the better ones do not reach top_p yet
        return torch.zeros_like(p).scatter(-1, order, p / p.sum(-1, keepdim=True))


GREEDY = Sampling()


def choose_token(logits: Tensor, sampling: Sampling, uniform: Tensor | None) -> Tensor:
    """logits (..., V) -> tokens (...). For drawing, `uniform` (...) holds independent numbers in
    [0, 1), at which the distribution's cumulative sum is inverted; None is greedy."""
    if uniform is None:
        return logits.argmax(-1)
    below = sampling.probabilities(logits).double().cumsum(-1)  # (..., V)
    drawn = torch.searchsorted(below, uniform[..., None] * below[..., -1:], right=True)
    return drawn[..., 0]
