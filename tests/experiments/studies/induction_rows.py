"""Made-up rows of the studies of induction: runs whose curves rise at a step that is given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from experiments import results
from experiments.name_copying import DRAWN, HELD_OUT, LIKELY, NAMES, NATS, RIGHT
from experiments.study import find, head_name, plan, run_folder
from mtp.config import TrainConfig

When = Callable[[str, int], float]  # arm, seed -> the step at which a run comes to copy


def rows_of(name: str, scale: str, when: When, seeds: int, more: dict[str, float]) -> pd.DataFrame:
    """Accuracy 20% before and 90% after; loss 2 and 0.2 nats; `more`: metrics of the last step."""
    study, rows = find(name), list[dict[str, Any]]()
    for config in plan(study, scale):
        if config.seed >= seeds:
            continue
        arm = study.arm(config)
        common = {
            "study": name, "scale": scale, "run_id": run_folder(config, Path()).name, "arm": arm,
            "seed": config.seed, "size": "0.2M", "n": config.model.n, "head": head_name(config),
            "unit": "token", "data": f"{config.data.source}, bpe-768", "count": 500,
            "changed": "", "device": "cpu", "versions": "v", "commit": "c",
        }  # fmt: skip
        steps, at = kept(config), when(arm, config.seed)
        for step in steps:
            there = step >= at
            for metric, value in (
                (RIGHT.metric, 90.0 if there else 20.0),
                (LIKELY.metric, 0.2 if there else 2.0),
                ("held-out loss, over training (nats)", 3 - step / 1e4),
                ("prefix matching, strongest head, over training", 0.8 if there else 0.1),
            ):
                rows.append(common | {"metric": metric, "value": value, "step": step})
        ends = {
            f"{NAMES}, last step": 90.0, f"{NATS}, last step": 0.2, f"{NAMES}, {DRAWN}": 52.0,
            f"{NATS}, {DRAWN}": 0.7, f"{NAMES}, the commonest one": 5.0, HELD_OUT: 2.5,
            "prefix matching, even attention": 0.02,
        } | more  # fmt: skip
        rows += [common | {"metric": m, "value": v, "step": steps[-1]} for m, v in ends.items()]
    return pd.DataFrame(rows, columns=results.COLUMNS)


def kept(config: TrainConfig) -> list[int]:
    last = int(config.tokens // (config.batch * config.model.context))
    return sorted({*range(config.keep_every, last + 1, config.keep_every), last})
