"""Models from the weights of a checkpoint."""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtp.checkpoint import Saved, kept_file, newest_of, run_config
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.model import AUXILIARY, MultiTokenTransformer
from mtp.model.transformer import LAYER_WEIGHTS, Rope


def load_model(
    run: Path, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> MultiTokenTransformer:
    """The trained model of a run's folder. Raises BadInput if there is none."""
    return from_checkpoint(run_config(run).model, newest_of(run), device, dtype, run)


def from_checkpoint(
    config: ModelConfig,
    saved: Saved,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    where: object = "the checkpoint",
) -> MultiTokenTransformer:
    """The model of a checkpoint that has been verified. Raises BadInput as `with_weights` does."""
    return with_weights(config, _moved(saved.weights(), device, dtype), where)


def load_kept(
    run: Path,
    step: int,
    config: ModelConfig,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> MultiTokenTransformer:
    """The model as it was at a kept step. Raises BadInput if its file is missing or damaged."""
    file = kept_file(run, step)
    try:
        return with_weights(config, _moved(load_file(file), device, dtype))
    except (OSError, SafetensorError, BadInput) as error:
        raise BadInput(f"kept weights {file} cannot be read: {error}") from None


def _moved(weights: dict[str, Tensor], device: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights on a device and in a type, without those that only training needs; one at a time,
    so that none but one is held twice."""
    for name in list(weights):
        if name.startswith(AUXILIARY):
            del weights[name]
            continue
        weights[name] = weights[name].to(device, dtype)
    return weights


def with_weights(
    config: ModelConfig, weights: dict[str, Tensor], where: object = "the checkpoint"
) -> MultiTokenTransformer:
    """A model of this config whose weights are these very tensors, on their device and in their
    type; a tensor that has two names is copied for the second. Weights that only training needs are
    left out. Raises BadInput if they do not fit; its message says that the weights come from
    `where`."""
    weights = {name: w for name, w in weights.items() if not name.startswith(AUXILIARY)}
    model = _empty(config, count_layers(weights), len(weights), where)
    expected = _shapes(model)
    got = {name: tuple(w.shape) for name, w in weights.items()}
    if wrong := sorted(set(expected.items()) ^ set(got.items())):
        name = wrong[0][0]
        raise BadInput(
            f"checkpoint weight {name!r} has shape {got.get(name, 'none')}, "
            f"the config wants {expected.get(name, 'none')}"
        )
    own, taken = dict[str, Tensor](), set[int]()
    for name, weight in weights.items():
        whole = weight.contiguous()
        own[name] = whole.clone() if whole.data_ptr() in taken else whole
        taken.add(whole.data_ptr())
    model.load_state_dict(own, assign=True)
    model.rope = Rope(config).to(model.embedding.weight.device)  # its table is not a parameter
    return model


def shapes_of(
    config: ModelConfig, layers: int, weights: int, where: object
) -> dict[str, tuple[int, ...]]:
    """The shapes of a model's weights by name. Raises BadInput if `where`, which holds this many
    layers and weights in all, has too few for the config, or if a weight would be too large."""
    return _shapes(_empty(config, layers, weights, where))


def _shapes(model: MultiTokenTransformer) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters()}


def _empty(config: ModelConfig, layers: int, weights: int, where: object) -> MultiTokenTransformer:
    """A model without memory for its weights. Raises BadInput as `shapes_of` does."""
    # Checked first, since the names and shapes of a billion layers would fill the memory.
    if (wanted := config.layers + config.extra_layers) > layers:
        raise BadInput(f"{where} has the weights of {layers} layers; its config wants {wanted}")
    # A head that is not a layer has one weight or two.
    if HEADS[config.head].modules(config.n) > weights:
        raise BadInput(f"{where} has {weights} weights; its config wants {config.n} heads")
    try:
        return MultiTokenTransformer.on_meta(config)
    except (RuntimeError, TypeError, OverflowError):  # raised by torch for sizes past 64 bits
        raise BadInput(f"the config of {where} wants weights larger than a tensor can be") from None


def count_layers(names: Iterable[str], parts: Iterable[str] = LAYER_WEIGHTS) -> int:
    """How many transformer layers the weights of these names belong to. `parts` are the names that
    a format gives to the weights of a layer."""
    ends = tuple(f".{part}.weight" for part in parts)
    return len({name.removesuffix(end) for name in names for end in ends if name.endswith(end)})
