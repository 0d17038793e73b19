"""Medusa folders: what vLLM's reader computes from them equals our heads."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mtp.config import ModelConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.formats.medusa import write_medusa
from mtp.model.model import MultiTokenTransformer

SHAPE = {"dim": 32, "layers": 4, "attn_heads": 4, "kv_heads": 2, "vocab": 258, "context": 24}


def model_of(head: str, n: int = 3) -> MultiTokenTransformer:
    torch.manual_seed(0)
    return MultiTokenTransformer(ModelConfig(head=head, n=n, **SHAPE)).eval()  # type: ignore[arg-type]


def test_the_heads_are_medusas(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[hf]'")
    model = model_of("replicated")
    write_medusa(tmp_path, model, ByteTokenizer())
    config = json.loads((tmp_path / "medusa" / "config.json").read_text())
    heads = load_file(tmp_path / "medusa" / "model.safetensors")
    target = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.randint(258, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        state = target.model(tokens).last_hidden_state  # after the final norm, as vLLM hands it on
        expected = model(tokens)
        torch.testing.assert_close(target(tokens).logits, expected[0], rtol=1e-4, atol=1e-4)
        assert config["num_heads"] == 2 and config["model_type"] == "medusa"
        for k in range(config["num_heads"]):
            x = state
            for layer in range(config["num_hidden_layers"]):
                x = x + F.silu(F.linear(x, heads[f"blocks.{k}.layers.{layer}.weight"]))
            logits = F.linear(x, heads[f"lm_heads.{k}.weight"])
            torch.testing.assert_close(logits, expected[k + 1], rtol=1e-4, atol=1e-4)
    assert len(heads) == 2 * (1 + config["num_hidden_layers"])


@pytest.mark.parametrize(
    ("head", "n", "message"),
    [
        (
            "parallel",
            3,
            "parallel heads cannot be .* Medusa heads, .* choose a model with replicated",
        ),
        ("linear", 3, "linear heads cannot be exported as Medusa heads"),
        (
            "mlp",
            3,
            "mlp heads cannot be exported as Medusa",
        ),  # which read the state after the final norm
        ("sequential", 3, "sequential heads cannot be exported as Medusa heads"),
        ("replicated", 1, "the model has one head"),
    ],
)
def test_other_heads_are_refused(head: str, n: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        write_medusa(tmp_path, model_of(head, n), None)
    assert not list(tmp_path.iterdir())
