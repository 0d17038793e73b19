"""Writing heads as a Medusa checkpoint, as vLLM reads it (vllm/model_executor/models/medusa.py).

    DEST/           the model with head 1 alone, a Hugging Face Llama
    DEST/medusa/    config.json  model.safetensors: the heads that draft

Medusa's head k (from 0) predicts the token k + 2 places ahead of the last one that the model has
read, from the hidden state x after the final norm: logits = lm_heads.k (x + silu(W_k x)). Heads
that differ in their unembedding alone are such heads with W_k = 0; head i is its head i - 2. So

    vllm serve DEST --speculative-config '{"method": "medusa", "model": "DEST/medusa",
        "num_speculative_tokens": 3}'                                             for n = 4

No engine has run such a folder yet; tests/mtp/formats/test_medusa.py computes the logits from its
files as that source does, and compares them with ours.
"""

from pathlib import Path

import torch

from mtp.checkpoint import save_tensors
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput
from mtp.formats.hugging_face import write_hf
from mtp.formats.weights import write_json
from mtp.head_types import HEADS, short_name
from mtp.model.model import MultiTokenTransformer


def write_medusa(folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None) -> None:
    """Write head 1 and the heads that draft, in float32, to an existing folder. Raises BadInput for
    heads that Medusa's cannot express."""
    c, row = model.config, HEADS[model.config.head]
    if c.n < 2:
        raise BadInput("the model has one head; Medusa needs heads that draft (n of 2 or more)")
    if row.module != "identity" or row.shared_unembedding:
        fitting = [name for name, each in HEADS.built_in.items() if each.module == "identity"]
        raise BadInput(
            f"{short_name(c.head)} heads cannot be exported as Medusa heads, which read the normed "
            f"state of the last layer; choose a model with {' or '.join(fitting)} heads, or "
            "another format"
        )
    write_hf(folder, model, tokenizer)
    own = folder / "medusa"
    own.mkdir()
    values = {
        "architectures": ["MedusaModel"],
        "model_type": "medusa",
        "hidden_size": c.dim,
        "vocab_size": c.vocab,
        "num_heads": c.n - 1,
        "num_hidden_layers": 1,
        "torch_dtype": "float32",
    }
    write_json(own / "config.json", values)
    weights = {}
    for head in range(c.n - 1):
        weights[f"blocks.{head}.layers.0.weight"] = torch.zeros(c.dim, c.dim)
        weights[f"lm_heads.{head}.weight"] = model.unembedding(head + 2).detach().float()
    save_tensors(weights, own / "model.safetensors", {"format": "pt"})
