"""The runs that the sweeps start from, by scale."""

import dataclasses

from mtp.config import CorpusConfig, ModelConfig, TrainConfig, size


def base(scale: str) -> TrainConfig:
    """The n=1 run of a scale; the three sweeps share it."""
    if scale == "smoke":
        return TrainConfig(
            model=ModelConfig(dim=32, layers=9, attn_heads=2, vocab=300, context=32),
            data=CorpusConfig(vocab=300, max_mb=0.3, validation=0.2),
            batch=4, tokens=2_560, lr=3e-3, warmup=5, log_every=5,
        )  # fmt: skip
    if scale == "cpu":
        return TrainConfig(
            model=ModelConfig(dim=128, layers=10, attn_heads=4, vocab=2048, context=256),
            data=CorpusConfig(vocab=2048, validation=0.03),
            batch=4, tokens=4e5, lr=4e-3, warmup=40, log_every=20, save_every=100,
        )  # fmt: skip
    if scale == "gpu":
        return TrainConfig(
            model=size("100M", vocab=32_000, context=1024),
            data=CorpusConfig(source="pypi-v1", vocab=32_000),
            batch=64, tokens=65e6, lr=1e-3, warmup=100, log_every=20, save_every=200,
        )  # fmt: skip
    return TrainConfig(  # Tables S13 and S14, code 7B 200B; the corpus is the user's to name
        model=size("6.7B", vocab=32_000, context=4096),
        data=CorpusConfig(source="", vocab=32_000),
        batch=2048, micro=1, tokens=25_000 * 2048 * 4096, lr=3e-4, warmup=2000,
        log_every=10, save_every=500,
    )  # fmt: skip


def with_model(config: TrainConfig, seed: int = 0, **changes: object) -> TrainConfig:
    model = dataclasses.replace(config.model, **changes)  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(config, model=model, seed=seed)


def seeds(scale: str) -> range:
    return range({"cpu": 2, "gpu": 2}.get(scale, 1))
