"""Prediction of a vector for each of the next tokens.

A plain member of the family of losses on vectors instead of words. With M_i a map (D, D) for each
step i = 1..embedding_steps, and v[s] the vector of the token at s:

    cosine    loss = mean over t, i of  1 - cos(M_i h_1[t], sg v[t+i])
    infonce   loss = mean over t, i of  CE of t among all t' of the sequence, with logits
              cos(M_i h_1[t], sg v[t'+i]) / 0.1

    tokens    v[s] = E(x[s]), the embedding of the token
    average   v[s] = the latent of head 1 at s, after the final norm, of an averaged copy of the
              model (average.py)

InfoNCE: van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding"
(arXiv 1807.03748). The negatives come from the batch, but from the position's own sequence alone,
so that parts of a batch add up to the batch. A negative with the same vector as the target, which
with `tokens` is the same token, does not count. sg stops the gradient, so E cannot collapse to
please this term; h_1 can, and the copy follows it.

The mean is over tokens x[t+i] of the document that may be targets; with `average`, over those that
are among the T inputs, prompts of pairs included.

    h_1 (B, T, D) -> M h_1 (N, steps, D) against v (N, steps, D), N rows at a time
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.data.window import Window
from mtp.model import memory
from mtp.model.model import MultiTokenTransformer
from mtp.objective.terms.ahead import Ahead
from mtp.objective.terms.average import averaged_copy
from mtp.objective.terms.collapse import ROWS
from mtp.objective.terms.pieces import Piece, split, sum_of_pieces, wide
from mtp.objective.terms.term import Term
from mtp.objective_config import ObjectiveConfig

TEMPERATURE = 0.1


class Embedding(Term):
    """The term, with the maps M_i, one below the other (steps * D, D), and the averaged copy if its
    latents are the targets."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__(model, objective)
        self.steps = objective.embedding_steps
        self.maps = nn.Linear(model.dim, self.steps * model.dim, bias=False)
        averaged = objective.embedding_target == "average"
        self.average = averaged_copy(model) if averaged else None

    def count(self, window: Window) -> Tensor:
        """The pairs of a position and a step that have a target, ()."""
        return self.ahead(window).number(self.steps)

    def ahead(self, window: Window) -> Ahead:
        return Ahead(window, inputs_only=self.average is not None)

    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        ahead = self.ahead(window)
        batch, length, dim = h.shape
        distances = torch.arange(1, self.steps + 1, device=h.device)
        if self.average is None:
            vectors = model.embedding.weight.detach()  # (V, D)
        else:
            with torch.no_grad():
                vectors = self.average.first_latent(window.inputs).flatten(0, 1)  # (B * T, D)

        def targets(rows: slice) -> tuple[Tensor, Tensor]:
            """Which of the vectors are the targets of N rows, and whether they count, (N, steps)
            both."""
            ids, there = ahead.at(rows, distances)
            if self.average is None:
                return ids, there
            own = torch.arange(rows.start, rows.stop, device=h.device)[:, None]
            # one beyond the inputs does not count, whichever it is
            return (own + distances).clamp(max=len(vectors) - 1), there

        def near(rows: slice) -> Piece:
            def loss(x: Tensor, maps: Tensor) -> Tensor:
                predicted = F.linear(x, maps).unflatten(1, (self.steps, -1))  # (N, steps, D)
                ids, there = targets(rows)  # (N, steps)
                self.see(rows, predicted[:, 0], there[:, 0])
                cosine = F.cosine_similarity(wide(predicted), wide(vectors[ids]), -1)
                return ((1 - cosine) * there).sum() / count

            return rows, loss

        def contrast(sequence: int, part: slice) -> Piece:
            whole = slice(sequence * length, (sequence + 1) * length)
            rows = slice(whole.start + part.start, whole.start + part.stop)

            def loss(x: Tensor, maps: Tensor) -> Tensor:
                predicted = F.linear(x, maps).unflatten(1, (self.steps, -1))  # (N, steps, D)
                ids, there = targets(whole)  # (T, steps)
                self.see(rows, predicted[:, 0], there[part, 0])
                own = torch.arange(part.start, part.stop, device=h.device)
                total = wide(x.new_zeros(()))
                for i in range(self.steps):
                    keys = F.normalize(wide(vectors[ids[:, i]]), dim=1)  # (T, D)
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
