"""Tokens that other programs have made: each format is written here by its description, with struct
and numpy alone, and read in place."""

import dataclasses
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from evals.probes.held_out import measure
from experiments.plan import budget
from mtp.config import CorpusConfig, TrainConfig
from mtp.data import tokenized
from mtp.data.corpus import Corpus, build, open_corpus
from mtp.data.sources import open_source
from mtp.data.tokenizer import BPE, Tokenizer, from_name
from mtp.errors import BadInput
from mtp.model.loading import load_model
from mtp.training.run import train

END = "<|endoftext|>"
WORDS = ["the", "cat", "went", "home", "und", "schlief", "déjà", "漢字", "🙂", "12", "again."]
Documents = list[list[int]]


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 40))) for _ in range(count)]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a tokenizer file as GPT-2's: one special token, named by no other file."""
    folder = tmp_path_factory.mktemp("gpt2")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(texts(50), trainer)
    inner.save(str(folder / "tokenizer.json"))
    return f"file:{folder}"


def ids(tokenizer: Tokenizer, count: int, seed: int = 0) -> Documents:
    return [[*tokenizer.encode(text), tokenizer.eos] for text in texts(count, seed)]


def flat(documents: Documents) -> list[int]:
    return [i for document in documents for i in document]


def nanogpt(file: Path, documents: Documents) -> None:
    file.with_suffix(".bin").write_bytes(np.array(flat(documents), dtype="<u2").tobytes())


def llm_c(file: Path, documents: Documents) -> None:
    tokens = flat(documents)
    tokens = [tokens[-1], *tokens[:-1]]  # there the separator comes before each document
    header = struct.pack("<3i", 20240520, 1, len(tokens)).ljust(1024, b"\0")
    file.with_suffix(".bin").write_bytes(header + struct.pack(f"<{len(tokens)}H", *tokens))


def llm_c_wide(file: Path, documents: Documents) -> None:
    tokens = flat(documents)
    header = struct.pack("<3i", 20240801, 7, len(tokens)).ljust(1024, b"\0")
    file.with_suffix(".bin").write_bytes(header + struct.pack(f"<{len(tokens)}I", *tokens))


def megatron(file: Path, documents: Documents, code: int = 8) -> None:
    """Two sequences a document, as of sentences."""
    letter, width = {8: ("H", 2), 4: ("i", 4)}[code]
    parts = [part for each in documents for part in (each[:2], each[2:])]
    starts = np.cumsum([0, *(width * len(part) for part in parts)])[:-1]
    tokens = flat(documents)
    file.with_suffix(".bin").write_bytes(struct.pack(f"<{len(tokens)}{letter}", *tokens))
    file.with_suffix(".idx").write_bytes(
        b"MMIDIDX\x00\x00"
        + struct.pack("<QBQQ", 1, code, len(parts), len(documents) + 1)
        + struct.pack(f"<{len(parts)}i", *map(len, parts))
        + struct.pack(f"<{len(parts)}q", *starts)
        + struct.pack(f"<{len(documents) + 1}q", *range(0, len(parts) + 1, 2))
    )


def megatron_wide(file: Path, documents: Documents) -> None:
    megatron(file, documents, code=4)


def datatrove(file: Path, documents: Documents, width: int = 2, metadata: bool = True) -> None:
    file = file.with_suffix(".ds")
    tokens, ends = flat(documents), np.cumsum([len(each) for each in documents]).tolist()
    file.write_bytes(struct.pack(f"<{len(tokens)}{'H' if width == 2 else 'I'}", *tokens))
    Path(f"{file}.index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
    if metadata:
        Path(f"{file}.metadata").write_text(f"gpt2|{width}\n{len(tokens)}\n{len(tokens)} T")


def datatrove_wide(file: Path, documents: Documents) -> None:
    datatrove(file, documents, width=4, metadata=False)


WRITERS = (nanogpt, llm_c, llm_c_wide, megatron, megatron_wide, datatrove, datatrove_wide)
Write = Callable[[Path, Documents], None]


def config_of(path: Path, tokenizer: str, **changes: Any) -> CorpusConfig:
    return CorpusConfig(source=f"shards:{path}", tokenizer=tokenizer, **changes)


def stream(corpus: Corpus, split: str) -> list[int]:
    return getattr(corpus, split).read(0, getattr(corpus, split).tokens).tolist()


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_each_format_is_read_in_place(tmp_path: Path, gpt2: str, write: Write) -> None:
    folder = tmp_path / "tokens"
    folder.mkdir()
    tokenizer = from_name(gpt2)
    assert tokenizer
    parts = [ids(tokenizer, 30, seed) for seed in range(3)]
    held_out = ids(tokenizer, 10, 9)
    for number, part in enumerate(parts):
        write(folder / f"web_train_{number:06}", part)
    write(folder / "web_val_000000", held_out)
    (folder / "README.md").write_text("not tokens")
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    config = config_of(folder, gpt2)
    corpus = build(config, tmp_path / "data", False)

    expected, validation = flat(flat_parts := [d for part in parts for d in part]), flat(held_out)
    if write is llm_c:
        expected = [i for part in parts for i in [part[0][-1], *flat(part)[:-1]]]
        validation = [validation[-1], *validation[:-1]]
    assert stream(corpus, "train") == expected and stream(corpus, "validation") == validation
    assert corpus.tokenizer.eos == tokenizer.eos and corpus.tokenizer.vocab_size == 300
    if write is not llm_c:
        found = [document.tolist() for document in corpus.train.documents()]
        assert found == flat_parts
        scored = sum(len(tokenizer.decode(each[1:]).encode()) for each in held_out)
        assert corpus.validation.bytes == scored > 500
    size = sum(file.stat().st_size for file in corpus.folder.iterdir())
    assert not list(corpus.folder.glob("*.bin")) and size < 40_000  # no copy of the tokens
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    assert open_corpus(corpus.folder).validation.bytes == corpus.validation.bytes
    assert build(config, tmp_path / "data", False).folder == corpus.folder


def test_one_file_is_held_out_at_its_end(tmp_path: Path, gpt2: str) -> None:
    tokenizer = from_name(gpt2)
    assert tokenizer
    documents = ids(tokenizer, 200)
    nanogpt(tmp_path / "train", documents)
    corpus = build(
        config_of(tmp_path / "train.bin", gpt2, validation=0.1), tmp_path / "data", False
    )
    train, held_out = stream(corpus, "train"), stream(corpus, "validation")
    assert train + held_out == flat(documents)
    assert 0.05 < len(held_out) / len(train + held_out) <= 0.1
    assert train[-1] == tokenizer.eos  # no document is in both
    nothing = build(
        config_of(tmp_path / "train.bin", gpt2, validation=0.0), tmp_path / "data", False
    )
    assert stream(nothing, "train") == flat(documents) and not nothing.validation.tokens


def test_max_mb_keeps_the_first_text(tmp_path: Path, gpt2: str) -> None:
    tokenizer = from_name(gpt2)
    assert tokenizer
    documents, held_out = ids(tokenizer, 200), ids(tokenizer, 100, 1)
    nanogpt(tmp_path / "train", documents)
    nanogpt(tmp_path / "val", held_out)
    config = config_of(tmp_path, gpt2, validation=0.2, max_mb=0.01)
    corpus = build(config, tmp_path / "data", False)
    for split, whole, size in (("train", documents, 8000), ("validation", held_out, 2000)):
        kept = stream(corpus, split)
        assert kept == flat(whole)[: len(kept)]
        assert corpus.manifest["bytes"][split] == size
        assert len(tokenizer.decode(kept).encode()) == pytest.approx(size, rel=0.08)


def test_a_text_without_ends_is_one_document(
    tmp_path: Path, gpt2: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As nanoGPT's Shakespeare. It is counted chunk by chunk, at the same bytes."""
    tokenizer = from_name(gpt2)
    assert tokenizer
    text = "the cat went home again. " * 300
    nanogpt(tmp_path / "train", [tokenizer.encode(text)])
    nanogpt(tmp_path / "val", [tokenizer.encode(text)])
    monkeypatch.setattr(tokenized, "CHUNK", 100)
    corpus = build(config_of(tmp_path, gpt2), tmp_path / "data")
    assert corpus.validation.bytes == len(text) - len(tokenizer.decode(tokenizer.encode(text)[:1]))
    assert "all text counts as one document" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "held_out"),
    [
        ("val.bin", True),
        ("fineweb_val_000000.bin", True),
        ("owt-VALIDATION-3.bin", True),
        ("val/000.bin", True),
        ("retrieval.bin", False),
        ("intervals_train.bin", False),
        ("evaluated.bin", False),
    ],
)
def test_names_of_validation_files(tmp_path: Path, name: str, held_out: bool) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(bytes(8))
    (found,) = open_source(f"shards:{tmp_path}", tmp_path / "data").tokens
    assert found.validation == held_out


def test_another_tokenizers_tokens_are_refused(tmp_path: Path, gpt2: str) -> None:
    tokenizer = from_name(gpt2)
    assert tokenizer
    documents = ids(tokenizer, 20)
    nanogpt(tmp_path / "one", documents)
    nanogpt(tmp_path / "two", [[*documents[0], 300]])
    with pytest.raises(BadInput, match=r"two\.bin has the token id 300; .* ids 0 to 299"):
        build(config_of(tmp_path, gpt2), tmp_path / "data", False)
    (tmp_path / "two.bin").unlink()
    wrong = [[*document[:-1], 5] for document in documents]
    datatrove(tmp_path / "two", wrong)
    with pytest.raises(BadInput, match=r"two\.ds ends with token 5, not with 0.*--append-eod"):
        build(config_of(tmp_path, gpt2), tmp_path / "data", False)
    with pytest.raises(BadInput, match=r"name the tokenizer that made the tokens"):
        build(config_of(tmp_path, "bpe"), tmp_path / "data", False)


def test_an_id_far_inside_a_file_is_refused_when_it_is_read(
    tmp_path: Path, gpt2: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenized, "SAMPLE", 10)
    tokenizer = from_name(gpt2)
    assert tokenizer
    tokens = flat(ids(tokenizer, 20))
    tokens[100] = 60_000
    nanogpt(tmp_path / "train", [tokens])
    corpus = build(config_of(tmp_path, gpt2, validation=0.0), tmp_path / "data", False)
    assert len(corpus.train.read(0, 100)) == 100
    with pytest.raises(BadInput, match=r"train\.bin has the token id 60000"):
        corpus.train.read(90, 110)


def header(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}i", *numbers).ljust(1024, b"\0")


def index(magic: bytes = b"MMIDIDX\x00\x00", version: int = 1, code: int = 8) -> bytes:
    """Of one document with one sequence of 4 tokens."""
    return magic + struct.pack("<QBQQiqqq", version, code, 1, 2, 4, 0, 0, 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.bin": bytes(7)}, r"a\.bin does not hold whole tokens of 2 bytes"),
        ({"a.bin": header(20240520, 2, 4) + bytes(8)}, r"a\.bin has version 2 of llm\.c"),
        ({"a.bin": header(20240520, 1, 5) + bytes(8)}, r"a\.bin holds 4 tokens and its header"),
        ({"a.bin": header(20240801, 7, 2)[:900]}, r"a\.bin does not hold whole tokens of 4"),
        ({"a.bin": header(20240522, 1, 4)}, r"a\.bin holds llm\.c's questions"),
        ({"a.bin": bytes(8), "a.idx": index(b"TNTIDX\x00\x00\x00")}, r"a\.idx is not an index"),
        ({"a.bin": bytes(8), "a.idx": index(version=2)}, r"a\.idx has version 2"),
        ({"a.bin": bytes(8), "a.idx": index(code=7)}, r"a\.idx has data type 7"),
        ({"a.bin": bytes(8), "a.idx": index()[:-4]}, r"a\.idx is shorter"),
        ({"a.bin": bytes(10), "a.idx": index()}, r"a\.bin holds 5 tokens, and a\.idx"),
        ({"a.ds": bytes(8)}, r"a\.ds does not say how wide"),
        ({"a.ds": bytes(8), "a.ds.metadata": b"x|2\n5\n5 T"}, r"a\.ds holds 4 tokens"),
        ({"a.ds": bytes(8), "a.ds.index": struct.pack("<Q", 3)}, r"a\.ds (holds|does not)"),
        ({"a.txt": b"text"}, r"no \.bin or \.ds file there"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as error:
        open_source(f"shards:{tmp_path}", tmp_path / "data")
    assert "\n" not in str(error.value)


def test_sound_small_files_are_not_refused(tmp_path: Path) -> None:
    """The files above, undamaged."""
    (tmp_path / "a.bin").write_bytes(bytes(8))
    (tmp_path / "a.idx").write_bytes(index())
    (tmp_path / "b.bin").write_bytes(header(20240520, 1, 4) + bytes(8))
    (tmp_path / "c.ds").write_bytes(bytes(8))
    (tmp_path / "c.ds.metadata").write_text("gpt2\n4\n4 T")  # of an old version
    files = open_source(f"shards:{tmp_path}", tmp_path / "data").tokens
    assert [file.format for file in files] == ["megatron", "llm.c", "datatrove"]
    assert [file.shard.tokens for file in files] == [4, 4, 4]


def test_sources_of_tokens_that_cannot_be(tmp_path: Path, gpt2: str) -> None:
    with pytest.raises(BadInput, match="no such file or folder"):
        open_source(f"shards:{tmp_path / 'none'}", tmp_path)
    nanogpt(tmp_path / "val", [[1, 2, 0]])
    with pytest.raises(BadInput, match="only texts can be mixed"):
        open_source(f"mix:1*shards:{tmp_path}|1*stdlib", tmp_path)
    with pytest.raises(BadInput, match="no tokens to train on"):
        build(config_of(tmp_path, gpt2), tmp_path / "data", False)


def test_changed_files_are_another_corpus(tmp_path: Path, gpt2: str) -> None:
    tokenizer = from_name(gpt2)
    assert tokenizer
    file = tmp_path / "train.bin"
    nanogpt(file, ids(tokenizer, 50))
    first = build(config_of(tmp_path, gpt2), tmp_path / "data", False)
    os.utime(file, ns=(1, 1))
    with pytest.raises(BadInput, match=r"train\.bin has changed; delete"):
        open_corpus(first.folder)
    second = build(config_of(tmp_path, gpt2), tmp_path / "data", False)
    assert second.folder != first.folder
    file.unlink()
    with pytest.raises(BadInput, match=r"train\.bin is missing"):
        open_corpus(second.folder)


def test_a_model_trains_and_is_measured(
    tmp_path: Path, gpt2: str, make_config: Callable[..., TrainConfig]
) -> None:
    tokenizer = from_name(gpt2)
    assert isinstance(tokenizer, BPE)
    megatron(tmp_path / "tokens_text_document", ids(tokenizer, 400))
    datatrove(tmp_path / "validation", ids(tokenizer, 40, 1))
    data = {"source": f"shards:{tmp_path}", "tokenizer": gpt2}
    config = make_config(data=data, model={"vocab": 300}, eval_every=10)
    assert budget(dataclasses.replace(config, tokens=0, epochs=2), tmp_path / "data") == (
        2 * len(flat(ids(tokenizer, 400))),
        True,
    )
    run = tmp_path / "run"
    train(config, run, tmp_path / "data")
    losses = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validation = [row["validation_loss"][0] for row in losses if "validation_loss" in row]
    assert validation[-1] < validation[0] - 0.5
    corpus = build(config.data, tmp_path / "data", False)
    found = measure(load_model(run, "cpu"), corpus)
    assert found.targets[0] == corpus.validation.tokens - 40  # all but each document's first
    bits = found.loss[0] * found.targets[0] / np.log(2) / corpus.validation.bytes
    assert found.bits_per_byte == pytest.approx(bits)
    assert 0.3 < bits < 4
    assert budget(dataclasses.replace(config, tokens=0, epochs=2), tmp_path / "data")[1] is False
