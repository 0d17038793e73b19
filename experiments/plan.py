"""What a study would run: parameters, tokens, FLOPs and hours, before anything starts."""

import math
from pathlib import Path

from experiments.study import Study, run_folder, size_name
from mtp.config import TrainConfig
from mtp.data.batches import epoch_tokens
from mtp.data.corpus import open_if_built
from mtp.hardware import expected_flops
from mtp.model.sizes import flops_per_token, parameter_counts


def show_plan(study: Study, label: str, configs: list[TrainConfig], data: Path) -> None:
    """One line per run; the totals at the end."""
    print(f"{study.name} at scale {label}: {study.artefact}")
    header = f"{'run':40} {'size':>7} {'parameters':>12} {'tokens':>8} {'FLOPs':>8} {'hours':>7}"
    print(header)
    rate, device = expected_flops()
    total, unknown = 0.0, 0
    for config in configs:
        tokens = config.tokens or config.epochs * corpus_tokens(config, data)
        flops = tokens * flops_per_token(config.model)
        counted = not math.isnan(flops)
        total, unknown = total + (flops if counted else 0.0), unknown + (not counted)
        parameters = parameter_counts(config.model)["total"]
        budget = f"{tokens:8.2g} {flops:8.1e} {flops / rate / 3600:7.2g}"
        if not counted:
            budget = f"{config.epochs:.3g} passes over a corpus that is not built yet"
        name = run_folder(config, Path()).name
        print(f"{name:40} {size_name(config):>7} {parameters:12,} {budget}")
    print(
        f"{len(configs)} runs, {total:.2e} FLOPs, about {total / rate / 3600:.2g} hours of "
        f"training at {rate:.1e} FLOP/s ({device}); evaluation comes on top"
        + (f"; {unknown} runs are not counted" if unknown else "")
    )


def corpus_tokens(config: TrainConfig, data: Path) -> float:
    """Tokens of a pass over a config's corpus; nan if it is not built yet."""
    corpus = open_if_built(config.data, data)
    return epoch_tokens(corpus.train, config.model.context) if corpus else float("nan")
