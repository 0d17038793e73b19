"""A folder of any format to a model, and a model to a run's folder or to a folder of any format."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mtp import checkpoint
from mtp.checkpoint import Checkpoint, save_tensors
from mtp.config import TrainConfig
from mtp.data import tokenizer
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput, choose
from mtp.files import atomic_folder, must_be_writable
from mtp.formats import hugging_face, released
from mtp.formats.weights import build_model, model_config, read_json, read_safetensors, write_json
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import differences, override, to_json

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
        return hugging_face.read_hf(folder, values)
    config = model_config(file, values)
    found = read_safetensors(folder)
    return build_model(folder, config, None, found)


def write_all(folder: Path, model: MultiTokenTransformer, text: Tokenizer | None) -> None:
    """All heads, of whichever type, into an existing folder. config.json holds the fields of
    ModelConfig."""
    write_json(folder / "config.json", {"model_type": ALL} | dataclasses.asdict(model.config))
    save_tensors(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    if text:
        text.save(folder)


Write = Callable[[Path, MultiTokenTransformer, Tokenizer | None], None]
FORMATS: dict[str, Write] = {
    "hf": hugging_face.write_hf,
    "released": released.write_released,
    "all": write_all,
}


def refuse_existing(dest: Path) -> None:
    """Raise BadInput where there is something already."""
    if dest.exists() or dest.is_symlink():
        raise BadInput(f"{dest} exists; choose another folder")


def new_folder(dest: Path) -> AbstractContextManager[Path]:
    """A folder to write in that becomes `dest` at the end, or disappears after an error. Raises
    BadInput if `dest` exists or cannot be made."""
    refuse_existing(dest)
    must_be_writable(dest)
    return atomic_folder(dest)


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
    if text and not (theirs and tokenizer.same_tokenizer(text, theirs)):
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
    with new_folder(dest) as folder:
        (folder / "config.json").write_text(to_json(config))
        if theirs:
            theirs.save(folder)
        checkpoint.save(folder / "checkpoint", Checkpoint(0, weights, {}, {"step": 0}))
    return theirs
