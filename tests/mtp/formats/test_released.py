"""The paper's released files give what Meta's formulas give, are written and read again, and
damaged or hostile ones are refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.formats import released
from mtp.formats.folders import read_model
from tests.mtp.formats.helpers import (
    TOKENS,
    assert_equal_models,
    cut,
    logits,
    our_model,
    refused,
    released_model,
    save_released,
    write,
)


def metas_forward(weights: dict[str, Tensor], params: dict[str, Any], tokens: Tensor) -> Tensor:
    """Logits (n, B, T, V) of a released checkpoint, slowly and in its own terms: complex rotary
    numbers, one head of attention at a time."""
    H, eps, n = params["n_heads"], params["norm_eps"], params["n_future_tokens"]
    K, T = params.get("n_kv_heads", H), tokens.shape[1]
    w = {name: weight.to(torch.float64) for name, weight in weights.items()}
    E = w["norm.weight"].numel() // H
    base = params.get("rope_theta", 10_000.0)
    turn = torch.outer(torch.arange(T), base ** (-torch.arange(0, E, 2).double() / E))
    turn = torch.polar(torch.ones_like(turn), turn)  # (T, E/2)

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain

    def turned(x: Tensor) -> Tensor:  # (B, T, E)
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turn).flatten(-2)

    def block(x: Tensor, name: str) -> Tensor:
        h = norm(x, w[f"{name}.attention_norm.weight"])
        q, k, v = ((h @ w[f"{name}.attention.w{c}.weight"].T).split(E, -1) for c in "qkv")
        heads = []
        for i in range(H):
            j = i // (H // K)
            scores = turned(q[i]) @ turned(k[j]).transpose(1, 2) / E**0.5
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ v[j])
        x = x + torch.cat(heads, -1) @ w[f"{name}.attention.wo.weight"].T
        h = norm(x, w[f"{name}.ffn_norm.weight"])
        gate, up = (h @ w[f"{name}.feed_forward.w{c}.weight"].T for c in "13")
        return x + (gate * gate.sigmoid() * up) @ w[f"{name}.feed_forward.w2.weight"].T

    z = w["tok_embeddings.weight"][tokens]
    layers = params["n_layers"] - n + 1
    for i in range(layers - 1):
        z = block(z, f"layers.{i}")
    names = [f"layers.{layers - 1}", *(f"extra_heads.{i}" for i in range(n - 1))]
    latents = [norm(block(z, name), w["norm.weight"]) for name in names]
    return torch.stack(latents) @ w["output.weight"].T


@pytest.mark.parametrize(("n", "kv", "base"), [(1, 4, 1e4), (4, 4, 1e4), (3, 2, 5e5)])
def test_a_released_model_gives_what_metas_formulas_give(
    n: int, kv: int, base: float, tmp_path: Path
) -> None:
    weights, params = released_model(n, kv, rope_theta=base)
    save_released(tmp_path, weights, params)
    model = read_model(tmp_path)
    assert (model.config.n, model.config.head, model.config.context) == (n, "parallel", 4096)
    expected = metas_forward(weights, params, TOKENS)
    with torch.no_grad():
        exact = torch.stack(model.double()(TOKENS))
    # the rotary table is float32
    torch.testing.assert_close(exact, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("by", [1, 0])
def test_model_parallel_shards_are_joined(by: int, tmp_path: Path) -> None:
    weights, params = released_model(kv=2)
    padded = {  # 97 tokens do not cut in two
        name: torch.cat([w, w[:1]]) if w.shape[0] == 97 else w for name, w in weights.items()
    }
    save_released(tmp_path / "one", padded, params)
    save_released(tmp_path / "two", padded, params, shards=2, by=by)
    assert_equal_models(read_model(tmp_path / "one"), read_model(tmp_path / "two"))


def test_a_released_model_without_n_is_counted(tmp_path: Path) -> None:
    weights, params = released_model(3)
    del params["n_future_tokens"]
    save_released(tmp_path, weights, params)
    assert read_model(tmp_path).config.n == 3


RELEASED: dict[str, dict[str, Any]] = {
    "n=1": {"n": 1},
    "n=4": {"n": 4},
    "linear, n=1": {"n": 1, "head": "linear"},
    "grouped, more layers": {"kv_heads": 2, "extra_layers": 2, "rope_base": 5e5},
    "wide": {"hidden": 100},
    "narrow": {"hidden": 37},
    "scaled": {"rope_scaling": "llama3:32,1,4,8192", "rope_base": 5e5},
}


@pytest.mark.parametrize("variant", RELEASED)
def test_the_released_format_round_trips(variant: str, tmp_path: Path) -> None:
    model = our_model(**RELEASED[variant])
    released.write_released(tmp_path, model, None)
    again = read_model(tmp_path)
    assert torch.equal(logits(again), logits(model))
    params = json.loads((tmp_path / "params.json").read_text())
    weights = torch.load(tmp_path / "consolidated.00.pth", weights_only=True)
    if "use_scaled_rope" not in params:
        expected = metas_forward(weights, params, TOKENS)
        torch.testing.assert_close(logits(model).double(), expected, rtol=0, atol=1e-5)
    # Meta's own rule for the width of the feed-forward
    width = int(params.get("ffn_dim_multiplier", 1) * int(2 * 4 * params["dim"] / 3))
    multiple = params["multiple_of"]
    assert multiple * -(-width // multiple) == model.config.ffn


@pytest.mark.parametrize(
    ("head", "changes", "message"),
    [
        ("linear", {}, "linear"),
        ("causal", {}, "causal"),
        ("inject", {}, "inject"),
        ("sequential", {}, "sequential"),
        ("parallel", {"head_dim": 4}, "head_dim"),
        ("parallel", {"rope_scaling": "linear:2"}, "linear:2"),
        ("parallel", {"rope_scaling": "llama3:8,1,4,4096"}, "llama3:8,1,4,4096"),
    ],
)
def test_what_the_released_format_cannot_hold(
    head: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with refused("released", message):
        released.write_released(tmp_path, our_model(head, **changes), None)
    assert not list(tmp_path.iterdir())


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_refused_and_does_nothing(legacy: bool, tmp_path: Path) -> None:
    weights, params = released_model()
    save_released(tmp_path, weights, params)
    file, proof = tmp_path / "consolidated.00.pth", tmp_path / "proof"
    evil = weights | {"evil": Hostile(proof)}
    torch.save(evil, file, _use_new_zipfile_serialization=not legacy)
    with refused("consolidated.00.pth", "refused"):
        read_model(tmp_path)
    assert not proof.exists()
    torch.load(file, weights_only=False)  # it was a real one
    assert proof.exists()


# --------------------------------------------------------------------------------------------------
# bad input


def params(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        values = json.loads((folder / "params.json").read_text()) | changes
        kept = {key: value for key, value in values.items() if value != "gone"}
        (folder / "params.json").write_text(json.dumps(kept))

    return change


def shard(content: Any) -> Any:
    return lambda folder: torch.save(content, folder / "consolidated.00.pth")


LAYERS = {
    name: weight
    for name, weight in released_model()[0].items()
    if "layers." in name or "extra" in name
}
BAD_RELEASED: dict[str, tuple[Any, list[str]]] = {
    "torn params": (cut("params.json", 0.5), ["params.json", "torn"]),
    "no dim": (params(dim="gone"), ["params.json", "dim"]),
    "width past 64 bits": (params(dim=2**31), ["config", "larger than a tensor can be"]),
    "no layers": (params(n_layers="gone"), ["params.json", "n_layers"]),
    "dim is text": (params(dim="wide"), ["params.json", "'wide'"]),
    "another key": (params(moe_args={}), ["params.json", "'moe_args'", "n_layers"]),
    "no shards": (lambda f: (f / "consolidated.00.pth").unlink(), ["consolidated.*.pth"]),
    "empty shard": (write("consolidated.00.pth", b""), ["consolidated.00.pth", "refused"]),
    "half a shard": (cut("consolidated.00.pth", 0.5), ["consolidated.00.pth", "refused"]),
    "text": (write("consolidated.00.pth", b"hello"), ["consolidated.00.pth", "refused"]),
    "a list": (shard([torch.ones(2)]), ["consolidated.00.pth", "refused"]),
    "larger than its file": (
        shard({"tok_embeddings.weight": torch.ones(1).expand(10**11, 32)}),
        ["consolidated.00.pth", "refused"],
    ),
    "sparse": (shard({"norm.weight": torch.eye(2).to_sparse()}), ["refused"]),
    "a number": (shard({"norm.weight": 3}), ["consolidated.00.pth", "refused"]),
    "no weights": (shard({}), ["weights of 0 layers", "wants 5"]),
    "no embedding": (shard(LAYERS), ["tok_embeddings.weight"]),
    "a thousand layers": (params(n_layers=1000), ["weights of 5 layers", "wants 1000"]),
    "another shard": (
        lambda f: torch.save({"x": torch.ones(2)}, f / "consolidated.01.pth"),
        ["shards", "do not agree"],
    ),
    "the same shard again": (
        lambda f: shutil.copy(f / "consolidated.00.pth", f / "consolidated.01.pth"),
        ["has shape"],
    ),
    "n": (params(n_future_tokens=4), ["extra_heads.2"]),
    "fewer n": (params(n_future_tokens=2, n_layers=4), ["'extra_heads.1"]),
    "no trunk": (params(n_future_tokens=5), ["params.json", "trunk"]),
    "another vocabulary": (params(vocab_size=99), ["tok_embeddings", "(97, 32)", "(99, 32)"]),
}


@pytest.mark.parametrize("case", BAD_RELEASED)
def test_a_bad_released_folder_is_reported_in_one_line(case: str, tmp_path: Path) -> None:
    save_released(tmp_path / "released", *released_model())
    read_model(tmp_path / "released")
    change, message = BAD_RELEASED[case]
    change(tmp_path / "released")
    with refused(str(tmp_path / "released"), *message):
        read_model(tmp_path / "released")
