"""Token-order prediction: rank the tokens by how soon they come.

Zuhri, Fuadi, Aji 2025, "Predicting the Order of Upcoming Tokens Improves Language Modeling"
(arXiv 2508.19228). With d_v the distance from t to the next v in the document, and the window W:

    y_v = W - d_v if d_v <= W, otherwise -inf
    loss = mean over t of CE(softmax(y), softmax(U_order h_1[t]))        (ListNet)

The mean is over positions with a token ahead. softmax(y) is proportional to exp(-d_v), so tokens
more than REACH places after the first one add less than float64 can resolve, and are left out.

    h_1 (B, T, D) -> logits (N, V) of N rows at a time;  y from x[t+1]..x[t+W] of the window
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

REACH = 40  # exp(-40) of the largest chance is below the resolution of float64


class Order(Term):
    """The term, with an unembedding (V, D) of its own."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__(model, objective)
        self.unembedding = nn.Linear(model.dim, model.vocab, bias=False)
        self.window = objective.order_window or model.context

    def nearest(self, ahead: Ahead) -> Tensor:
        """The distance of the first token ahead (B, T); 0 where the window has none."""
        found = ahead.nearest(1)
        return found.where(found <= self.window, 0)

    def count(self, window: Window) -> Tensor:
        """The positions with a token ahead, ()."""
        return (self.nearest(Ahead(window)) > 0).sum()

    def chances(self, ahead: Ahead, first: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Tokens ahead of N positions, and softmax(y) of each of them, (N, K); 0 for repetitions
        and where nothing is ahead. `first` (B * T,) is what `nearest` gives."""
        first = first[rows, None]  # (N, 1)
        later = torch.arange(min(self.window, REACH), device=first.device)
        distances = first + later  # (N, K)
        ids, counts = ahead.at(rows, distances)
        counts = counts & (first > 0) & (distances <= self.window)
        chances = torch.exp(-later.double()) * firsts(ids, counts, self.model.vocab)
        total = chances.sum(1, keepdim=True)
        return ids, chances / total.where(total > 0, 1)

    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        ahead = Ahead(window)
        first = self.nearest(ahead).flatten()

        def gradient(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            ids, chances = self.chances(ahead, first, rows)
            log_p = F.log_softmax(logits, 1, dtype=wide(logits[:0]).dtype)  # (N, V)
            shares = (chances / count).to(log_p.dtype)
            loss = -(shares * log_p.gather(1, ids)).sum()
            d = log_p.exp_().mul_(shares.sum(1, keepdim=True)).scatter_add_(1, ids, -shares)
            return loss, d.to(logits.dtype)

        return sum_over_logits(gradient, h.flatten(0, 1), self.unembedding.weight)
