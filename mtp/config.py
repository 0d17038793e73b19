"""Frozen configs, and the paper's sizes by name.

A config defines a run. The fields that define its result (TrainConfig's own) are hashed to the
run's id; the fields that say how it is executed (Execution) may change when the run continues.
"""

import math
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mtp.errors import BadInput, choose
from mtp.head_types import DEFAULT, HEADS
from mtp.objective_config import REACH, ObjectiveConfig, base_weights, most_weights

# Table S14: name -> (dim, layers, attention heads). The names 1M to 1B count parameters without the
# embeddings (synthetic studies); 0.3B to 13B count all parameters with V = 32,000.
SIZES: dict[str, tuple[int, int, int]] = {
    "1M": (128, 5, 4),
    "3M": (256, 4, 8),
    "10M": (384, 6, 8),
    "30M": (512, 10, 8),
    "100M": (768, 14, 12),
    "300M": (1024, 25, 16),
    "1B": (1536, 36, 24),
    "0.3B": (1024, 18, 16),
    "0.6B": (1280, 27, 20),
    "1.3B": (2048, 24, 16),
    "3B": (2560, 36, 20),
    "6.7B": (4096, 32, 32),
    "13B": (5120, 40, 40),
}


def _at_least(config: object, where: str, limit: int, *names: str) -> None:
    for name in names:
        if not getattr(config, name) >= limit:
            raise BadInput(f"{where}{name} is {getattr(config, name)}; it must be at least {limit}")


def _positive(config: object, where: str, *names: str) -> None:
    for name in names:
        if not getattr(config, name) > 0:
            raise BadInput(f"{where}{name} is {getattr(config, name)}; it must be positive")


def _within(config: object, where: str, **bounds: tuple[float, float]) -> None:
    for name, (low, high) in bounds.items():
        if not low <= getattr(config, name) <= high:
            raise BadInput(
                f"{where}{name} is {getattr(config, name)}; it must be from {low:g} to {high:g}"
            )


MAX_CONTEXT = 2**24  # beyond any model's; a table of positions is built before weights are read
MAX_HEADS = 1024  # likewise; each head is built, or listed in an objective
MAX_LAYERS = 16_384  # likewise


@dataclass(frozen=True)
class ModelConfig:
    """A Llama trunk with n prediction heads (section 2, Appendix B).

    dim            D, the width of the residual stream
    layers         L, counted as in Table S14: trunk and transformer heads together
    attn_heads     attention heads of a layer
    kv_heads       key-value heads of a layer, which attention heads share in groups; 0: as many as
                   attention heads
    vocab          V, the ids of the tokenizer; follows data.tokenizer and data.vocab unless set
    n              how many future tokens are predicted at each position
    head           the head type: a row of the table in mtp/head_types.py
                   (docs/heads-and-objectives.md), or FILE.py:NAME of your own (docs/extending.md)
    extra_layers   trunk layers added on top of the parameter match ("+3 layers" in Table S4)
    hidden         SwiGLU width; 0 takes 8/3 dim, rounded up as Llama does
    context        T, the tokens of a window
    rope_base      base of the rotary positions' wavelengths
    norm_eps       added to the mean square in RMSNorm
    embedding_std  standard deviation of the embedding's initial weights; the paper gives none
    head_dim       width of an attention head; 0 takes dim / attn_heads
    rope_scaling   none | linear:FACTOR | llama3:FACTOR,LOW,HIGH,CONTEXT; imported checkpoints have
                   it, such as Llama 3.1, which was trained with CONTEXT positions
    """

    dim: int = 128
    layers: int = 5
    attn_heads: int = 4
    kv_heads: int = 0
    vocab: int = 2048
    n: int = 1
    head: str = DEFAULT
    extra_layers: int = 0
    hidden: int = 0
    context: int = 256
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5
    embedding_std: float = 1.0
    head_dim: int = 0
    rope_scaling: str = "none"

    def __post_init__(self) -> None:
        known_head_type(self.head)
        _at_least(self, "model.", 1, "dim", "layers", "attn_heads", "vocab", "n", "context")
        _at_least(self, "model.", 0, "kv_heads", "extra_layers", "hidden")
        _at_least(self, "model.", 0, "head_dim")
        for name, limit in (
            ("context", MAX_CONTEXT), ("n", MAX_HEADS),
            ("layers", MAX_LAYERS), ("extra_layers", MAX_LAYERS),
        ):  # fmt: skip
            if getattr(self, name) > limit:
                raise BadInput(f"model.{name} is {getattr(self, name)}; it must be at most {limit}")
        # far beyond what models have, and far within what float32 computes with
        bounds = {"rope_base": (1, 1e12), "norm_eps": (0, 1), "embedding_std": (1e-6, 1e3)}
        _within(self, "model.", **bounds)
        HEADS.check(self.head, self.n)
        parse_rope_scaling(self.rope_scaling)
        if self.head_dim % 2:
            raise BadInput(f"model.head_dim is {self.head_dim}; it must be an even number")
        if not self.head_dim and self.dim % (2 * self.attn_heads):
            raise BadInput(
                f"model.dim {self.dim} over {self.attn_heads} attn_heads is not an even whole "
                "head size; choose attn_heads so that dim / attn_heads is an even number"
            )
        if self.attn_heads % self.key_value_heads:
            raise BadInput(
                f"model.kv_heads {self.kv_heads} must divide attn_heads {self.attn_heads}"
            )
        if HEADS[self.head].is_layer and self.n > 1 and self.trunk_layers < 1:
            layers = self.layers + self.extra_layers
            raise BadInput(
                f"model.n {self.n} {self.head} heads leave no trunk in {layers} layers; "
                f"choose n of at most {max(1, layers - 1)}, or more layers"
            )

    @property
    def key_value_heads(self) -> int:
        return self.kv_heads or self.attn_heads

    @property
    def head_size(self) -> int:
        return self.head_dim or self.dim // self.attn_heads

    @property
    def trunk_layers(self) -> int:
        """L - n for heads that are layers (parameter matching, section 2), L - 2 if these share
        one, else L."""
        return self.layers + self.extra_layers - HEADS[self.head].layers(self.n)

    @property
    def ffn(self) -> int:
        """SwiGLU width: 8/3 dim rounded up to a multiple of 256 (of 32 below dim 1024)."""
        multiple = 256 if self.dim >= 1024 else 32
        return self.hidden or multiple * -(-8 * self.dim // (3 * multiple))


def known_head_type(head: str) -> None:
    """Raise BadInput that names the field unless the table has this head type."""
    try:
        HEADS[head]
    except BadInput as error:
        raise BadInput(f"model.head: {error}") from error


ROPE_SCALINGS = {"none": 0, "linear": 1, "llama3": 4}  # kind -> how many numbers it takes


def parse_rope_scaling(text: str) -> tuple[str, list[float]]:
    """The kind and the numbers of a ModelConfig.rope_scaling. Raises BadInput if it is not one.

    >>> parse_rope_scaling("llama3:8,1,4,8192")
    ('llama3', [8.0, 1.0, 4.0, 8192.0])
    """
    kind, colon, rest = text.partition(":")
    choose("rope scaling", kind, ROPE_SCALINGS)
    try:
        numbers = [float(number) for number in rest.split(",")] if colon else []
    except ValueError:
        numbers = [math.nan]
    allowed = f"{ROPE_SCALINGS[kind]} positive number{'s' * (ROPE_SCALINGS[kind] != 1)}"
    if len(numbers) != ROPE_SCALINGS[kind] or not all(0 < x < math.inf for x in numbers):
        raise BadInput(f"rope_scaling is {text!r}; {kind} takes {allowed}")
    if not all(1e-3 <= x <= MAX_CONTEXT for x in numbers):
        raise BadInput(
            f"rope_scaling is {text!r}; {kind} takes {allowed} from 0.001 to {MAX_CONTEXT}"
        )
    if kind == "llama3" and numbers[1] >= numbers[2]:
        raise BadInput(f"rope_scaling is {text!r}; LOW must be less than HIGH")
    return kind, numbers


def size(name: str, **changes: Any) -> ModelConfig:
    """The ModelConfig of a size in Table S14, with some fields changed.

    >>> size("7B", n=4, vocab=32_000).ffn
    11008
    """
    name = "6.7B" if name == "7B" else name  # the paper uses both
    choose("size", name, SIZES)
    dim, layers, attn_heads = SIZES[name]
    for field_name in changes:
        choose("field", field_name, ModelConfig.__dataclass_fields__)
    return ModelConfig(dim=dim, layers=layers, attn_heads=attn_heads, **changes)


@dataclass(frozen=True)
class CorpusConfig:
    """A corpus: where its documents come from, and how they are tokenized (mtp/data/corpus.py).

    source      stdlib | installed | pypi-v1 | files:PATH | hf:DATASET |
                python:MODULE?NAME=VALUE,.. | mix:WEIGHT*SOURCE|WEIGHT*SOURCE.. | pairs:FILE
                (prompts and completions) | shards:PATH (tokens that others have made)
    tokenizer   bytes | bpe | llama:FILE | run:FOLDER (the one saved there) | file:PATH (a
                tokenizer.json; file:PATH#EOS names the token between documents)
    vocab       vocabulary of a bpe, special tokens included; other tokenizers ignore it
    max_mb      keep at most this many megabytes of text (0: all), chosen by document hash
    validation  share of documents held out, chosen by document hash
    """

    source: str = "stdlib"
    tokenizer: str = "bpe"
    vocab: int = 2048
    max_mb: float = 0.0
    validation: float = 0.02


SINKS = ("tensorboard", "wandb", "trackio")  # of mtp/training/sinks.py


@dataclass(frozen=True)
class Execution:
    """How a run is executed. None of this defines the result: it may change when the run continues,
    and RUN/engine.json says what was used.

    micro       sequences per forward pass on one device; 0: the whole batch at once
    shard       ranks that hold the weights together, a divisor of all ranks; 0: all of them
    recompute   compute every so many-th layer anew in the backward pass instead of keeping its
                activations; 1: every layer; 0: none
    scheme      how the heads' cross-entropies share memory (mtp/objective/cross_entropy.py); all
                three give the same gradients
    attention   the kernel; auto lets mtp/training/engine.py choose and say why
    compile     whether torch compiles the step; auto as for attention
    log_every   steps between rows of metrics.jsonl; 0: only at the end
    eval_every  steps between validations; 0: none
    save_every  steps between checkpoints; 0: only at the end
    log_to      where metrics go besides metrics.jsonl: tensorboard, wandb, trackio, or several of
                them with commas; empty: nowhere (mtp/training/sinks.py)
    """

    micro: int = 0
    shard: int = 0
    recompute: int = 0
    scheme: Literal["fused", "sequential", "plain"] = "fused"
    attention: Literal["auto", "sdpa", "matmul"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    log_every: int = 10
    eval_every: int = 0
    save_every: int = 0
    log_to: str = ""


@dataclass(frozen=True)
class TrainConfig(Execution):
    """One training run: what defines its result (Table S13's columns), and how it is executed.

    batch       sequences per optimizer step, over all devices and accumulation steps
    tokens      the budget in tokens (padding of pairs counts); set either this or epochs
    epochs      the budget in passes over the data
    lr          the highest learning rate, reached at the end of the warm-up
    min_lr      the learning rate ends at lr * min_lr ("decay ratio" in Table S13)
    lr_schedule  cosine, as in the paper, or wsd:SHARE: constant after the warm-up, then falling
                on a line over the last SHARE of the run; a run then begins where a shorter one
                beside it, with the same fields but for the budget, was before its rate fell
    warmup      steps in which the learning rate rises linearly
    weight_decay  AdamW's, on matrices alone
    beta1       AdamW's decay of the mean gradient
    beta2       AdamW's decay of the mean squared gradient
    clip        the largest norm of the gradient divided by the sum of all weights in the
                objective; larger ones are scaled down to it. So more heads are not clipped more
    precision   auto follows the device; any other value is part of the run's identity
    seed        of the initial weights and the order of the data
    keep_every  keep the weights of every such step for good, to see what is learned when; 0: none
    init        the run to start from (mtp/training/finetune.py): its folder, or its name if it is
                beside this one; empty: start with random weights
    freeze      trunk: train only what heads 2..n do not share with head 1, of a run with `init`
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    data: CorpusConfig = field(default_factory=CorpusConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    batch: int = 16
    tokens: float = 0.0
    epochs: float = 0.0
    lr: float = 3e-4
    min_lr: float = 0.03
    lr_schedule: str = "cosine"
    warmup: int = 100
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    precision: Literal["auto", "float32", "bf16", "autocast"] = "auto"
    seed: int = 0
    keep_every: int = 0
    init: str = ""
    freeze: Literal["none", "trunk"] = "none"

    def __post_init__(self) -> None:
        for name in CHOICES:
            choose(name, getattr(self, name), CHOICES[name])
        for name in filter(None, self.log_to.split(",")):
            choose("log_to", name, SINKS)
        if (self.tokens > 0) == (self.epochs > 0):
            raise BadInput(
                f"the budget is tokens={self.tokens:g}, epochs={self.epochs:g}; set exactly one of "
                "them to a positive number"
            )
        _positive(self, "", "batch", "lr", "clip")
        _at_least(self, "", 0, "tokens", "epochs", "micro", "shard", "recompute")
        _at_least(self, "", 0, "warmup")
        _within(self, "", min_lr=(0, 1), weight_decay=(0, 1000))
        _at_least(self, "", 0, "seed", "log_every", "eval_every", "save_every", "keep_every")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; it must be in [0, 1)")
        if self.micro and self.batch % self.micro:
            raise BadInput(f"micro {self.micro} does not divide batch {self.batch}")
        decay_share(self.lr_schedule)
        base_weights(self.objective.weights, self.model.n)
        if self.freeze == "trunk":
            self._check_freeze()
        if self.objective.detach and not HEADS[self.model.head].first_is_alone(self.model.n):
            raise BadInput(
                "objective.detach would cut head 1 off: it reads through the other "
                f"{self.model.n - 1} {self.model.head} heads"
            )
        n, head = self.model.n, self.model.head
        if self.objective.targets == "same" and any(
            1 in HEADS[head].reads(i) for i in range(1, n + 1)
        ):
            raise BadInput(f"objective.targets=same asks for x[t+1], which {head} heads are told")
        for term, (name, _) in REACH.items():
            places = getattr(self.objective, name)
            if getattr(self.objective, term) and places >= self.model.context:
                raise BadInput(
                    f"objective.{name} is {places}; it must be less than the context "
                    f"{self.model.context}"
                )
        if self.objective.targets == "shuffled" and self.batch % 2:
            raise BadInput(
                "objective.targets=shuffled exchanges pairs of sequences, and batch is "
                f"{self.batch}; choose an even number"
            )

    def _check_freeze(self) -> None:
        n, head = self.model.n, self.model.head
        others = "head 2" if n == 2 else f"heads 2..{n}"
        if terms := self.objective.terms:
            raise BadInput(
                f"freeze=trunk leaves objective.{next(iter(terms))} nothing to train: terms are "
                "for the trunk and head 1"
            )
        if self.objective.balance in ("gradient", "cosine"):
            raise BadInput(
                f"objective.balance={self.objective.balance} weighs what heads do to the trunk; "
                "with freeze=trunk they do nothing to it"
            )
        if n > 1 and not any(most_weights(self.objective, n)[1:]):
            raise BadInput(
                "freeze=trunk leaves nothing to train: objective.weights and schedule give "
                f"{others} the weight 0 throughout"
            )
        if not self.init:
            raise BadInput("freeze=trunk needs a trained trunk; set init to the run that has it")
        if n < 2 or not HEADS[head].first_is_alone(n):
            alone = "has no other heads" if n < 2 else f"reads through the other {head} heads"
            raise BadInput(f"freeze=trunk leaves nothing to train: head 1 {alone}")


def decay_share(lr_schedule: str) -> float:
    """The share of a run over which the learning rate falls: 1 for cosine. Raises BadInput if there
    is no such schedule.

    >>> decay_share("wsd:0.2")
    0.2
    """
    kind, colon, text = lr_schedule.partition(":")
    choose("lr_schedule", kind if colon else lr_schedule, ("cosine", "wsd"))
    if kind == "cosine" and not colon:
        return 1.0
    try:
        share = float(text) if kind == "wsd" else math.nan
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise BadInput(
            f"lr_schedule is {lr_schedule!r}; it must be cosine, or wsd:SHARE with a share of the "
            "run above 0 and up to 1"
        )
    return share


# The fields whose type lists their values.
CHOICES = {
    name: get_args(hint)
    for name, hint in typing.get_type_hints(TrainConfig).items()
    if typing.get_origin(hint) is Literal
}
