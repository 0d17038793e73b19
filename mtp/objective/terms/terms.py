"""The terms of a run together."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mtp.config import TrainConfig
from mtp.data.window import Window
from mtp.model.model import MultiTokenTransformer
from mtp.objective.terms.bag import Bag
from mtp.objective.terms.collapse import collapse
from mtp.objective.terms.embedding import Embedding
from mtp.objective.terms.latent import Latent
from mtp.objective.terms.order import Order
from mtp.objective.terms.term import Term

# the field of ObjectiveConfig that is the term's weight -> its module
TERMS: dict[str, type[Term]] = {
    "order": Order,
    "bag": Bag,
    "latent": Latent,
    "embedding": Embedding,
}


class Terms:
    """The terms that have a weight. Their modules have no memory for weights until the model that
    they are attached to is materialised. `losses` (terms,) are those of a step so far, without the
    terms' weights."""

    def __init__(self, config: TrainConfig, device: str) -> None:
        self.weights = config.objective.terms
        with torch.device("meta"):
            self.by_name = {t: TERMS[t](config.model, config.objective) for t in self.weights}
        self.losses = torch.zeros(len(self.by_name), dtype=torch.float64, device=device)

    def counts(self, windows: list[Window]) -> list[Tensor]:
        """What each term's sum over the windows is divided by."""
        found = [[term.count(window) for window in windows] for term in self.by_name.values()]
        return [torch.stack(own).sum() for own in found]

    def loss(
        self, model: MultiTokenTransformer, window: Window, counts: Tensor
    ) -> Callable[..., Tensor] | None:
        """The weighted sum of the terms () as a function of h_1 (B, T, D) after the final norm, and
        of `rows` if these are a slice of the window's; it also adds to `losses`. None if there are
        no terms. `counts` (terms,) are those of the whole batch."""
        if not self.by_name:
            return None

        def weighted(h: Tensor, rows: slice = slice(None)) -> Tensor:
            own = window.rows(rows.start, rows.stop)
            found = [
                term(h, model, own, count)
                for term, count in zip(self.by_name.values(), counts, strict=True)
            ]
            self.losses += torch.stack(found).detach()
            weights = list(self.weights.values())
            return torch.stack([w * x for w, x in zip(weights, found, strict=True)]).sum()

        return weighted

    def logged(self) -> dict[str, Any]:
        """For metrics.jsonl: whether vectors collapse, of the terms that predict vectors."""
        found = {}
        for name, term in self.by_name.items():
            if term.seen:
                vectors, counts = term.seen
                found[name] = collapse(vectors[counts])
        return {"collapse": found} if found else {}
