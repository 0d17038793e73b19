"""Finetuning: a run that starts with the weights of another.

    python -m mtp.train --run runs/tuned init=runs/parallel-n4-s0-... \\
        data.source=pairs:train.jsonl model.n=1 epochs=3 lr=1e-4

The model's shape and the tokenizer are the start's. Of the model can be set: the context, and n, to
drop heads (n' in section 3.6) or to grow more of type `head` (Table S6; how they begin says
mtp/formats/folders.py). New heads that are layers take them from the trunk, unless extra_layers makes room:
n=4 from n=1 is the table's "+0", with extra_layers=3 its "+3". Data, budget, schedule and optimizer
are the run's own, as they are without `init`. The start becomes the run's checkpoint of step 0, and
the sha256 of its weights is kept in RUN/start: where it has changed since, the run does not go on;
where it is gone, it does, from its own. `init` is a path, or the name of a run in the same folder
as RUN.

Table S13 (sequences of 4096 tokens):

    summarization   epochs=3 batch=32 warmup=100 lr=3e-5 min_lr=0.03
    CodeContests    tokens=3.4e9 batch=64 warmup=400 lr=5e-5 min_lr=0.004 clip=0.1

In section 3.7 the finetuned checkpoint is chosen by validation: keep_every keeps the candidates,
and `python -m evals --checkpoint RUN/kept/* --benchmarks SET --variant SET=finetuned-dev` compares
them.
"""

import dataclasses
from pathlib import Path

from mtp import checkpoint
from mtp.checkpoint import Checkpoint
from mtp.config import ModelConfig, TrainConfig
from mtp.data.tokenizer import Tokenizer, load_if_any, same_tokenizer, saved_name
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.head_types import HEADS
from mtp.model import loading
from mtp.model.surgery import drop_heads, dropped_config, grow_heads, grown_config
from mtp.overrides import differences, override


def override_from_start(
    config: TrainConfig, assignments: list[str], run: Path | None = None
) -> TrainConfig:
    """`override`; where `init` is assigned, the model and the tokenizer are the start's unless they
    are assigned too; those of `run` itself where it has begun from there, since the start may be
    gone. BadInput where there is no such run, or it has fewer heads than wanted."""
    given = [text.partition("=") for text in assignments]
    start = next((value for name, _, value in reversed(given) if name.strip() == "init"), "")
    if not start:
        return override(config, assignments)
    if run and checkpoint.any_saved(run / "checkpoint"):
        own = checkpoint.run_config(run)
        if own.init == start:
            data = dataclasses.replace(config.data, tokenizer=own.data.tokenizer)
            return override(dataclasses.replace(config, model=own.model, data=data), assignments)
    place = start_folder(start, run)
    there = checkpoint.run_config(place).model
    free = ("model.n", "model.head", "model.extra_layers")
    heads = [text for text in assignments if text.partition("=")[0].strip() in free]
    # heads alone, in a model that any number of them fits
    roomy = dataclasses.replace(there, layers=there.layers + 1_000_000)
    wanted = override(dataclasses.replace(config, model=roomy), heads).model
    model = with_heads(there, wanted)
    config = dataclasses.replace(config, model=model)
    if text := load_if_any(place):
        data = dataclasses.replace(config.data, tokenizer=saved_name(text, place))
        config = dataclasses.replace(config, data=data)
    return override(config, assignments)


def start_folder(init: str, run: Path | None) -> Path:
    """The folder that `init` names: a run beside `run`, or a path."""
    beside = run.parent / init if run else Path(init)
    return beside if beside.is_dir() else Path(init)


def with_heads(there: ModelConfig, wanted: ModelConfig) -> ModelConfig:
    """The config of a model with the heads that are wanted, and all else as it is there. BadInput
    where they cannot be grown."""
    if wanted.n <= there.n:
        return there if wanted.n == there.n else dropped_config(there, wanted.n)
    return grown_config(there, wanted.n, wanted.head, _matched(there, wanted))


def _matched(there: ModelConfig, wanted: ModelConfig) -> bool:
    return HEADS[wanted.head].grows_layers and wanted.extra_layers <= there.extra_layers


def save_start_weights(config: TrainConfig, text: Tokenizer, folder: Path) -> str:
    """Make the weights of `config.init` the step 0 of the run in `folder`, if it has not begun;
    returns a line that tells what they are.

    BadInput where the start is missing or damaged, its model or its tokenizer (`text` is the
    corpus's) is another, or the run began with other weights. One that has begun needs no start.
    """
    start, pin = start_folder(config.init, folder), folder / "start"
    begun = checkpoint.any_saved(folder / "checkpoint")
    if begun and not pin.exists():
        raise BadInput(f"{folder} has weights of its own; it cannot have init={start} too")
    if begun and not checkpoint.any_saved(start / "checkpoint"):
        return f"start: {start}, which is gone; the run goes on from its own checkpoint"
    there = checkpoint.run_config(start).model
    kept = with_heads(there, config.model)
    kept = dataclasses.replace(kept, context=config.model.context)
    if changed := differences(kept, config.model, "model."):
        raise BadInput(
            f"{changed[0]}: of the model of {start} only n and the context can be set, and type "
            "and layers of new heads"
        )
    theirs = load_if_any(start)
    if theirs and not same_tokenizer(theirs, text):
        raise BadInput(
            f"the corpus's tokenizer, {text.name}, is not the one that {start} was trained with; "
            f"set data.tokenizer={saved_name(theirs, start)}"
        )
    found = checkpoint.load_weights(start)
    if not pin.exists():
        write_atomically(pin, found.sha256.encode())
    elif pin.read_text() != found.sha256:
        raise BadInput(
            f"{folder} began with other weights than {start} has now, at its step {found.step}; "
            f"delete {folder} to train anew, or go back to the start as it was"
        )
    if not begun:
        model = loading.with_weights(there, found.model)
        if kept.n < there.n:
            model = drop_heads(model, kept.n)
        elif kept.n > there.n:
            model = grow_heads(model, kept.n, kept.head, _matched(there, config.model))
        weights = {name: w.detach() for name, w in model.named_parameters()}
        checkpoint.save(folder / "checkpoint", Checkpoint(0, weights, {}, {"step": 0}))
    heads = f"n={there.n}" if kept.n == there.n else f"n={there.n} -> {kept.n}"
    return (
        f"start: {start} at step {found.step}, {heads} {kept.head}, dim {kept.dim}, "
        f"{kept.layers + kept.extra_layers} layers, context {kept.context}, {text.name} tokenizer"
    )
