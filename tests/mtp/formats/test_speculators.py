"""Speculator folders: what the library speculators 0.9 computes from them equals our heads.

`Reader` is written from that library's equations (models/mtp: MTPDraftModel, and the Qwen3 layer of
transformers that it wraps), in plain torch and float64. It reads nothing but the two folders'
files.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from mtp.config import ModelConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.formats.speculators import write_speculators
from mtp.model.model import MultiTokenTransformer
from tests.mtp.formats.helpers import randomise

SHAPE = {"dim": 32, "layers": 4, "attn_heads": 4, "kv_heads": 2, "vocab": 258, "context": 40}
TOKENS = torch.randint(258, (2, 24), generator=torch.Generator().manual_seed(1))
LLAMA3 = "llama3:8,1,4,16"


def model_of(head: str = "sequential-shared", n: int = 4, **more: Any) -> MultiTokenTransformer:
    torch.manual_seed(0)
    model = MultiTokenTransformer(ModelConfig(head=head, n=n, **(SHAPE | more)))  # type: ignore[arg-type]
    randomise(model)  # norm gains too
    return model.eval()


class Reader:
    """The verifier's embedding, norm and unembedding, and the speculator's one layer."""

    def __init__(self, folder: Path) -> None:
        verifier = load_file(folder / "model.safetensors")
        self.config = json.loads((folder / "speculator" / "config.json").read_text())
        self.layer = self.config["transformer_layer_config"]
        self.all = {k: w.double() for k, w in verifier.items()}
        own = load_file(folder / "speculator" / "model.safetensors")
        self.own = {k.removeprefix("mtp_layers.0."): w.double() for k, w in own.items()}
        self.used: set[str] = set()

    def w(self, name: str) -> Tensor:
        self.used.add(name)
        return self.own[name]

    def norm(self, x: Tensor, name: str) -> Tensor:
        scale = x.pow(2).mean(-1, keepdim=True) + self.layer["rms_norm_eps"]
        return x * scale.rsqrt() * self.w(f"{name}.weight")

    def linear(self, x: Tensor, name: str, biased: bool = False) -> Tensor:
        return F.linear(x, self.w(f"{name}.weight"), self.w(f"{name}.bias") if biased else None)

    def frequencies(self) -> Tensor:
        c, half = self.layer, self.layer["head_dim"] // 2
        freq = c["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        if not (scaling := c["rope_scaling"]):
            return freq
        if scaling["rope_type"] == "linear":
            return freq / scaling["factor"]
        low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
        old = scaling["original_max_position_embeddings"]
        turns = old * freq / (2 * torch.pi)
        mix = ((turns - low) / (high - low)).clamp(0, 1)
        return (1 - mix) * freq / scaling["factor"] + mix * freq

    def rotate(self, x: Tensor) -> Tensor:  # (B, H, T, E)
        angle = torch.arange(x.shape[2], dtype=torch.float64)[:, None] * self.frequencies()
        cos, sin = (torch.cat([f, f], -1) for f in (angle.cos(), angle.sin()))
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def attention(self, x: Tensor) -> Tensor:
        B, T, _ = x.shape
        c, biased = self.layer, self.layer["attention_bias"]
        E, H, K = c["head_dim"], c["num_attention_heads"], c["num_key_value_heads"]
        q, k, v = (
            self.linear(x, f"self_attn.{name}_proj", biased).view(B, T, -1, E) for name in "qkv"
        )
        q, k = self.norm(q, "self_attn.q_norm"), self.norm(k, "self_attn.k_norm")
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        q, k = self.rotate(q), self.rotate(k)
        k, v = k.repeat_interleave(H // K, 1), v.repeat_interleave(H // K, 1)
        scores = q @ k.transpose(2, 3) * E**-0.5
        ahead = torch.ones(T, T, dtype=torch.bool).triu(1)
        y = scores.masked_fill(ahead, -torch.inf).softmax(-1) @ v
        return self.linear(y.transpose(1, 2).reshape(B, T, -1), "self_attn.o_proj", biased)

    def step(self, tokens: Tensor, h: Tensor) -> Tensor:
        """tokens (B, T), each one place (and one more a step) ahead, and h (B, T, D) -> h."""
        e = F.embedding(tokens, self.all["model.embed_tokens.weight"])
        both = self.norm(e, "token_layernorm"), self.norm(h, "hidden_layernorm")
        x = self.linear(torch.cat(both, -1), "input_proj")
        x = x + self.attention(self.norm(x, "input_layernorm"))
        y = self.norm(x, "post_attention_layernorm")
        gate = F.silu(self.linear(y, "mlp.gate_proj")) * self.linear(y, "mlp.up_proj")
        return self.norm(x + self.linear(gate, "mlp.down_proj"), "final_layernorm")

    def logits(self, h: Tensor) -> Tensor:
        return h @ self.all["lm_head.weight"].T


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize(
    "changes",
    [{}, {"rope_scaling": "linear:2"}, {"rope_scaling": LLAMA3, "kv_heads": 0, "head_dim": 12}],
)
def test_the_logits_are_ours(changes: dict[str, Any], normed: bool, tmp_path: Path) -> None:
    model = model_of(norm_eps=1e-9, **changes)
    write_speculators(tmp_path, model, ByteTokenizer())
    reader = Reader(tmp_path)
    model.double()
    with torch.no_grad():
        expected, h = model(TOKENS), model.latents(TOKENS, 1)[0]
        if normed:  # an engine may hand on the verifier's state after its norm
            h = model.norm(h) / model.norm.weight
        for k in range(3):
            seen = TOKENS.shape[1] - k - 1  # beyond them the tokens are not known
            h = reader.step(TOKENS[:, k + 1 :], h[:, :seen])
            torch.testing.assert_close(
                reader.logits(h), expected[k + 1][:, :seen], rtol=1e-6, atol=1e-6
            )
    assert reader.used == set(reader.own)


def test_the_default_eps_stays_within_its_size(tmp_path: Path) -> None:
    """The norm of a normed state counts norm_eps twice; nothing else differs."""
    model = model_of()
    write_speculators(tmp_path, model, None)
    reader = Reader(tmp_path)
    with torch.no_grad():
        expected, h = model.double()(TOKENS), model.latents(TOKENS, 1)[0]
        for k in range(3):
            h = reader.step(TOKENS[:, k + 1 :], h[:, : TOKENS.shape[1] - k - 1])
            ours = expected[k + 1][:, : h.shape[1]]
            torch.testing.assert_close(reader.logits(h), ours, rtol=2e-4, atol=2e-4)


def test_greedy_drafts_are_ours(tmp_path: Path) -> None:
    model = model_of()
    write_speculators(tmp_path, model, None)
    reader = Reader(tmp_path)
    prompt = TOKENS[:1, :9]
    with torch.no_grad():
        ours = prompt
        for i in range(1, 5):  # head i at the last position, told the drafts before its own
            last = model(prompt, i, ahead=ours[:, 9:])[i - 1][:, -1]
            ours = torch.cat([ours, last.argmax(-1, keepdim=True)], 1)
        h = model.latents(prompt, 1)[0].double()
        theirs = ours[:, :10]  # the verifier's next token is given
        for k in range(3):
            h = reader.step(theirs[:, k + 1 :], h)
            best = reader.logits(h)[:, -1].argmax(-1, keepdim=True)
            theirs = torch.cat([theirs, best], 1)
    assert theirs.tolist() == ours.tolist()


def test_the_config_has_the_fields_of_the_schema(tmp_path: Path) -> None:
    """SpeculatorModelConfig, SpeculatorsConfig, VerifierConfig and GreedyTokenProposalConfig of
    speculators 0.9, and what vLLM's reader of such configs asks for."""
    write_speculators(tmp_path, model_of(n=3), None)
    config = json.loads((tmp_path / "speculator" / "config.json").read_text())
    assert config["speculators_model_type"] == "mtp"
    assert config["speculators_version"] == "0.9.0"
    assert config["architectures"] == ["MTPDraftModel"]
    assert config["num_nextn_predict_layers"] == 1  # the only value that the schema allows
    inner = config["speculators_config"]
    assert set(inner) == {"algorithm", "proposal_methods", "default_proposal_method", "verifier"}
    assert inner["algorithm"] == "mtp"
    (method,) = inner["proposal_methods"]
    assert method["proposal_type"] == inner["default_proposal_method"] == "greedy"
    assert method["speculative_tokens"] == 2
    assert set(inner["verifier"]) == {"name_or_path", "architectures"}
    verifier = json.loads(
        (tmp_path / inner["verifier"]["name_or_path"] / "config.json").read_text()
    )
    assert inner["verifier"]["architectures"] == verifier["architectures"]
    layer = config["transformer_layer_config"]
    assert layer["model_type"] == "qwen3"  # one of the four with a layer of algorithm mtp
    for key in ("hidden_size", "vocab_size", "num_hidden_layers", "intermediate_size"):
        assert layer[key] == verifier[key]


@pytest.mark.parametrize(
    ("head", "n", "message"),
    [
        (
            "parallel",
            3,
            "parallel heads cannot be .* with sequential-shared heads",
        ),
        (
            "sequential",
            3,
            "sequential heads cannot be exported",
        ),  # a layer for each head
        ("causal", 3, "causal heads cannot be exported as a speculator"),
        ("inject", 3, "inject heads cannot be exported as a speculator"),
        ("sequential-shared", 1, "the model has one head"),
    ],
)
def test_other_heads_are_refused(head: str, n: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        write_speculators(tmp_path, model_of(head, n), None)
    assert not list(tmp_path.iterdir())
