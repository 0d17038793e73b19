"""Finetuning: a run that starts with the weights of another run.

    python -m mtp.train --run runs/tuned init=runs/parallel-n4-s0-... \\
        data.source=pairs:train.jsonl model.n=1 epochs=3 lr=1e-4

`init` is a path, or the name of a run in the same folder as RUN. Call that run the start. The new
run takes its model's shape and its tokenizer. It may change the context, and n: to drop heads (n'
in section 3.6), or to grow heads of type `head` (Table S6; mtp/model/surgery.py says what a new
head starts as). New heads that are layers take their layers from the trunk, unless extra_layers
adds some: n=4 from n=1 is "+0" in the table, and with extra_layers=3 it is "+3". With freeze=trunk
it is always "+3", as a frozen trunk could not make up for lost layers. Data, budget,
schedule and optimizer are set as in a run without `init`.

The start's weights become the run's checkpoint of step 0, and their sha256 is written to RUN/start.
If the start changes later, the run refuses to continue. If the start is gone, the run continues
from its own checkpoint.

Table S13 (sequences of 4096 tokens):

    summarization   epochs=3 batch=32 warmup=100 lr=3e-5 min_lr=0.03
    CodeContests    tokens=3.4e9 batch=64 warmup=400 lr=5e-5 min_lr=0.004 clip=0.1

Section 3.7 chooses the finetuned checkpoint by validation: keep_every keeps the candidates, and
`python -m evals --checkpoint RUN/kept/* --benchmarks SET --variant SET=finetuned-dev` compares
them.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mtp import checkpoint
from mtp.checkpoint import Checkpoint
from mtp.config import ModelConfig, TrainConfig, known_head_type
from mtp.data.tokenizer import Tokenizer, follow_tokenizer, load_if_any, same_tokenizer, saved_name
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.head_types import HEADS
from mtp.overrides import differences, from_dict, override


@dataclass(frozen=True)
class Heads:
    """The fields of ModelConfig that say which heads a run wants, whatever its start has."""

    n: int
    head: str
    extra_layers: int
    freeze: bool = False

    @classmethod
    def of(cls, model: ModelConfig, freeze: bool = False) -> "Heads":
        return cls(model.n, model.head, model.extra_layers, freeze)

    def __post_init__(self) -> None:
        known_head_type(self.head)

    def matched(self, start: ModelConfig) -> bool:
        """Whether new heads take their layers from the start's trunk ("+0" in Table S6)."""
        added = self.freeze or self.extra_layers > start.extra_layers
        return HEADS[self.head].grows_layers and not added


def override_from_start(
    config: TrainConfig, assignments: list[str], run: Path | None = None
) -> TrainConfig:
    """`override`, for a config that may name a start.

    If `init` is assigned, the model and the tokenizer are the start's, except for what is assigned
    too. If `run` itself has already begun from there, they are the run's own, since the start may
    be gone. Raises BadInput if there is no such run or its heads cannot become those wanted.
    """
    pairs = [text.partition("=") for text in assignments]
    assigned = {name.strip(): value for name, _, value in pairs}
    init = assigned.get("init", "")
    if not init:
        changed = override(config, assignments)
        begun = run is not None and (run / "config.json").exists()  # its tokenizer may be gone
        return changed if begun else follow_tokenizer(changed, assignments)
    if run and checkpoint.any_saved(run / "checkpoint"):
        own = checkpoint.run_config(run)
        if own.init == init:
            data = dataclasses.replace(config.data, tokenizer=own.data.tokenizer)
            return override(config, assignments, model=own.model, data=data)
    folder = start_folder(init, run)
    start = _start_model(folder)
    freeze = assigned.get("freeze", config.freeze) == "trunk"
    values = dataclasses.asdict(Heads.of(start, freeze))
    values |= {key: assigned[f"model.{key}"] for key in values if f"model.{key}" in assigned}
    model = with_heads(start, from_dict(Heads, values, "model."))
    data = config.data
    if tokenizer := load_if_any(folder):
        data = dataclasses.replace(data, tokenizer=saved_name(tokenizer, folder))
    return override(config, assignments, model=model, data=data)


def start_folder(init: str, run: Path | None) -> Path:
    """The folder that `init` names: a run beside `run`, or a path."""
    beside = run.parent / init if run else Path(init)
    return beside if beside.is_dir() else Path(init)


def with_heads(start: ModelConfig, wanted: Heads) -> ModelConfig:
    """The start's config with the heads that are wanted. Raises BadInput if it cannot have them."""
    if wanted.n == start.n:
        return start
    from mtp.model.surgery import dropped_config, grown_config

    if wanted.n < start.n:
        return dropped_config(start, wanted.n)
    return grown_config(start, wanted.n, wanted.head, wanted.matched(start))


def _start_model(folder: Path) -> ModelConfig:
    try:
        return checkpoint.run_config(folder).model
    except BadInput as error:
        raise BadInput(f"init: {error}") from error


def _why_not(field: str, start: Path, model: ModelConfig, wanted: Heads) -> str:
    """Why a field of the start's model cannot be set, and what to do instead."""
    grows = wanted.n > model.n
    if field == "model.head" and not grows and model.n == 1:
        return f"{start} has no other heads; set model.n above 1 for heads of that type"
    if field == "model.head" and not grows:
        return (
            f"{start} has {model.n} {model.head} heads; to have others, drop these with "
            f"`python -m mtp.convert drop {start} DEST`, and set init=DEST and model.n"
        )
    if field == "model.extra_layers" and not grows:
        return f"only new heads add layers; set model.n above the {model.n} of {start}"
    if field == "model.extra_layers":
        return "new heads add their own layers alone; set the former value, or leave it out"
    return (
        f"the model is the one of {start}; only n, the context, and the type and layers of new "
        "heads can be set"
    )


def save_start_weights(config: TrainConfig, tokenizer: Tokenizer, folder: Path) -> str:
    """Save the weights of `config.init` as step 0 of the run in `folder`, unless the run has begun;
    returns a line that says what they are.

    tokenizer  the corpus's, which must be the start's

    Raises BadInput if the start is missing or damaged, if its model or tokenizer is another, or if
    the run began with other weights. A run that has begun does not need its start.
    """
    from mtp.model import loading
    from mtp.model.surgery import drop_heads, grow_heads

    start, pin = start_folder(config.init, folder), folder / "start"
    begun = checkpoint.any_saved(folder / "checkpoint")
    if begun and not pin.exists():
        raise BadInput(f"{folder} has weights of its own; it cannot have init={start} too")
    if begun and not checkpoint.any_saved(start / "checkpoint"):
        return f"start: {start}, which is gone; the run continues from its own checkpoint"
    start_model = _start_model(start)
    heads = Heads.of(config.model, config.freeze == "trunk")
    expected = with_heads(start_model, heads)
    expected = dataclasses.replace(expected, context=config.model.context)
    if changed := differences(expected, config.model, "model."):
        why = _why_not(changed[0].split()[0], start, start_model, heads)
        raise BadInput(f"{changed[0]}: {why}")
    start_tokenizer = load_if_any(start)
    if start_tokenizer and not same_tokenizer(start_tokenizer, tokenizer):
        raise BadInput(
            f"the corpus's tokenizer, {tokenizer.name}, is not the one that {start} was trained "
            f"with; set data.tokenizer={saved_name(start_tokenizer, start)}"
        )
    found = checkpoint.newest_of(start)
    if not pin.exists():
        write_atomically(pin, found.sha256.encode())
    elif pin.read_text() != found.sha256:
        raise BadInput(
            f"{folder} began with other weights than {start} has now, at its step {found.step}; "
            f"delete {folder} to train anew, or restore the start"
        )
    if not begun:
        model = loading.with_weights(start_model, found.weights())
        if expected.n < start_model.n:
            model = drop_heads(model, expected.n)
        elif expected.n > start_model.n:
            model = grow_heads(model, expected.n, expected.head, heads.matched(start_model))
        weights = {name: w.detach() for name, w in model.named_parameters()}
        checkpoint.save(folder / "checkpoint", Checkpoint(0, weights, {}, {"step": 0}))
    kept_n = expected.n == start_model.n
    n = f"n={expected.n}" if kept_n else f"n={start_model.n} -> {expected.n}"
    return (
        f"start: {start} at step {found.step}, {n} {expected.head}, dim {expected.dim}, "
        f"{expected.layers + expected.extra_layers} layers, context {expected.context}, "
        f"{tokenizer.name} tokenizer"
    )
