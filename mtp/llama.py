"""Hugging Face's Llama folder, in and out; and what every format of checkpoints needs.

    config.json  model.safetensors, or shards and their index  generation_config.json  tokenizer

Its layers are numbered in one row, the last one being head 1's. Rotary positions turn the pairs
(x[j], x[j + E/2]) of a head, as ours do. Weights are read as float32, tied embeddings as two equal
matrices.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tokenizers
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mtp.checkpoint import LAYER, save_tensors, shapes_of, with_weights
from mtp.config import TRANSFORMER_HEADS, ModelConfig, from_dict, parse_rope_scaling
from mtp.errors import BadInput, choose
from mtp.model import MultiTokenTransformer
from mtp.parse import parse
from mtp.tokenizer import BPE, LlamaTokenizer, Tokenizer

TYPES = (torch.float32, torch.bfloat16, torch.float16)

PLAIN = {  # what their config may say, and a model of ours is always
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def hf_weights(model: MultiTokenTransformer) -> dict[str, Tensor]:
    """The weights of a model with one head under Hugging Face's names."""
    ours = model.state_dict()
    return {theirs: ours[name] for name, theirs in _hf_names(model.config).items()}


def write_hf(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Head 1 as a LlamaForCausalLM, in float32, into an existing folder."""
    model = model.drop_heads()
    c = model.config
    kind, numbers = parse_rope_scaling(c.rope_scaling)
    keys = {"none": (), "linear": LLAMA3[:1], "llama3": LLAMA3}[kind]
    scaling: dict[str, Any] = {"rope_type": kind} | dict(zip(keys, numbers, strict=True))
    if kind == "llama3":
        scaling[LLAMA3[3]] = int(numbers[3])
    ends = {
        "bos_token_id": tokenizer.bos if tokenizer else None,
        "eos_token_id": tokenizer.eos if tokenizer else None,
    }
    values = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": c.vocab,
        "hidden_size": c.dim,
        "intermediate_size": c.ffn,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.attn_heads,
        "num_key_value_heads": c.key_value_heads,
        "head_dim": c.head_size,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_base,
        "rope_scaling": None if kind == "none" else scaling,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        **{key: value for key, value in PLAIN.items() if isinstance(value, (str, bool))},
        **ends,
    }
    write_json(folder / "config.json", values)
    write_json(folder / "generation_config.json", ends)
    save_tensors(hf_weights(model), folder / "model.safetensors", {"format": "pt"})
    if tokenizer:
        write_hf_tokenizer(folder, tokenizer, c.context)


def write_hf_tokenizer(folder: Path, tokenizer: Tokenizer, context: int) -> None:
    """tokenizer.json and tokenizer_config.json, from which AutoTokenizer gives bos and then the ids
    of `tokenizer.encode`. Bytes become a BPE without merges, whose ids are the bytes; SentencePiece
    becomes a BPE, with tokenizer.model beside it. BadInput where that is none like Llama's."""
    names = {"bos_token": BPE.BOS, "eos_token": BPE.EOS}
    if isinstance(tokenizer, LlamaTokenizer):
        tokenizer.save(folder)
        inner, piece = _sentencepiece_bpe(tokenizer), tokenizer.inner.id_to_piece
        names = {"bos_token": piece(tokenizer.bos), "eos_token": piece(tokenizer.eos)}
    elif isinstance(tokenizer, BPE):
        inner, names = tokenizers.Tokenizer.from_str(tokenizer.inner.to_str()), tokenizer.names
    else:
        inner = _byte_bpe()
    bos = names["bos_token"]
    inner.post_processor = tokenizers.processors.TemplateProcessing(
        f"{bos} $A", f"{bos} $A {bos} $B", [(bos, tokenizer.bos)]
    )
    inner.save(str(folder / "tokenizer.json"))
    values = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context}
    values |= {"clean_up_tokenization_spaces": False, "split_special_tokens": True}
    write_json(folder / "tokenizer_config.json", values | names)


def _byte_bpe() -> tokenizers.Tokenizer:
    """ByteTokenizer as a tokenizer.json: its pre-tokenizer writes a byte as a letter, and letter
    number b of the alphabet, the printable bytes first, is byte b (as in GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    letters = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(rest)}
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=letters, merges=[]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens([BPE.BOS, BPE.EOS])  # 256 and 257
    return inner


def _sentencepiece_bpe(tokenizer: LlamaTokenizer) -> tokenizers.Tokenizer:
    """Llama's SentencePiece model as a BPE: a merge for every way to put a piece together from two,
    the best pieces first; characters that are no piece become bytes."""
    model = tokenizer.inner
    pieces = {model.id_to_piece(i): i for i in range(tokenizer.vocab_size)}
    special = [p for p, i in pieces.items() if model.is_control(i) or model.is_unknown(i)]
    merges: list[tuple[str, str]] = []
    for piece in sorted(set(pieces) - set(special), key=lambda p: (-model.get_score(pieces[p]), p)):
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [(a, b) for a, b in cuts if a in pieces and b in pieces]
    unknown = model.id_to_piece(model.unk_id())
    bpe = tokenizers.models.BPE(
        vocab=pieces, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True
    )
    inner = tokenizers.Tokenizer(bpe)
    inner.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    decoders = tokenizers.decoders
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.add_special_tokens(special)
    probe = Path(__file__).read_text() + " \t\r\n é漢🙂"
    if inner.encode(probe, add_special_tokens=False).ids != tokenizer.encode(probe):
        raise BadInput(f"{tokenizer.file} is no BPE like Llama's; it cannot be exported")
    return inner


def _hf_names(config: ModelConfig) -> dict[str, str]:
    names = {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "unembeddings.0.weight": "lm_head.weight",
    }
    for i, layer in enumerate(layer_names(config)):
        for ours, theirs in LAYER.items():
            names[f"{layer}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    return names


def read_hf(folder: Path, values: dict[str, Any]) -> MultiTokenTransformer:
    """The model of a folder whose config.json holds `values`; BadInput names what is not there, is
    damaged or is not Llama's."""
    file = folder / "config.json"
    rope = {"rope_theta": values.get("rope_theta", 10_000.0)}  # 4.x of transformers, then 5.x
    for key in ("rope_scaling", "rope_parameters"):
        if not isinstance(part := values.get(key) or {}, dict):
            raise BadInput(f"{file}: {key} is {part!r}; it must be named fields")
        rope |= part
    for key, ours in PLAIN.items():
        if (got := rope.get(key, values.get(key, ours))) != ours:
            raise BadInput(f"{file}: {key} is {got!r}; only {ours!r} can be read")
    config = config_of(
        file,
        {
            "dim": need(file, values, "hidden_size"),
            "layers": need(file, values, "num_hidden_layers"),
            "attn_heads": need(file, values, "num_attention_heads"),
            "kv_heads": values.get("num_key_value_heads") or 0,
            "vocab": need(file, values, "vocab_size"),
            "hidden": need(file, values, "intermediate_size"),
            "context": values.get("max_position_embeddings", 2048),
            "rope_base": rope["rope_theta"],
            "norm_eps": values.get("rms_norm_eps", 1e-6),
            "head_dim": values.get("head_dim") or 0,
            "rope_scaling": _rope_scaling(file, values, rope),
        },
    )
    found = read_safetensors(folder)
    if values.get("tie_word_embeddings") and "model.embed_tokens.weight" in found:
        found["lm_head.weight"] = found["model.embed_tokens.weight"]
    found = {k: w for k, w in found.items() if not k.endswith("rotary_emb.inv_freq")}
    return model_of(folder, config, _hf_names, found)


def _rope_scaling(file: Path, values: dict[str, Any], rope: dict[str, Any]) -> str:
    kind = rope.get("rope_type", rope.get("type", "default"))
    choose(f"rope type in {file}:", kind, ("default", "linear", "llama3"))
    if kind == "default":
        return "none"
    rope = {LLAMA3[3]: values.get("max_position_embeddings", 2048)} | rope
    keys = LLAMA3 if kind == "llama3" else LLAMA3[:1]
    return f"{kind}:" + ",".join(str(need(file, rope, key)) for key in keys)


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


# --------------------------------------------------------------------------------------------------
# shared with the other formats


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; BadInput where there is none."""
    try:
        values = parse(file.read_bytes())
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise BadInput(f"{file} is torn or no JSON object")
    return values


def write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")


def layer_names(config: ModelConfig) -> list[str]:
    """Our names of the transformer layers: the trunk's, head 1's, head 2's .."""
    own = config.n if config.head in TRANSFORMER_HEADS else 0
    trunk = [f"trunk.{i}" for i in range(config.trunk_layers)]
    return trunk + [f"heads.{i}" for i in range(own)]


def part_of(name: str) -> str:
    """wq of layers.3.attention.wq.weight."""
    return name.removesuffix(".weight").rpartition(".")[2]


def need(file: Path, values: dict[str, Any], key: str) -> Any:
    if values.get(key) is None:
        raise BadInput(f"{file} has no {key}")
    return values[key]


def config_of(file: Path, values: dict[str, Any]) -> ModelConfig:
    """A config from the fields that `file` gave; BadInput names both."""
    try:
        return from_dict(ModelConfig, values)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from None


def model_of(
    folder: Path,
    config: ModelConfig,
    names_of: Callable[[ModelConfig], dict[str, str]] | None,
    found: dict[str, Tensor],
) -> MultiTokenTransformer:
    """The model of the weights `found`, which it takes out; `names_of` a config gives their names
    by ours, None: they are the same. BadInput where they do not fit or are no numbers."""
    shapes, weights = shapes_of(config, found, folder), dict[str, Tensor]()
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
        if not weight.isfinite().all():  # it would score, as if it knew nothing
            raise BadInput(f"weight {theirs!r} of {folder} is not finite; export the model again")
        weights[ours] = weight.float()
    if found:
        raise BadInput(f"{folder} has a weight {min(found)!r} that its config has no place for")
    return with_weights(config, weights, folder)
