"""What a step's gradients come from: the heads' cross-entropies, with the weights of the moment,
and further terms (mtp/objective/terms/), whose weights stay.

    objective = Objective(config, device)
    parts = objective.derive(window, micro)              of this rank
    counts = objective.counts(parts)                     to be summed over the ranks
    objective.begin_step(share)                          the share of the budget that is used
    losses = objective.backward(model, part, counts)     for each part
    objective.balance.end_step(losses)                   the step's losses, over all ranks

Weights and controls are those of an ObjectiveConfig (mtp/objective_config.py). The memory schemes
(mtp/objective/cross_entropy.py) compute the losses and their gradients.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtp.config import TrainConfig
from mtp.data.tokenizer import Tokenizer
from mtp.data.window import IGNORE, Window
from mtp.model.model import MultiTokenTransformer
from mtp.objective.balance import Balance
from mtp.objective.cross_entropy import SCHEMES, Emphasis, sums_of_targets
from mtp.objective.measure import products
from mtp.objective.terms.terms import Terms
from mtp.objective.token_weights import Factors
from mtp.objective_config import base_weights, scheduled


@dataclass(frozen=True)
class Part:
    """Some rows of a step's window, with what the objective derives from them: targets and their
    factors, (n, B, T) each."""

    window: Window
    targets: Tensor
    factors: Tensor | None


class Objective:
    """The objective of a run. `weights` (n,) are those of the current step, on the device. The
    corpus's `tokenizer` is for token weights by labels."""

    def __init__(
        self, config: TrainConfig, device: str, tokenizer: Tokenizer | None = None
    ) -> None:
        self.config, self.n, self.device = config.objective, config.model.n, device
        self.scheme, self.frozen = SCHEMES[config.scheme], config.freeze == "trunk"
        own = self.config.token_weights
        self.token_weights = Factors(config, tokenizer, device) if own else None
        self.balance = Balance(self.config, self.n, device)
        self.terms = Terms(config, device)
        self.weights = torch.ones(self.n, device=device)
        self.scheduled = [1.0] * self.n, self.weights
        # So that nothing is multiplied where nothing is to be weighted.
        equal = base_weights(self.config.weights, self.n) == [1.0] * self.n
        self.unweighted = equal and self.config.schedule == "constant" and not self.balance.changes

    # ----------------------------------------------------------------------------------------------
    # a step

    def derive(self, window: Window, micro: int) -> list[Part]:
        """A rank's window in parts of `micro` rows, with their targets."""
        targets = window.targets()
        factors = self.factors(window)
        if self.config.targets == "same":
            targets = targets[:1].expand(self.n, -1, -1)
            factors = None if factors is None else factors[:1].expand(self.n, -1, -1)
        elif self.config.targets == "shuffled":
            targets = torch.cat([targets[:1], exchanged(targets[1:])])
            factors = None if factors is None else torch.cat([factors[:1], exchanged(factors[1:])])
        if self.config.loss != "ce":  # head 1's distribution is not known beyond the window
            late = torch.arange(targets.shape[2], device=targets.device) + 1
            reach = torch.arange(self.n, device=targets.device)[:, None, None]  # i - 1
            targets = targets.where(late + reach <= targets.shape[2], IGNORE)
        parts = []
        for first in range(0, len(window.tokens), micro):
            rows = slice(first, first + micro)
            own = None if factors is None else factors[:, rows]
            parts.append(Part(window.rows(first, first + micro), targets[:, rows], own))
        return parts

    def factors(self, window: Window) -> Tensor | None:
        """The token weights of the targets, (n, B, T)."""
        if self.token_weights is None:
            return None
        found, length = self.token_weights.of(window.tokens), window.inputs.shape[1]
        return torch.stack([found[:, i : i + length] for i in range(1, self.n + 1)])

    def counts(self, parts: list[Part]) -> Tensor:
        """Valid targets of each head, or the sum of their factors, then what each term is divided
        by, over all parts. (n + terms,)"""
        heads = torch.stack([sums_of_targets(part.targets, part.factors) for part in parts]).sum(0)
        return torch.cat([heads, *(x[None] for x in self.terms.counts([p.window for p in parts]))])

    def begin_step(self, share: float) -> None:
        """Set the weights for a step at this share of the budget, from 0 to below 1."""
        self.terms.losses.zero_()
        if self.unweighted:
            return
        now = scheduled(self.config, self.n, share)
        if now != self.scheduled[0]:
            self.scheduled = now, torch.tensor(now).to(self.device, non_blocking=True)
        weights = self.balance.applied(self.scheduled[1])
        self.weights = weights / weights.sum() if self.config.weights == "sum1" else weights

    def backward(self, model: MultiTokenTransformer, part: Part, counts: Tensor) -> Tensor:
        """Add the gradient of the part's weighted losses to the parameters' .grad; returns the
        heads' losses (n,) without their weights, and adds those of terms to `terms.losses`."""
        weights = None if self.unweighted else self.weights
        terms = self.terms.loss(model, part.window, counts[self.n :])
        emphasis = Emphasis(weights, part.factors, self.config.detach, self.config.loss, terms)
        own = part.window.inputs, part.targets, counts[: self.n], emphasis, part.window.ahead
        return self.scheme(model, *own)

    def measures(self, step: int) -> bool:
        """Whether the heads' gradients at the latent are measured at this step."""
        every = self.config.measured_every
        useful = self.n > 1 or self.config.measure_every > 0  # one head has nothing to balance
        return useful and every > 0 and step % every == 0

    def measure(self, model: MultiTokenTransformer, parts: list[Part], counts: Tensor) -> Tensor:
        """`products` of the heads' gradients at the latent, (2, n), of all parts."""
        found = torch.zeros(2, self.n, dtype=torch.float64, device=self.device)
        for part in parts:
            own = part.window.inputs, part.targets, counts[: self.n], part.factors
            found += products(model, *own, part.window.ahead)
        return found

    @property
    def total_weight(self) -> Tensor | float:
        """The sum of the weights of all losses that train anything, by which a gradient is divided
        before it is clipped."""
        first = int(self.frozen)  # head 1 is not trained
        if self.unweighted:
            return self.n - first + sum(self.terms.weights.values())
        tiny = torch.finfo(self.weights.dtype).tiny  # a schedule may give all others 0
        return self.weights[first:].sum().clamp(min=tiny) + sum(self.terms.weights.values())

    def check(self) -> None:
        """Raise BadInput for what was wrong with token weights. Waits for the device."""
        if self.token_weights is not None:
            self.token_weights.check()

    @property
    def may_train_nothing(self) -> Factors | None:
        """Token weights that decide whether anything is trained."""
        return None if self.terms.weights else self.token_weights

    # ----------------------------------------------------------------------------------------------
    # what is logged and saved

    def logged(self) -> dict[str, Any]:
        """For metrics.jsonl: the weights and the effective number of heads, unless they are
        always 1 and n, and what balance and terms have measured."""
        found = self.balance.logged() | self.terms.logged()
        if not self.unweighted:
            found["weights"] = self.weights.tolist()
            found["effective_n"] = effective_n(self.weights)
        return found

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold, as JSON."""
        return self.balance.state()

    def load_state(self, state: dict[str, Any]) -> None:
        self.balance.load_state(state)


def exchanged(x: Tensor) -> Tensor:
    """(n, B, T) with rows 0 and 1, 2 and 3, .. of the batch exchanged."""
    return x.unflatten(1, (-1, 2)).flip(2).flatten(1, 2)


def effective_n(weights: Tensor) -> float:
    """(sum w)^2 / sum w^2: how many heads of equal weight would share the gradient as evenly."""
    return float(weights.sum() ** 2 / weights.square().sum())
