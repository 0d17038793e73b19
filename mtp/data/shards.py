"""Token shards on disk: hashed while they are written, read through memory maps."""

import hashlib
import mmap
import resource
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtp.errors import BadInput

SHARD_TOKENS = 100_000_000
CHUNK = 1_000_000  # tokens


class Shard(NamedTuple):
    """A run of tokens in a file: `tokens` numbers of type `dtype` from byte `offset` on."""

    file: Path
    dtype: str
    tokens: int
    offset: int = 0


class Split:
    """The tokens of one split.

    tokens  the number of tokens
    bytes   UTF-8 bytes of the documents' text, for bits per byte
    eos     the id that ends each document
    vocab   if set, ids at or above it are refused when they are read, with the file's name
    """

    def __init__(
        self, shards: Sequence[Shard], eos: int, text_bytes: int, vocab: int | None = None
    ) -> None:
        self.shards = [shard for shard in shards if shard.tokens]
        self._shard_ends = list(accumulate(shard.tokens for shard in self.shards))
        self._maps = _Maps()
        self.tokens: int = self._shard_ends[-1] if self._shard_ends else 0
        self.bytes = text_bytes
        self.eos = eos
        self.vocab = vocab

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start .. stop - 1 (int64), across shards. Raises ValueError outside the split."""
        if not 0 <= start <= stop <= self.tokens:
            raise ValueError(f"read({start}, {stop}) of {self.tokens} tokens")
        out = np.empty(stop - start, dtype=np.int64)
        at, number = start, bisect_right(self._shard_ends, start)
        while at < stop:
            shard, end = self.shards[number], self._shard_ends[number]
            first = end - shard.tokens
            part = self._maps.open(shard)[at - first : min(stop, end) - first]
            if self.vocab is not None:
                check_ids(part, self.vocab, shard.file)
            out[at - start : at - start + len(part)] = part
            at, number = end, number + 1
        return out

    def documents(self) -> Iterator[np.ndarray]:
        """The tokens of each document in turn (int64), bos and eos included."""
        begun: list[np.ndarray] = []  # parts of a document that continues in the next chunk
        for start in range(0, self.tokens, CHUNK):
            chunk = self.read(start, min(start + CHUNK, self.tokens))
            *whole, rest = np.split(chunk, np.flatnonzero(chunk == self.eos) + 1)
            for part in whole:
                yield np.concatenate([*begun, part])
                begun = []
            begun.append(rest)
        if sum(map(len, begun)):  # others' tokens may end within a document
            yield np.concatenate(begun)


def check_ids(ids: np.ndarray, vocab: int, file: Path) -> None:
    """Raise BadInput, with the file's name, if an id is not one of `vocab` ids."""
    if len(ids) and (ids.max() >= vocab or ids.min() < 0):
        wrong = int(ids[(ids >= vocab) | (ids < 0)][0])
        raise BadInput(
            f"{file} has the token id {wrong}; its tokenizer has ids 0 to {vocab - 1}, so it was "
            "made with another tokenizer or in another format"
        )


class _Maps:
    """Memory maps of the shards that were read last. Each map holds a file descriptor, of which a
    process may have 1024 on many systems, so not all shards can stay open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Shard, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()  # batches are read ahead in a thread
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._limit = max(16, min(soft, 2**16) // 4)  # train and validation have maps of their own

    def open(self, shard: Shard) -> np.ndarray:
        with self._lock:
            found = self._open.pop(shard, None)
            if found is None:
                found = _map(shard)
                if len(self._open) >= self._limit:
                    self._open.popitem(last=False)
            self._open[shard] = found
            return found


def _map(shard: Shard) -> np.ndarray:
    """The tokens of a shard. Raises BadInput if the file is gone, or shorter than it was."""
    try:
        with shard.file.open("rb") as stream:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(content, shard.dtype, shard.tokens, shard.offset)
    except OSError as error:
        raise BadInput(f"cannot read {shard.file}: {error.strerror}") from None
    except ValueError:
        raise BadInput(f"{shard.file} has become shorter; restore it") from None


class ShardWriter:
    """Appends tokens to folder/SPLIT-00000.bin ..., SHARD_TOKENS in each file."""

    def __init__(self, folder: Path, split: str, dtype: str) -> None:
        self.folder, self.split, self.dtype = folder, split, dtype
        self.shards: list[dict[str, Any]] = []  # file, tokens and sha256 of the closed ones
        self._tokens = 0
        self._file = None

    def add(self, ids: Sequence[int] | np.ndarray) -> None:
        tokens = np.asarray(ids).astype(self.dtype)
        while len(tokens):
            if self._file is None:
                name = f"{self.split}-{len(self.shards):05}.bin"
                self._file = (self.folder / name).open("wb")
                self._hash = hashlib.sha256()
                self._tokens = 0
            part = tokens[: SHARD_TOKENS - self._tokens]
            data = part.tobytes()
            self._file.write(data)
            self._hash.update(data)
            self._tokens += len(part)
            tokens = tokens[len(part) :]
            if self._tokens == SHARD_TOKENS:
                self.close()

    def close(self) -> list[dict[str, Any]]:
        """Close the last shard; returns the manifest's entries for all of them."""
        if self._file is not None:
            self._file.close()
            name = Path(self._file.name).name
            digest = self._hash.hexdigest()
            self.shards.append({"file": name, "tokens": self._tokens, "sha256": digest})
            self._file = None
        return self.shards
