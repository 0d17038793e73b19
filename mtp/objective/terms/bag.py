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
from mtp.model.memory import chunk_rows
from mtp.model.model import MultiTokenTransformer
from mtp.objective.terms.ahead import Ahead
from mtp.objective.terms.pieces import Piece, split, sum_of_pieces, wide
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
        x = h.flatten(0, 1)  # (B * T, D)

        def piece(rows: slice) -> Piece:
            def loss(x: Tensor, matrix: Tensor) -> Tensor:
                logits = wide(F.linear(x, matrix))  # (N, V)
                ids, there = ahead.at(rows, distances)  # (N, tau - 1)
                words = torch.zeros_like(logits, requires_grad=False)
                words.scatter_reduce_(1, ids, there.to(logits.dtype), "amax")  # (N, V)
                full = there.any(1, keepdim=True).to(logits.dtype)
                bce = F.binary_cross_entropy_with_logits(logits, words, full, reduction="sum")
                return bce / count

            return rows, loss

        size = chunk_rows(self.model.vocab, h.device.type)
        return sum_of_pieces([piece(r) for r in split(len(x), size)], x, self.unembedding.weight)
