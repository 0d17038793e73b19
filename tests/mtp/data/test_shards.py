"""Splits of many files are read by looking at the files that are asked for, and at no other."""

import resource
from pathlib import Path

import numpy as np
import pytest

from mtp.data import shards
from mtp.data.shards import Shard, Split
from mtp.errors import BadInput


def write(folder: Path, sizes: list[int]) -> tuple[list[Shard], np.ndarray]:
    """Shards of these many tokens, behind a header of as many bytes as their number."""
    whole = np.arange(sum(sizes)) % 60_000
    made, at = [], 0
    for number, size in enumerate(sizes):
        file = folder / f"{number}.bin"
        part = whole[at : at + size].astype("uint16")
        file.write_bytes(b"h" * number + part.tobytes())
        made.append(Shard(file, "uint16", size, number))
        at += size
    return made, whole


def test_tokens_behind_headers_and_empty_shards(tmp_path: Path) -> None:
    made, whole = write(tmp_path, [0, 5, 0, 1, 7, 0])
    split = Split(made, 0, 0)
    assert split.tokens == 13
    for start in range(14):
        for stop in range(start, 14):
            assert split.read(start, stop).tolist() == whole[start:stop].tolist()
    assert Split(made[:1], 0, 0).read(0, 0).tolist() == []


def test_many_shards_cost_no_more_than_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only files that hold the tokens asked for are opened, and few stay open: a process may have
    no more than so many descriptors."""
    sizes = [10] * 2000
    made, whole = write(tmp_path, sizes)
    split = Split(made, 0, 0)
    opened = []
    real = shards._Maps.open
    monkeypatch.setattr(
        shards._Maps, "open", lambda maps, shard: (opened.append(shard), real(maps, shard))[1]
    )
    assert split.read(12_345, 12_362).tolist() == whole[12_345:12_362].tolist()
    assert opened == made[1234:1237]

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        split = Split(made, 0, 0)
        assert split.read(0, split.tokens).tolist() == whole.tolist()
        assert len(split._maps._open) <= 128
        assert split.read(5, 25).tolist() == whole[5:25].tolist()  # a shard that was closed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_ids_outside_the_vocabulary_are_refused_with_the_file(tmp_path: Path) -> None:
    made, _ = write(tmp_path, [10, 10])
    split = Split(made, 0, 0, vocab=15)
    assert split.read(0, 15).tolist() == list(range(15))
    with pytest.raises(
        BadInput, match=r"1\.bin has the token id 15; its tokenizer has ids 0 to 14"
    ):
        split.read(3, 16)
    negative = tmp_path / "negative.bin"
    negative.write_bytes(np.array([3, -1], dtype="int32").tobytes())
    with pytest.raises(BadInput, match=r"negative\.bin has the token id -1"):
        Split([Shard(negative, "int32", 2)], 0, 0, vocab=15).read(0, 2)


def test_the_last_document_may_have_no_end(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(np.array([5, 1, 6, 7], dtype="uint16").tobytes())
    found = Split([Shard(file, "uint16", 4)], 1, 0).documents()
    assert [document.tolist() for document in found] == [[5, 1], [6, 7]]
