"""Checkpoints of others say the same here, and ours there; heads are grown and dropped."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from mtp import interop, llama, loss, released
from mtp.config import HeadType, ModelConfig
from mtp.decode import generate
from mtp.errors import BadInput
from mtp.interop import grow_heads, read
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import BPE, ByteTokenizer, LlamaTokenizer, Tokenizer, load
from mtp.trees import Tree

HEADS = get_args(HeadType)
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
TOKENS = torch.randint(97, (2, 48), generator=torch.Generator().manual_seed(1))

# name -> what a transformers LlamaConfig of 4 heads and 64 dimensions has besides
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "Llama 2": {"rope_theta": 10_000.0, "rms_norm_eps": 1e-5},
    "grouped queries": {"num_key_value_heads": 2},
    "one key": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "Llama 3": {"rope_theta": 5e5, "num_key_value_heads": 2, "rope_scaling": LLAMA3},
    "eps": {"rms_norm_eps": 0.1},
    "wide heads": {"head_dim": 24, "num_key_value_heads": 2},
    "narrow heads": {"head_dim": 8},
    "odd width": {"intermediate_size": 37},
}


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
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(shape | changes)))
    randomise(made)
    return made.eval()


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


def refused(*told: str) -> Any:
    class Refused:
        def __enter__(self) -> None:
            self.inner = pytest.raises(BadInput)
            self.error = self.inner.__enter__()

        def __exit__(self, *args: Any) -> Any:
            done = self.inner.__exit__(*args)
            message = str(self.error.value)
            assert "\n" not in message
            for part in told:
                assert part in message, message
            return done

    return Refused()


# --------------------------------------------------------------------------------------------------
# Hugging Face's Llama


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hugging_face_llama_says_the_same_here(variant: str, tmp_path: Path) -> None:
    theirs = their_model(**VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    with torch.no_grad():
        expected = theirs(TOKENS).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(logits(ours)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["linear", "Llama 3"])
def test_rope_scaling_matters(variant: str, tmp_path: Path) -> None:
    """Else the tests above would hold without it."""
    theirs = their_model(**VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["rope_parameters"]["rope_type"] = "default"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with torch.no_grad():
        assert (logits(read(tmp_path))[0] - theirs(TOKENS).logits).abs().max() > 0.1


def older(folder: Path) -> None:
    """Config and weights as transformers 4.x and Llama 2's first conversions have them."""
    file = folder / "config.json"
    values = json.loads(file.read_text())
    rope = values.pop("rope_parameters")
    values["rope_theta"] = rope.pop("rope_theta")
    values["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    if rope["rope_type"] == "linear":
        rope["type"] = rope.pop("rope_type")
    values.pop("head_dim", None)
    file.write_text(json.dumps(values))
    weights = llama.read_safetensors(folder)
    for i in range(3):
        weights[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    llama.save_tensors(weights, folder / "model.safetensors")


@pytest.mark.parametrize("variant", ["plain", "tied", "linear", "Llama 3"])
def test_older_folders_are_read_too(variant: str, tmp_path: Path) -> None:
    their_model(**VARIANTS[variant]).save_pretrained(tmp_path)
    now = logits(read(tmp_path))
    older(tmp_path)
    assert torch.equal(logits(read(tmp_path)), now)


def test_shards_are_joined(tmp_path: Path) -> None:
    theirs = their_model()
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert_equal_models(read(tmp_path / "one"), read(tmp_path / "many"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = their_model().to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = read(tmp_path)
    assert ours.embedding.weight.dtype == torch.float32
    with torch.no_grad():
        expected = type(theirs).from_pretrained(tmp_path, dtype=torch.float32)(TOKENS).logits
    torch.testing.assert_close(logits(ours)[0], expected, rtol=0, atol=1e-5)


OURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "linear": {"rope_scaling": "linear:4"},
    "llama3": {"rope_scaling": "llama3:8,1,4,32", "rope_base": 5e5, "kv_heads": 1},
    "wide": {"head_dim": 24, "norm_eps": 1e-3, "extra_layers": 2, "hidden": 40},
}


def from_pretrained(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("variant", OURS)
@pytest.mark.parametrize("head", ["parallel", "linear"])
def test_transformers_loads_head_1(head: str, variant: str, tmp_path: Path) -> None:
    ours = our_model(head, **OURS[variant])
    llama.write_hf(tmp_path, ours, None)
    theirs = from_pretrained(tmp_path)
    assert type(theirs).__name__ == "LlamaForCausalLM" and theirs.dtype == torch.float32
    with torch.no_grad():
        got = theirs(TOKENS).logits
    torch.testing.assert_close(got, logits(ours)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(read(tmp_path))[0], logits(ours)[0], rtol=0, atol=0)


@pytest.mark.parametrize("head", HEADS)
def test_every_type_of_head_has_a_llama_inside(head: str, tmp_path: Path) -> None:
    ours = our_model(head)
    generate(ours, [[1, 2, 3]], 4)  # which packs its weights
    llama.write_hf(tmp_path, ours, None)
    assert torch.equal(logits(read(tmp_path))[0], logits(ours)[0])


def test_an_imported_model_decodes_as_transformers_does(tmp_path: Path) -> None:
    """With caches, and heads wider than dim / attn_heads; drafts of grown heads change nothing."""
    theirs = their_model(**(VARIANTS["wide heads"] | {"rope_scaling": LLAMA3}))
    theirs.save_pretrained(tmp_path)
    rows = [row[:20].tolist() for row in TOKENS]
    ids = TOKENS[:, :20]
    made = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
    )
    model = read(tmp_path)
    assert generate(model, rows, 40).tokens == made[:, 20:].tolist()
    tree = Tree(((), (0,), (1,), (0, 0), (0, 1)))
    for head in HEADS:
        if head == "anticausal":
            continue  # three layers leave it no trunk
        grown = grow_heads(model, 3, head)
        assert generate(grown, rows, 40).tokens == made[:, 20:].tolist()
        assert generate(grown, rows, 40, tree=tree).tokens == made[:, 20:].tolist()


# --------------------------------------------------------------------------------------------------
# tokenizers

TEXTS = ["def f(x):\n    return x + 12345\n", "héllo 漢字 🙂  <|eos|> <|bos|></s>", "", " a\t\r\n"]


@pytest.fixture(scope="module")
def sentencepiece_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sentencepiece = pytest.importorskip("sentencepiece", reason="extra [llama] not installed")
    prefix = tmp_path_factory.mktemp("llama") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(  # the settings of Llama's own model
        sentence_iterator=iter(Path(__file__).read_text().splitlines()),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


@pytest.mark.parametrize("kind", ["bpe", "bytes", "llama"])
def test_auto_tokenizer_gives_the_same_ids(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    ours: Tokenizer = ByteTokenizer()
    if kind == "bpe":
        ours = BPE.train([Path(__file__).read_text()], 600)
    elif kind == "llama":
        ours = LlamaTokenizer(request.getfixturevalue("sentencepiece_file"))
    llama.write_hf(tmp_path, our_model(vocab=ours.vocab_size), ours)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert (theirs.bos_token_id, theirs.eos_token_id) == (ours.bos, ours.eos)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs(text)["input_ids"] == [ours.bos, *ids]
        assert theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids) == text
    config = json.loads((tmp_path / "generation_config.json").read_text())
    assert config == {"bos_token_id": ours.bos, "eos_token_id": ours.eos}
    back = load(tmp_path)
    assert [back.encode(text) for text in TEXTS] == [ours.encode(text) for text in TEXTS]
    assert (back.bos, back.eos) == (ours.bos, ours.eos)


def test_a_tokenizer_whose_specials_have_other_names(tmp_path: Path) -> None:
    inner = BPE.train([Path(__file__).read_text()], 600).inner.to_str()
    inner = inner.replace("<|bos|>", "<|begin_of_text|>").replace("<|eos|>", "<|end_of_text|>")
    (tmp_path / "tokenizer.json").write_text(inner)
    with refused("no token <|bos|>", "tokenizer_config.json"):
        load(tmp_path)
    names = tmp_path / "tokenizer_config.json"
    names.write_text('{"eos_token": "<|end_of_text|>", "bos_token": null}')
    with refused("tokenizer_config.json", "bos_token"):
        load(tmp_path)
    bos = {"content": "<|begin_of_text|>", "lstrip": False}
    names.write_text(json.dumps({"eos_token": "<|end_of_text|>", "bos_token": bos}))
    found = load(tmp_path)
    assert (found.bos, found.eos) == (0, 1)
    (tmp_path / "copy").mkdir()
    found.save(tmp_path / "copy")
    copy = load(tmp_path / "copy")
    for text in [*TEXTS, "<|end_of_text|>"]:
        assert copy.encode(text) == found.encode(text)
        assert not {0, 1} & set(copy.encode(text))
        assert copy.decode([0, *copy.encode(text), 1]) == text


# --------------------------------------------------------------------------------------------------
# the paper's released files


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


@pytest.mark.parametrize(("n", "kv", "base"), [(1, 4, 1e4), (4, 4, 1e4), (3, 2, 5e5)])
def test_a_released_model_says_what_its_own_formulas_say(
    n: int, kv: int, base: float, tmp_path: Path
) -> None:
    weights, params = released_model(n, kv, rope_theta=base)
    save_released(tmp_path, weights, params)
    model = read(tmp_path)
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
    assert_equal_models(read(tmp_path / "one"), read(tmp_path / "two"))


def test_a_released_model_without_n_is_counted(tmp_path: Path) -> None:
    weights, params = released_model(3)
    del params["n_future_tokens"]
    save_released(tmp_path, weights, params)
    assert read(tmp_path).config.n == 3


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
    again = read(tmp_path)
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
    ("head", "changes", "told"),
    [
        ("linear", {}, "linear"),
        ("causal", {}, "causal"),
        ("parallel", {"head_dim": 4}, "head_dim"),
        ("parallel", {"rope_scaling": "linear:2"}, "linear:2"),
        ("parallel", {"rope_scaling": "llama3:8,1,4,4096"}, "llama3:8,1,4,4096"),
    ],
)
def test_what_the_released_format_cannot_hold(
    head: str, changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with refused("released", told):
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
        read(tmp_path)
    assert not proof.exists()
    torch.load(file, weights_only=False)  # it was a real one
    assert proof.exists()


# --------------------------------------------------------------------------------------------------
# all heads


def test_a_context_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    interop.write_all(tmp_path, our_model(), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"context": 10**13}))
    with refused("config.json", "model.context is 10000000000000", "at most"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("head", "field", "told"),
    [
        ("parallel", "layers", "weights of 5 layers; its config wants 1000000000"),
        ("linear", "extra_layers", "weights of 5 layers; its config wants 1000000005"),
        ("linear", "n", "50 weights; its config wants 1000000000 heads"),
        ("replicated", "n", "50 weights; its config wants 1000000000 heads"),
    ],
)
def test_layers_and_heads_beyond_the_weights_are_refused(
    head: str, field: str, told: str, tmp_path: Path
) -> None:
    """At once: a billion would be built for hours, until the memory is full."""
    interop.write_all(tmp_path, our_model(head), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: 10**9}))
    with refused(str(tmp_path), told):
        read(tmp_path)


@pytest.mark.parametrize("head", HEADS)
def test_all_heads_round_trip(head: str, tmp_path: Path) -> None:
    model = our_model(head, kv_heads=2, extra_layers=1, rope_scaling="linear:2")
    interop.write_all(tmp_path, model, ByteTokenizer())
    assert_equal_models(read(tmp_path), model)
    assert isinstance(load(tmp_path), ByteTokenizer)


# --------------------------------------------------------------------------------------------------
# bad input


def edit(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        values = json.loads(file.read_text()) | changes
        kept = {key: value for key, value in values.items() if value != "gone"}
        file.write_text(json.dumps(kept))

    return change


def write(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float) -> Any:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


def weight(name: str, value: Tensor | None) -> Any:
    def change(folder: Path) -> None:
        weights = llama.read_safetensors(folder)
        weights.pop(name, None)
        weights |= {} if value is None else {name: value}
        llama.save_tensors(weights, folder / "model.safetensors")

    return change


INDEX = "model.safetensors.index.json"


def indexed(places: Any) -> Any:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))

    return change


Q = "model.layers.1.self_attn.q_proj.weight"
BAD_HF: dict[str, tuple[Any, list[str]]] = {
    "no folder": (shutil.rmtree, ["no checkpoint", "config.json", "params.json"]),
    "no config": (lambda f: (f / "config.json").unlink(), ["no checkpoint", "config.json"]),
    "torn config": (cut("config.json", 0.5), ["config.json", "torn"]),
    "config is a list": (write("config.json", b"[]"), ["config.json", "JSON"]),
    "config is binary": (write("config.json", b"\xff\xfe\x00"), ["config.json", "JSON"]),
    "another architecture": (edit(model_type="gpt2"), ["'gpt2'", "llama"]),
    "no architecture": (edit(model_type="gone"), ["model_type", "llama"]),
    "architecture is a list": (edit(model_type=["llama"]), ["model_type", "llama"]),
    "no dim": (edit(hidden_size="gone"), ["config.json", "hidden_size"]),
    "dim is text": (edit(hidden_size="wide"), ["config.json", "'wide'", "int"]),
    "dim is a list": (edit(hidden_size=[64]), ["config.json", "[64]", "int"]),
    "config is too deep": (write("config.json", b'{"a":' * 100_000), ["config.json", "JSON"]),
    "context": (edit(max_position_embeddings=10**13), ["config.json", "context", "at most"]),
    "width past 64 bits": (edit(hidden_size=10**30), ["config", "larger than a tensor can be"]),
    "vocabulary past 64 bits": (edit(vocab_size=10**18), ["larger than a tensor can be"]),
    "heads past 64 bits": (edit(head_dim=10**30), ["larger than a tensor can be"]),
    "no layers": (edit(num_hidden_layers=0), ["config.json", "layers", "at least 1"]),
    "heads": (edit(num_attention_heads=5, head_dim=None), ["config.json", "5 attn_heads"]),
    "key heads": (edit(num_key_value_heads=3), ["config.json", "kv_heads 3"]),
    "yarn": (edit(rope_parameters={"rope_type": "yarn"}), ["'yarn'", "linear", "llama3"]),
    "dynamic": (edit(rope_scaling={"type": "dynamic"}, rope_parameters=None), ["'dynamic'"]),
    "no factor": (edit(rope_parameters={"rope_type": "linear"}), ["config.json", "factor"]),
    "factor 0": (
        edit(rope_parameters={"rope_type": "linear", "factor": 0}),
        ["config.json", "linear:0"],
    ),
    "rope is a list": (edit(rope_parameters=[1]), ["rope_parameters", "[1]"]),
    "partial": (
        edit(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
        ["partial_rotary_factor", "0.5"],
    ),
    "bias": (edit(attention_bias=True), ["attention_bias", "True"]),
    "activation": (edit(hidden_act="gelu"), ["hidden_act", "'gelu'", "'silu'"]),
    "quantized": (edit(quantization_config={"bits": 4}), ["quantization_config"]),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), ["no model.safetensors"]),
    "empty weights": (write("model.safetensors", b""), ["model.safetensors", "truncated"]),
    "half the weights": (cut("model.safetensors", 0.5), ["model.safetensors", "truncated"]),
    "no end": (cut("model.safetensors", 0.9999), ["model.safetensors", "truncated"]),
    "missing weight": (weight(Q, None), [Q, "no weight"]),
    "weight too many": (weight("model.layers.3.x", torch.ones(2)), ["'model.layers.3.x'"]),
    "wrong shape": (weight(Q, torch.ones(64, 63)), [Q, "(64, 63)", "(64, 64)"]),
    "integers": (weight(Q, torch.ones(64, 64, dtype=torch.int8)), [Q, "torch.int8", "bfloat16"]),
    "not a number": (weight(Q, torch.full((64, 64), torch.nan)), [Q, "not finite"]),
    "infinite": (weight(Q, torch.full((64, 64), torch.inf).half()), [Q, "not finite"]),
    "wrong config": (edit(num_hidden_layers=4), ["weights of 3 layers", "wants 4"]),
    "a billion layers": (edit(num_hidden_layers=10**9), ["weights of 3 layers", "1000000000"]),
    "missing shard": (indexed({Q: "a.safetensors", "x": "b.safetensors"}), ["b.safetensors"]),
    "shard elsewhere": (indexed({Q: "../a.safetensors"}), [INDEX, "beside"]),
    "index of nothing": (indexed(None), [INDEX]),
    "torn index": (
        lambda f: (indexed({})(f), (f / INDEX).write_text("{")),
        [INDEX, "torn"],
    ),
}


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    model = our_model("parallel", 1, dim=64, layers=3)
    llama.write_hf(folder, model, None)
    edit(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, rope_scaling="gone")(folder)
    return folder


@pytest.mark.parametrize("case", BAD_HF)
def test_a_bad_hugging_face_folder_is_told_in_one_line(
    case: str, hf_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(hf_folder, tmp_path / "hf")
    read(tmp_path / "hf")
    change, told = BAD_HF[case]
    change(tmp_path / "hf")
    with refused(str(tmp_path / "hf"), *told):
        read(tmp_path / "hf")


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
    "a billion layers": (params(n_layers=10**9), ["weights of 5 layers", "wants 1000000000"]),
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
def test_a_bad_released_folder_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    save_released(tmp_path / "released", *released_model())
    read(tmp_path / "released")
    change, told = BAD_RELEASED[case]
    change(tmp_path / "released")
    with refused(str(tmp_path / "released"), *told):
        read(tmp_path / "released")


# --------------------------------------------------------------------------------------------------
# heads


@pytest.mark.parametrize("start", ["parallel", "linear"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_grow_and_head_1_stays(head: Any, start: str) -> None:
    model = our_model(start, 1, kv_heads=2)
    before = logits(model)[0]
    grown = grow_heads(model, 4, head)
    after = logits(grown)
    assert grown.config.n == 4 and len(after) == 4
    assert torch.equal(after[0], before)
    if head == "anticausal":  # the others stop earlier in the same row of layers
        assert not any(torch.allclose(after[i], before) for i in (1, 2, 3))
    else:
        for other in after[1:]:
            torch.testing.assert_close(other, before)
    more = {"parallel": 3, "causal": 3}.get(head, 0)  # Table S6: "+3 layers"
    assert (grown.config.layers, grown.config.extra_layers) == (5, more)
    assert torch.equal(logits(model)[0], before)
    # nothing is shared with the model that was grown, nor between heads
    with torch.no_grad():
        for p in (*grown.heads[1].parameters(), *grown.unembeddings[1:].parameters()):
            p.mul_(0.5)
    assert torch.equal(logits(model)[0], before)
    assert torch.equal(logits(grown)[0], before) or head == "anticausal"


@pytest.mark.parametrize("head", HEADS)
def test_more_heads_grow_beside_those_there_are(head: Any) -> None:
    model = our_model(head, 2)
    grown = grow_heads(model, 4, head)
    assert torch.equal(logits(grown)[:2], logits(model))
    if head != "anticausal":
        torch.testing.assert_close(logits(grown)[3], logits(model)[1])
        assert not torch.allclose(logits(grown)[3], logits(model)[0])


@pytest.mark.parametrize("head", ["parallel", "causal"])
def test_matched_heads_take_layers_from_the_trunk(head: Any) -> None:
    model = our_model("parallel", 1)
    grown = grow_heads(model, 3, head, matched=True)
    c = grown.config
    assert (c.layers, c.extra_layers, c.trunk_layers) == (5, 0, 2)  # Table S6: "+0"
    assert grown.parameter_counts()["total"] == model.parameter_counts()["total"]
    state, old = grown.state_dict(), model.state_dict()
    assert torch.equal(state["trunk.1.attention.wq.weight"], old["trunk.1.attention.wq.weight"])
    assert torch.equal(state["heads.0.attention.wq.weight"], old["heads.0.attention.wq.weight"])


@pytest.mark.parametrize("head", HEADS)
def test_grown_heads_learn_to_differ(head: Any) -> None:
    model = grow_heads(our_model("parallel", 1), 3, head)
    targets = TOKENS.roll(-1, 1).repeat(3, 1, 1)
    targets[1], targets[2] = TOKENS.roll(-2, 1), TOKENS.roll(-3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss.fused(model, TOKENS, targets, loss.valid_counts(targets))
        for block in (*model.trunk, *model.heads):
            assert all(bool(p.grad.any()) for p in block.parameters()) or head == "causal"  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    after = logits(model)
    assert not any(torch.allclose(after[i], after[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("head", HEADS)
def test_dropping_what_was_grown_gives_the_model_back(head: Any) -> None:
    model = our_model("parallel", 1)
    again = grow_heads(model, 4, head).drop_heads()
    assert again.config.layers == 5 and torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_the_first_heads_are_kept(head: str, n: int) -> None:
    model = our_model(head, 4, extra_layers=1, kv_heads=2)
    kept = model.drop_heads(n)
    assert kept.config.n == n
    torch.testing.assert_close(logits(kept), logits(model)[:n], rtol=0, atol=0)


def test_heads_that_cannot_be() -> None:
    model = our_model("linear", 3)
    with refused("4 heads", "has 3"):
        model.drop_heads(4)
    with refused("0 heads"):
        model.drop_heads(0)
    with refused("3 linear heads", "parallel"):
        grow_heads(model, 4, "parallel")
    with refused("n is 3", "3 heads already"):
        grow_heads(model, 3, "linear")
    with refused("linear", "nothing to match"):
        grow_heads(model, 4, "linear", matched=True)
    with refused("'medusa'", "parallel"):
        grow_heads(model, 4, "medusa")  # type: ignore[arg-type]
    with refused("trunk"):
        grow_heads(our_model("parallel", 1), 6, "parallel", matched=True)
    with refused("trunk"):
        grow_heads(our_model("parallel", 1), 6, "anticausal")
    with refused("trunk"):
        grow_heads(our_model("parallel", 1, layers=1), 2, "parallel")
