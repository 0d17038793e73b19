"""Weights of the heads that follow from the heads themselves (objective.balance).

gradient     Défossez et al. 2022 (the balancer of EnCodec): head i's weight is divided by the
             running norm of its gradient at the trunk's latent z, so that each head gets the share
             of the gradient that its weight says. Divided by the norm of head 1's as well, so that
             head 1 keeps its weight.
cosine       Du et al. 2018: head i's weight is multiplied by max(0, cos(g_i, g_1)), the running
             agreement of its gradient at z with that of the next-token head.
uncertainty  Kendall et al. 2018, eq. 7, for classification: the loss is the sum of
             exp(-s_i) L_i + s_i / 2 with learned s_i = log(sigma_i^2); head i's weight is
             multiplied by exp(-s_i). The gradient for s_i, 1/2 - exp(-s_i) L_i, needs no autograd.

Gradients at z are measured every `measured_every` steps (mtp/objective/measure.py), on the first
part of a step's batch, with the losses' own scale before weights.
"""

from typing import Any

import torch
from torch import Tensor

from mtp.objective_config import ObjectiveConfig

DECAY = 0.9  # of the running means, from one measurement to the next
RATE = 0.01  # of the learned log variances: a step moves one by so much at most


class Balance:
    """The running state behind the weights of n heads."""

    def __init__(self, config: ObjectiveConfig, n: int, device: str) -> None:
        self.kind, self.n = config.balance, n
        self.changes = self.kind != "none"
        self.learns = self.kind == "uncertainty"
        self.measurements = 0
        zeros = torch.zeros(n, device=device)
        self.norms, self.cosines = zeros.clone(), zeros.clone()  # running, not yet corrected
        self.last: tuple[Tensor, Tensor] | None = None  # of the last measurement
        self.log_variances = zeros.clone()

    def add(self, norms: Tensor, cosines: Tensor) -> None:
        """A measurement: the norms (n,) of the heads' gradients at z, their cosines (n,) with head
        1's."""
        self.measurements += 1
        self.norms.lerp_(norms.to(self.norms), 1 - DECAY)
        self.cosines.lerp_(cosines.to(self.cosines), 1 - DECAY)
        self.last = norms, cosines

    def applied(self, weights: Tensor) -> Tensor:
        """Weights (n,) after balancing. Until something is measured, they stay as they are."""
        if self.learns:
            return weights * torch.exp(-self.log_variances)
        if not self.measurements or not self.changes:
            return weights
        if self.kind == "gradient":
            tiny = torch.finfo(self.norms.dtype).tiny
            return weights * self.norms[0] / self.norms.clamp(min=tiny)
        correction = 1 - DECAY**self.measurements  # as Adam's: the means began at 0
        return weights * (self.cosines / correction).clamp(min=0)

    def end_step(self, losses: Tensor) -> None:
        """Learn from a step's losses (n,), which must be the means over all ranks."""
        slope = 0.5 - torch.exp(-self.log_variances) * losses
        self.log_variances -= RATE * slope.clamp(-1, 1)

    def logged(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.last:
            norms, cosines = self.last
            found |= {"latent_gradient_norms": norms.tolist()}
            found |= {"latent_gradient_cosines": cosines.tolist()}
            self.last = None
        if self.learns:
            found["log_variances"] = self.log_variances.tolist()
        return found

    def state(self) -> dict[str, Any]:
        """As JSON. float32 numbers survive it."""
        return {
            "measurements": self.measurements,
            "norms": self.norms.tolist(),
            "cosines": self.cosines.tolist(),
            "log_variances": self.log_variances.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.measurements = state["measurements"]
        for name in ("norms", "cosines", "log_variances"):
            own: Tensor = getattr(self, name)
            own.copy_(torch.tensor(state[name]))
