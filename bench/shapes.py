"""The model that is timed on a CPU. It is larger than those of the studies (experiments/bases.py),
whose steps are so short that Python would be what is timed."""

from experiments.bases import base
from mtp.config import CorpusConfig, ModelConfig, TrainConfig


def bench_config(quick: bool = False) -> TrainConfig:
    """An n=1 model of 2M parameters without embeddings; quick: of the smoke scale."""
    if quick:
        return base("smoke")
    return TrainConfig(
        model=ModelConfig(dim=128, layers=10, attn_heads=4, vocab=2048, context=256),
        data=CorpusConfig(vocab=2048, validation=0.03),
        batch=4, tokens=4e5, lr=4e-3, warmup=40, log_every=8, save_every=100,
    )  # fmt: skip
