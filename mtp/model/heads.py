"""The modules of the heads, and the order in which heads read one another. The table in
mtp/head_types.py says which module a head type has."""

from collections.abc import Callable

from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.head_types import HEADS
from mtp.model.transformer import Block


class Identity(nn.Module):
    """The latent itself: h = z."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x


class Linear(nn.Module):
    """A linear map of the residual stream, without a nonlinearity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return self.linear(x)

    def pass_on(self) -> None:
        """Become the identity: a new head of a trained model starts that way."""
        nn.init.eye_(self.linear.weight)


def _linear(config: ModelConfig, i: int) -> nn.Module:
    # Head 1 is z itself, so that the model without its other heads is an ordinary Llama.
    return Identity() if i == 1 else Linear(config.dim)


# HeadType.module -> builds the module of head i, whose forward(x, rope) maps (B, T, D) to (B, T, D)
MODULES: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "layer": lambda config, i: Block(config),
    "linear": _linear,
    "identity": lambda config, i: Identity(),
}


def head_modules(config: ModelConfig) -> nn.ModuleList:
    """The heads of a model. The module at index i - 1 computes the latent of head i."""
    build = MODULES[HEADS[config.head].module]
    return nn.ModuleList(build(config, i) for i in range(1, config.n + 1))


def parent(config: ModelConfig, i: int) -> int:
    """The head whose latent head i reads, 0 for the trunk."""
    return HEADS[config.head].parent(i, config.n)


def children(config: ModelConfig, i: int) -> list[int]:
    """The heads that read the latent of head i, or of the trunk if i is 0."""
    return [j for j in range(1, config.n + 1) if parent(config, j) == i]


def order(config: ModelConfig, k: int) -> list[int]:
    """The heads whose latents predictions 1..k need; each parent comes before its children."""

    def path(i: int) -> list[int]:
        return [*path(parent(config, i)), i] if i else []

    found = dict.fromkeys(j for i in range(1, k + 1) for j in path(i))
    return list(found)


def is_extra(name: str) -> bool:
    """Whether a weight of this name belongs to heads 2..n alone, if head 1 reads none of them."""
    group, _, rest = name.partition(".")
    return group in ("heads", "unembeddings") and rest.partition(".")[0] != "0"


def layer_names(config: ModelConfig) -> list[str]:
    """The names of the transformer layers in a state dict: the trunk's, then the heads' own."""
    own = config.n if HEADS[config.head].is_layer else 0
    return [f"trunk.{i}" for i in range(config.trunk_layers)] + [f"heads.{i}" for i in range(own)]
