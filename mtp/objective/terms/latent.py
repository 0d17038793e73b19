"""Next-latent prediction: the latent at t+1 from the latent at t and the token between.

Teoh et al. 2025, "Next-Latent Prediction Transformers" (NextLat, arXiv 2511.05963). With h the
latents of head 1 after the final norm, E the embedding, U the unembedding, d = latent_steps:

    p[t+1] = h[t] + MLP(LayerNorm([h[t]; E(x[t+1])]))    p[t+i+1] from p[t+i] and x[t+i+1] likewise
    loss = mean over t and i = 1..d of  SmoothL1(sg h[t+i], p[t+i])
                                        + KL(softmax(sg U h[t+i]) || softmax(sg(U) p[t+i]))

SmoothL1 is the mean over D. sg stops the gradient: U learns nothing here, E does. The MLP has three
linear maps, 2D -> D -> D -> D, with GELU between; as everywhere in the model, without biases. The
mean is over positions whose i-th next token is in the document and among the T inputs, prompts of
pairs included.

    h (B, T, D) -> p (N, D), logits (N, V) of N rows at a time, and all their d steps
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
from mtp.objective.terms.pieces import Piece, split, sum_of_pieces, sum_over_logits, wide
from mtp.objective.terms.term import Term
from mtp.objective_config import ObjectiveConfig

NUMBERS = 16  # that a step keeps for each position and dimension


class Latent(Term):
    """The term, with the MLP that steps from a latent to the next."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__(model, objective)
        self.steps = objective.latent_steps
        self.norm = nn.LayerNorm(2 * model.dim, bias=False)
        self.first = nn.Linear(2 * model.dim, model.dim, bias=False)
        self.second = nn.Linear(model.dim, model.dim, bias=False)
        self.third = nn.Linear(model.dim, model.dim, bias=False)

    def count(self, window: Window) -> Tensor:
        """The pairs of a position and a step that have a target, ()."""
        return Ahead(window, inputs_only=True).number(self.steps)

    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        ahead = Ahead(window, inputs_only=True)
        x = h.flatten(0, 1)  # (B * T, D)
        goals, unembedding = x.detach(), model.unembedding(1).detach()
        distances = torch.arange(1, self.steps + 1, device=h.device)

        def piece(rows: slice) -> Piece:
            def loss(x: Tensor, embedding: Tensor, *weights: Tensor) -> Tensor:
                ids, there = ahead.at(rows, distances)  # (N, d)
                total = wide(x.new_zeros(()))
                predicted = x
                for i in range(self.steps):
                    predicted = step(predicted, F.embedding(ids[:, i], embedding), *weights)
                    if rows.start == i == 0:
                        self.seen = predicted.detach()[:ROWS].clone(), there[:ROWS, 0]
                    # a goal beyond the inputs does not count, whichever it is
                    at = torch.arange(rows.start + i + 1, rows.stop + i + 1, device=x.device)
                    goal = goals[at.clamp(max=len(goals) - 1)]  # (N, D)
                    apart = F.smooth_l1_loss(wide(predicted), wide(goal), reduction="none").mean(1)
                    share = there[:, i].to(apart.dtype) / count  # (N,)
                    total = total + (apart * share).sum()
                    total = total + divergence(predicted, goal, unembedding, share)
                return total

            return rows, loss

        size = memory.CHUNK_LOGITS // (NUMBERS * self.model.dim * self.steps)
        pieces = [piece(rows) for rows in split(len(x), size)]
        maps = [layer.weight for layer in (self.norm, self.first, self.second, self.third)]
        return sum_of_pieces(pieces, x, model.embedding.weight, *maps)


def step(
    h: Tensor, e: Tensor, gain: Tensor, first: Tensor, second: Tensor, third: Tensor
) -> Tensor:
    """The next latents (N, D) from latents and the embeddings of the tokens between, (N, D)."""
    x = torch.cat([h, e], 1)  # (N, 2D)
    x = F.layer_norm(x, x.shape[1:], gain.to(x.dtype))
    x = F.gelu(F.linear(x, first))  # (N, D)
    return h + F.linear(F.gelu(F.linear(x, second)), third)


def divergence(predicted: Tensor, goal: Tensor, unembedding: Tensor, share: Tensor) -> Tensor:
    """The sum () of KL(softmax(U goal) || softmax(U predicted)) over rows (N, D), each times its
    share (N,)."""

    def gradient(logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        own = share[rows, None]
        got = F.log_softmax(logits, 1, dtype=own.dtype)  # (N, V)
        wanted = F.log_softmax(F.linear(goal[rows], unembedding), 1, dtype=own.dtype)
        loss = (F.kl_div(got, wanted, reduction="none", log_target=True) * own).sum()
        return loss, got.exp_().sub_(wanted.exp_()).mul_(own).to(logits.dtype)

    return sum_over_logits(gradient, predicted, unembedding, share=4)
