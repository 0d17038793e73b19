"""Reading and writing Hugging Face's Llama folders.

    config.json  model.safetensors, or shards and their index  generation_config.json  tokenizer

Layers are numbered consecutively; the last one is head 1's. Rotary positions turn the pairs
(x[j], x[j + E/2]) of a head, as ours do. Weights are read as float32, tied embeddings as two equal
matrices.
"""

from pathlib import Path
from typing import Any

import tokenizers
from torch import Tensor

from mtp.checkpoint import save_tensors
from mtp.config import ModelConfig, parse_rope_scaling
from mtp.data.token_bytes import BYTE_OF
from mtp.data.tokenizer import BPE, LlamaTokenizer, Tokenizer
from mtp.errors import BadInput, choose
from mtp.formats.weights import (
    PARTS,
    build_model,
    model_config,
    read_safetensors,
    required,
    write_json,
)
from mtp.model.heads import layer_names
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads

PLAIN = {  # options of their config that must have these values, as our models always do
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
LLAMA3 = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def hf_weights(model: MultiTokenTransformer) -> dict[str, Tensor]:
    """The weights of a one-head model under Hugging Face's names."""
    ours = model.state_dict()
    return {theirs: ours[name] for name, theirs in _hf_names(model.config).items()}


def write_hf(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Write head 1 as a LlamaForCausalLM, in float32, to an existing folder."""
    model = drop_heads(model)
    c = model.config
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
        "rope_scaling": rope_scaling(c),
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


def rope_scaling(config: ModelConfig) -> dict[str, Any] | None:
    """The rope scaling of a model as the field `rope_scaling` of a config.json."""
    kind, numbers = parse_rope_scaling(config.rope_scaling)
    keys = {"none": (), "linear": LLAMA3[:1], "llama3": LLAMA3}[kind]
    scaling: dict[str, Any] = {"rope_type": kind} | dict(zip(keys, numbers, strict=True))
    if kind == "llama3":
        scaling[LLAMA3[3]] = int(numbers[3])
    return None if kind == "none" else scaling


def write_hf_tokenizer(folder: Path, tokenizer: Tokenizer, context: int) -> None:
    """Write tokenizer.json and tokenizer_config.json, with which AutoTokenizer returns bos and then
    the ids of `tokenizer.encode`. Bytes become a BPE without merges, whose ids are the bytes.
    SentencePiece becomes a BPE, with tokenizer.model beside it; raises BadInput if the model is not
    a BPE like Llama's."""
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
    """ByteTokenizer in the format of tokenizer.json, where the pre-tokenizer writes each byte as a
    letter, as in GPT-2."""
    inner = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=BYTE_OF, merges=[]))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=False
    )
    inner.decoder = tokenizers.decoders.ByteLevel()
    inner.add_special_tokens([BPE.BOS, BPE.EOS])  # 256 and 257
    return inner


def _sentencepiece_bpe(tokenizer: LlamaTokenizer) -> tokenizers.Tokenizer:
    """Llama's SentencePiece model as a BPE. It has a merge for every way to join two pieces to a
    third, the best pieces first; characters that are not a piece become bytes."""
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
        raise BadInput(f"{tokenizer.file} is not a BPE like Llama's; it cannot be exported")
    return inner


def _hf_names(config: ModelConfig) -> dict[str, str]:
    names = {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "unembeddings.0.weight": "lm_head.weight",
    }
    for i, layer in enumerate(layer_names(config)):
        for ours, theirs in PARTS.items():
            names[f"{layer}.{ours}.weight"] = f"model.layers.{i}.{theirs}.weight"
    return names


def read_hf(folder: Path, values: dict[str, Any]) -> MultiTokenTransformer:
    """The model in a folder whose config.json holds `values`. BadInput names what is missing or
    damaged or not supported."""
    file = folder / "config.json"
    rope = {"rope_theta": values.get("rope_theta", 10_000.0)}
    for key in ("rope_scaling", "rope_parameters"):  # of transformers 4.x and 5.x
        if not isinstance(part := values.get(key) or {}, dict):
            raise BadInput(f"{file}: {key} is {part!r}; it must be named fields")
        rope |= part
    for key, ours in PLAIN.items():
        if (got := rope.get(key, values.get(key, ours))) != ours:
            raise BadInput(f"{file}: {key} is {got!r}; only {ours!r} can be read")
    config = model_config(
        file,
        {
            "dim": required(file, values, "hidden_size"),
            "layers": required(file, values, "num_hidden_layers"),
            "attn_heads": required(file, values, "num_attention_heads"),
            "kv_heads": values.get("num_key_value_heads") or 0,
            "vocab": required(file, values, "vocab_size"),
            "hidden": required(file, values, "intermediate_size"),
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
    return build_model(folder, config, _hf_names, found)


def _rope_scaling(file: Path, values: dict[str, Any], rope: dict[str, Any]) -> str:
    kind = rope.get("rope_type", rope.get("type", "default"))
    choose(f"rope type in {file}:", kind, ("default", "linear", "llama3"))
    if kind == "default":
        return "none"
    rope = {LLAMA3[3]: values.get("max_position_embeddings", 2048)} | rope
    keys = LLAMA3 if kind == "llama3" else LLAMA3[:1]
    return f"{kind}:" + ",".join(str(required(file, rope, key)) for key in keys)
