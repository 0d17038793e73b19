"""How strongly each head pulls at the trunk, and whether the heads pull in one direction: their
gradients at the trunk's latent z."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from mtp.model.memory import chunk_rows
from mtp.model.model import MultiTokenTransformer
from mtp.objective.cross_entropy import cross_entropy_gradient


def products(
    model: MultiTokenTransformer,
    tokens: Tensor,
    targets: Tensor,
    counts: Tensor,
    factors: Tensor | None = None,
    ahead: Tensor | None = None,
) -> Tensor:
    """With g_i the gradient of head i's loss at z: g_i . g_i, then g_i . g_1, (2, n) in float64.

    tokens (B, T), targets (n, B, T), counts, factors and `ahead` as of the schemes in
    mtp/objective/cross_entropy.py. Those of the parts of a batch add up to those of the batch,
    whose rows have z of their own. The trunk runs without a graph, and each head's loss goes back
    to z alone, so no parameter's .grad changes. A chunk of logits is alive at a time.
    """
    z, latents = model.latents_of_leaf(tokens, len(targets), ahead)
    rows = chunk_rows(model.config.vocab, tokens.device.type)
    first, found = z, list[Tensor]()
    for i, latent in enumerate(latents, 1):
        if isinstance(model, FSDPModule):
            model.unshard()  # the norm and the unembedding, which a backward pass gives up
        h, unembedding = model.normed(latent, i), model.unembedding(i).detach()
        y, own = targets[i - 1].flatten(), None if factors is None else factors[i - 1].flatten()
        parts = []
        for j, x in enumerate(h.detach().flatten(0, 1).split(rows)):
            part = slice(j * rows, j * rows + len(x))
            f = None if own is None else own[part]
            logits = F.linear(x, unembedding)
            _, d = cross_entropy_gradient(logits, y[part], counts[i - 1], factors=f)
            parts.append(d @ unembedding)
        gradient = torch.cat(parts).view_as(h).to(h.dtype)
        (g,) = torch.autograd.grad(h, z, gradient, retain_graph=i < len(latents))
        g = g.flatten().double()
        first = g if i == 1 else first
        found.append(torch.stack([g @ g, g @ first]))
    return torch.stack(found, 1)


def norms_and_cosines(found: Tensor) -> tuple[Tensor, Tensor]:
    """The norms (n,) of the heads' gradients and their cosines (n,) with head 1's, from the sums of
    `products` over parts and ranks. A gradient of 0 has cosine 0."""
    norms = found[0].sqrt()
    return norms, found[1] / (norms * norms[0]).clamp(min=torch.finfo(found.dtype).tiny)
