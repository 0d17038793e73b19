"""Corpora of tokens that other programs have made (shards:PATH): read in place, never copied.

Files whose names say so (mtp/data/token_files.py) are the validation split. If there are none, the
last `validation` share of the tokens is held out, from the end of a document on. Documents end with
the tokenizer's eos. `max_mb` keeps the first megabytes of text: the share of `validation` of them
in the validation split, and the rest in the training split.

Every id is checked against the vocabulary when it is read for training; the beginning of each file
and the validation split are checked here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtp.config import CorpusConfig
from mtp.data.documents import bar, log
from mtp.data.shards import CHUNK, Shard, Split
from mtp.data.token_files import TokenFile
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput

SAMPLE = 65_536  # tokens at the beginning of each file that are looked at


def describe(
    files: Sequence[TokenFile], config: CorpusConfig, tokenizer: Tokenizer, progress: bool
) -> dict[str, Any]:
    """The manifest's part about the splits. Raises BadInput if the tokens are not of this tokenizer
    or no file is left to train on."""
    _check(files, config, tokenizer, progress)
    train = [file.shard for file in files if not file.validation]
    held_out = [file.shard for file in files if file.validation]
    if not sum(shard.tokens for shard in train):
        raise BadInput(f"source {config.source} has no tokens to train on besides its validation")
    if not held_out and config.validation:
        cut = _cut(_split(train, tokenizer), config.validation)
        train, held_out = part(train, 0, cut), part(train, cut)
    megabytes = {"train": 1 - config.validation, "validation": config.validation}
    manifest: dict[str, Any] = {"shards": {}, "tokens": {}, "bytes": {}}
    for name, shards in (("train", train), ("validation", held_out)):
        limit = 1e6 * config.max_mb * megabytes[name]
        size = 0  # of training text it is not known, since nobody needs it
        if config.max_mb or name == "validation":
            with bar(f"counting the bytes of {name}", 0, progress) as shown:
                end, size = _measure(shards, tokenizer, limit if config.max_mb else None, shown)
            shards = part(shards, 0, end)
        manifest["shards"][name] = [_entry(shard) for shard in shards]
        manifest["tokens"][name] = sum(shard.tokens for shard in shards)
        manifest["bytes"][name] = size
    return manifest | {"formats": sorted({file.format for file in files})}


def shard_of(entry: dict[str, Any]) -> Shard:
    """The shard that an entry of the manifest describes."""
    return Shard(Path(entry["file"]), entry["dtype"], entry["tokens"], entry["offset"])


def training_tokens(files: Sequence[TokenFile], validation: float) -> int:
    """About how many tokens the training split of these files has, without reading them."""
    train = sum(file.shard.tokens for file in files if not file.validation)
    return train if any(file.validation for file in files) else round(train * (1 - validation))


def part(shards: Sequence[Shard], start: int, stop: int | None = None) -> list[Shard]:
    """Tokens start .. stop - 1 of the shards' (default: to the end), as shards."""
    found, first = [], 0
    for shard in shards:
        end = first + shard.tokens
        low, high = max(start, first), end if stop is None else min(stop, end)
        if low < high:
            offset = shard.offset + (low - first) * np.dtype(shard.dtype).itemsize
            found.append(shard._replace(tokens=high - low, offset=offset))
        first = end
    return found


def _split(shards: Sequence[Shard], tokenizer: Tokenizer) -> Split:
    return Split(shards, tokenizer.eos, 0, tokenizer.vocab_size)


def _check(
    files: Sequence[TokenFile], config: CorpusConfig, tokenizer: Tokenizer, progress: bool
) -> None:
    """Look at the beginning of each file: whether the ids are of the tokenizer's vocabulary, and
    whether documents end as it says."""
    documents = 0
    for file in files:
        split = _split([file.shard], tokenizer)
        documents += int((split.read(0, min(SAMPLE, split.tokens)) == tokenizer.eos).sum())
        if file.first_end:
            last = int(split.read(file.first_end - 1, file.first_end)[0])
            if last != tokenizer.eos:
                raise BadInput(
                    f"the first document of {file.shard.file} ends with token {last}, not with "
                    f"{tokenizer.eos}, which ends documents by data.tokenizer={config.tokenizer}; "
                    "name the tokenizer it was made with (#EOS may name the token), or make it "
                    "with such a token after each document (Megatron-LM: --append-eod)"
                )
    if not documents:
        log(
            f"warning: no token {tokenizer.eos}, which ends documents by data.tokenizer="
            f"{config.tokenizer}, in the first {SAMPLE:,} tokens of any file of {config.source}; "
            "all text counts as one document",
            progress,
        )


def _cut(split: Split, validation: float) -> int:
    """Where the validation split begins: `validation` of the tokens before the end, or at the next
    document if one begins within a chunk."""
    at = split.tokens - round(split.tokens * validation)
    ends = np.flatnonzero(split.read(at, min(at + CHUNK, split.tokens)) == split.eos)
    later = at + int(ends[0]) + 1 if len(ends) else at
    return later if later < split.tokens else at


def _measure(
    shards: Sequence[Shard], tokenizer: Tokenizer, limit: float | None, shown: Any
) -> tuple[int, int]:
    """The tokens that make up the first `limit` bytes of text (None: all), and these bytes."""
    total, start = 0, 0
    for end, size in scored_bytes(_split(shards, tokenizer), tokenizer):
        shown.update(size)
        if limit is not None and total + size > limit:
            kept = int(limit) - total
            return start + (end - start) * kept // size, int(limit)
        total, start = total + size, end
    return start, total


def scored_bytes(split: Split, tokenizer: Tokenizer) -> Iterator[tuple[int, int]]:
    """For each document in turn, where it ends in the split and the UTF-8 bytes of its text without
    its first token, which no head predicts. Of documents longer than a chunk, for each part."""
    start, begun = 0, False
    while start < split.tokens:
        chunk = split.read(start, min(start + CHUNK, split.tokens))
        ends = (np.flatnonzero(chunk == split.eos) + 1).tolist()
        first = 0
        for end in ends or [len(chunk)]:
            ids = chunk[first if begun else first + 1 : end]
            yield start + end, len(tokenizer.decode(ids.tolist()).encode())
            first, begun = end, not ends
        start += first


def _entry(shard: Shard) -> dict[str, Any]:
    status = shard.file.stat()
    entry = shard._asdict() | {"file": str(shard.file.resolve())}
    return entry | {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def change(entry: dict[str, Any]) -> str | None:
    """How the file of a manifest's entry differs from what it was; None if it is the same."""
    shard = shard_of(entry)
    try:
        status = shard.file.stat()
    except OSError:
        return "is missing"
    same = (status.st_size, status.st_mtime_ns) == (entry["size"], entry["mtime_ns"])
    return None if same else "has changed"
