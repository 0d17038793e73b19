"""What attention heads look at: the signature of induction (Olsson et al. 2022).

An induction head, at a token that has been seen before, looks at what came after it then:

    ... Ka | rop | was | sad | ... | Ka -> looks at "rop", and the model can say "rop"
"""

import math

import torch
from torch import Tensor

from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Block, rotate


@torch.inference_mode()
def maps(model: MultiTokenTransformer, tokens: Tensor) -> Tensor:
    """Attention weights of every layer on the next-token path, trunk first, for tokens (T,):
    (layers, H, T, T), row t over the positions that t looks at."""
    positions = torch.arange(len(tokens), device=tokens.device)
    rope, z = model.rope(positions), model.embedding(tokens[None])  # z (1, T, D)
    path = (model.head(i) for i in heads.order(model.config, 1))
    found = []
    for layer in (*model.trunk, *path):
        if isinstance(layer, Block):
            found.append(weights(layer, z, rope))
            z = layer(z, rope)
    return torch.stack(found)


def weights(layer: Block, z: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """The layer's attention weights (H, T, T) for its input z (1, T, D)."""
    own, x = layer.attention, layer.attention_norm(z)
    (_, T, _), E = x.shape, own.head_dim
    q = rotate(own.wq(x).view(1, T, -1, E), rope)[0].transpose(0, 1)  # (H, T, E)
    k = rotate(own.wk(x).view(1, T, -1, E), rope)[0].transpose(0, 1)  # (K, T, E)
    k = k.repeat_interleave(len(q) // len(k), 0)
    scores = q @ k.transpose(1, 2) / math.sqrt(E)
    return scores.masked_fill(scores.new_ones(T, T).triu(1).bool(), -math.inf).softmax(-1)


def prefix_matching(attention: Tensor, tokens: Tensor, at: Tensor) -> Tensor:
    """(layers, H): the mean weight that the positions `at` give to those right after the earlier
    occurrences of their tokens."""
    same = tokens[:, None] == tokens  # (T, T)
    before = same.tril(-1)  # row t: earlier occurrences of its token
    after = before.roll(1, 1)  # and the positions after them, all of which t sees
    after[:, 0] = False
    return (attention * after).sum(-1)[..., at].mean(-1)
