"""Texts are read back in the order of their keys, cheaply, and what a killed build has read is not
read again."""

import hashlib
import json
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mtp.config import CorpusConfig
from mtp.data import records, sources, spool
from mtp.data.corpus import build
from mtp.data.documents import Documents
from mtp.data.spool import Spool
from mtp.errors import BadInput

Keys = list[tuple[bytes, bytes]]


def keys_of(texts: list[bytes]) -> Keys:
    return [(hashlib.sha256(text).digest(), text) for text in texts]


def test_texts_come_in_the_order_of_their_keys_and_once(tmp_path: Path) -> None:
    rng = random.Random(0)
    texts = [rng.randbytes(rng.randint(1, 40)) for _ in range(500)]
    texts += texts[:100]
    opened = Spool(tmp_path / "spool", resume=False)
    for key, text in keys_of(texts):
        opened.add(key, text)
    order = opened.in_key_order()
    assert order.max() < 500  # of equal ones the first
    expected = [text for _, text in sorted(set(keys_of(texts)))]
    assert list(opened.read(order)) == expected
    assert list(opened.read(order[7:3:-1])) == expected[7:3:-1]


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    opened = Spool(tmp_path / "spool", resume=False)
    for low in (5, 1, 5, 3):
        opened.add(bytes(8) + low.to_bytes(8) + bytes(16), b"%d" % low)
    assert list(opened.read(opened.in_key_order())) == [b"1", b"3", b"5"]


def test_nothing_is_a_corpus_of_nothing(tmp_path: Path) -> None:
    opened = Spool(tmp_path / "spool", resume=True)
    assert len(opened.in_key_order()) == 0


def test_a_document_costs_at_most_48_bytes_of_memory(tmp_path: Path) -> None:
    count = 300_000
    opened = Spool(tmp_path / "spool", resume=False)
    documents = Documents(opened)
    noise = np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8).tobytes()
    for i in range(count):
        opened.add(noise[32 * i : 32 * i + 32], b"text")
    tracemalloc.start()
    try:
        documents._split(CorpusConfig(max_mb=1.0))
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(documents.chosen["train"]) + len(documents.chosen["validation"]) == 250_000
    assert now / count < 12 and peak / count <= 48


@pytest.mark.parametrize("harm", ["", "torn", "missing"])
def test_a_spool_goes_on_where_its_journal_says(tmp_path: Path, harm: str) -> None:
    folder, texts = tmp_path / "spool", [b"%03d" % i for i in range(30)]
    first = Spool(folder, resume=True)
    for number, (key, text) in enumerate(keys_of(texts)):
        first.add(key, text)
        if number == 19:
            first.commit(2, {"seen": 20}, at_once=True)
    first.commit(3, {"seen": 30})  # too little for an entry
    first.close()  # with more on disk than the journal says
    if harm == "torn":
        (folder / "journal.json").write_text("{")
    if harm == "missing":
        (folder / "journal.json").unlink()
    second = Spool(folder, resume=True)
    kept = 0 if harm else 20
    assert (second.files, second.count, second.bytes) == (kept // 10, kept, 3 * kept)
    assert second.state == ({} if harm else {"seen": 20})
    for key, text in keys_of(texts[kept:]):
        second.add(key, text)
    assert sorted(second.read(second.in_key_order())) == texts
    assert Spool(folder, resume=False).count == 0


def write(folder: Path, files: int) -> CorpusConfig:
    """Records in several files, some of which are in two files."""
    folder.mkdir()
    for number in range(files):
        lines = [
            f"Record {i} is unlike all of the others." for i in range(9 * number, 9 * number + 12)
        ]
        text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
        (folder / f"{number:02}.jsonl").write_text(text)
    return CorpusConfig(f"files:{folder}", "bytes", validation=0.2)


@pytest.mark.parametrize("killed_in", [0, 4, 7])
def test_an_interrupted_build_reads_the_rest_and_makes_the_same_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_in: int
) -> None:
    config, root = write(tmp_path / "texts", 8), tmp_path / "data"
    whole = build(config, tmp_path / "whole", False)
    monkeypatch.setattr(spool, "COMMIT_BYTES", 1000)  # about two files
    real, read = records.texts, []

    def texts(file: Path) -> Iterator[str]:
        read.append(int(file.stem))
        for number, text in enumerate(real(file)):
            if read[-1] == killed_in and number == 5:
                raise KeyboardInterrupt
            yield text

    with monkeypatch.context() as patch:
        patch.setattr(records, "texts", texts)
        with pytest.raises(KeyboardInterrupt):
            build(config, root, False)
        assert read == [*range(killed_in + 1)] and list(root.glob(".spool-*"))
        read.clear()
        killed, killed_in = killed_in, -1
        corpus = build(config, root, False)
    assert read[0] in (max(0, killed - 1), max(0, killed - 2)) or killed == 0
    assert read == [*range(read[0], 8)]
    assert not list(root.glob(".spool-*"))
    assert corpus.folder.name == whole.folder.name
    assert corpus.manifest == whole.manifest and corpus.manifest["documents"]["duplicates"] == 21


def test_a_build_that_fails_leaves_no_spool(tmp_path: Path) -> None:
    config = write(tmp_path / "texts", 3)
    (tmp_path / "texts" / "02.jsonl").write_text("not a record\n")
    with pytest.raises(BadInput, match=r"02\.jsonl line 1"):
        build(config, tmp_path / "data", False)
    assert not list((tmp_path / "data").glob(".spool-*"))


def test_sources_that_are_no_files_start_over(tmp_path: Path) -> None:
    source = sources.open_source("python:synthetic.stories?count=60", tmp_path)
    assert source.files is None
    config = CorpusConfig("python:synthetic.stories?count=60", "bytes")
    corpus = build(config, tmp_path / "one", False)
    left = tmp_path / "two" / f".spool-{corpus.folder.name}"
    left.mkdir(parents=True)
    old = Spool(left, resume=True)
    old.add(bytes(32), b"a text of an older build")
    old.commit(1, {"seen": 1}, at_once=True)
    old.close()
    assert build(config, tmp_path / "two", False).manifest == corpus.manifest
