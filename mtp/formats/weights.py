"""What all checkpoint formats share: careful reading of JSON and safetensors, names of weights, and
building a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtp.config import ModelConfig
from mtp.errors import BadInput, choose
from mtp.files import parse_json
from mtp.model.loading import count_layers, shapes_of, with_weights
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import from_dict

TYPES = (torch.float32, torch.bfloat16, torch.float16)

# The weights of a layer: our names, which are Meta's too -> Hugging Face's.
PARTS = {
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises BadInput if the file has none."""
    try:
        values = parse_json(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise BadInput(f"{file} is torn or not a JSON object")
    return values


def write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")


def layer_part(name: str) -> str:
    """The last part of a weight's name: wq for layers.3.attention.wq.weight."""
    return name.removesuffix(".weight").rpartition(".")[2]


def required(file: Path, values: dict[str, Any], key: str) -> Any:
    if values.get(key) is None:
        raise BadInput(f"{file} has no {key}")
    return values[key]


def model_config(file: Path, values: dict[str, Any]) -> ModelConfig:
    """A config from the values in `file`. BadInput names the file and the field."""
    try:
        return from_dict(ModelConfig, values)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


def build_model(
    folder: Path,
    config: ModelConfig,
    names_of: Callable[[ModelConfig], dict[str, str]] | None,
    found: dict[str, Tensor],
) -> MultiTokenTransformer:
    """The model with the weights `found`, which are removed from that dictionary. `names_of` maps a
    config to our names and theirs; None if they are the same. Raises BadInput if the weights do not
    fit or are not finite."""
    held = count_layers(found, (*PARTS, *PARTS.values()))
    shapes, weights = shapes_of(config, held, len(found), folder), dict[str, Tensor]()
    names = names_of(config) if names_of else {name: name for name in shapes}
    for ours, theirs in names.items():
        if (weight := found.pop(theirs, None)) is None:
            raise BadInput(f"{folder} has no weight {theirs!r}")
        if tuple(weight.shape) != shapes[ours]:
            raise BadInput(
                f"weight {theirs!r} of {folder} has shape {tuple(weight.shape)}; "
                f"its config wants {shapes[ours]}"
            )
        choose(f"type of weight {theirs!r} of {folder}:", str(weight.dtype), map(str, TYPES))
        if not weight.isfinite().all():  # the model would run, but would know nothing
            raise BadInput(f"weight {theirs!r} of {folder} is not finite; export the model again")
        weights[ours] = weight.float()
    if found:
        raise BadInput(f"{folder} has a weight {min(found)!r} that its config does not mention")
    return with_weights(config, weights, folder)


def read_safetensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of model.safetensors, or of the shards that its index names."""
    files, index = [folder / "model.safetensors"], folder / "model.safetensors.index.json"
    if not files[0].exists():
        if not index.exists():
            raise BadInput(
                f"{folder} has no model.safetensors and no index of shards; other files of "
                "weights (pytorch_model.bin) are not read"
            )
        places = read_json(index).get("weight_map")
        names = set(map(str, places.values())) if isinstance(places, dict) else set()
        if not names or any(Path(name).name != name for name in names):
            raise BadInput(f"{index} has no weight_map to files beside it")
        files = [folder / name for name in sorted(names)]
    found: dict[str, Tensor] = {}
    for file in files:
        try:
            found |= load_file(file)
        except FileNotFoundError:
            raise BadInput(f"{file} is missing") from None
        except (OSError, SafetensorError) as error:
            raise BadInput(
                f"{file} is truncated or damaged: {' '.join(str(error).split())}"
            ) from None
    return found
