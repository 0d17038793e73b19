"""Runs that differ in their budget alone, and in how they are executed: by their configs, and by
their folders. One of them may continue another (mtp/training/branch.py). Nothing here needs torch.
"""

import contextlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtp import checkpoint
from mtp.config import TrainConfig
from mtp.files import parse_json
from mtp.overrides import EXECUTION, to_json
from mtp.training.schedule import shared_steps, steps_of

BUDGET = ("tokens", "epochs")


def stable(run: Path) -> Path:
    """Where a run keeps its checkpoint from before its decay."""
    return run / "stable"


def has_begun(run: Path) -> bool:
    """Whether a run has a checkpoint with steps of its own, and so needs no other run."""
    return any(path.name > "step-00000000" for path in checkpoint.saved(run / "checkpoint"))


def siblings(config: TrainConfig, folder: Path) -> list[Path]:
    """The runs beside `folder` that differ from `config` in their budget, and in how they are
    executed, alone. Files that a config names are not looked into."""
    own, found = _without_budget(json.loads(to_json(config))), list[Path]()
    for file in sorted(folder.absolute().parent.glob("*/config.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if _without_budget(parse_json(file.read_bytes())) == own:
                found.append(file.parent)
    return [run for run in found if run.name != folder.absolute().name]


def shorter(configs: Sequence[TrainConfig]) -> list[TrainConfig | None]:
    """For each config the one of the others whose run its own continues: with the largest budget
    below its own, in the same unit, and nothing else that is another except its execution."""
    groups = dict[str, list[tuple[float, TrainConfig]]]()
    found = list[TrainConfig | None]()
    keys = [_key(config) for config in configs]
    for key, config in zip(keys, configs, strict=True):
        groups.setdefault(key, []).append((config.tokens or config.epochs, config))
    for key, config in zip(keys, configs, strict=True):
        less = [each for each in groups[key] if each[0] < (config.tokens or config.epochs)]
        shares = less and shared_steps(config, 10**9)
        found.append(max(less, key=lambda each: each[0])[1] if shares else None)
    return found


def longest(configs: Sequence[TrainConfig]) -> list[TrainConfig]:
    """The configs without those that another one continues."""
    continued = [less for less in shorter(configs) if less]
    return [config for config in configs if config not in continued]


def own_tokens(
    configs: Sequence[TrainConfig], budget: Callable[[TrainConfig], float]
) -> list[float]:
    """The tokens that each run trains itself if it continues one of the others where it can.

    budget  the tokens of a run in all; nan if unknown
    """
    found = list[float]()
    for config, less in zip(configs, shorter(configs), strict=True):
        tokens = budget(config)
        if less and math.isfinite(tokens):
            steps = shared_steps(less, steps_of(less, budget(less)))
            tokens -= steps * less.batch * less.model.context
        found.append(tokens)
    return found


def _key(config: TrainConfig) -> str:
    unit = "tokens" if config.tokens else "epochs"
    return f"{unit} {sorted(_without_budget(json.loads(to_json(config))).items())}"


def _without_budget(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in (*EXECUTION, *BUDGET)}
