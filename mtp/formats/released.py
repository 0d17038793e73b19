"""Reading and writing the paper's released checkpoints.

    params.json  consolidated.00.pth, consolidated.01.pth ..  tokenizer.model

The layout is Meta's for Llama. `layers.*` are the trunk and head 1; `extra_heads.*` are the layers
of heads 2..n, which also read the trunk's output. All heads are parallel and share `norm` and
`output`. The files are pickles, from which only tensors are accepted. The shards of a
model-parallel checkpoint are joined.

Their rotary positions turn the pairs (x[2j], x[2j + 1]) of a head, as complex numbers; ours turn
(x[j], x[j + E/2]). `halves` and `interleaved` reorder the rows of wq and wk.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtp.config import ModelConfig, parse_rope_scaling
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput, choose
from mtp.formats.weights import (
    PARTS,
    build_model,
    layer_part,
    model_config,
    read_json,
    required,
    write_json,
)
from mtp.head_types import HEADS
from mtp.model.heads import layer_names
from mtp.model.model import MultiTokenTransformer

CONTEXT = 4096  # positions (Table S13); the files do not contain it
PARAMS = {  # the keys that Meta's code accepts, and the defaults used here
    "dim": None, "n_layers": None, "n_heads": None, "n_kv_heads": None, "vocab_size": -1,
    "multiple_of": None, "ffn_dim_multiplier": None, "norm_eps": 1e-5, "rope_theta": 10_000.0,
    "use_scaled_rope": False, "rope_scaling_factor": 8, "rope_high_freq_factor": 4,
    "n_future_tokens": None, "max_batch_size": None, "max_seq_len": None,
}  # fmt: skip
SCALED = (1, 8192)  # LOW and CONTEXT of the scaling in Meta's code


def halves(weight: Tensor, heads: int) -> Tensor:
    """Rows (H E, D) of wq or wk in our order, pairs j and j + E/2, from Meta's, 2j and 2j + 1."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """The inverse of `halves`."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def write_released(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Write all heads as params.json and consolidated.00.pth, in float32, to an existing folder.

    The format cannot hold the context. Raises BadInput for a model that it cannot hold: with heads
    other than parallel ones, head_dim, or linear rope scaling.
    """
    c = model.config
    if c.n > 1 and (HEADS[c.head].reads_heads(c.n) or not HEADS[c.head].is_layer):
        raise BadInput(f"the released format has only parallel heads, not {c.head} ones; use all")
    if c.head_size * c.attn_heads != c.dim:
        raise BadInput("the released format cannot hold model.head_dim; use hf or all")
    params: dict[str, Any] = {
        "dim": c.dim,
        "n_layers": c.layers + c.extra_layers,
        "n_heads": c.attn_heads,
        "vocab_size": c.vocab,
        "multiple_of": c.ffn,  # they round 8/3 dim times a factor up to this, which gives c.ffn
        "norm_eps": c.norm_eps,
        "n_future_tokens": c.n,
    }
    if c.key_value_heads != c.attn_heads:
        params["n_kv_heads"] = c.key_value_heads
    if c.ffn < (plain := int(8 * c.dim / 3)):
        params["ffn_dim_multiplier"] = c.ffn / plain
    if c.rope_base != PARAMS["rope_theta"]:
        params["rope_theta"] = c.rope_base
    kind, numbers = parse_rope_scaling(c.rope_scaling)
    if kind == "llama3" and (numbers[1], numbers[3]) == SCALED:
        params |= {"use_scaled_rope": True, "rope_scaling_factor": numbers[0]}
        params["rope_high_freq_factor"] = numbers[2]
    elif kind != "none":
        raise BadInput(f"the released format cannot hold {c.rope_scaling}; use hf or all")
    weights, ours = {}, model.state_dict()
    for name, theirs in _released_names(c).items():
        heads = {"wq": c.attn_heads, "wk": c.key_value_heads}.get(layer_part(name))
        weights[theirs] = interleaved(ours[name], heads) if heads else ours[name]
    write_json(folder / "params.json", params)
    torch.save(weights, folder / "consolidated.00.pth")
    if tokenizer:
        tokenizer.save(folder)


def _released_names(config: ModelConfig) -> dict[str, str]:
    names = {
        "embedding.weight": "tok_embeddings.weight",
        "norm.weight": "norm.weight",
        "unembeddings.0.weight": "output.weight",
    }
    layers = layer_names(config)
    first = len(layers) - config.n + 1  # extra head
    for i, layer in enumerate(layers):
        theirs = f"layers.{i}" if i < first else f"extra_heads.{i - first}"
        names |= {f"{layer}.{part}.weight": f"{theirs}.{part}.weight" for part in PARTS}
    return names


def read_released(folder: Path) -> MultiTokenTransformer:
    """The model in a folder, with all heads. BadInput names the file, key or weight that is missing
    or damaged or not one of Meta's."""
    file = folder / "params.json"
    params_json = read_json(file)
    for key in params_json:
        choose(f"key in {file}:", key, PARAMS)
    dim = required(file, params_json, "dim")
    found = _join(folder, [_read_pickle(f) for f in sorted(folder.glob("consolidated*.pth"))], dim)
    params = PARAMS | {key: value for key, value in params_json.items() if value is not None}
    rows = {name: weight.shape[0] for name, weight in found.items() if weight.dim()}
    if params["vocab_size"] == -1:  # Llama 2's files leave it to the tokenizer
        params["vocab_size"] = rows.get("output.weight", 1)
    extra = {name.split(".")[1] for name in found if name.startswith("extra_heads.")}
    scaling = "none"
    if params["use_scaled_rope"]:
        (low, trained), factor = SCALED, params["rope_scaling_factor"]
        scaling = f"llama3:{factor},{low},{params['rope_high_freq_factor']},{trained}"
    config = model_config(
        file,
        {
            "dim": dim,
            "layers": required(file, params_json, "n_layers"),
            "attn_heads": required(file, params_json, "n_heads"),
            "kv_heads": params["n_kv_heads"] or 0,
            "vocab": params["vocab_size"],
            "n": params["n_future_tokens"] or 1 + len(extra),
            "hidden": rows.get("layers.0.feed_forward.w1.weight", 0),
            "context": CONTEXT,
            "rope_base": params["rope_theta"],
            "norm_eps": params["norm_eps"],
            "rope_scaling": scaling,
        },
    )
    model = build_model(folder, config, _released_names, found)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if heads := {"wq": config.attn_heads, "wk": config.key_value_heads}.get(
                layer_part(name)
            ):
                weight.copy_(halves(weight, heads).clone())
    return model


def _read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors in a .pth file. Anything else in it is refused before it can run."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # of many types, with long messages
        found = None
    if not isinstance(found, dict) or not all(map(_is_plain, found.values())):
        raise BadInput(f"{file} is refused: it is damaged, or holds more than named tensors")
    return {str(name): weight for name, weight in found.items()}


def _is_plain(value: Any) -> bool:
    """Whether this is a tensor whose elements are all in the file. An expanded tensor has few there
    and can take any amount of memory when it is copied."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_meta
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def _join(folder: Path, shards: list[dict[str, Tensor]], dim: int) -> dict[str, Tensor]:
    """Join the weights of model-parallel shards. Matrices that write to the residual stream are
    split along their inputs, the others along their outputs; norms are repeated. Llama 2's code
    splits the embedding along D, Llama 3's along V."""
    if not shards:
        raise BadInput(f"{folder} has no consolidated.*.pth")
    joined: dict[str, Tensor] = {}
    for name in set().union(*shards) - {"rope.freqs"}:  # ours computes them
        try:
            parts, part = [shard[name] for shard in shards], layer_part(name)
            along_v = part == "tok_embeddings" and parts[0].shape[-1] == dim
            along_inputs = part in ("wo", "w2", "tok_embeddings") and not along_v
            whole = len(parts) == 1 or part.endswith("norm")
            joined[name] = parts[0] if whole else torch.cat(parts, int(along_inputs))
        except (KeyError, RuntimeError, IndexError):
            raise BadInput(f"the shards of {folder} do not agree about weight {name!r}") from None
    return joined
