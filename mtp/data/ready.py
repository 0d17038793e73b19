"""Tokens that other programs have made, read where they lie: `shards:FOLDER`, or one file.

    *.bin            uint16 tokens and nothing else, as nanoGPT writes them
    *.bin            1024 bytes of header, then tokens: modded-nanogpt and llm.c. The header is 256
                     int32: 20240520, 1, the number of tokens (uint16); or 20240801, 7, the number
                     (uint32, for Llama 3's vocabulary)
    *.bin and *.idx  Megatron-LM's indexed dataset; the index names the type of the tokens
    *.ds             datatrove's; *.ds.metadata says how many bytes a token has, 2 if it is missing

Files with "val" in their name are the validation split. If there are none, the end of the tokens is
held out, up to data.validation of them. Documents end with the tokenizer's end-of-text token.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtp.data.shards import CHUNK, Split
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput

HEADERS = {20240520: (1, "uint16"), 20240801: (7, "uint32")}  # magic -> version, type
HEADER_BYTES = 1024
MEGATRON = b"MMIDIDX\x00\x00"
MEGATRON_TYPES = {1: "uint8", 3: "int16", 4: "int32", 5: "int64", 8: "uint16"}
LOOK = 10_000_000  # tokens at the start of a file that are looked at for ids beyond the vocabulary


@dataclass(frozen=True)
class Part:
    """`tokens` tokens of a file from byte `offset` on."""

    file: Path
    dtype: str
    offset: int
    tokens: int

    def open(self) -> np.ndarray:
        return np.memmap(self.file, self.dtype, "r", self.offset, (self.tokens,))

    def cut(self, tokens: int) -> tuple["Part", "Part"]:
        """The first `tokens` tokens, and the rest."""
        width = np.dtype(self.dtype).itemsize
        rest = Part(self.file, self.dtype, self.offset + tokens * width, self.tokens - tokens)
        return Part(self.file, self.dtype, self.offset, tokens), rest


def files_of(path: Path) -> list[Path]:
    """The files of tokens under a path, by name. Raises BadInput if there are none."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = [p for p in found if p.suffix in (".bin", ".ds")]
    if not found:
        raise BadInput(f"source shards:{path}: no .bin or .ds file there; see docs/data.md")
    return found


def read_header(file: Path) -> Part:
    """Where a file's tokens are. Raises BadInput if the file is not of a known format."""
    try:
        size = file.stat().st_size
        if file.suffix == ".ds":
            return _whole(file, _datatrove_type(file), 0, size)
        if file.with_suffix(".idx").exists():
            return _megatron(file, size)
        with file.open("rb") as stream:
            start = stream.read(12)
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    if len(start) == 12:
        magic, version, tokens = struct.unpack("<3i", start)
        if magic in HEADERS and HEADERS[magic][0] == version:
            part = _whole(file, HEADERS[magic][1], HEADER_BYTES, size)
            if part.tokens != tokens:
                raise BadInput(f"{file} announces {tokens:,} tokens and has {part.tokens:,}")
            return part
    return _whole(file, "uint16", 0, size)


def _whole(file: Path, dtype: str, offset: int, size: int) -> Part:
    tokens, rest = divmod(size - offset, np.dtype(dtype).itemsize)
    if rest or tokens < 1:
        raise BadInput(f"{file} has {size:,} bytes, which are not whole tokens of type {dtype}")
    return Part(file, dtype, offset, tokens)


def _datatrove_type(file: Path) -> str:
    metadata = file.with_name(file.name + ".metadata")
    if not metadata.exists():
        return "uint16"
    width = metadata.read_text().partition("\n")[0].rpartition("|")[2]
    if width not in ("2", "4"):
        raise BadInput(f"{metadata} gives tokens of {width!r} bytes; known are 2 and 4")
    return {"2": "uint16", "4": "uint32"}[width]


def _megatron(file: Path, size: int) -> Part:
    """A .bin whose .idx lists its sequences, which must follow one another."""
    index = file.with_suffix(".idx").read_bytes()
    try:
        version, code, count, _ = struct.unpack_from("<QBQQ", index, len(MEGATRON))
        lengths = np.frombuffer(index, "<i4", count, 34)
        starts = np.frombuffer(index, "<i8", count, 34 + 4 * count)
    except (struct.error, ValueError):
        raise BadInput(f"{file.with_suffix('.idx')} is torn") from None
    if index[:9] != MEGATRON or version != 1 or code not in MEGATRON_TYPES:
        raise BadInput(f"{file.with_suffix('.idx')} is not an index of Megatron-LM's version 1")
    part = _whole(file, MEGATRON_TYPES[code], 0, size)
    ends = np.cumsum(lengths.astype(np.int64)) * np.dtype(part.dtype).itemsize
    if count == 0 or ends[-1] != size or (starts != np.concatenate([[0], ends[:-1]])).any():
        raise BadInput(f"{file} does not hold the sequences of its .idx one after the other")
    return part


def describe(path: Path, tokenizer: Tokenizer, validation: float) -> dict[str, Any]:
    """The manifest of a corpus of these tokens (mtp/data/corpus.py). Raises BadInput if they are
    none, or not of this tokenizer."""
    parts = [read_header(file) for file in files_of(path)]
    for part in parts:
        _check_ids(part, tokenizer)
    held_out = [part for part in parts if "val" in part.file.name]
    train = [part for part in parts if part not in held_out]
    if not train:
        raise BadInput(f"source shards:{path}: all files are for validation; name some otherwise")
    if not held_out and validation:
        train, held_out = _hold_out(train, validation, tokenizer.eos)
    splits = {"train": train, "validation": held_out}
    return {
        "documents": {},
        "bytes": {"train": 0, "validation": _bytes_of(held_out, tokenizer)},
        "tokens": {name: sum(p.tokens for p in found) for name, found in splits.items()},
        "dtype": parts[0].dtype,
        "shards": {
            name: [vars(part) | {"file": str(part.file.resolve())} for part in found]
            for name, found in splits.items()
        },
    }


def _check_ids(part: Part, tokenizer: Tokenizer) -> None:
    largest = int(part.open()[:LOOK].max())
    if largest >= tokenizer.vocab_size:
        raise BadInput(
            f"{part.file} has token {largest}, and the {tokenizer.name} tokenizer has ids up to "
            f"{tokenizer.vocab_size - 1}; name its own with data.tokenizer, see docs/data.md"
        )


def _hold_out(parts: list[Part], share: float, eos: int) -> tuple[list[Part], list[Part]]:
    """Cut the last `share` of the tokens off, at the end of a document. Nothing is held out if no
    document ends there."""
    left = int(share * sum(part.tokens for part in parts))
    train, held_out = list(parts), list[Part]()
    while left and train and train[-1].tokens <= left:
        held_out.insert(0, train.pop())
        left -= held_out[0].tokens
    if not train:
        return parts, []
    last = train.pop()
    tail = last.open()[last.tokens - left :] if left else np.empty(0)
    ends = np.flatnonzero(tail == eos)
    at = last.tokens - left + int(ends[0]) + 1 if len(ends) else last.tokens
    kept, rest = last.cut(at)
    return [*train, kept], [rest, *held_out] if rest.tokens else held_out


def _bytes_of(parts: list[Part], tokenizer: Tokenizer) -> int:
    """UTF-8 bytes of the text that the tokens stand for."""
    split = Split([part.open() for part in parts], tokenizer.eos, 0)
    return sum(len(tokenizer.decode(ids.tolist()).encode()) for ids in _pieces(split))


def _pieces(split: Split) -> Iterator[np.ndarray]:
    """The documents, in which no character is cut; a very long one in pieces."""
    for document in split.documents():
        yield from (document[i : i + CHUNK] for i in range(0, len(document), CHUNK))


def identity(path: Path) -> dict[str, Any]:
    """What identifies the tokens without reading them: names, sizes and times of the files."""
    status = {file: file.stat() for file in files_of(path)}
    listing = [
        [str(f.relative_to(path.parent)), s.st_size, s.st_mtime_ns] for f, s in status.items()
    ]
    return {"shards": str(path.resolve()), "files": json.dumps(listing)}
