"""A model that is ready to train: its weights in the engine's precision, its float32 masters."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import use_kernel
from mtp.training import distributed
from mtp.training.engine import Engine


class Trainable:
    """A model set up for an engine, and the float32 weights that the optimizer updates.

    bf16       the model computes with bf16 weights, rounded from float32 master weights
    FSDP2      the weights are float32 shards, gathered layer by layer in the compute type
    otherwise  the model's own float32 weights
    """

    def __init__(self, model: MultiTokenTransformer, engine: Engine, world: int = 1) -> None:
        model.to(engine.device)
        use_kernel(model, engine.attention, model.config.context, engine.device)
        self.engine = engine
        self.masters: dict[str, Tensor] | None = None
        if world > 1:
            distributed.shard(model, engine.precision)
        elif engine.precision == "bf16":
            self.masters = {n: p.detach().clone() for n, p in model.named_parameters()}
            model.bfloat16()
        if engine.compile:
            for layer in (*model.trunk, *model.heads):
                layer.compile(dynamic=False)
        self.model = model

    def weights(self) -> dict[str, Tensor]:
        """The float32 weights by name."""
        return self.masters or dict(self.model.named_parameters())

    def collect_gradients(self) -> None:
        """After each backward pass: add the bf16 gradients to the masters' float32 gradients."""
        if self.masters is None:
            return
        for master, p in zip(self.masters.values(), self.model.parameters(), strict=True):
            if p.grad is None:
                continue
            if master.grad is None:
                master.grad = p.grad.float()
            else:
                master.grad += p.grad
            p.grad = None

    @torch.no_grad()
    def update_model(self) -> None:
        """After the optimizer's step: round the masters to the model's bf16 weights."""
        if self.masters is not None:
            for p, master in zip(self.model.parameters(), self.masters.values(), strict=True):
                p.copy_(master)

    def reshard(self) -> None:
        """Free FSDP2's gathered weights after a forward pass that has no backward pass."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()

    def autocast(self) -> torch.autocast:
        on = self.engine.precision == "autocast"
        return torch.autocast(self.engine.device, torch.bfloat16, enabled=on)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self.weights().items():
            distributed.copy_into(weight, weights[name])
        self.update_model()


def clip_gradients(weights: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients to norm `limit` at most; returns the norm before, on every rank."""
    norm = nn.utils.clip_grad_norm_(weights, limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
