"""Corpora are deterministic, atomic and verified."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtp.config import CorpusConfig
from mtp.data import shards, sources
from mtp.data.corpus import Corpus, build, open_corpus
from mtp.data.sources import Document
from mtp.data.tokenizer import load
from mtp.errors import BadInput
from mtp.locks import locked
from tests.mtp.helpers import start_command

WORDS = [f"word{i}" for i in range(400)]


def prose(seed: int, words: int = 30) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + "\n"


def write_files(folder: Path, count: int, words: int = 30) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i:04}.txt").write_text(prose(i, words))
    return folder


def config_of(path: Path, **changes: object) -> CorpusConfig:
    values = {"source": f"files:{path}", "tokenizer": "bytes", "validation": 0.2} | changes
    return CorpusConfig(**values)  # pyright: ignore[reportArgumentType]


def texts(corpus: Corpus, split: str) -> list[str]:
    return [corpus.tokenizer.decode(ids.tolist()) for ids in getattr(corpus, split).documents()]


def command(root: Path, config: CorpusConfig) -> list[str]:
    names = {"--source": config.source, "--tokenizer": config.tokenizer, "--root": root}
    names |= {"--vocab": config.vocab, "--max-mb": config.max_mb}
    return [
        sys.executable,
        "-m",
        "mtp.data.corpus",
        *(str(x) for pair in names.items() for x in pair),
    ]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_documents_come_back_whole(tmp_path: Path, tokenizer: str) -> None:
    path = write_files(tmp_path / "texts", 60)
    corpus = build(config_of(path, tokenizer=tokenizer, vocab=300), tmp_path / "data", False)
    train, validation = texts(corpus, "train"), texts(corpus, "validation")
    assert sorted(train + validation) == sorted(prose(i) for i in range(60))
    assert 0 < len(validation) < 30
    assert train == sorted(train, key=lambda text: hashlib.sha256(text.encode()).digest())
    for split, found in ((corpus.train, train), (corpus.validation, validation)):
        assert split.bytes == sum(len(text.encode()) for text in found)
        for ids in split.documents():
            assert ids.dtype == np.int64 and ids[0] == corpus.tokenizer.bos
            assert np.flatnonzero(ids == split.eos).tolist() == [len(ids) - 1]
    manifest = corpus.manifest
    assert manifest["tokens"]["train"] == corpus.train.tokens
    assert manifest["documents"]["train"] == len(train) and manifest["dtype"] == "uint16"


def test_built_once_and_anew_when_the_files_change(tmp_path: Path) -> None:
    path, root = write_files(tmp_path / "texts", 40), tmp_path / "texts" / "data"
    first = build(config_of(path), root, False)
    before = (first.folder / "manifest.json").stat()
    assert build(config_of(path), root, False).folder == first.folder  # root is not its own source
    assert (first.folder / "manifest.json").stat() == before
    assert build(config_of(path, vocab=999), root, False).folder == first.folder
    assert build(config_of(path, max_mb=1), root, False).folder != first.folder
    (path / "more.txt").write_text(prose(1000))
    second = build(config_of(path), root, False)
    assert second.folder != first.folder
    for split in ("train", "validation"):  # an added document moves no other
        assert set(texts(second, split)) - {prose(1000)} == set(texts(first, split))


def test_the_same_bytes_whatever_the_order_of_the_source(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_files(one, 50)
    other.mkdir()
    for i in range(50):
        shutil.copy(one / f"{i:04}.txt", other / f"{99 - i}.txt")
    built = [
        build(config_of(path, tokenizer="bpe", vocab=400), tmp_path / "data", False)
        for path in (one, other)
    ]
    for name in ("documents", "bytes", "tokens", "shards", "tokenizer"):
        assert built[0].manifest[name] == built[1].manifest[name]


def test_max_mb_keeps_documents_by_their_hash(tmp_path: Path) -> None:
    path = write_files(tmp_path / "texts", 50, words=300)
    whole = build(config_of(path, validation=0.0), tmp_path / "data", False)
    part = build(config_of(path, validation=0.0, max_mb=0.05), tmp_path / "data", False)
    kept = texts(part, "train")
    assert kept == texts(whole, "train")[: len(kept)] and 10 < len(kept) < 30
    assert part.train.bytes <= 50_000
    assert part.manifest["documents"]["beyond_max_mb"] == 50 - len(kept)


def test_filters_and_duplicates_are_counted(tmp_path: Path) -> None:
    path = write_files(tmp_path / "texts", 5)
    (path / "copy.txt").write_text(prose(0))
    (path / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    (path / "binary.txt").write_bytes(bytes(100))
    (path / "short.txt").write_text("x = 1" + " " * 30)
    (path / "empty.py").write_text("")
    (path / "wide.py").write_text("x = [" + "1, " * 400 + "]\n" + "y = 2\n" * 400)
    (path / "big.py").write_text("y = 2\n" * 200_000)
    (path / "paragraph.txt").write_text(prose(7, words=400))  # one long line of prose is kept
    (path / ".hidden.txt").write_text(prose(8))
    corpus = build(config_of(path, validation=0.0), tmp_path / "data", False)
    assert corpus.manifest["documents"] == {
        "seen": 13,
        "duplicates": 1,
        "not_utf8": 1,
        "binary": 1,
        "short": 2,
        "long_lines": 1,
        "large": 1,
        "cut": 0,
        "train": 6,
        "validation": 0,
    }


def test_what_is_left_out_is_printed_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_files(tmp_path / "texts", 9)
    (path / "latin.txt").write_bytes("é".encode("latin-1") * 50)
    (path / "copy.txt").write_text(prose(0))
    build(config_of(path), tmp_path / "data")
    printed = capsys.readouterr().err
    assert "2 of 11 documents left out: 1 not UTF-8, 1 duplicates\n" in printed


def test_filters_that_take_more_than_half_refuse_the_source(tmp_path: Path) -> None:
    path = write_files(tmp_path / "texts", 4)
    for i in range(5):
        (path / f"{i}.py").write_text(f"x{i} = [" + "1, " * 400 + "]\n")
    for i in range(9):
        (path / f"copy{i}.txt").write_text(prose(0))  # duplicates count on neither side
    with pytest.raises(BadInput) as error:
        build(config_of(path, validation=0.0), tmp_path / "data", False)
    message = str(error.value)
    assert "too few documents" in message and "docs/data.md" in message
    assert "14 of 18 documents left out: 5 code with lines above 1000" in message
    (path / "0.py").unlink()
    assert build(config_of(path, validation=0.0), tmp_path / "data", False).train.tokens


def test_long_lines_of_a_tex_file_are_prose(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.tex").write_text(prose(7, words=400))
    config = config_of(tmp_path / "texts", validation=0.0)
    assert build(config, tmp_path / "data", False).manifest["documents"]["train"] == 1


def test_one_big_file_is_cut_and_both_splits_get_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "input.txt").write_text("\n".join(prose(i, words=100) for i in range(3000)))
    corpus = build(config_of(tmp_path / "input.txt"), tmp_path / "data")
    counts = corpus.manifest["documents"]
    assert "1 long documents cut into pieces" in capsys.readouterr().err
    assert counts["cut"] == 1 and counts["seen"] > 100
    assert 0.1 < counts["validation"] / counts["seen"] < 0.3
    assert sum(corpus.manifest["bytes"].values()) == (tmp_path / "input.txt").stat().st_size
    found = texts(corpus, "train") + texts(corpus, "validation")
    assert sum(text.endswith("\n\n") for text in found) == len(found) - 1  # all but the last


@settings(max_examples=50)
@given(
    st.text(st.sampled_from("aé漢🙂 \n"), min_size=1, max_size=400),
    st.integers(16, 64),
)
def test_pieces_are_the_text_and_none_is_long_or_breaks_a_character(text: str, size: int) -> None:
    document = Document(text.encode(), code=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PIECE_BYTES", size)
        patch.setattr(sources, "LONG_BYTES", 2 * size)
        found = [piece.content for piece in sources.pieces(document)]
        assert list(sources.pieces(document._replace(code=True))) == [document._replace(code=True)]
        assert len(list(sources.pieces(document._replace(whole=True)))) == 1
    assert b"".join(found) == document.content
    assert "".join(piece.decode() for piece in found) == text
    if len(document.content) > 2 * size:
        assert all(size // 2 - 4 <= len(piece) <= 1.5 * size for piece in found)
    else:
        assert len(found) == 1


def test_splits_read_across_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 700)
    monkeypatch.setattr(shards, "CHUNK", 100)  # shorter than a document
    path = write_files(tmp_path / "texts", 40)
    split = build(config_of(path), tmp_path / "data", False).train
    whole = np.concatenate(list(split.documents()))
    assert len(whole) == split.tokens > 3000
    for start, stop in [(0, split.tokens), (650, 2300), (700, 1400), (699, 701), (5, 5)]:
        assert split.read(start, stop).tolist() == whole[start:stop].tolist()
    for start, stop in [(-1, 5), (0, split.tokens + 1), (5, 4)]:
        with pytest.raises(ValueError, match="tokens"):
            split.read(start, stop)


def test_bad_input(tmp_path: Path) -> None:
    path = write_files(tmp_path / "texts", 3)
    empty = tmp_path / "empty"
    empty.mkdir()
    for config, message in [
        (config_of(path, source="wikipedia"), "choose one of: stdlib, installed, pypi-v1, files:PATH"),
        (config_of(path, tokenizer="gpt"), "choose one of: bytes, bpe, llama:PATH"),
        (config_of(path, tokenizer="llama:nowhere"), "no file nowhere"),
        (config_of(path, tokenizer="bpe", vocab=100), "vocab is 100"),
        (config_of(path, validation=1.0), "validation is 1.0"),
        (config_of(path, max_mb=-1.0), "max_mb is -1.0"),
        (config_of(empty), "leaves no documents to train on: 0 seen; see docs"),
    ]:
        with pytest.raises(BadInput) as error:
            build(config, tmp_path / "data", False)
        assert message in str(error.value) and "\n" not in str(error.value)
    left = [file.name for file in (tmp_path / "data").iterdir()]
    assert all(name.endswith(".lock") for name in left)  # nothing half built


@pytest.mark.parametrize(
    "name", ["manifest.json", "tokenizer.json", "train-00000.bin", "validation-00000.bin"]
)
@pytest.mark.parametrize("harm", ["missing", "torn", "altered"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, harm: str) -> None:
    path = write_files(tmp_path / "texts", 40)
    corpus = build(config_of(path), tmp_path / "data", False)
    file = corpus.folder / name
    data = bytearray(file.read_bytes())
    file.unlink()
    if harm != "missing":
        data[len(data) // 2] ^= 1
        file.write_bytes(data if harm == "altered" else data[: len(data) // 2])
    rebuild = partial(build, config_of(path), tmp_path / "data")
    for again in (partial(open_corpus, corpus.folder), rebuild):
        with pytest.raises(BadInput) as error:
            again()
        assert str(file) in str(error.value) and f"delete {corpus.folder}" in str(error.value)


def test_command_line(tmp_path: Path) -> None:
    config = config_of(write_files(tmp_path / "texts", 40), tokenizer="bpe", vocab=300)
    done = subprocess.run(command(tmp_path / "data", config), capture_output=True, text=True)
    assert done.returncode == 0 and "train      39 documents, " in done.stdout
    assert "reading files-texts\n" in done.stderr and "\r" not in done.stderr  # no bar in a log
    bad = config_of(tmp_path / "none")
    done = subprocess.run(command(tmp_path / "data", bad), capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: source files:")


def test_a_killed_build_does_not_leave_a_corpus(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    """SIGKILL while it reads, tokenizes and finishes; a later build succeeds."""
    path, root = write_files(tmp_path / "texts", 100, words=1500), tmp_path / "data"
    config = config_of(path, tokenizer="bpe", vocab=400, validation=0.02)
    killed, err = 0, tmp_path / "stderr"
    for sign in (".half-*", ".half-*/train-00000.bin", ".half-*/manifest.json"):
        arguments = command(root, config)[3:]
        process = start_command(processes, "mtp.data.corpus", arguments, os.devnull, err)
        while process.is_alive() and not list(root.glob(sign)):
            time.sleep(0.001)
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        for folder in root.glob("files-*"):  # only a build that ended before the signal
            open_corpus(folder)
            shutil.rmtree(folder)
    assert killed >= 2
    corpus = build(config, root, False)
    assert corpus.manifest["documents"]["seen"] == 100
    assert not list(root.glob(".half-*")) and not list(root.glob(".spool-*"))


def test_two_builds_at_once_end_well(tmp_path: Path, processes: ForkServerContext) -> None:
    path = write_files(tmp_path / "texts", 100, words=1500)
    config = config_of(path, tokenizer="bpe", vocab=400, validation=0.02)
    outs, errs = ([tmp_path / f"{name}{i}" for i in (0, 1)] for name in ("out", "err"))
    root = tmp_path / "data"
    root.mkdir()
    arguments = command(root, config)[3:]
    name = build(config, tmp_path / "elsewhere", False).folder.name
    with locked(root / f".{name}.lock"):  # so that both come while a third builds
        both = [
            start_command(processes, "mtp.data.corpus", arguments, out, err)
            for out, err in zip(outs, errs, strict=True)
        ]
        while not all(err.exists() and "waiting for another" in err.read_text() for err in errs):
            assert all(process.is_alive() for process in both)
            time.sleep(0.01)
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert len({out.read_text().rpartition(", ready")[0] for out in outs}) == 1
    assert sum("training bpe-400" in err.read_text() for err in errs) == 1  # the other waited


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    config = config_of(write_files(tmp_path / "texts", 50, words=3000))
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size=256k none {disk} && cd {os.getcwd()} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, small + "true"]).returncode:
        pytest.skip("this system lets nobody mount a small disk to fill")
    run = " ".join(command(disk / "data", config))
    look = f"; code=$?; find {disk}/data -type d; exit $code"
    done = subprocess.run([*mount, small + run + look], capture_output=True, text=True)
    assert (
        done.returncode == 2
        and f"error: no space left for the corpus {disk}/data/files-texts" in done.stderr
    )
    assert done.stdout.split() == [f"{disk}/data"]


def test_wide_vocabularies_get_wide_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_files(tmp_path / "texts", 20)
    corpus = build(config_of(path, tokenizer="bpe", vocab=70_000), tmp_path / "data", False)
    assert corpus.manifest["dtype"] == "uint32" and corpus.tokenizer.vocab_size == 70_000
    assert load(corpus.folder).encode("word1") == corpus.tokenizer.encode("word1")
    assert sorted(texts(corpus, "train") + texts(corpus, "validation"))[0] in map(prose, range(20))
