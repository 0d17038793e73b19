"""AdamW and clipping (Table S13)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate

from mtp.config import TrainConfig


def new_optimizer(config: TrainConfig, weights: dict[str, Tensor]) -> torch.optim.AdamW:
    """AdamW, with decoupled weight decay on matrices only."""
    groups = [
        {"params": [w for w in weights.values() if w.dim() >= 2]},
        {"params": [w for w in weights.values() if w.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def clip_gradients(
    weights: Iterable[Tensor], limit: float, total_weight: Tensor | float = 1.0
) -> Tensor:
    """Scale the gradients so that their norm over `total_weight` is `limit` at most; returns the
    norm before, undivided, on every rank.

    total_weight  the sum of the heads' weights. The sum of n losses has a larger gradient than one
                  (docs/heads-and-objectives.md), so that without it more heads would be clipped
                  more.
    """
    weights = [w for w in weights if w.grad is not None]
    norm = nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    if not isinstance(norm, DTensor):
        nn.utils.clip_grads_with_norm_(weights, limit, norm / total_weight)
        return norm
    full, mesh = norm.full_tensor(), norm.device_mesh
    same = [Replicate()] * mesh.ndim
    scaled = DTensor.from_local(full / total_weight, mesh, same, run_check=False)
    nn.utils.clip_grads_with_norm_(weights, limit, scaled)
    return full
