"""Prediction of the embeddings of the next tokens.

A plain member of the family of losses on vectors instead of words, with the embeddings as fixed
targets. With M_i a map (D, D) for each step i = 1..embedding_steps, E the embedding:

    cosine    loss = mean over t, i of  1 - cos(M_i h_1[t], sg E(x[t+i]))
    infonce   loss = mean over t, i of  CE of t among all t' of the sequence, with logits
              cos(M_i h_1[t], sg E(x[t'+i])) / 0.1

InfoNCE: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"
(arXiv 1807.03748). The negatives come from the batch, but from the position's own sequence alone,
so that parts of a batch add up to the batch. A negative that is the same token as the target does
not count. The mean is over tokens x[t+i] of the document that may be targets. sg stops the
gradient, so E cannot collapse to please this term; h_1 can.

    h_1 (B, T, D) -> M h_1 (N, steps, D) against E (N, steps, D), N rows at a time
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.data.window import Window
from mtp.model import memory
from mtp.model.model import MultiTokenTransformer
from mtp.objective.terms.ahead import Ahead
from mtp.objective.terms.collapse import ROWS
from mtp.objective.terms.pieces import Piece, split, sum_of_pieces, wide
from mtp.objective.terms.term import Term
from mtp.objective_config import ObjectiveConfig

TEMPERATURE = 0.1


class Embedding(Term):
    """The term, with the maps M_i, one below the other (steps * D, D)."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__(model, objective)
        self.steps = objective.embedding_steps
        self.maps = nn.Linear(model.dim, self.steps * model.dim, bias=False)

    def count(self, window: Window) -> Tensor:
        """The pairs of a position and a step that have a target, ()."""
        return Ahead(window).number(self.steps)

    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        ahead, embedding = Ahead(window), model.embedding.weight.detach()
        batch, length, dim = h.shape
        distances = torch.arange(1, self.steps + 1, device=h.device)

        def near(rows: slice) -> Piece:
            def loss(x: Tensor, maps: Tensor) -> Tensor:
                predicted = F.linear(x, maps).unflatten(1, (self.steps, -1))  # (N, steps, D)
                ids, there = ahead.at(rows, distances)  # (N, steps)
                self.see(rows, predicted[:, 0], there[:, 0])
                cosine = F.cosine_similarity(wide(predicted), wide(embedding[ids]), -1)
                return ((1 - cosine) * there).sum() / count

            return rows, loss

        def contrast(sequence: int, part: slice) -> Piece:
            whole = slice(sequence * length, (sequence + 1) * length)
            rows = slice(whole.start + part.start, whole.start + part.stop)

            def loss(x: Tensor, maps: Tensor) -> Tensor:
                predicted = F.linear(x, maps).unflatten(1, (self.steps, -1))  # (N, steps, D)
                ids, there = ahead.at(whole, distances)  # (T, steps)
                self.see(rows, predicted[:, 0], there[part, 0])
                own = torch.arange(part.start, part.stop, device=h.device)
                total = wide(x.new_zeros(()))
                for i in range(self.steps):
                    keys = F.normalize(wide(embedding[ids[:, i]]), dim=1)  # (T, D)
                    queries = F.normalize(wide(predicted[:, i]), dim=1)
                    logits = queries @ keys.T / TEMPERATURE  # (N, T)
                    other = there[:, i] & (ids[part, i, None] != ids[:, i])
                    other[own - part.start, own] = True  # the target
                    logits = logits.where(other, -torch.inf)
                    nats = F.cross_entropy(logits, own, reduction="none")
                    total = total + (nats * there[part, i]).sum()
                return total / count

            return rows, loss

        numbers = memory.CHUNK_LOGITS // self.steps
        if self.objective.embedding_loss == "cosine":
            pieces = [near(rows) for rows in split(batch * length, numbers // dim)]
        else:
            parts = split(length, numbers // max(length, dim))
            pieces = [contrast(sequence, part) for sequence in range(batch) for part in parts]
        return sum_of_pieces(pieces, h.flatten(0, 1), self.maps.weight)

    def see(self, rows: slice, predicted: Tensor, there: Tensor) -> None:
        """Keep some vectors (N, D) of the first piece of a part."""
        if rows.start == 0:
            self.seen = predicted.detach()[:ROWS].clone(), there[:ROWS]
