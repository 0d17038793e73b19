"""Models from the weights of a checkpoint."""

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtp.checkpoint import kept_file, newest_of, run_config
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import LAYER_WEIGHTS


def load_model(run: Path, device: str = "cpu") -> MultiTokenTransformer:
    """The trained model of a run's folder, in float32. Raises BadInput if there is none."""
    return with_weights(run_config(run).model, newest_of(run).weights(), run).to(device)


def with_weights(
    config: ModelConfig, weights: dict[str, Tensor], where: object = "the checkpoint"
) -> MultiTokenTransformer:
    """A model of this config with these weights. Raises BadInput if they do not fit; its message
    says that the weights come from `where`."""
    expected = shapes_of(config, count_layers(weights), len(weights), where)
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(set(expected.items()) ^ set(got.items())):
        name = wrong[0][0]
        raise BadInput(
            f"checkpoint weight {name!r} has shape {got.get(name, 'none')}, "
            f"the config wants {expected.get(name, 'none')}"
        )
    model = MultiTokenTransformer.uninitialised(config)
    model.load_state_dict(weights)
    return model


def shapes_of(
    config: ModelConfig, layers: int, weights: int, where: object
) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by name. Raises BadInput if `where`, which holds this many
    layers and weights in all, has too few for the config, or if a weight would be too large."""
    # Checked first, since the names and shapes of a billion layers would fill the memory.
    if (wanted := config.layers + config.extra_layers) > layers:
        raise BadInput(f"{where} has the weights of {layers} layers; its config wants {wanted}")
    if config.n > weights:  # a head that is not a layer has one weight
        raise BadInput(f"{where} has {weights} weights; its config wants {config.n} heads")
    try:
        model = MultiTokenTransformer.on_meta(config)
    except (RuntimeError, TypeError, OverflowError):  # raised by torch for sizes past 64 bits
        raise BadInput(f"the config of {where} wants weights larger than a tensor can be") from None
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def count_layers(names: Iterable[str], parts: Iterable[str] = LAYER_WEIGHTS) -> int:
    """How many transformer layers the weights of these names belong to. `parts` are the names that
    a format gives to the weights of a layer."""
    ends = tuple(f".{part}.weight" for part in parts)
    return len({name.removesuffix(end) for name in names for end in ends if name.endswith(end)})


def load_kept(run: Path, step: int, config: ModelConfig) -> MultiTokenTransformer:
    """The model as it was at a kept step. Raises BadInput if its file is missing or damaged."""
    file = kept_file(run, step)
    try:
        return with_weights(config, load_file(file))
    except (OSError, SafetensorError, BadInput) as error:
        raise BadInput(f"kept weights {file} cannot be read: {error}") from None
