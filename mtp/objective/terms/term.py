"""What every term of the objective beside the heads' cross-entropies has.

A term is a module of the training run, `auxiliary.NAME` of the model. It is neither evaluated nor
exported. It reads the latents h_1 of the next-token head after the final norm, so it means the same
for every n and head type.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.data.window import Window
from mtp.model.model import MultiTokenTransformer
from mtp.objective_config import ObjectiveConfig

Vectors = tuple[Tensor, Tensor]  # (N, D), and which of them count (N,)


class Term(nn.Module, ABC):
    """A term of a model's training; its weights are drawn or loaded with the model's."""

    def __init__(self, model: ModelConfig, objective: ObjectiveConfig) -> None:
        super().__init__()
        self.model, self.objective = model, objective
        self.seen: Vectors | None = None  # vectors of the last part, for terms that can collapse

    @abstractmethod
    def count(self, window: Window) -> Tensor:
        """What the sum of a window's losses is divided by, ()."""

    @abstractmethod
    def forward(
        self, h: Tensor, model: MultiTokenTransformer, window: Window, count: Tensor
    ) -> Tensor:
        """The loss () of latents h (B, T, D), summed over positions and divided by `count`, which
        is that of the whole batch if the window is a part of one."""
