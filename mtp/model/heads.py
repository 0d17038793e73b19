"""The modules of the heads, and the order in which heads read one another. The table in
mtp/head_types.py says which module a head type has."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS, TABLES
from mtp.model.transformer import Block
from mtp.plugins import file_of, what_failed


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


class Residual(nn.Module):
    """z + silu(W z), Medusa's residual block (Cai et al. 2024)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x + F.silu(self.linear(x))

    def pass_on(self) -> None:
        nn.init.zeros_(self.linear.weight)


class Injected(nn.Module):
    """W (z + s e), with e the embedding of a token and s a learned number (arXiv 2509.23186)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, rope: object, token: Tensor) -> Tensor:
        return self.linear(x + self.scale * token)

    def pass_on(self) -> None:
        nn.init.zeros_(self.scale)
        nn.init.eye_(self.linear.weight)


class MergingLayer(Block):
    """Layer(M [norm(x) ; norm(e)]), with e the embedding of a token (DeepSeek-V3, section 2.2)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.latent_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.token_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.merge = nn.Linear(2 * config.dim, config.dim, bias=False)

    def enter(self, x: Tensor, *more: Tensor) -> Tensor:
        (token,) = more
        both = torch.cat([self.latent_norm(x), self.token_norm(token)], -1)  # (B, T, 2 D)
        return self.merge(both)  # (B, T, D)

    def pass_on(self) -> None:
        """Return norm(x), which has the same logits up to `norm_eps`."""
        for norm in (self.latent_norm, self.token_norm):
            nn.init.ones_(norm.weight)
        nn.init.eye_(self.merge.weight)
        for last in (self.attention.wo, self.feed_forward.w2):
            nn.init.zeros_(last.weight)


def _first_is_z(module: Callable[[int], nn.Module]) -> Callable[[ModelConfig, int], nn.Module]:
    # Head 1 is z itself, so that the model without its other heads is an ordinary Llama.
    return lambda config, i: Identity() if i == 1 else module(config.dim)


# HeadType.module -> builds the module of head i. Its forward(x, rope, *embeddings) maps (B, T, D),
# and the embeddings (B, T, D) of the tokens that the head reads, to (B, T, D).
MODULES: dict[str, Callable[[ModelConfig, int], nn.Module]] = {
    "layer": lambda config, i: Block(config),
    "linear": _first_is_z(Linear),
    "identity": lambda config, i: Identity(),
    "residual": _first_is_z(Residual),
    "injected": _first_is_z(Injected),
    "merging layer": lambda config, i: Block(config) if i == 1 else MergingLayer(config),
}
TABLES.guard("mtp.model.heads.MODULES", MODULES)


def head_modules(config: ModelConfig) -> nn.ModuleList:
    """The modules of a model's heads, each once; `place` says which one is whose."""
    count = HEADS[config.head].modules(config.n)
    found = [new_module(config, i) for i in range(1, count + 1)]
    if len({id(module) for module in found}) < count:
        raise BadInput(
            f"model.head={config.head}: several heads get the same module; build one for each, or "
            "set shared_module=True"
        )
    return nn.ModuleList(found)


def new_module(config: ModelConfig, i: int) -> nn.Module:
    """The module of head i. Raises BadInput if it is a user's own and cannot be trained."""
    row, name = HEADS[config.head], f"model.head={config.head}"
    if row.module not in MODULES:
        raise BadInput(
            f"{name} has the module {row.module!r}, which is not in "
            f"mtp.model.heads.MODULES: {', '.join(MODULES)}"
        )
    try:
        module: Any = MODULES[row.module](config, i)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise broken(config, f"the module of head {i} cannot be built", error) from error
    if fault := _fault(module):
        raise BadInput(f"{name}: the module of head {i} {fault}")
    if row.is_layer and not isinstance(module, Block):
        raise BadInput(
            f"{name} has is_layer=True, but its module {row.module!r} is not a "
            "mtp.model.transformer.Block"
        )
    return module


def broken(config: ModelConfig, what: str, error: BaseException) -> BaseException:
    """What to raise for an error in the code of a head type: BadInput if a user's file has it."""
    if ":" not in config.head or isinstance(error, torch.OutOfMemoryError):
        return error
    return BadInput(f"model.head={config.head}: {what}{what_failed(error, file_of(config.head))}")


def _fault(module: object) -> str:
    """Why a module cannot be drawn, trained and saved as others are; "" if it can."""
    if not isinstance(module, nn.Module):
        return f"is {module!r}; it must be a torch.nn.Module"
    for name, _ in module.named_buffers():
        return f"has the buffer {name}; make it a parameter, or compute it in forward"
    for name, p in module.named_parameters():
        if nn.parameter.is_lazy(p):
            return f"has the lazy parameter {name}; give its shape"
        if p.dtype != torch.get_default_dtype():
            wanted = str(torch.get_default_dtype()).removeprefix("torch.")
            found = str(p.dtype).removeprefix("torch.")
            return f"has {name} in {found}; its parameters must be {wanted}"
    for path, part in module.named_modules():
        if type(part).__module__.startswith("mtp.model."):
            continue  # these hold tensors that they compute from their parameters
        for name, value in vars(part).items():
            if isinstance(value, Tensor):
                return (
                    f"has the tensor {f'{path}.{name}'.removeprefix('.')}, which is neither drawn "
                    "nor saved; make it a torch.nn.Parameter"
                )
    return ""


def wrong_latent(h: object, x: Tensor) -> str:
    """What is wrong with what a head makes of a latent x (B, T, D); "" if it can be trained on."""
    if not isinstance(h, Tensor):
        return f"returned a {type(h).__name__}; it must be a tensor (B, T, D)"
    if h.shape != x.shape:
        return f"made {tuple(x.shape)} into {tuple(h.shape)}; the shape must stay (B, T, D)"
    if h.device != x.device:
        return f"made a latent on {x.device} into one on {h.device}"
    if h.dtype != x.dtype:
        kind, allowed = x.device.type, {x.dtype}
        if torch.is_autocast_enabled(kind):  # operations choose the type
            allowed |= {torch.float32, torch.get_autocast_dtype(kind)}
        if h.dtype not in allowed:
            return f"made {x.dtype} into {h.dtype}; the type must stay the same"
    if torch.is_grad_enabled() and x.requires_grad and not h.requires_grad:
        return "returned a latent without gradient; compute it from x with operations of torch"
    return ""


def place(config: ModelConfig, i: int) -> int:
    """The index of the module of head i, and of its layer's name, in `head_modules`."""
    return min(i, HEADS[config.head].modules(config.n)) - 1


def reads(config: ModelConfig, i: int) -> tuple[int, ...]:
    """The tokens x[t+j] that head i reads, by their j."""
    return HEADS[config.head].reads(i)


def reach(config: ModelConfig, k: int) -> int:
    """The largest of these j that predictions 1..k need; 0 if no head reads a token."""
    return max((j for i in order(config, k) for j in reads(config, i)), default=0)


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
    own = HEADS[config.head].layers(config.n)
    return [f"trunk.{i}" for i in range(config.trunk_layers)] + [f"heads.{i}" for i in range(own)]
