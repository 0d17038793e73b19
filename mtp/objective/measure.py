"""How strongly each head pulls at the trunk, and whether the heads pull in one direction: their
gradients at the trunk's latent z."""

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from mtp.model.model import MultiTokenTransformer
from mtp.objective.cross_entropy import head_loss


def latent_gradients(
    model: MultiTokenTransformer,
    tokens: Tensor,
    targets: Tensor,
    counts: Tensor,
    factors: Tensor | None = None,
    ahead: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The norms (n,) of each head's gradient at z, and their cosines (n,) with that of head 1.

    tokens (B, T), targets (n, B, T), counts, factors and `ahead` as of the schemes in
    mtp/objective/cross_entropy.py. The trunk runs without a graph; each head's loss then goes back
    to z alone, so no parameter's .grad changes. One head's logits are alive at a time.
    """
    z, latents = model.latents_of_leaf(tokens, len(targets), ahead)
    first, norms, cosines = z.new_zeros(()), [], []
    for i, h in enumerate(latents, 1):
        if isinstance(model, FSDPModule):
            model.unshard()  # the norm and the unembedding, which a backward pass gives up
        own = None if factors is None else factors[i - 1]
        loss = head_loss(model.logits(h, i), targets[i - 1], counts[i - 1], own)
        (gradient,) = torch.autograd.grad(loss, z, retain_graph=i < len(latents))
        gradient = gradient.flatten().double()
        first = gradient if i == 1 else first
        norm = gradient.norm()
        norms.append(norm)
        product = gradient @ first
        cosines.append(product / (norm * norms[0]).clamp(min=torch.finfo(norm.dtype).tiny))
    return torch.stack(norms), torch.stack(cosines)
