"""Future summary as a bag of words: which tokens come soon, in any order.

Mahajan et al. 2025, "Beyond Multi-Token Prediction: Pretraining LLMs with Future Summaries"
(arXiv 2510.14751), the hand-made summary. With a_v = 1 for each v in x[t+2]..x[t+tau]:

    loss = mean over t of sum over v of BCE(a_v, sigmoid(U_bag h_1[t])_v)

The sum over the vocabulary keeps a word's gradient as large as that of a cross-entropy, whatever V
is; weights for rare words are not used. The set ends with the document and with the tokens that the
window has. Positions whose set is empty do not count.

    h_1 (B, T, D) -> logits (N, V) of N rows at a time;  a (N, V) from the window's tokens
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.data.window import Window
from mtp.model.model import MultiTokenTransformer
from mtp.objective.terms.ahead import Ahead
from mtp.objective.terms.pieces import firsts, sum_over_logits, wide
from mtp.objective.terms.term import Term
from mtp.objective_config import ObjectiveConfig


class Bag(Term):
    """The term, with an unembedding (V, D) of its own."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__(model, objective)
        self.unembedding = nn.Linear(model.dim, model.vocab, bias=False)
        self.window = objective.bag_window

    def count(self, window: Window) -> Tensor:
        """The positions whose set is not empty, ()."""
        found = Ahead(window).nearest(2)
        return ((found > 0) & (found <= self.window)).sum()

    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        ahead = Ahead(window)
        distances = torch.arange(2, self.window + 1, device=h.device)

        def gradient(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            ids, there = ahead.at(rows, distances)  # (N, tau - 1)
            scores = wide(logits)  # (N, V)
            words = firsts(ids, there, self.model.vocab) / count.to(scores.dtype)
            share = there.any(1, keepdim=True) / count.to(scores.dtype)  # of a position
            # BCE(a, sigmoid(s)) = softplus(s) - a s
            loss = (F.softplus(scores).sum(1, keepdim=True) * share).sum()
            loss -= (scores.gather(1, ids) * words).sum()
            d = scores.sigmoid_().mul_(share).scatter_add_(1, ids, -words)
            return loss, d.to(logits.dtype)

        return sum_over_logits(gradient, h.flatten(0, 1), self.unembedding.weight)
