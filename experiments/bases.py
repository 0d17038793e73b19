"""The runs that the sweeps start from, by scale, and the byte models of the paper's design."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size


def base(scale: str) -> TrainConfig:
    """The n=1 run of a scale; the three sweeps share it."""
    if scale == "smoke":
        return TrainConfig(
            model=ModelConfig(dim=32, layers=10, attn_heads=2, vocab=300, context=32),
            data=CorpusConfig(vocab=300, max_mb=0.3, validation=0.1),
            batch=4, tokens=2_560, lr=3e-3, lr_schedule="wsd:0.2", warmup=5, log_every=5,
            keep_every=10,
        )  # fmt: skip
    if scale == "cpu":
        return TrainConfig(
            model=ModelConfig(dim=48, layers=6, attn_heads=3, vocab=512, context=128),
            data=CorpusConfig(source="installed", vocab=512, validation=0.045),
            batch=16, tokens=1.4e6, lr=16e-3, lr_schedule="wsd:0.2", warmup=60, log_every=25,
            save_every=300, keep_every=57,
        )  # fmt: skip
    if scale == "night":
        longer = dataclasses.replace(base("cpu"), tokens=5e6, keep_every=203)
        return with_model(longer, dim=64, attn_heads=4)
    if scale == "gpu":
        return TrainConfig(
            model=size("100M", vocab=32_000, context=1024),
            data=CorpusConfig(source="pypi-v1", vocab=32_000),
            batch=64, tokens=65e6, lr=1e-3, warmup=100, log_every=20, save_every=200,
            keep_every=248,
        )  # fmt: skip
    return TrainConfig(  # Tables S13 and S14, code 7B 200B; the corpus is the user's to name
        model=size("6.7B", vocab=32_000, context=4096),
        data=CorpusConfig(source="", vocab=32_000),
        batch=2048, micro=2, tokens=25_000 * 2048 * 4096, lr=3e-4, warmup=2000,
        log_every=10, save_every=500,
    )  # fmt: skip


def with_changes(
    config: TrainConfig, model: Mapping[str, Any], objective: Mapping[str, Any], **own: Any
) -> TrainConfig:
    """The config with fields of its model, of its objective and of its own changed."""
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, **model),
        objective=dataclasses.replace(config.objective, **objective),
        **own,
    )


def with_model(config: TrainConfig, seed: int = 0, **changes: object) -> TrainConfig:
    model = dataclasses.replace(config.model, **changes)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(config, model=model, seed=seed)


def seeds(scale: str) -> range:
    return range({"cpu": 2, "gpu": 2}.get(scale, 1))


BYTE_N = (1, 8, 16, 32)
BYTE_VOCAB = 258  # 256 bytes, beginning and end of a document


def byte_sweep(scale: str) -> list[TrainConfig]:
    """The paper's design (Table S13): for each seed the n=1 token model, then byte models of every
    n with replicated unembeddings; all see as much text."""
    # A share of a pass is as much text for every run, whatever its tokenizer.
    epochs = {"smoke": 0.02, "cpu": 0.05, "gpu": 0.5}.get(scale, 0.0)
    budget = {"tokens": 0.0 if epochs else 116e9, "epochs": epochs, "keep_every": 0}
    tokens = dataclasses.replace(base(scale), **budget)  # pyright: ignore[reportArgumentType]
    data = dataclasses.replace(tokens.data, tokenizer="bytes")
    context = {"paper": 8192}.get(scale, tokens.model.context)
    byte = dataclasses.replace(
        with_model(tokens, vocab=BYTE_VOCAB, head="replicated", context=context), data=data
    )
    if scale == "paper":  # Table S13: 12 x 2^20 bytes per step; section 3.3: 116B tokens of text
        byte = dataclasses.replace(byte, batch=1536, tokens=25_000 * 1536 * 8192)
    return [
        config
        for seed in seeds(scale)
        for config in [with_model(tokens, seed), *(with_model(byte, seed, n=n) for n in BYTE_N)]
    ]
