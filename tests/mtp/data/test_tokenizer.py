"""Three tokenizers, one interface: any text comes back, and no text makes a special id."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from mtp.data.tokenizer import (
    BPE,
    ByteTokenizer,
    LlamaTokenizer,
    Tokenizer,
    from_name,
    load,
    load_file,
    same_tokenizer,
)
from mtp.errors import BadInput

SAMPLE = [Path(__file__).read_text(), "def f(x):\n    return x + 12345\n", "héllo 漢字 🙂"]
TRICKY = ["", " ", "\r\n\t x  y", "<|bos|><|eos|><|unused0|> <s></s>", "é漢🙂\0\ufffd", "0123456"]


@pytest.fixture(scope="module")
def bpe() -> BPE:
    return BPE.train(SAMPLE, 600)


@pytest.fixture(scope="module", params=["bytes", "bpe", "llama"])
def tokenizer(request: pytest.FixtureRequest, bpe: BPE) -> Tokenizer:
    if request.param == "llama":
        return LlamaTokenizer(request.getfixturevalue("llama_file"))
    return bpe if request.param == "bpe" else ByteTokenizer()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_text_round_trips(tokenizer: Tokenizer, data: st.DataObject) -> None:
    # SentencePiece writes a space as "▁", so that one character comes back as a space
    lost = "▁" if tokenizer.name == "llama" else ""
    text = data.draw(st.text(st.characters(codec="utf-8", exclude_characters=lost), max_size=60))
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.bos, tokenizer.eos} & set(ids)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not {tokenizer.bos, tokenizer.eos} & set(ids)
    assert tokenizer.decode(ids) == text


def test_batches_specials_and_torn_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch(TRICKY) == [tokenizer.encode(text) for text in TRICKY]
    ids = tokenizer.encode("two words")
    assert tokenizer.decode([tokenizer.bos, *ids, tokenizer.eos]) == "two words"
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("\U0001f9ff")[:-1])


def test_save_and_load(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load(tmp_path)
    for name in ("name", "vocab_size", "bos", "eos"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    assert loaded.encode_batch(TRICKY + SAMPLE) == tokenizer.encode_batch(TRICKY + SAMPLE)


def test_bytes() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("é!") == [0xC3, 0xA9, 0x21]
    assert (tokenizer.vocab_size, tokenizer.bos, tokenizer.eos) == (258, 256, 257)


def test_bpe_has_the_vocabulary_asked_for(bpe: BPE) -> None:
    assert (bpe.name, bpe.vocab_size) == ("bpe-600", 600)
    assert len(bpe.encode(SAMPLE[0])) < len(SAMPLE[0]) / 2
    assert len(bpe.encode("12345")) == 5
    small = BPE.train(["ab ab ab"], 300)  # three merges are all there is to learn
    assert small.vocab_size == 300
    assert small.decode(small.encode("<|unused7|> ab")) == "<|unused7|> ab"
    with pytest.raises(BadInput, match="vocab is 257; a BPE needs at least 258"):
        BPE.train(SAMPLE, 257)


def test_bpe_training_is_deterministic(bpe: BPE, tmp_path: Path) -> None:
    """In another process, where hashes of strings differ."""
    (tmp_path / "sample.json").write_text(json.dumps(SAMPLE))
    code = (
        "import json, pathlib, sys; from mtp.data.tokenizer import BPE\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "BPE.train(json.loads((path / 'sample.json').read_text()), 600).save(path)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "tokenizer.json").read_text() == bpe.inner.to_str(pretty=True)


def test_truncation_and_padding_in_a_file_are_ignored(bpe: BPE, tmp_path: Path) -> None:
    """Other programs' files have them; a prompt would silently lose its end."""
    inner = tokenizers.Tokenizer.from_str(bpe.inner.to_str())
    inner.enable_truncation(4)
    inner.enable_padding(length=8)
    inner.save(str(tmp_path / "tokenizer.json"))
    again = load(tmp_path)
    texts = ["a longer text than four tokens are", "a"]
    assert [again.encode(text) for text in texts] == [bpe.encode(text) for text in texts]
    assert again.encode_batch(texts) == bpe.encode_batch(texts)
    assert same_tokenizer(again, bpe)


def test_names() -> None:
    assert isinstance(from_name("bytes"), ByteTokenizer)
    assert from_name("bpe") is None
    for name in ("gpt", "llama", "llama:", "bytes:x"):
        with pytest.raises(BadInput, match="choose one of: bytes, bpe, llama:PATH, run:"):
            from_name(name)


def saved_with(bpe: BPE, folder: Path, *names: str, config: object = None) -> Path:
    """A tokenizer.json as other programs write it, whose special tokens have these names."""
    inner = tokenizers.Tokenizer.from_str(bpe.inner.to_str())
    inner.add_special_tokens(list(names))
    text = inner.to_str()
    for own in (BPE.BOS, BPE.EOS):
        text = text.replace(own, f"<old-{own}>".replace("|", ""))
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.json").write_text(text)
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("names", "config", "bos", "eos"),
    [
        (["<|endoftext|>"], {"model_max_length": 1024}, "<|endoftext|>", "<|endoftext|>"),  # GPT-2
        (["<|begin_of_text|>", "<|end_of_text|>"], None, "<|begin_of_text|>", "<|end_of_text|>"),
        (["<x>", "<y>"], {"bos_token": "<x>", "eos_token": {"content": "<y>"}}, "<x>", "<y>"),
        (["<x>", "<y>"], {"bos_token": None, "eos_token": "<y>"}, "<y>", "<y>"),
    ],
)
def test_files_of_other_programs(
    bpe: BPE, tmp_path: Path, names: list[str], config: object, bos: str, eos: str
) -> None:
    folder = saved_with(bpe, tmp_path / "theirs", *names, config=config)
    for name in (f"file:{folder}", f"file:{folder / 'tokenizer.json'}"):
        found = from_name(name)
        assert isinstance(found, BPE) and found.vocab_size == 600 + len(names)
        assert [found.inner.id_to_token(i) for i in (found.bos, found.eos)] == [bos, eos]
        assert found.encode("two words") == bpe.encode("two words")
        assert found.decode([found.bos, *found.encode(f"a {eos}"), found.eos]) == f"a {eos}"
    found.save(tmp_path)
    assert same_tokenizer(load(tmp_path), found)


def test_the_token_between_documents_can_be_named(bpe: BPE, tmp_path: Path) -> None:
    """llm.c separates Llama 3's documents by the token that begins them."""
    folder = saved_with(bpe, tmp_path / "theirs", "<|begin_of_text|>", "<|end_of_text|>")
    found = from_name(f"file:{folder}#<|begin_of_text|>")
    assert found and found.bos == found.eos == 600
    with pytest.raises(BadInput, match=r"has no token <z>"):
        from_name(f"file:{folder}#<z>")
    unnamed = saved_with(bpe, tmp_path / "unnamed", "<x>")
    with pytest.raises(BadInput, match=r"none of the usual tokens.*eos_token"):
        load_file(unnamed)
    with pytest.raises(BadInput, match=r"tokenizer file:.*nowhere: no such file"):
        from_name(f"file:{tmp_path / 'nowhere'}")


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        load(tmp_path)
    for text in ("{", "{}", '{"model": {"type": "BPE"}}'):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(BadInput, match="is not a tokenizer"):
            load(tmp_path)


def test_bad_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sentencepiece", None)
        with pytest.raises(BadInput, match=r"no file .*tokenizer\.model"):
            LlamaTokenizer(tmp_path / "tokenizer.model")
        (tmp_path / "tokenizer.model").write_bytes(b"not a model")
        with pytest.raises(BadInput, match=r": \.venv/bin/pip install -e '.\[llama\]'"):
            LlamaTokenizer(tmp_path / "tokenizer.model")
    pytest.importorskip("sentencepiece", reason="extra [llama] not installed")
    with pytest.raises(BadInput, match="is not a SentencePiece model"):
        load(tmp_path)
