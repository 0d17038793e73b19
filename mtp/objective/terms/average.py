"""An averaged copy of what head 1 needs of a model, whose latents are targets.

    copy <- decay * copy + (1 - decay) * weights    after each step (mtp/training/trainable.py)

As the target network of BYOL (Grill et al. 2020, arXiv 2006.07733) and I-JEPA (Assran et al. 2023,
arXiv 2301.08243).
"""

from torch import nn

from mtp.config import ModelConfig
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer


def averaged_copy(config: ModelConfig) -> MultiTokenTransformer:
    """A model without memory for its weights, which nothing trains: the embedding, the trunk, the
    heads that head 1 reads through and the final norm. Its weights have the same names as those of
    the model. It has neither other heads nor an unembedding, so `first_latent` alone works."""
    copy = MultiTokenTransformer.on_meta(config)
    path = {heads.place(config, i) for i in heads.order(config, 1)}
    for place in set(range(len(copy.heads))) - path:
        copy.heads[place] = nn.Identity()  # keeps the places of the others, and so their names
    copy.unembeddings = nn.ModuleList()
    return copy.requires_grad_(False)
