"""Tokens that others have made: each format, written here by hand, is read as it was meant."""

import itertools
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtp.config import CorpusConfig
from mtp.data import shards
from mtp.data.corpus import Corpus, build
from mtp.data.tokenizer import BPE, ByteTokenizer
from mtp.errors import BadInput
from mtp.overrides import from_dict
from mtp.training.run import train
from tests.conftest import Cli
from tests.mtp.training.helpers import Make, rows

EOS = ByteTokenizer.eos
TEXTS = [f"document {i}: " + "the fox came back. " * (3 + i % 5) for i in range(60)]
DOCUMENTS = [[*text.encode(), EOS] for text in TEXTS]
STREAM = [token for document in DOCUMENTS for token in document]


def nanogpt(file: Path, documents: list[list[int]]) -> None:
    np.array(list(itertools.chain(*documents)), dtype=np.uint16).tofile(file.with_suffix(".bin"))


def modded(file: Path, documents: list[list[int]]) -> None:
    tokens = list(itertools.chain(*documents))
    header = np.zeros(256, dtype=np.int32)
    header[:3] = 20240520, 1, len(tokens)
    with file.with_suffix(".bin").open("wb") as stream:
        stream.write(header.tobytes())
        stream.write(np.array(tokens, dtype=np.uint16).tobytes())


def llm_c(file: Path, documents: list[list[int]]) -> None:
    """llm.c's variant for Llama 3."""
    tokens = list(itertools.chain(*documents))
    header = struct.pack("<3i", 20240801, 7, len(tokens)) + bytes(4 * 253)
    file.with_suffix(".bin").write_bytes(header + struct.pack(f"<{len(tokens)}I", *tokens))


def megatron(file: Path, documents: list[list[int]], code: int = 4, form: str = "i") -> None:
    lengths = [len(document) for document in documents]
    width = struct.calcsize(form)
    starts = [width * sum(lengths[:i]) for i in range(len(lengths))]
    with file.with_suffix(".bin").open("wb") as stream:
        for document in documents:
            stream.write(struct.pack(f"<{len(document)}{form}", *document))
    with file.with_suffix(".idx").open("wb") as stream:
        stream.write(b"MMIDIDX\x00\x00" + struct.pack("<QB", 1, code))
        stream.write(struct.pack("<QQ", len(lengths), len(lengths) + 1))
        stream.write(struct.pack(f"<{len(lengths)}i", *lengths))
        stream.write(struct.pack(f"<{len(lengths)}q", *starts))
        stream.write(struct.pack(f"<{len(lengths) + 1}q", *range(len(lengths) + 1)))


def megatron_short(file: Path, documents: list[list[int]]) -> None:
    megatron(file, documents, code=8, form="H")


def datatrove(file: Path, documents: list[list[int]], width: int = 2) -> None:
    tokens, ends = (
        list(itertools.chain(*documents)),
        np.cumsum([len(document) for document in documents]),
    )
    form = {2: "H", 4: "I"}[width]
    name = file.name + ".ds"
    file.with_name(name).write_bytes(struct.pack(f"<{len(tokens)}{form}", *tokens))
    file.with_name(name + ".index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
    file.with_name(name + ".metadata").write_text(f"bytes|{width}\n{len(tokens)}\n6.2 K")


def datatrove_wide(file: Path, documents: list[list[int]]) -> None:
    datatrove(file, documents, width=4)


Writer = Callable[[Path, list[list[int]]], None]
FORMATS: list[Writer] = [
    nanogpt, modded, llm_c, megatron, megatron_short, datatrove, datatrove_wide,
]  # fmt: skip


def opened(source: Path, root: Path, **changes: Any) -> Corpus:
    values = {"source": f"shards:{source}", "tokenizer": "bytes", "validation": 0.1} | changes
    return build(from_dict(CorpusConfig, values), root / "data", progress=False)


@pytest.mark.parametrize("write", FORMATS)
def test_a_folder_of_shards_is_read_in_order(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for i in range(3):
        write(folder / f"part_{i}", DOCUMENTS[20 * i : 20 * i + 20])
    before = {file: file.read_bytes() for file in folder.iterdir()}
    corpus = opened(folder, tmp_path)
    train, held_out = corpus.train, corpus.validation
    both = [*train.read(0, train.tokens), *held_out.read(0, held_out.tokens)]
    assert both == STREAM
    assert train.tokens + held_out.tokens == len(STREAM)
    assert 0.02 < held_out.tokens / len(STREAM) <= 0.1
    assert train.read(train.tokens - 1, train.tokens) == [EOS], "no document lies in both"
    text = bytes(token for token in held_out.read(0, held_out.tokens).tolist() if token < 256)
    assert held_out.bytes == len(text)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    assert not list(corpus.folder.glob("*.bin")), "nothing is copied"
    monkeypatch.setattr(shards, "CHUNK", 50)
    documents = [d.tolist() for split in (train, held_out) for d in split.documents()]
    assert documents == DOCUMENTS


@pytest.mark.parametrize("write", FORMATS[:3])
def test_files_named_for_validation_are_the_validation_split(write: Writer, tmp_path: Path) -> None:
    write(tmp_path / "fineweb_train_000001", DOCUMENTS[:50])
    write(tmp_path / "fineweb_val_000000", DOCUMENTS[50:])
    corpus = opened(tmp_path, tmp_path)
    assert corpus.validation.tokens == sum(map(len, DOCUMENTS[50:]))
    assert corpus.validation.bytes == sum(len(text.encode()) for text in TEXTS[50:])
    assert corpus.train.tokens == sum(map(len, DOCUMENTS[:50]))
    one = opened(tmp_path / "fineweb_train_000001.bin", tmp_path, validation=0)
    assert one.train.tokens == corpus.train.tokens and one.validation.tokens == 0


def test_a_changed_file_is_another_corpus(tmp_path: Path) -> None:
    nanogpt(tmp_path / "train", DOCUMENTS)
    first = opened(tmp_path / "train.bin", tmp_path).folder
    assert opened(tmp_path / "train.bin", tmp_path).folder == first
    nanogpt(tmp_path / "train", DOCUMENTS[:-1])
    assert opened(tmp_path / "train.bin", tmp_path).folder != first


def test_another_programs_tokenizer(tmp_path: Path) -> None:
    """A folder with tokenizer.json and one token for both ends, as GPT-2 has it."""
    bpe = BPE.train(TEXTS, 300)
    folder = tmp_path / "gpt2"
    folder.mkdir()
    bpe.inner.save(str(folder / "tokenizer.json"))
    names = {"bos_token": BPE.EOS, "eos_token": {"content": BPE.EOS}}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    modded(tmp_path / "train", [[bpe.eos, *bpe.encode(text)] for text in TEXTS])
    corpus = opened(tmp_path / "train.bin", tmp_path, tokenizer=f"run:{folder}")
    first = next(corpus.train.documents())
    assert first.tolist() == [bpe.eos]  # GPT-2's data begins with it
    texts = [corpus.tokenizer.decode(d.tolist()) for d in corpus.train.documents()][1:]
    assert texts[:3] == TEXTS[:3]


def test_a_run_trains_on_them(make_config: Make, tmp_path: Path, cli: Cli) -> None:
    modded(tmp_path / "train", DOCUMENTS)
    source = f"shards:{tmp_path / 'train.bin'}"
    config = make_config(data={"source": source}, tokens=20 * 4 * 32, eval_every=10)
    train(config, tmp_path / "run", tmp_path / "data")
    losses = [row["loss"][0] for row in rows(tmp_path / "run") if "loss" in row]
    assert losses[-1] < losses[0]
    assert any("validation_loss" in row for row in rows(tmp_path / "run"))
    planned = cli("plan", "sweep-n", "--scale", "smoke", "--set", f"data.source={source}",
                  "--set", "data.tokenizer=bytes")  # fmt: skip
    assert planned.code == 0, planned.err


def torn_index(folder: Path) -> None:
    megatron(folder / "a", DOCUMENTS)
    index = folder / "a.idx"
    index.write_bytes(index.read_bytes()[:60])


def gaps(folder: Path) -> None:
    megatron(folder / "a", DOCUMENTS)
    (folder / "a.bin").write_bytes((folder / "a.bin").read_bytes() + bytes(8))


def cut_short(folder: Path) -> None:
    modded(folder / "a", DOCUMENTS)
    (folder / "a.bin").write_bytes((folder / "a.bin").read_bytes()[:-2])


def odd(folder: Path) -> None:
    (folder / "a.bin").write_bytes(b"123")


def of_another_tokenizer(folder: Path) -> None:
    nanogpt(folder / "a", [[*DOCUMENTS[0], 50_256]])


def nothing(folder: Path) -> None:
    (folder / "a.txt").write_text("text")


def validation_alone(folder: Path) -> None:
    nanogpt(folder / "val", DOCUMENTS)


def unknown_width(folder: Path) -> None:
    datatrove(folder / "a", DOCUMENTS)
    (folder / "a.ds.metadata").write_text("gpt2|3\n10\n")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (torn_index, r"a\.idx is torn"),
        (gaps, r"a\.bin does not hold the sequences"),
        (cut_short, r"a\.bin announces [\d,]+ tokens and has"),
        (odd, r"a\.bin has 3 bytes, which are not whole tokens of type uint16"),
        (
            of_another_tokenizer,
            r"a\.bin has token 50256, and the bytes tokenizer has ids up to",
        ),
        (nothing, r"no \.bin or \.ds file"),
        (validation_alone, "all files are for validation"),
        (unknown_width, r"a\.ds\.metadata gives tokens of '3' bytes; known are 2 and 4"),
    ],
)
def test_what_cannot_be_read_is_named(
    harm: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    harm(folder)
    with pytest.raises(BadInput, match=message) as error:
        opened(folder, tmp_path)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("shards-*"))


def test_options_that_are_for_texts_are_refused(tmp_path: Path) -> None:
    nanogpt(tmp_path / "train", DOCUMENTS)
    with pytest.raises(BadInput, match="name the tokenizer that made the tokens"):
        opened(tmp_path / "train.bin", tmp_path, tokenizer="bpe")
    with pytest.raises(BadInput, match=r"cannot have data\.max_mb"):
        opened(tmp_path / "train.bin", tmp_path, max_mb=1)
    with pytest.raises(BadInput, match="no such file or folder"):
        opened(tmp_path / "none", tmp_path)
    mixture = f"mix:1*shards:{tmp_path / 'train.bin'}|1*stdlib"
    with pytest.raises(BadInput, match="only texts can be mixed"):
        build(CorpusConfig(source=mixture), tmp_path / "data", progress=False)


def test_many_shards_are_found_by_bisection() -> None:
    """A read looks at the shards that it needs, and at no other."""
    looked: list[int] = []

    class Counting(np.ndarray):
        def __getitem__(self, key: Any) -> Any:
            looked.append(1)
            return super().__getitem__(key)

    parts = [np.arange(10 * i, 10 * i + 10).view(Counting) for i in range(2000)]
    split = shards.Split(parts, EOS, 0)
    for start, stop, expected in ((12_345, 12_346, 1), (12_345, 12_365, 3), (19_990, 20_000, 1)):
        looked.clear()
        assert split.read(start, stop).tolist() == list(range(start, stop))
        assert len(looked) == expected
    assert split.read(0, 0).tolist() == [] and split.read(20_000, 20_000).tolist() == []
