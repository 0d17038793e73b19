"""Checkpoints in and out; heads more and fewer.

    python -m mtp.interop import SOURCE DEST                     a checkpoint becomes a run's folder
    python -m mtp.interop export RUN DEST --format hf|released|all
    python -m mtp.interop grow RUN DEST --n 4 --head linear      a run's folder with more heads
    python -m mtp.interop drop RUN DEST --n 1                    with fewer

    hf        config.json  model.safetensors     an ordinary Llama: head 1 (mtp/llama.py)
    released  params.json  consolidated.00.pth   the paper's: parallel heads (mtp/released.py)
    all       config.json  model.safetensors     all heads of any type, under our own names

`import` tells the three apart by their files. The run's folder it writes holds weights of step 0
and no optimizer: mtp.decode decodes from it, and mtp.train begins there, with the data, budget and
rates given with --set.

    python -m mtp.interop grow runs/llama runs/llama-n4 --n 4 --set data.source=files:code \\
        --set tokens=2e9
    python -m mtp.train --run runs/llama-n4
"""

import argparse
import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from mtp import checkpoint, llama, released, tokenizer
from mtp.checkpoint import Checkpoint, load_model, run_config, save_tensors
from mtp.config import HeadType, ModelConfig, TrainConfig, differences, override, to_json
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.llama import layer_names, part_of, read_json, write_json
from mtp.model import MultiTokenTransformer
from mtp.shards import sync
from mtp.tokenizer import Tokenizer

ADDING = ("parallel", "causal")  # heads of these types are layers that a grown model has more
ALL = "multi-token"  # model_type in the config.json of `all`


def read(folder: Path) -> MultiTokenTransformer:
    """The model in a folder of any of the three formats, in float32. BadInput names the file,
    weight or value that is missing, damaged or not a Llama's."""
    file = folder / "config.json"
    if (folder / "params.json").exists():
        return released.read_released(folder)
    if not file.exists():
        raise BadInput(f"{folder} is no checkpoint: it has no config.json and no params.json")
    values = read_json(file)
    if "model" in values and "model_type" not in values:
        raise BadInput(f"{folder} is a run already; export, grow or drop it")
    choose(f"model_type in {file}:", values.get("model_type", ""), ("llama", ALL))
    if values.pop("model_type") == "llama":
        return llama.read_hf(folder, values)
    config = llama.config_of(file, values)
    found = llama.read_safetensors(folder)
    return llama.model_of(folder, config, None, found)


def write_all(folder: Path, model: MultiTokenTransformer, text: Tokenizer | None) -> None:
    """All heads, of whichever type, into an existing folder. config.json holds the fields of
    ModelConfig."""
    write_json(folder / "config.json", {"model_type": ALL} | dataclasses.asdict(model.config))
    save_tensors(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    if text:
        text.save(folder)


Write = Callable[[Path, MultiTokenTransformer, Tokenizer | None], None]
FORMATS: dict[str, Write] = {
    "hf": llama.write_hf,
    "released": released.write_released,
    "all": write_all,
}


# --------------------------------------------------------------------------------------------------
# heads


@torch.no_grad()
def grow_heads(
    model: MultiTokenTransformer, n: int, head: HeadType = "parallel", matched: bool = False
) -> MultiTokenTransformer:
    """A model of n heads from one of fewer, for training to go on (Table S6). The heads there are
    say the same as before, bit for bit.

    A new head says what the last one there is says, and is told apart by training on another token.
    (The paper does not say how they began.) New are, for

        linear       the identity as W_i
        replicated   a copy of the last U_i
        parallel     a copy of the last head's layer
        causal       the same with wo and w2 zero, so that it hands on the latent that it reads
        anticausal   nothing: the trunk's last layers, which head 1 passes through, become heads

    Parallel and causal heads add a layer each ("+3 layers" for n=4). With `matched` there are as
    many layers as before ("+0"): as many of the trunk's last are left out, and every head changes.
    BadInput where the model has heads of another type, or n already, or too few layers.
    """
    c, grown = model.config, grown_config(model.config, n, head, matched)
    weights: dict[str, Tensor] = dict(model.state_dict())
    if c.n == 1:  # of whichever type: its layers get the names that the new type gives them
        c = _in_one_row(c, head)
        for old, now in zip(layer_names(model.config), layer_names(c), strict=True):
            weights |= {now + name.removeprefix(old): w for name, w in layer(weights, old).items()}
    trunk, last = grown.trunk_layers, f"heads.{c.n - 1}"
    for i in range(c.n, n):  # head i + 1
        if head == "replicated":
            weights[f"unembeddings.{i}.weight"] = weights[f"unembeddings.{c.n - 1}.weight"]
        elif head == "linear":
            identity = torch.eye(c.dim).to(model.embedding.weight)
            weights[f"heads.{i}.linear.weight"] = weights.get(f"{last}.linear.weight", identity)
        else:
            source = f"trunk.{trunk + n - 1 - i}" if head == "anticausal" else last
            for name, weight in layer(weights, source).items():
                silent = head == "causal" and part_of(name) in ("wo", "w2")
                new = f"heads.{i}" + name.removeprefix(source)
                weights[new] = torch.zeros_like(weight) if silent else weight
    made = MultiTokenTransformer.uninitialised(grown).to(model.embedding.weight)
    made.load_state_dict({name: weights[name] for name in made.state_dict()})
    return made


def grown_config(c: ModelConfig, n: int, head: HeadType, matched: bool = False) -> ModelConfig:
    """The config of what `grow_heads` makes of a model with this one; BadInput as there."""
    choose("head type", head, get_args(HeadType))
    if c.n > 1 and c.head != head:
        raise BadInput(f"the model has {c.n} {c.head} heads; drop them before growing {head} ones")
    if n <= c.n:
        raise BadInput(f"n is {n}; the model has {c.n} heads already")
    if matched and head not in ADDING:
        raise BadInput(f"{head} heads add no layers, so there is nothing to match")
    added = n - c.n if head in ADDING and not matched else 0
    c = _in_one_row(c, head) if c.n == 1 else c
    return dataclasses.replace(c, n=n, extra_layers=c.extra_layers + added)


def _in_one_row(c: ModelConfig, head: HeadType) -> ModelConfig:
    """A model of one head as one of another type: which layers were added is forgotten."""
    return dataclasses.replace(c, head=head, layers=c.layers + c.extra_layers, extra_layers=0)


def layer(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of the layer of this name."""
    return {key: w for key, w in weights.items() if key.startswith(f"{name}.")}


# --------------------------------------------------------------------------------------------------
# folders


def refuse_existing(dest: Path) -> None:
    """Raise BadInput where there is something already."""
    if dest.exists() or dest.is_symlink():
        raise BadInput(f"{dest} exists; choose another folder")


@contextlib.contextmanager
def beside(dest: Path) -> Iterator[Path]:
    """A folder to write in that becomes `dest` at the end, or is gone after an error. BadInput
    where `dest` exists or cannot be made."""
    refuse_existing(dest)
    half = dest.with_name(f".half-{dest.name}")
    try:
        shutil.rmtree(half, ignore_errors=True)  # of a killed process
        half.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"{dest} cannot be written: {error.strerror}") from None
    try:
        yield half
        for path in half.rglob("*"):
            sync(path)
        half.rename(dest)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def save_run(
    dest: Path,
    model: MultiTokenTransformer,
    text: Tokenizer | None,
    config: TrainConfig,
    assignments: list[str],
) -> Tokenizer | None:
    """Write a run's folder at step 0 and return its tokenizer. `config` gets the model's shape and
    its tokenizer, then the assignments; of the model they may change the context alone.

    text   the weights' tokenizer; where there is none, the assignments must name theirs, or bpe to
           go on with a new one
    """
    # its weights are its own, whatever the source's were made from
    config = dataclasses.replace(config, model=model.config, init="")
    config, given = override(config, assignments), config
    shape = dataclasses.replace(config.model, context=given.model.context)
    if changed := differences(given.model, shape, "model."):
        raise BadInput(f"{changed[0]}: of a checkpoint's model only the context can be set")
    named = any(each.partition("=")[0].strip() == "data.tokenizer" for each in assignments)
    if not text and not named:
        raise BadInput(
            "the weights come with no tokenizer; give theirs: import --tokenizer FOLDER, or "
            "--set data.tokenizer=bytes, llama:FILE or run:FOLDER (bpe: a new one)"
        )
    theirs = tokenizer.from_name(config.data.tokenizer) if named else text
    if text and not (theirs and tokenizer.same(text, theirs)):
        raise BadInput(
            f"data.tokenizer={config.data.tokenizer} is not the weights' tokenizer; the one beside "
            f"them, {text.name}, is theirs"
        )
    if theirs:
        if theirs.vocab_size > model.config.vocab:
            raise BadInput(
                f"the {theirs.name} tokenizer has {theirs.vocab_size} tokens, the model only "
                f"{model.config.vocab}; give the model's own with --tokenizer"
            )
        name = tokenizer.saved_name(theirs, dest)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=name))
    weights = {name: w.detach() for name, w in model.named_parameters()}
    with beside(dest) as folder:
        (folder / "config.json").write_text(to_json(config))
        if theirs:
            theirs.save(folder)
        checkpoint.save(folder / "checkpoint", Checkpoint(0, weights, {}, {"step": 0}))
    return theirs


@exit_cleanly
def main() -> None:
    """Checkpoints in and out; heads more and fewer."""
    parser = argparse.ArgumentParser(prog="python -m mtp.interop", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, source: str, told: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=told, description=told)
        made.add_argument("source", type=Path, metavar=source)
        made.add_argument("dest", type=Path, metavar="DEST", help="a new folder")
        if name != "export":
            fields = "of the run that goes on from here, e.g. lr=1e-4; may be repeated"
            made.add_argument(
                "--set", action="append", default=[], metavar="field=value", help=fields
            )
        return made

    bring = command("import", "SOURCE", "Make a run's folder of a Llama or a released checkpoint.")
    bring.add_argument("--tokenizer", type=Path, help="a folder with its tokenizer, if not SOURCE")
    export = command("export", "RUN", "Write a run's model for other programs.")
    export.add_argument("--format", choices=FORMATS, default="hf", help="default: hf (head 1)")
    grow = command("grow", "RUN", "Make a run's folder of the model with more heads (Table S6).")
    grow.add_argument("--n", type=int, required=True, help="heads in all")
    grow.add_argument("--head", choices=get_args(HeadType), help="default: the run's")
    grow.add_argument("--matched", action="store_true", help="as many layers as before")
    drop = command(
        "drop", "RUN", "Make a run's folder of the model with fewer heads (section 3.6)."
    )
    drop.add_argument("--n", type=int, default=1, help="heads in all (default: 1)")
    args = parser.parse_args()

    refuse_existing(args.dest)  # before all the reading
    text = tokenizer.load_if_any(args.source)
    lacking = "mtp.train makes a new one"
    if args.command == "import":
        text = tokenizer.load(args.tokenizer) if args.tokenizer else text
        text = save_run(args.dest, read(args.source), text, TrainConfig(tokens=1e6), args.set)
    else:
        config = run_config(args.source)
        model = load_model(args.source)
        if args.command == "export":
            with beside(args.dest) as folder:
                FORMATS[args.format](folder, model, text)
            lacking = "it has none"
        elif args.command == "grow":
            model = grow_heads(model, args.n, args.head or config.model.head, args.matched)
            text = save_run(args.dest, model, text, config, args.set)
        else:
            text = save_run(args.dest, model.drop_heads(args.n), text, config, args.set)
    note = "" if text else f", without a tokenizer: {lacking}"
    print(f"{args.dest}: {args.command} of {args.source}{note}")


if __name__ == "__main__":
    main()
