"""What the tests of checkpoint formats share: models in every format, and ways to damage files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

TOKENS = torch.randint(97, (2, 48), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    for p in model.parameters():
        p.uniform_(0.5, 1.5) if p.dim() == 1 else p.normal_(std=p.shape[1] ** -0.5)


def our_model(head: str = "parallel", n: int = 3, **changes: Any) -> MultiTokenTransformer:
    shape = {"dim": 32, "layers": 5, "attn_heads": 4, "vocab": 97, "context": 64}
    torch.manual_seed(0)
    model = MultiTokenTransformer(ModelConfig(head=head, n=n, **(shape | changes)))  # type: ignore[arg-type]
    randomise(model)
    return model


def logits(model: MultiTokenTransformer) -> Tensor:
    """(n, B, T, V)"""
    with torch.no_grad():
        return torch.stack(model(TOKENS))


def assert_equal_models(a: MultiTokenTransformer, b: MultiTokenTransformer) -> None:
    assert a.config == b.config
    assert torch.equal(logits(a), logits(b))


def refused(*parts: str) -> Any:
    class Refused:
        def __enter__(self) -> None:
            self.inner = pytest.raises(BadInput)
            self.error = self.inner.__enter__()

        def __exit__(self, *args: Any) -> Any:
            done = self.inner.__exit__(*args)
            message = str(self.error.value)
            assert "\n" not in message
            for part in parts:
                assert part in message, message
            return done

    return Refused()


def write(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float) -> Any:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


def their_model(**changes: Any) -> Any:
    """A small LlamaForCausalLM with random weights, norms included."""
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shape = {
        "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": 128,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(shape | changes)))
    randomise(model)
    return model.eval()


def from_pretrained(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


def released_model(n: int = 3, kv: int = 4, **params: Any) -> tuple[dict[str, Tensor], Any]:
    """Random weights under Meta's names, and their params.json."""
    D, F, V, L, E = 32, 88, 97, 5, 8
    g = torch.Generator().manual_seed(n)

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.randn(rows, columns, generator=g) * columns**-0.5

    def gain() -> Tensor:
        return torch.rand(D, generator=g) + 0.5

    weights = {"tok_embeddings.weight": matrix(V, D), "output.weight": matrix(V, D)}
    weights |= {"norm.weight": gain(), "rope.freqs": torch.ones(4)}
    names = [f"layers.{i}" for i in range(L - n + 1)] + [f"extra_heads.{i}" for i in range(n - 1)]
    for name in names:
        shapes = {"wq": (D, D), "wk": (kv * E, D), "wv": (kv * E, D), "wo": (D, D)}
        weights |= {f"{name}.attention.{k}.weight": matrix(*s) for k, s in shapes.items()}
        shapes = {"w1": (F, D), "w2": (D, F), "w3": (F, D)}
        weights |= {f"{name}.feed_forward.{k}.weight": matrix(*s) for k, s in shapes.items()}
        weights |= {f"{name}.{k}_norm.weight": gain() for k in ("attention", "ffn")}
    values = {"dim": D, "n_layers": L, "n_heads": 4, "vocab_size": -1, "multiple_of": 8}
    values |= {"norm_eps": 1e-5, "n_future_tokens": n} | params
    if kv != 4:
        values["n_kv_heads"] = kv
    return weights, values


def save_released(
    folder: Path, weights: dict[str, Tensor], params: Any, shards: int = 1, by: int = 1
) -> None:
    """Write them cut into `shards`, the embedding along `by`: 1 as Llama 2's, 0 as Llama 3's."""
    folder.mkdir(exist_ok=True)
    (folder / "params.json").write_text(json.dumps(params))
    axes = {"wo": 1, "w2": 1, "tok_embeddings": by}
    for i in range(shards):
        part = {
            name: w
            if w.dim() == 1
            else w.tensor_split(shards, axes.get(name.split(".")[-2], 0))[i].clone()
            for name, w in weights.items()
        }
        torch.save(part, folder / f"consolidated.{i:02}.pth")
