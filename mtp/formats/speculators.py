"""Writing `sequential-shared` heads as a speculator of the library vllm-project/speculators.

    DEST/             head 1 as a Hugging Face Llama (mtp/formats/hugging_face.py): the verifier
    DEST/speculator/  config.json  model.safetensors: the one layer of the heads that draft

The layout is that of its algorithm "mtp", version 0.9 (FastMTP, arXiv 2509.18362), which applies
one layer again and again. With h the verifier's last hidden state and Layer a Qwen3 layer, step
k = 0, 1, ..

    h <- final_layernorm(Layer(input_proj [token_layernorm(E x[t+k+1]) ; hidden_layernorm(h)]))

predicts x[t+k+2] from lm_head(h). E and lm_head are the verifier's. Three things differ from ours:

1.  The next step reads h after the norm. A norm without a gain changes nothing for the norm that
    follows it, up to its eps. So the gain of our final norm is multiplied into the verifier's
    lm_head, and the verifier's norm and final_layernorm have the gain 1. Then it also does not
    matter whether an engine hands on the verifier's state before or after its norm.
2.  input_proj reads the token first. So the columns of M are swapped.
3.  Qwen3 norms each query and each key. Heads of twice our width E hide that. Half of the new
    channels get a bias of BIAS and the gain 0, so they make up the norm and take no part in the
    scores: a query q becomes 2 q / BIAS, up to the factor 1 - mean(q^2) / BIAS^2, which float32
    does not see; the gain BIAS / 2 takes that back. The rotary pairs (j, j + E) with j < E/2 carry
    our pairs, and the base becomes base^2, so that they turn as ours do.

The verifier's path in config.json is ".": tools find it if they run in DEST. tests/mtp/formats/
test_speculators.py computes the logits from the files as that library's source does, and compares
them with ours. No engine has run such a folder.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from mtp.checkpoint import save_tensors
from mtp.config import ModelConfig
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput
from mtp.formats.hugging_face import rope_scaling, write_hf
from mtp.formats.weights import PARTS, write_json
from mtp.head_types import HEADS, HeadType, short_name
from mtp.model.heads import MergingLayer
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads

VERSION = "0.9.0"  # of speculators, whose layout this is
BIAS = 2.0**14  # a power of two, so that multiplying by it rounds nothing


def write_speculators(
    folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None
) -> None:
    """Write head 1 and the heads that draft, in float32, to an existing folder. Raises BadInput for
    heads that the layout cannot express."""
    c = model.config
    if c.n < 2:
        raise BadInput("the model has one head; a speculator needs heads that draft (n of 2 on)")
    if not _fits(HEADS[c.head], c.n):
        fitting = [name for name, row in HEADS.built_in.items() if _fits(row, c.n)]
        raise BadInput(
            f"{short_name(c.head)} heads cannot be exported as a speculator, one layer that is "
            f"applied again and again; choose a model with {' or '.join(fitting)} heads, or "
            "another format"
        )
    write_hf(folder, _with_plain_norm(model), tokenizer)
    own = folder / "speculator"
    own.mkdir()
    write_json(own / "config.json", _config(c))
    module = model.head(2)
    assert isinstance(module, MergingLayer)
    weights = {f"mtp_layers.0.{name}": w for name, w in _layer_weights(module, c).items()}
    save_tensors(weights, own / "model.safetensors", {"format": "pt"})


def _fits(row: HeadType, n: int) -> bool:
    """Whether heads 2, 3, .. are one layer that reads the head and the token before its own."""
    chained = all(row.parent(i, n) == i - 1 and row.reads(i) == (i - 1,) for i in range(2, n + 1))
    return row.module == "merging layer" and row.shared_module and chained


def _with_plain_norm(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """Head 1, with the gain of the final norm in the unembedding instead."""
    verifier = drop_heads(model)
    with torch.no_grad():
        verifier.unembedding(1).mul_(verifier.norm.weight)  # (V, D) * (D,)
        nn.init.ones_(verifier.norm.weight)
    return verifier


def _config(c: ModelConfig) -> dict[str, object]:
    layer = {
        "model_type": "qwen3",
        "vocab_size": c.vocab,
        "hidden_size": c.dim,
        "intermediate_size": c.ffn,
        # The verifier's: it tells tools which hidden state to hand over, that of the last layer.
        "num_hidden_layers": c.trunk_layers + 1,
        "num_attention_heads": c.attn_heads,
        "num_key_value_heads": c.key_value_heads,
        "head_dim": 2 * c.head_size,
        "max_position_embeddings": c.context,
        "rms_norm_eps": c.norm_eps,
        "rope_theta": c.rope_base**2,
        "rope_scaling": rope_scaling(c),
        "hidden_act": "silu",
        "attention_bias": True,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "tie_word_embeddings": False,
    }
    greedy = {"proposal_type": "greedy", "speculative_tokens": c.n - 1}
    greedy |= {"verifier_accept_k": 1, "accept_tolerance": 0.0}
    return {
        "architectures": ["MTPDraftModel"],
        "speculators_model_type": "mtp",
        "speculators_version": VERSION,
        "speculators_config": {
            "algorithm": "mtp",
            "default_proposal_method": "greedy",
            "proposal_methods": [greedy],
            "verifier": {"name_or_path": ".", "architectures": ["LlamaForCausalLM"]},
        },
        "transformer_layer_config": layer,
        "num_nextn_predict_layers": 1,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
    }


def _layer_weights(module: MergingLayer, c: ModelConfig) -> dict[str, Tensor]:
    """The layer's weights under the library's names."""
    ours = {name: w.detach().float() for name, w in module.state_dict().items()}
    found = {f"{theirs}.weight": ours[f"{part}.weight"] for part, theirs in PARTS.items()}
    D, E, H, K = c.dim, c.head_size, c.attn_heads, c.key_value_heads
    latent, token = ours["merge.weight"].split(D, 1)  # (D, D) each
    found["input_proj.weight"] = torch.cat([token, latent], 1)
    found["token_layernorm.weight"] = ours["token_norm.weight"]
    found["hidden_layernorm.weight"] = ours["latent_norm.weight"]
    found["final_layernorm.weight"] = torch.ones(D)

    pairs = torch.arange(E // 2)
    real = torch.cat([pairs, pairs + E])  # the channels of twice as wide heads that carry ours
    bias, gain = torch.zeros(2 * E), torch.zeros(2 * E)
    bias[E // 2 : E], gain[real] = BIAS, BIAS / 2  # E/2 of 2 E: the root mean square is BIAS / 2
    for name, heads in (("q", H), ("k", K)):
        rows = found[f"self_attn.{name}_proj.weight"].view(heads, E, D)
        if name == "q":
            rows = rows * math.sqrt(2)  # scores are divided by sqrt(2 E), ours by sqrt(E)
        wide = rows.new_zeros(heads, 2 * E, D)
        wide[:, real] = rows
        found[f"self_attn.{name}_proj.weight"] = wide.view(-1, D)
        found[f"self_attn.{name}_proj.bias"] = bias.repeat(heads)
        found[f"self_attn.{name}_norm.weight"] = gain.clone()
    values = found["self_attn.v_proj.weight"].view(K, E, D)
    found["self_attn.v_proj.weight"] = nn.functional.pad(values, (0, 0, 0, E)).reshape(-1, D)
    found["self_attn.v_proj.bias"] = torch.zeros(2 * E * K)
    out = found["self_attn.o_proj.weight"].view(D, H, E)
    found["self_attn.o_proj.weight"] = nn.functional.pad(out, (0, E)).reshape(D, -1)
    found["self_attn.o_proj.bias"] = torch.zeros(D)
    return found
