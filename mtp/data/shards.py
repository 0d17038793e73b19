"""Token shards on disk: hashed while they are written, read through memory maps."""

import bisect
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHARD_TOKENS = 100_000_000
CHUNK = 1_000_000  # tokens


class Split:
    """The tokens of one split, whose shards are arrays on disk (memory maps).

    tokens  the number of tokens
    bytes   UTF-8 bytes of the documents' text, for bits per byte
    eos     the id that ends each document
    """

    def __init__(self, shards: Sequence[np.ndarray], eos: int, text_bytes: int) -> None:
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)]).tolist()
        self.tokens: int = self._starts[-1]
        self.bytes = text_bytes
        self.eos = eos

    def read(self, start: int, stop: int) -> np.ndarray:
        """Tokens start .. stop - 1 (int64), across shards. Raises ValueError outside the split."""
        if not 0 <= start <= stop <= self.tokens:
            raise ValueError(f"read({start}, {stop}) of {self.tokens} tokens")
        out = np.empty(stop - start, dtype=np.int64)
        number = bisect.bisect_right(self._starts, start) - 1
        while start < stop:
            first, end = self._starts[number], min(stop, self._starts[number + 1])
            out[start - stop : end - stop or None] = self._shards[number][
                start - first : end - first
            ]
            start, number = end, number + 1
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
