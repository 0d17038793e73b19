"""Where a run's metrics go besides RUN/metrics.jsonl: TensorBoard, Weights & Biases, trackio.

`log_to` names them. Each is an extra, such as '.[wandb]' for pip. A sink that cannot be reached,
now or later, is given up with one line, and training goes on.
"""

import hashlib
import importlib.util
import netrc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlparse

from mtp.errors import BadInput

PROJECT = "mtp-suite"  # of W&B and trackio
INIT_SECONDS = 30.0  # for W&B's server to answer


class Sink(Protocol):
    """What takes numbers by step."""

    def log(self, step: int, values: dict[str, float]) -> None: ...
    def close(self) -> None: ...


class TensorBoard:
    """RUN/tensorboard. What was logged from `step` on, before an interruption, is hidden."""

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def log(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A W&B run named after the folder. Without a key it is written to RUN/wandb alone, for
    `wandb sync`, since a question for the key would stop the run."""

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        mode = None if _has_key(wandb.Settings().base_url) else "offline"
        self.run = wandb.init(
            project=PROJECT, name=folder.name, id=_id(folder), dir=folder, config=config,
            resume="allow", mode=mode,
            settings=wandb.Settings(init_timeout=INIT_SECONDS, silent=True),
        )  # fmt: skip

    def log(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def close(self) -> None:
        self.run.finish()


class Trackio:
    """A local trackio run; `trackio show` draws it."""

    def __init__(self, folder: Path, config: dict[str, Any], step: int) -> None:
        import trackio  # pyright: ignore[reportMissingImports]

        trackio.init(project=PROJECT, name=folder.name, config=config, resume="allow")
        self.trackio = trackio

    def log(self, step: int, values: dict[str, float]) -> None:
        self.trackio.log(values, step=step)

    def close(self) -> None:
        self.trackio.finish()


KINDS: dict[str, Callable[[Path, dict[str, Any], int], Sink]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}


class Sinks:
    """All sinks of a run, each until it fails.

    say  prints a line for the user
    """

    def __init__(
        self, names: str, folder: Path, config: dict[str, Any], step: int,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.folder, self.say = folder, say
        self.open: dict[str, Sink] = {}
        for name in filter(None, names.split(",")):
            self._try(name, lambda name=name: self._start(name, config, step))

    def log(self, row: dict[str, Any]) -> None:
        """Log the numbers of a row of metrics.jsonl; a list has one for each head, and those of
        terms are named "terms/order"."""
        values = dict[str, float]()
        for key, value in flat(row).items():
            many = isinstance(value, list)
            for i, number in enumerate(value if many else [value]):
                if isinstance(number, int | float) and key != "step":
                    values[f"{key}/head {i + 1}" if many else key] = float(number)
        for name, sink in list(self.open.items()):
            self._try(name, lambda sink=sink: sink.log(row["step"], values))

    def close(self) -> None:
        for name, sink in list(self.open.items()):
            self._try(name, sink.close)

    def _start(self, name: str, config: dict[str, Any], step: int) -> None:
        self.open[name] = KINDS[name](self.folder, config, step)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # whatever another package raises; the run is worth more
            self.open.pop(name, None)
            reason = " ".join(str(error).split()) or type(error).__name__
            self.say(
                f"{name} cannot be reached ({reason[:200]}); training goes on, and its metrics are "
                f"in {self.folder / 'metrics.jsonl'}"
            )


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row without dicts in it.

    >>> flat({"step": 2, "terms": {"order": 1.5}})
    {'step': 2, 'terms/order': 1.5}
    """
    found: dict[str, Any] = {}
    for key, value in row.items():
        inner = flat(value) if isinstance(value, dict) else {"": value}
        found |= {f"{key}/{name}".rstrip("/"): each for name, each in inner.items()}
    return found


def check(names: str) -> None:
    """Raise BadInput for a sink whose package, of the same name, is not installed."""
    for name in filter(None, names.split(",")):
        if importlib.util.find_spec(name) is None:
            raise BadInput(f"log_to={name} needs its extra: .venv/bin/pip install -e '.[{name}]'")


def _has_key(server: str) -> bool:
    """Whether W&B can log in without a question, or has been told its mode."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE"):
        return True
    try:
        return netrc.netrc().authenticators(urlparse(server).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _id(folder: Path) -> str:
    """The same for a run that continues, and another for another folder of that name."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
