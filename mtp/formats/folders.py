"""Reading a model from a folder of any format; writing it to any format or to a run's folder."""

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from mtp import checkpoint
from mtp.checkpoint import Checkpoint, save_tensors
from mtp.config import ModelConfig, TrainConfig
from mtp.data.tokenizer import Tokenizer, from_name, same_tokenizer, saved_name
from mtp.errors import BadInput, choose
from mtp.files import atomic_folder, must_be_writable, refuse_existing
from mtp.formats import hf_heads, hugging_face, medusa, released, speculators
from mtp.formats.weights import build_model, model_config, read_json, read_safetensors, write_json
from mtp.model.model import MultiTokenTransformer
from mtp.objective_config import ObjectiveConfig
from mtp.overrides import differences, override, to_json

ALL = "multi-token"  # model_type in the config.json of `all`


def read_model(folder: Path) -> MultiTokenTransformer:
    """The model in a folder of any of the three formats, in float32. BadInput names the file,
    weight or value that is missing or damaged or that no Llama has."""
    file = folder / "config.json"
    if (folder / "params.json").exists():
        return released.read_released(folder)
    if not file.exists():
        raise BadInput(f"{folder} is not a checkpoint: it has no config.json and no params.json")
    values = read_json(file)
    if "model" in values and "model_type" not in values:
        raise BadInput(f"{folder} is a run already; export, grow or drop it")
    choose(f"model_type in {file}:", values.get("model_type", ""), ("llama", ALL))
    if values.pop("model_type") == "llama":
        return hugging_face.read_hf(folder, values)
    config = model_config(file, values)
    found = read_safetensors(folder)
    return build_model(folder, config, None, found)


def write_all(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Write all heads, of any type, to an existing folder. config.json holds the fields of
    ModelConfig."""
    write_json(folder / "config.json", {"model_type": ALL} | dataclasses.asdict(model.config))
    save_tensors(dict(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
    if tokenizer:
        tokenizer.save(folder)


Write = Callable[[Path, MultiTokenTransformer, Tokenizer | None], None]
FORMATS: dict[str, Write] = {
    "hf": hugging_face.write_hf,
    "released": released.write_released,
    "hf-heads": hf_heads.write_hf_heads,
    "medusa": medusa.write_medusa,
    "speculators": speculators.write_speculators,
    "all": write_all,
}


def new_folder(dest: Path) -> AbstractContextManager[Path]:
    """A folder to write in that becomes `dest` at the end, or disappears after an error. Raises
    BadInput if `dest` exists or cannot be made."""
    refuse_existing(dest)
    must_be_writable(dest)
    return atomic_folder(dest)


def save_run(
    dest: Path,
    model: MultiTokenTransformer,
    beside: Tokenizer | None,
    config: TrainConfig,
    assignments: list[str],
) -> Tokenizer | None:
    """Write a run's folder at step 0 and return its tokenizer. `config` gets the model's shape and
    tokenizer, and then the assignments, which may change only the context of the model. The new
    run has no `init` and no `freeze`: it has weights of its own, whatever the source began with.

    beside  the tokenizer that came with the weights; without one, the assignments must name the
            weights' tokenizer, or bpe to continue with a new one
    """
    config = _new_config(model.config, config, assignments)
    shape = dataclasses.replace(config.model, context=model.config.context)
    if changed := differences(model.config, shape, "model."):
        raise BadInput(f"{changed[0]}: only the context of a checkpoint's model can be set")
    named = any(each.partition("=")[0].strip() == "data.tokenizer" for each in assignments)
    if not beside and not named:
        raise BadInput(
            "the weights come without a tokenizer; give theirs: import --tokenizer FOLDER, or "
            "--set data.tokenizer=bytes, llama:FILE or run:FOLDER (bpe: a new one)"
        )
    tokenizer = from_name(config.data.tokenizer) if named else beside
    if beside and not (tokenizer and same_tokenizer(beside, tokenizer)):
        raise BadInput(
            f"data.tokenizer={config.data.tokenizer} is not the tokenizer of the weights; that is "
            f"the one beside them, {beside.name}"
        )
    if tokenizer:
        if tokenizer.vocab_size > model.config.vocab:
            raise BadInput(
                f"the {tokenizer.name} tokenizer has {tokenizer.vocab_size} tokens, the model only "
                f"{model.config.vocab}; give the model's own with --tokenizer"
            )
        name = saved_name(tokenizer, dest)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, tokenizer=name))
    weights = {name: w.detach() for name, w in model.named_parameters()}
    with new_folder(dest) as folder:
        (folder / "config.json").write_text(to_json(config))
        if tokenizer:
            tokenizer.save(folder)
        checkpoint.save(folder / "checkpoint", Checkpoint(0, weights, {}, {"step": 0}))
    return tokenizer


def _new_config(model: ModelConfig, old: TrainConfig, assignments: list[str]) -> TrainConfig:
    """The config of a new run of this model, with the old run's data, objective and rates and then
    the assignments. BadInput says which field to set if the objective does not fit the model."""

    def with_assignments(given: list[str]) -> TrainConfig:
        return override(old, given, model=model, init="", freeze="none")

    try:
        return with_assignments(assignments)
    except BadInput as error:
        try:
            with_assignments([])
        except BadInput as misfit:
            name = str(misfit).removeprefix("objective.").partition(" ")[0].partition("=")[0]
            default = getattr(ObjectiveConfig(), name, None)
            if str(misfit) == str(error) and default is not None:
                raise BadInput(
                    f"{error}. The old run's objective does not fit the new heads; add --set "
                    f"objective.{name}={str(default).lower()}, or another value"
                ) from None
        raise
