"""objective.token_weights: how much each token counts as a target, as a function of the window.

    FILE.py:NAME, MODULE:NAME   a function from tokens (B, T+n) to factors (B, T+n)
    labels:LABEL=FACTOR,..      by the labels of the source's generator

A generator labels its texts with a function beside its `documents`:

    labels(text)   the spans of a text that have a label: (start, stop, label), in characters

It gets the part of a document that lies in a window, so it must do with that. A token has the label
of its last byte, since a token of a BPE often begins with the space before it. Text without a label
is "other". Factors that are not named are 1.

    ((20553+61030)o(-40112))=40330      labels:answer=4       1 1 .. 1 4 4 4 4 4
                             answer     labels:answer=1,other=0   0 0 .. 0 1 1 1 1 1
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mtp.config import TrainConfig
from mtp.data.sources import generator_options
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput
from mtp.objective_config import label_factors
from mtp.plugins import load_file

TokenWeights = Callable[[Tensor], Tensor]
Spans = Iterable[tuple[int, int, str]]
OTHER = "other"


class Factors:
    """The factors of a run's windows, checked. What a function returns is looked at on the device,
    without waiting for it; `check` waits, and raises BadInput for what was found since. `total` is
    the sum of all factors so far, on this rank."""

    def __init__(self, config: TrainConfig, tokenizer: Tokenizer | None, device: str) -> None:
        self.where = f"objective.token_weights={config.objective.token_weights}"
        self.device = device
        self.function = load(config, tokenizer)
        self.bad = torch.zeros((), dtype=torch.bool, device=device)
        self.total = torch.zeros((), dtype=torch.float64, device=device)

    def of(self, tokens: Tensor) -> Tensor:
        """The factors of tokens (B, L), float32."""
        try:
            found = self.function(tokens.clone())  # which a user's function may change
        except Exception as error:
            raise BadInput(f"{self.where}: {type(error).__name__}: {error}") from error
        if not isinstance(found, Tensor) or found.shape != tokens.shape or found.is_complex():
            is_tensor = isinstance(found, Tensor)
            got = f"{tuple(found.shape)} of {found.dtype}" if is_tensor else type(found).__name__
            raise BadInput(
                f"{self.where} gives {got} for tokens {tuple(tokens.shape)}; it must be a real "
                "factor for each token"
            )
        found = found.to(self.device, torch.float32)
        self.bad |= ~((found >= 0) & (found <= 1e6)).all()
        self.total += found.sum()
        return found

    def check(self) -> None:
        if bool(self.bad):
            raise BadInput(f"{self.where} gives factors that are not from 0 to 1e6")

    def check_total(self, total: float) -> None:
        """Raise BadInput if all factors of all ranks, over many steps, add up to nothing."""
        if not total:
            raise BadInput(f"{self.where} gives no token a factor above 0, so nothing is trained")


def load(config: TrainConfig, tokenizer: Tokenizer | None) -> TokenWeights:
    """The function that the config names. Raises BadInput if there is none."""
    name = config.objective.token_weights
    module, _, function = name.rpartition(":")
    if name.startswith("labels:"):
        if tokenizer is None:
            raise BadInput(f"objective.token_weights={name} needs the corpus's tokenizer")
        return ByLabel(config.data.source, label_factors(name), tokenizer)
    try:
        found = (
            load_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
        )
    except BadInput as error:
        raise BadInput(f"objective.token_weights={name}: {error}") from None
    except Exception as error:
        raise BadInput(f"objective.token_weights={name}: {error}") from error
    if not callable(made := getattr(found, function, None)):
        raise BadInput(f"objective.token_weights={name}: {module} has no function {function!r}")
    return cast(TokenWeights, made)


@dataclass
class ByLabel:
    """Factors by the labels of a source's generator; `factors` are those of labels that are not
    1. Raises BadInput if the source has no labels, or does not have one of these."""

    source: str
    factors: dict[str, float]
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        given = ",".join(f"{label}={factor:g}" for label, factor in self.factors.items())
        where = f"objective.token_weights=labels:{given}"
        if not self.source.startswith("python:"):
            raise BadInput(
                f"{where} takes the labels of a generator, python:MODULE; data.source is "
                f"{self.source}"
            )
        module, _ = generator_options(self.source)
        generator = importlib.import_module(module)
        names, self.labels = getattr(generator, "LABELS", None), getattr(generator, "labels", None)
        if not names or not callable(self.labels):
            raise BadInput(f"{where}: {module} has no LABELS and no labels(text)")
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise BadInput(f"{where}: LABELS of {module} must be a tuple of texts, not {names!r}")
        self.names = {*names}
        for label in self.factors:
            if label not in (*names, OTHER):
                raise BadInput(
                    f"{where}: {module} has no label {label!r}; choose from: "
                    f"{', '.join((*names, OTHER))}"
                )
        self.bytes = bytes_of_tokens(self.tokenizer)

    def __call__(self, tokens: Tensor) -> Tensor:
        """The factors of tokens (B, L), float32 on the CPU."""
        rows = [self.row(row) for row in tokens.tolist()]
        return torch.tensor(rows, dtype=torch.float32)

    def row(self, ids: list[int]) -> list[float]:
        """The factors of a row's tokens. Each document's part in it is labelled on its own."""
        found: list[float] = []
        start = 0
        for i, token in enumerate(ids):
            if token == self.tokenizer.eos or i == len(ids) - 1:
                found += self.document([self.bytes(t) for t in ids[start : i + 1]])
                start = i + 1
        return found

    def document(self, pieces: list[bytes]) -> list[float]:
        """The factors of tokens with these bytes."""
        text = b"".join(pieces).decode(errors="surrogateescape")
        factors = [self.factors.get(OTHER, 1.0)] * len(text)
        for start, stop, label in cast(Callable[[str], Spans], self.labels)(text):
            if not 0 <= start <= stop <= len(text) or label not in self.names:
                raise ValueError(
                    f"labels(text) gives the span ({start}, {stop}, {label!r}) in a text of "
                    f"{len(text)} characters; LABELS are {', '.join(sorted(self.names))}"
                )
            factors[start:stop] = [self.factors.get(label, 1.0)] * len(factors[start:stop])
        if not text.isascii():  # a factor for each byte
            sizes = (len(c.encode(errors="surrogateescape")) for c in text)
            factors = [f for f, size in zip(factors, sizes, strict=True) for _ in range(size)]
        found, end = list[float](), 0
        for piece in pieces:
            end += len(piece)
            found.append(factors[end - 1] if piece else self.factors.get(OTHER, 1.0))
        return found
