"""Hugging Face's Llama gives the same logits here, and ours gives the same there, with the same
tokens; a bad folder is reported in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.data.tokenizer import BPE, ByteTokenizer, LlamaTokenizer, Tokenizer, load
from mtp.decoding.generate import generate
from mtp.decoding.trees import Tree
from mtp.formats import hugging_face
from mtp.formats.folders import read_model
from mtp.head_types import HEADS
from mtp.model.surgery import grow_heads
from tests.mtp.formats.helpers import (
    TOKENS,
    assert_equal_models,
    cut,
    from_pretrained,
    logits,
    our_model,
    refused,
    their_model,
    write,
)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

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


# --------------------------------------------------------------------------------------------------
# Hugging Face's Llama


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hugging_face_llama_gives_the_same_logits_here(variant: str, tmp_path: Path) -> None:
    theirs = their_model(**VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    ours = read_model(tmp_path)
    with torch.no_grad():
        expected = theirs(TOKENS).logits
    assert expected.std() > 0.3
    torch.testing.assert_close(logits(ours)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["linear", "Llama 3"])
def test_rope_scaling_matters(variant: str, tmp_path: Path) -> None:
    """Otherwise the tests above would pass without it."""
    theirs = their_model(**VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["rope_parameters"]["rope_type"] = "default"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with torch.no_grad():
        assert (logits(read_model(tmp_path))[0] - theirs(TOKENS).logits).abs().max() > 0.1


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
    weights = hugging_face.read_safetensors(folder)
    for i in range(3):
        weights[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    hugging_face.save_tensors(weights, folder / "model.safetensors")


@pytest.mark.parametrize("variant", ["plain", "tied", "linear", "Llama 3"])
def test_older_folders_are_read_too(variant: str, tmp_path: Path) -> None:
    their_model(**VARIANTS[variant]).save_pretrained(tmp_path)
    now = logits(read_model(tmp_path))
    older(tmp_path)
    assert torch.equal(logits(read_model(tmp_path)), now)


def test_shards_are_joined(tmp_path: Path) -> None:
    theirs = their_model()
    theirs.save_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="100KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert_equal_models(read_model(tmp_path / "one"), read_model(tmp_path / "many"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    theirs = their_model().to(dtype)
    theirs.save_pretrained(tmp_path)
    ours = read_model(tmp_path)
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


@pytest.mark.parametrize("variant", OURS)
@pytest.mark.parametrize("head", ["parallel", "linear"])
def test_transformers_loads_head_1(head: str, variant: str, tmp_path: Path) -> None:
    ours = our_model(head, **OURS[variant])
    hugging_face.write_hf(tmp_path, ours, None)
    theirs = from_pretrained(tmp_path)
    assert type(theirs).__name__ == "LlamaForCausalLM" and theirs.dtype == torch.float32
    with torch.no_grad():
        got = theirs(TOKENS).logits
    torch.testing.assert_close(got, logits(ours)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(read_model(tmp_path))[0], logits(ours)[0], rtol=0, atol=0)


@pytest.mark.parametrize("head", HEADS)
def test_every_type_of_head_has_a_llama_inside(head: str, tmp_path: Path) -> None:
    ours = our_model(head)
    generate(ours, [[1, 2, 3]], 4)  # which packs its weights
    hugging_face.write_hf(tmp_path, ours, None)
    assert torch.equal(logits(read_model(tmp_path))[0], logits(ours)[0])


def test_an_imported_model_decodes_as_transformers_does(tmp_path: Path) -> None:
    """With caches, and heads wider than dim / attn_heads; drafts of grown heads change nothing."""
    theirs = their_model(**(VARIANTS["wide heads"] | {"rope_scaling": LLAMA3}))
    theirs.save_pretrained(tmp_path)
    rows = [row[:20].tolist() for row in TOKENS]
    ids = TOKENS[:, :20]
    made = theirs.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
    )
    model = read_model(tmp_path)
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


@pytest.mark.parametrize("kind", ["bpe", "bytes", "llama"])
def test_auto_tokenizer_gives_the_same_ids(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    ours: Tokenizer = ByteTokenizer()
    if kind == "bpe":
        ours = BPE.train([Path(__file__).read_text()], 600)
    elif kind == "llama":
        ours = LlamaTokenizer(request.getfixturevalue("llama_file"))
    hugging_face.write_hf(tmp_path, our_model(vocab=ours.vocab_size), ours)
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
    inner = inner.replace("<|bos|>", "<first>").replace("<|eos|>", "<last>")
    (tmp_path / "tokenizer.json").write_text(inner)
    with refused("none of the usual tokens", "tokenizer_config.json"):
        load(tmp_path)
    names = tmp_path / "tokenizer_config.json"
    names.write_text('{"eos_token": "<last>", "bos_token": "<none>"}')
    with refused("no token <none>", "tokenizer_config.json"):
        load(tmp_path)
    bos = {"content": "<first>", "lstrip": False}
    names.write_text(json.dumps({"eos_token": "<last>", "bos_token": bos}))
    found = load(tmp_path)
    assert (found.bos, found.eos) == (0, 1)
    (tmp_path / "copy").mkdir()
    found.save(tmp_path / "copy")
    copy = load(tmp_path / "copy")
    for text in [*TEXTS, "<last>"]:
        assert copy.encode(text) == found.encode(text)
        assert not {0, 1} & set(copy.encode(text))
        assert copy.decode([0, *copy.encode(text), 1]) == text


# --------------------------------------------------------------------------------------------------
# bad input


def edit(**changes: Any) -> Any:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        values = json.loads(file.read_text()) | changes
        kept = {key: value for key, value in values.items() if value != "gone"}
        file.write_text(json.dumps(kept))

    return change


def weight(name: str, value: Tensor | None) -> Any:
    def change(folder: Path) -> None:
        weights = hugging_face.read_safetensors(folder)
        weights.pop(name, None)
        weights |= {} if value is None else {name: value}
        hugging_face.save_tensors(weights, folder / "model.safetensors")

    return change


INDEX = "model.safetensors.index.json"


def indexed(places: Any) -> Any:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "a.safetensors")
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))

    return change


Q = "model.layers.1.self_attn.q_proj.weight"
BAD_HF: dict[str, tuple[Any, list[str]]] = {
    "no folder": (shutil.rmtree, ["is not a checkpoint", "config.json", "params.json"]),
    "no config": (lambda f: (f / "config.json").unlink(), ["is not a checkpoint", "config.json"]),
    "torn config": (cut("config.json", 0.5), ["config.json", "torn"]),
    "config is a list": (write("config.json", b"[]"), ["config.json", "JSON"]),
    "config is binary": (write("config.json", b"\xff\xfe\x00"), ["config.json", "JSON"]),
    "another architecture": (edit(model_type="gpt2"), ["'gpt2'", "llama"]),
    "no architecture": (edit(model_type="gone"), ["model_type", "llama"]),
    "architecture is a list": (edit(model_type=["llama"]), ["model_type", "llama"]),
    "no dim": (edit(hidden_size="gone"), ["config.json", "hidden_size"]),
    "dim is text": (edit(hidden_size="wide"), ["config.json", "'wide'", "whole number"]),
    "dim is a list": (edit(hidden_size=[64]), ["config.json", "[64]", "whole number"]),
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
    "a thousand layers": (edit(num_hidden_layers=1000), ["weights of 3 layers", "1000"]),
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
    hugging_face.write_hf(folder, model, None)
    edit(rope_parameters={"rope_type": "default", "rope_theta": 1e4}, rope_scaling="gone")(folder)
    return folder


@pytest.mark.parametrize("case", BAD_HF)
def test_a_bad_hugging_face_folder_is_reported_in_one_line(
    case: str, hf_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(hf_folder, tmp_path / "hf")
    read_model(tmp_path / "hf")
    change, parts = BAD_HF[case]
    change(tmp_path / "hf")
    with refused(str(tmp_path / "hf"), *parts):
        read_model(tmp_path / "hf")
