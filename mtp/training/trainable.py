"""A model that is ready to train: its weights in the engine's precision, its float32 masters."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule

from mtp import sharded
from mtp.config import ModelConfig
from mtp.model.heads import is_extra
from mtp.model.model import MultiTokenTransformer, initial_weight
from mtp.model.transformer import recompute_layers, use_kernel
from mtp.training import distributed
from mtp.training.engine import Engine


class Trainable:
    """A model set up for an engine, and the float32 weights that the optimizer updates. The weights
    are undefined until `draw`, or until they are read from a checkpoint and `update_model`.
    Averaged copies of the model, which terms may have, are among its weights and are not trained.

    bf16       the model computes with bf16 weights, rounded from float32 master weights
    FSDP2      the weights are float32 shards, gathered layer by layer in the compute type
    otherwise  the model's own float32 weights

    mesh       the ranks, if there are several (mtp/training/distributed.py)
    recompute  every how many layers one is computed anew in the backward pass; 0: none
    freeze     only weights of heads 2..n alone are trained
    auxiliary  modules of the objective's terms, without memory for weights
    """

    def __init__(
        self,
        config: ModelConfig,
        engine: Engine,
        mesh: DeviceMesh | None = None,
        recompute: int = 0,
        auxiliary: Mapping[str, nn.Module] | None = None,
        freeze: bool = False,
    ) -> None:
        self.engine = engine
        self.masters: dict[str, Tensor] | None = None
        model = MultiTokenTransformer.on_meta(config)  # so that no rank ever holds a whole model
        model.auxiliary.update(auxiliary or {})
        for name, p in model.named_parameters():
            if freeze and not is_extra(name):
                p.requires_grad_(False)
        copies = model.copies()
        # the name of each weight of an averaged copy -> that of the weight that it averages
        self.averaged = {
            f"{copy}.{name}": name
            for copy, module in copies.items()
            for name, _ in module.named_parameters()
        }
        if mesh is not None:
            distributed.shard(model, engine.precision, mesh)
        elif engine.precision == "bf16":
            self.masters = {
                name: torch.empty(p.shape, device=engine.device)
                for name, p in model.named_parameters()
            }
            model.bfloat16()
        model.materialise(engine.device)
        use_kernel(model, engine.attention, config.context, engine.device)
        recompute_layers((*model.trunk, *model.heads), recompute)
        if engine.compile:
            for each in (model, *copies.values()):
                for layer in (*each.trunk, *each.heads):
                    layer.compile(dynamic=False)
        self.model = model

    def weights(self) -> dict[str, Tensor]:
        """The float32 weights by name."""
        return self.masters or dict(self.model.named_parameters())

    def trained(self) -> dict[str, Tensor]:
        """Those that training changes."""
        trained = {name for name, p in self.model.named_parameters() if p.requires_grad}
        return {name: w for name, w in self.weights().items() if name in trained}

    @torch.no_grad()
    def draw(self, seed: int, prefix: str = "") -> None:
        """Draw the initial weights, one tensor at a time; every rank draws all of them and keeps
        its shards. `prefix`: of the weights whose names begin with it. Averaged copies start as
        what they average."""
        for name, weight in self.weights().items():
            if not name.startswith(prefix) or name in self.averaged:
                continue
            whole = initial_weight(self.model.config, name, weight.shape, seed)
            sharded.copy_into(weight, whole)
        self.start_averages()
        self.update_model()

    @torch.no_grad()
    def start_averages(self) -> None:
        """Make the averaged copies equal to the weights."""
        weights = self.weights()
        for copy, name in self.averaged.items():
            weights[copy].copy_(weights[name])

    @torch.no_grad()
    def update_averages(self, decay: float) -> None:
        """After the weights have changed: move the averaged copies to decay * copy +
        (1 - decay) * weights, in float32."""
        weights = self.weights()
        for copy, name in self.averaged.items():
            weights[copy].lerp_(weights[name], 1 - decay)

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
        """After the weights have changed: round the masters to the model's bf16 weights."""
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
