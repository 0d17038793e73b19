"""Texts on their way into a corpus: spooled to disk, so that they can be read in another order and
a build that was killed can go on.

    texts         one text after the other
    index         for each text: the first 16 bytes of its key, the last 8, where it starts, its
                  length
    journal.json  how much of both is of source files that were read whole
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mtp.files import write_atomically

COMMIT_BYTES = 32_000_000  # of text between two entries in the journal
LOOK_UP = 8192  # entries of the index at a time
ENTRY = np.dtype(
    [("high", ">u8"), ("low", ">u8"), ("last", ">u8"), ("start", ">u8"), ("length", ">u4")]
)


class Spool:
    """A folder of spooled texts, opened where the last whole source file ended.

    resume  False: start over, whatever is in the folder
    files   how many source files are in it whole
    state   what `commit` was given with them
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        self.folder = folder
        self.files, self.bytes, self.count = 0, 0, 0
        self.state: dict[str, Any] = {}
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        with suppress(OSError, ValueError, KeyError):  # none, or torn: start over
            saved = json.loads((folder / "journal.json").read_text())
            places = saved["files"], saved["bytes"], saved["count"]
            self.files, self.bytes, self.count = places
            self.state = saved["state"]
        self._texts = (folder / "texts").open("ab")
        self._index = (folder / "index").open("ab")
        self._texts.truncate(self.bytes)
        self._index.truncate(self.count * ENTRY.itemsize)
        self._committed = self.bytes

    def add(self, key: bytes, content: bytes) -> None:
        """Append a text. `key` (32 bytes) decides its place in `in_key_order`."""
        place = self.bytes.to_bytes(8) + len(content).to_bytes(4)
        self._texts.write(content)
        self._index.write(key[:16] + key[-8:] + place)
        self.bytes += len(content)
        self.count += 1

    def commit(self, files: int, state: dict[str, Any], at_once: bool = False) -> None:
        """Note that so many source files are in whole, if there is enough since the last note."""
        if at_once or self.bytes - self._committed >= COMMIT_BYTES:
            for stream in (self._texts, self._index):
                stream.flush()
                os.fsync(stream.fileno())
            places = {"files": files, "bytes": self.bytes, "count": self.count, "state": state}
            write_atomically(self.folder / "journal.json", json.dumps(places).encode())
            self.files, self._committed = files, self.bytes

    def close(self) -> None:
        for stream in (self._texts, self._index):
            with suppress(OSError):  # a full disk, which `add` has reported
                stream.close()

    def in_key_order(self) -> np.ndarray:
        """The numbers (int64) of the texts in the order of their keys, of equal keys the first.

        The index stays on disk: sorting takes 36 bytes of memory for each text, and the result 8.
        """
        self._index.flush()
        index = self.index()
        high, low = index["high"].astype(np.uint64), index["low"].astype(np.uint64)
        order = np.lexsort((low, high))
        if not len(order):
            return order
        high = high[order]
        same = high[1:] == high[:-1]
        del high
        low = low[order]
        same &= low[1:] == low[:-1]
        del low
        return order[np.concatenate([[True], ~same])]

    def index(self) -> np.ndarray:
        """The entries of all texts, memory-mapped."""
        if not self.count:
            return np.empty(0, ENTRY)
        return np.memmap(self.folder / "index", ENTRY, "r", shape=(self.count,))

    def read(self, numbers: np.ndarray) -> Iterator[bytes]:
        """The texts with these numbers."""
        self._texts.flush()
        index = self.index()
        with (self.folder / "texts").open("rb") as texts:
            for first in range(0, len(numbers), LOOK_UP):
                entries = index[numbers[first : first + LOOK_UP]]
                places = zip(entries["start"].tolist(), entries["length"].tolist(), strict=True)
                for start, length in places:
                    yield os.pread(texts.fileno(), length, start)
