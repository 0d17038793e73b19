"""Files of tokens that other programs have made, described by their headers; no token is read here.

    nanoGPT      train.bin, val.bin     uint16 tokens and nothing else
    llm.c,       *.bin                  256 int32: a magic number, the version, the number of
    modded-nanogpt                      tokens; then uint16 (GPT-2) or uint32 (Llama 3) tokens
    Megatron-LM  NAME.bin, NAME.idx     tokens; their type, lengths and places in the .idx
    datatrove    NAME.ds                tokens; NAME.ds.metadata says how wide they are,
                                        NAME.ds.index where documents end

All of them are little-endian.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtp.data.shards import Shard
from mtp.errors import BadInput

LLM_C_HEADER = 256 * 4  # bytes
LLM_C = {20240520: (1, "<u2"), 20240801: (7, "<u4")}  # magic number -> version, type of a token
LLM_C_EVALUATION = 20240522  # multiple-choice questions, which are no running text
MEGATRON_MAGIC = b"MMIDIDX\x00\x00"
MEGATRON_HEADER = 34  # bytes: magic, version, type, number of sequences, number of documents
MEGATRON_TYPES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
# the same words as programs write them: fineweb_val_000000.bin, val.bin, validation/000.ds
VALIDATION = re.compile(r"(?<![a-z])val(id(ation)?)?(?![a-z])", re.IGNORECASE)


class TokenFile(NamedTuple):
    """A file of tokens. `ends` gives the number of tokens in its first document, if an index says
    so; `validation` whether its name says that it is held out."""

    format: str
    shard: Shard
    validation: bool
    first_end: int | None = None


def find(path: Path, files: list[Path]) -> list[TokenFile]:
    """The files of tokens among `files`, which are those under `path`, in their order.

    Files of other kinds are passed over. Raises BadInput, with the file's name, for one that is not
    as its format says, and if there is none.
    """
    found = []
    for file in files:
        if file.suffix in (".bin", ".ds"):
            name = file.name if file == path else str(file.relative_to(path))
            format_of = _datatrove if file.suffix == ".ds" else _bin
            try:
                format, shard, first_end = format_of(file)
            except OSError as error:
                raise BadInput(f"cannot read {file}: {error.strerror}") from None
            found.append(TokenFile(format, shard, bool(VALIDATION.search(name)), first_end))
    if not found:
        raise BadInput(f"source shards:{path}: no .bin or .ds file there; see docs/data.md")
    return found


Described = tuple[str, Shard, int | None]


def _bin(file: Path) -> Described:
    index = file.with_suffix(".idx")
    if index.exists():
        return _megatron(file, index)
    with file.open("rb") as stream:
        header = np.frombuffer(stream.read(12).ljust(12, b"\0"), "<i4").tolist()
    magic = header[0]
    if magic == LLM_C_EVALUATION:
        raise BadInput(f"{file} holds llm.c's questions of an evaluation, not running text")
    if magic not in LLM_C:
        return "nanogpt", _shard(file, "<u2"), None
    version, dtype = LLM_C[magic]
    if header[1] != version:
        raise BadInput(f"{file} has version {header[1]} of llm.c's format; {version} is known")
    shard = _shard(file, dtype, LLM_C_HEADER)
    if shard.tokens != header[2]:
        raise BadInput(
            f"{file} holds {shard.tokens} tokens and its header says {header[2]}; it is incomplete"
        )
    return "llm.c", shard, None


def _megatron(file: Path, index: Path) -> Described:
    with index.open("rb") as stream:
        header = stream.read(MEGATRON_HEADER)
    if len(header) < MEGATRON_HEADER or not header.startswith(MEGATRON_MAGIC):
        raise BadInput(f"{index} is not an index of Megatron-LM: it does not begin with MMIDIDX")
    version, code = int.from_bytes(header[9:17], "little"), header[17]
    sequences, documents = np.frombuffer(header[18:], "<u8").tolist()
    if version != 1:
        raise BadInput(f"{index} has version {version} of Megatron-LM's format; 1 is known")
    if code not in MEGATRON_TYPES:
        raise BadInput(f"{index} has data type {code}, which is not one of whole numbers")
    shard = _shard(file, MEGATRON_TYPES[code])
    # lengths (int32) of the sequences, their places in bytes (int64), and the documents' first
    # sequences (int64), to which the number of sequences is added at the end
    places = MEGATRON_HEADER + 4 * sequences
    if index.stat().st_size < places + 8 * sequences + 8 * documents:
        raise BadInput(f"{index} is shorter than its header says; it is incomplete")
    if not sequences:
        return "megatron", shard, None
    lengths = np.memmap(index, "<i4", "r", MEGATRON_HEADER, (sequences,))
    starts = np.memmap(index, "<i8", "r", places, (sequences,))
    width = np.dtype(shard.dtype).itemsize
    in_order = starts[0] == 0 and int(starts[-1]) == width * int(lengths[:-1].sum(dtype=np.int64))
    if not in_order or int(lengths.sum(dtype=np.int64)) != shard.tokens:
        raise BadInput(
            f"{file} holds {shard.tokens} tokens, and {index.name} describes others; they do not "
            "belong together"
        )
    begins = np.memmap(index, "<i8", "r", places + 8 * sequences, (documents,)) if documents else []
    first = int(begins[1]) if len(begins) > 1 else sequences
    return "megatron", shard, int(lengths[:first].sum(dtype=np.int64))


def _datatrove(file: Path) -> Described:
    metadata = file.with_name(f"{file.name}.metadata")
    index = file.with_name(f"{file.name}.index")
    size, width, tokens = file.stat().st_size, 0, -1
    has_index = index.exists() and index.stat().st_size >= 8
    ends = np.memmap(index, "<u8", "r") if has_index else np.empty(0, "<u8")
    if metadata.exists():  # the tokenizer's name | bytes of a token, the number of tokens, ...
        name, *rest = f"{metadata.read_text()}\n".splitlines()
        tokens = int(rest[0]) if rest and rest[0].isdecimal() else -1
        text = name.rpartition("|")[2]
        width = int(text) if "|" in name and text in ("2", "4") else 2  # once there was only uint16
    elif len(ends) and ends[-1]:
        tokens, width = int(ends[-1]), size // int(ends[-1])
    if width not in (2, 4):
        raise BadInput(
            f"{file} does not say how wide its tokens are; put its .ds.metadata or .ds.index "
            "beside it"
        )
    shard = _shard(file, f"<u{width}")
    if (len(ends) and int(ends[-1]) != shard.tokens) or tokens not in (-1, shard.tokens):
        raise BadInput(
            f"{file} holds {shard.tokens} tokens, and the files beside it describe others; they do "
            "not belong together"
        )
    return "datatrove", shard, int(ends[0]) if len(ends) else None


def _shard(file: Path, dtype: str, offset: int = 0) -> Shard:
    """The file from byte `offset` to its end."""
    size, width = file.stat().st_size - offset, np.dtype(dtype).itemsize
    if size < 0 or size % width:
        raise BadInput(f"{file} does not hold whole tokens of {width} bytes; it is incomplete")
    return Shard(file, dtype, size // width, offset)
