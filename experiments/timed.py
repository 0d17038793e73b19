"""Evaluations that time something: in which precision they decode, and one at a time on a GPU."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.results import Measure
from mtp.command_line import default_precision
from mtp.locks import locked

if TYPE_CHECKING:
    from mtp.data.corpus import Corpus
    from mtp.model.model import MultiTokenTransformer

    Evaluation = Callable[[MultiTokenTransformer, Corpus, str], list[Measure]]

TIMED = "_is_timed"


def timed(evaluation: Evaluation) -> Evaluation:
    """Mark an evaluation whose numbers are times. On a GPU it gets its model in bf16, in which
    models are decoded in practice, and no other timed evaluation runs on that GPU meanwhile."""

    @functools.wraps(evaluation)
    def alone(model: MultiTokenTransformer, corpus: Corpus, scale: str) -> list[Measure]:
        with alone_on(str(model.embedding.weight.device)):
            return evaluation(model, corpus, scale)

    setattr(alone, TIMED, True)
    return alone


def precision_for(evaluation: Evaluation, device: str) -> str:
    """The precision of the weights that an evaluation gets."""
    return default_precision(device, timed=hasattr(evaluation, TIMED))


@contextlib.contextmanager
def alone_on(device: str) -> Iterator[None]:
    """Hold a GPU's lock, whatever number the GPU has in this process; wait for another process of
    this user and machine that holds it. Without effect on a CPU, where a study's runs share the
    cores from beginning to end."""
    if device == "cpu":
        yield
        return
    folder = Path(tempfile.gettempdir()) / f"multi-token-timing-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)

    def say() -> None:
        print(f"waiting: another evaluation times something on {device}", flush=True)

    with locked(folder / gpu_id(device), waiting=say):
        yield


def gpu_id(device: str) -> str:
    """What tells a GPU from every other."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)
