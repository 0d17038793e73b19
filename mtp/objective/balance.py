"""Weights of the heads that follow from the heads themselves (objective.balance).

gradient     Défossez et al. 2022 (the balancer of EnCodec): head i's weight is divided by the
             running norm of its gradient at the trunk's latent z, so that each head gets the share
             of the gradient that its weight says. Divided by the norm of head 1's as well, so that
             head 1 keeps its weight.
cosine       Du et al. 2018: head i's weight is multiplied by max(0, cos(g_i, g_1)), the running
             agreement of its gradient at z with that of the next-token head.
uncertainty  Kendall et al. 2018, for classification: the loss is the sum of
             exp(-s_i) L_i + s_i / 2 with learned s_i = log(sigma_i^2); head i's weight is
             multiplied by exp(-s_i). The gradient for s_i, 1/2 - exp(-s_i) L_i, needs no autograd.
             It follows from the likelihood of a softmax, so it is not for other losses. A head
             without targets or weight in a step keeps its s_i.

Gradients at z are measured every `measured_every` steps (mtp/objective/measure.py) on the step's
whole batch, with the losses' own scale before weights. A head without a valid target there has no
gradient: the measurement leaves it out, and a head that was never measured keeps its weight.

No factor is above BOUND or below 1 / BOUND, except that `cosine` mutes: a head whose loss or
gradient vanishes would otherwise get all of the objective's weight.
"""

import math
from typing import Any

import torch
from torch import Tensor

from mtp.objective_config import ObjectiveConfig

DECAY = 0.9  # of the running means, from one measurement to the next
RATE = 0.01  # of the learned log variances: a step moves one by so much at most
BOUND = 100.0


class Balance:
    """The running state behind the weights of n heads."""

    def __init__(self, config: ObjectiveConfig, n: int, device: str) -> None:
        self.kind, self.n = config.balance, n
        self.changes = self.kind != "none"
        self.learns = self.kind == "uncertainty"
        zeros = torch.zeros(n, device=device)
        self.norms, self.cosines = zeros.clone(), zeros.clone()  # running, not yet corrected
        self.measured = torch.zeros(n, device=device)  # how often each head was
        # The step, norms and cosines of the last measurement, until they are logged.
        self.last: tuple[int, Tensor, Tensor] | None = None
        self.log_variances = zeros.clone()
        self.active = torch.ones(n, dtype=torch.bool, device=device)  # heads with a weight now

    def add(self, step: int, norms: Tensor, cosines: Tensor) -> None:
        """A measurement at a step: the norms (n,) of the heads' gradients at z, their cosines (n,)
        with head 1's."""
        norms, cosines = norms.to(self.norms), cosines.to(self.norms)
        new = (norms > 0).to(self.norms)
        self.measured += new
        self.norms += (1 - DECAY) * new * (norms - self.norms)
        self.cosines += (1 - DECAY) * new * (cosines - self.cosines)
        self.last = step, norms, cosines

    def applied(self, weights: Tensor) -> Tensor:
        """Weights (n,) after balancing. Until something is measured, they stay as they are."""
        if self.learns:
            self.active = weights > 0
            return weights * torch.exp(-self.log_variances)
        if not self.changes:
            return weights
        correction = 1 - DECAY**self.measured  # as Adam's: the means began at 0
        tiny = torch.finfo(self.norms.dtype).tiny
        if self.kind == "gradient":
            norms = self.norms / correction.clamp(min=tiny)
            factor = (norms[0] / norms.clamp(min=tiny)).clamp(1 / BOUND, BOUND)
            known = (self.measured > 0) & (self.measured[0] > 0)
        else:
            factor = (self.cosines / correction.clamp(min=tiny)).clamp(min=0)
            known = self.measured > 0
        return torch.where(known, weights * factor, weights)

    def end_step(self, losses: Tensor) -> None:
        """Learn from a step's losses (n,), which must be the means over all ranks. A head without
        targets has the loss 0."""
        slope = 0.5 - torch.exp(-self.log_variances) * losses
        learns = self.active & (losses > 0)
        self.log_variances -= RATE * slope.clamp(-1, 1) * learns
        self.log_variances.clamp_(-math.log(BOUND), math.log(BOUND))

    def logged(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.last:
            step, norms, cosines = self.last
            found |= {"measured_at": step, "latent_gradient_norms": norms.tolist()}
            found |= {"latent_gradient_cosines": cosines.tolist()}
            self.last = None
        if self.learns:
            found["log_variances"] = self.log_variances.tolist()
        return found

    def state(self) -> dict[str, Any]:
        """As JSON. float32 numbers survive it."""
        return {
            "measured": self.measured.tolist(),
            "last": self.last and [self.last[0], *(each.tolist() for each in self.last[1:])],
            "norms": self.norms.tolist(),
            "cosines": self.cosines.tolist(),
            "log_variances": self.log_variances.tolist(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        if last := state["last"]:
            step, *both = last
            norms, cosines = (torch.tensor(each).to(self.norms) for each in both)
            self.last = step, norms, cosines
        for name in ("measured", "norms", "cosines", "log_variances"):
            own: Tensor = getattr(self, name)
            own.copy_(torch.tensor(state[name]))
