"""Models to decode from: random, trained for a moment, and ones that count like a clock."""

import functools
from typing import Any

import torch
import torch.nn.functional as F

from mtp.config import ModelConfig
from mtp.model.model import MultiTokenTransformer


def random_model(seed: int, **config: Any) -> MultiTokenTransformer:
    """Random weights, with louder layers: else each token soon depends only on the last one."""
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"dim": 16, "layers": 5, "attn_heads": 4, "vocab": 13, "context": 32}
    model = MultiTokenTransformer(ModelConfig(**(shape | config)))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("wo.weight", "w2.weight")):
                weight.mul_(4)
    return model.double()


@functools.cache
def trained(head: str) -> MultiTokenTransformer:
    """Four heads, trained for a moment on words in random order: inside a word drafts are right, at
    its end they often are not. Grouped-query attention."""
    torch.manual_seed(0)
    words = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 7, 8, 9, 10, 11], [12, 3, 13, 14, 2, 15]])
    config = ModelConfig(
        dim=32, layers=6, attn_heads=4, kv_heads=2, vocab=16, n=4, head=head, context=64
    )
    model = MultiTokenTransformer(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(35):
        text = words[torch.randint(3, (16, 5))].flatten(1)  # (B, T)
        logits = model(text[:, :-4], ahead=text[:, -4:])
        losses = [
            F.cross_entropy(logits[i].flatten(0, 1), text[:, 1 + i : 27 + i].flatten())
            for i in range(4)
        ]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    return model.double()


def clockwork(n: int = 4, vocab: int = 16, context: int = 64, shift: int = 0):
    """After token t comes t + 1 modulo vocab; all heads are right, or all drafts `shift` off."""
    config = ModelConfig(
        dim=vocab, layers=1, attn_heads=1, vocab=vocab, n=n, head="replicated", context=context
    )
    model = MultiTokenTransformer(config)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(vocab))
        for name, weight in model.named_parameters():
            if name.endswith(("wo.weight", "w2.weight")):
                weight.zero_()
        for i in range(n):
            ahead = 1 + i + (shift if i else 0)
            model.unembedding(i + 1).copy_(torch.eye(vocab).roll(ahead, 0))
    return model
