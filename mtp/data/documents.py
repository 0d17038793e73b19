"""The documents of a source: filtered, spooled (mtp/data/spool.py), and assigned to the splits by
their hash."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from mtp.command_line import has_terminal
from mtp.config import CorpusConfig
from mtp.data.sources import Document, Source, pieces, reason_to_drop
from mtp.data.spool import Spool
from mtp.errors import BadInput

SPLITS = ("train", "validation")
FILTERS = {  # reason to drop a document -> what a user reads
    "not_utf8": "not UTF-8",
    "binary": "binary",
    "short": "below 20 characters",
    "large": "code above 1 MB",
    "long_lines": "code with lines above 1000 characters, or above 100 on average",
}
WHY = FILTERS | {"duplicates": "duplicates", "beyond_max_mb": "beyond data.max_mb"}
BATCH_BYTES = 4_000_000


class Documents:
    """The documents that pass the filters.

    chosen  split -> the numbers of its documents in the spool, in hash order
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.counts = Counter(seen=0, duplicates=0)  # and why others are left out
        self.counts.update(spool.state)
        self.chosen = {name: np.empty(0, dtype=np.int64) for name in SPLITS}

    def collect(self, source: Source, config: CorpusConfig, progress: bool) -> None:
        """Read the source, from the first file on that is not in the spool."""
        done = self.spool.files
        if done:
            log(f"going on after {done} files that were read before", progress)
        with bar(f"reading {source.name}", 0, progress) as shown:
            shown.update(self.spool.bytes)
            files = source.files() if source.files else iter([source.documents()])
            for number, documents in enumerate(islice(files, done, None), done + 1):
                if self._add(documents, source, config, shown):
                    break
                self.spool.commit(number, self.counts)
                done = number
        self.spool.commit(done, self.counts, at_once=True)
        self._split(config)
        self._report(config, progress)

    def _add(
        self, documents: Iterator[Document], source: Source, config: CorpusConfig, shown: Any
    ) -> bool:
        """Spool the documents that pass; returns whether there are enough of them."""
        for document in self._pieces(documents, shown):
            self.counts["seen"] += 1
            if reason := reason_to_drop(document):
                self.counts[reason] += 1
                continue
            key = hashlib.sha256(document.content).digest()
            if document.group is not None:  # the group decides whether it is held out
                key = key[:-8] + hashlib.sha256(document.group).digest()[-8:]
            self.spool.add(key, document.content)
            if source.streamed and config.max_mb and self.spool.bytes >= config.max_mb * 1e6:
                return True
        return False

    def _pieces(self, documents: Iterator[Document], shown: Any) -> Iterator[Document]:
        for document in documents:
            shown.update(len(document.content))
            parts = 0
            for piece in pieces(document):
                parts += 1
                yield piece
            self.counts["cut"] += parts > 1

    def _report(self, config: CorpusConfig, progress: bool) -> None:
        """Say how many documents are left out, and why. Raises BadInput if none is left to train
        on, or if the filters take more than half of those that are not duplicates."""
        seen = self.counts["seen"]
        reasons = {name: count for name in WHY if (count := self.counts[name])}
        dropped = sum(count for name, count in reasons.items() if name in FILTERS)
        found = ", ".join(f"{count} {WHY[name]}" for name, count in reasons.items())
        if self.counts["cut"]:
            log(f"{self.counts['cut']} long documents cut into pieces", progress)
        left_out = f"{sum(reasons.values())} of {seen} documents left out: {found}"
        train = len(self.chosen["train"])
        if not train or dropped > (seen - self.counts["duplicates"]) / 2:
            why = f"{left_out}; " if found else f"{seen} seen; "
            if len(self.chosen["validation"]) and not train:
                why += "the rest is held out: give more documents or set data.validation=0; "
            what = "too few" if train else "no"
            raise BadInput(
                f"source {config.source} leaves {what} documents to train on: {why}see docs/data.md"
            )
        if found:
            log(left_out, progress)

    def _split(self, config: CorpusConfig) -> None:
        """Assign documents to train or validation, in hash order, up to max_mb. Of few documents
        the share of `validation` may be none; then the one that is nearest to it is held out."""
        kept = self.spool.in_key_order()
        self.counts["duplicates"] = self.spool.count - len(kept)
        if config.max_mb:
            total = np.cumsum(self._lengths(kept), dtype=np.int64)
            within = int(np.searchsorted(total, config.max_mb * 1e6, side="right"))
            self.counts["beyond_max_mb"] = len(kept) - within
            kept = kept[:within]
        # the end of the hash decides, since its front decides what max_mb keeps
        last = self.spool.index()["last"][kept]
        held_out = last < np.uint64(min(config.validation * 2**64, 2**64 - 1))
        if config.validation and len(kept) > 1 and not held_out.any():
            held_out[last.argmin()] = True
        self.chosen = {"train": kept[~held_out], "validation": kept[held_out]}

    def _lengths(self, numbers: np.ndarray) -> np.ndarray:
        return self.spool.index()["length"][numbers]

    def bytes(self, split: str) -> int:
        return int(self._lengths(self.chosen[split]).sum(dtype=np.int64))

    def read(self, split: str, limit: int | None = None) -> Iterator[list[str]]:
        """The texts of a split, in batches of a few megabytes, up to `limit` bytes in all."""
        batch, size, total = [], 0, 0
        for content in self.spool.read(self.chosen[split]):
            batch.append(content.decode())
            size, total = size + len(content), total + len(content)
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
            if limit is not None and total >= limit:
                break
        if batch:
            yield batch


@contextmanager
def bar(title: str, total: int, progress: bool) -> Iterator[tqdm]:
    """A progress bar of bytes on a terminal, or one line in a log. A total of 0 is unknown."""
    if not has_terminal():
        log(f"{title}, {total / 1e6:.1f} MB" if total else title, progress)
        progress = False
    with tqdm(
        desc=title, total=total or None, unit="B", unit_scale=True, disable=not progress
    ) as shown:
        yield shown


def log(line: str, progress: bool) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)
