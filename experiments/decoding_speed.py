"""What the studies of decoding share: ways to decode, their speeds as rows, and rows by way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from experiments.results import Measure

if TYPE_CHECKING:
    import pandas as pd

    from evals.probes.speculation import Speed, Way
    from mtp.decoding.generate import Generation
    from mtp.model.model import MultiTokenTransformer

TEMPERATURE = 0.8


@dataclass(frozen=True)
class Setting:
    """Tokens of each prompt and of its continuation, batch sizes (the number of prompts is the
    batch size, eight at least), repeats of each timing, nodes of the tree."""

    prompt: int
    new: int
    batches: tuple[int, ...]
    repeats: int
    nodes: int


def ways_of(model: MultiTokenTransformer, new: int, heads: Sequence[int]) -> dict[str, Way]:
    """The greedy chain of k heads, for each k."""
    return {f"chain, k={k}": partial(decoder(model, new), k=k) for k in heads}


def decoder(model: MultiTokenTransformer, new: int) -> Callable[..., Generation]:
    """`generate`, with CUDA graphs on a GPU: else launches, not passes, would be timed there."""
    from mtp.decoding.generate import generate

    on_gpu = model.embedding.weight.is_cuda
    return partial(generate, model, max_new=new, compiled=on_gpu)


def speed_rows(found: dict[str, Speed], domain: str, batch: int, count: int) -> list[Measure]:
    """The rows of one batch size, over `count` different prompts."""
    rows = []
    for way, speed in found.items():
        where = f"{domain}, {way}, batch {batch}"
        sampled = way.startswith("T=")
        baseline = found[f"T={TEMPERATURE}, k=1" if sampled else "chain, k=1"]
        rows.append(Measure(f"tokens/s, {where}", speed.tokens_per_second, count))
        rows.append(Measure(f"speedup, {where}", speed.over(baseline), count))
        if way == "n=1 model":
            continue
        if not sampled:
            same = float(speed.tokens == baseline.tokens)
            rows.append(Measure(f"same tokens as k=1, {where}", same, count))
        rows.append(Measure(f"tokens per forward, {where}", speed.tokens_per_forward, count))
        for i, share in enumerate(speed.acceptance, 2):
            rows.append(Measure(f"acceptance, head {i} (%), {where}", 100 * share, count))
    return rows


def split_metric(rows: pd.DataFrame, pattern: str) -> pd.DataFrame:
    """The rows whose metric matches, with the pattern's groups as columns, numbers as numbers."""
    import pandas as pd

    found = rows.metric.str.extract(pattern)
    kept = rows[found.notna().all(axis=1)]
    for name in found.columns:
        values = found[name][kept.index]
        kept = kept.assign(**{name: pd.to_numeric(values) if name in ("k", "batch") else values})
    return kept
