"""The five ways to turn one latent z into n predictions (section 2, Appendix B).

A head type is a row of HEADS: on which latent head i sits, what it computes, and whether the heads
share one unembedding. With z the trunk's output, h_i the latent of head i, and head i predicting
x[t+i] from softmax(U norm(h_i)):

    parallel     z -> h_1        causal   z -> h_1 -> h_2 -> ... -> h_n
                 z -> h_2
                 ...             anticausal   z -> h_n -> ... -> h_2 -> h_1
                 z -> h_n

    linear       h_1 = z, h_i = W_i z        replicated   h_i = z, U_i of its own
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.transformer import Block


@dataclass(frozen=True)
class HeadSpec:
    """parent(i, n): the head whose latent head i reads, 0 for the trunk's z (heads count from 1).
    block(config, i): the module from the parent's latent to h_i."""

    parent: Callable[[int, int], int]
    block: Callable[[ModelConfig, int], nn.Module]
    shared_unembedding: bool = True


class Same(nn.Module):
    """The latent itself: h = z."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


class Map(nn.Module):
    """One linear map of the residual stream, no nonlinearity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return self.linear(x)


def _layer(config: ModelConfig, i: int) -> nn.Module:
    return Block(config)


def _map(config: ModelConfig, i: int) -> nn.Module:
    # Head 1 reads z itself, so that the model without its other heads is an ordinary Llama.
    return Same() if i == 1 else Map(config.dim)


HEADS: dict[str, HeadSpec] = {
    "parallel": HeadSpec(lambda i, n: 0, _layer),
    "causal": HeadSpec(lambda i, n: i - 1, _layer),
    "anticausal": HeadSpec(lambda i, n: i + 1 if i < n else 0, _layer),
    "linear": HeadSpec(lambda i, n: 0, _map),
    "replicated": HeadSpec(lambda i, n: 0, lambda config, i: Same(), shared_unembedding=False),
}


def blocks(config: ModelConfig) -> nn.ModuleList:
    """The head modules; blocks[i - 1] computes the latent of head i."""
    spec = HEADS[config.head]
    return nn.ModuleList(spec.block(config, i) for i in range(1, config.n + 1))


def parent(config: ModelConfig, i: int) -> int:
    """The head whose latent head i reads, 0 for the trunk."""
    return HEADS[config.head].parent(i, config.n)


def children(config: ModelConfig, i: int) -> list[int]:
    """The heads that read the latent of head i (of the trunk for 0)."""
    return [j for j in range(1, config.n + 1) if parent(config, j) == i]


def order(config: ModelConfig, k: int) -> list[int]:
    """The heads whose latents predictions 1..k need, every parent before its children."""

    def path(i: int) -> list[int]:
        return [*path(parent(config, i)), i] if i else []

    found = dict.fromkeys(j for i in range(1, k + 1) for j in path(i))
    return list(found)
