"""Building and opening corpora: documents of a source become filtered, split and tokenized shards.

    python -m mtp.data.corpus --source stdlib --tokenizer bpe --vocab 2048

A corpus is a folder: manifest.json, the tokenizer, train-00000.bin .., validation-00000.bin ...
Each document is stored as bos, its tokens, eos. The hash of a document decides its split and its
place in the order, so that neither depends on the order of the source, and new documents do not
move others.
"""

import dataclasses
import hashlib
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from mtp.command_line import has_terminal, new_parser
from mtp.config import CorpusConfig
from mtp.errors import BadInput, exit_cleanly
from mtp.data.pairs import RECORD_BYTES, Pairs, PairsWriter, from_text, read_lengths
from mtp.data.shards import ShardWriter, Split
from mtp.files import FULL, atomic_folder, file_sha256, locked
from mtp.data.sources import Document, Source, open_source, pieces, reason_to_drop
from mtp.data.tokenizer import BPE, LlamaTokenizer, Tokenizer, names_a_path, from_name, load

FORMAT = 3  # version of the folder's format, which is part of its name
BPE_SAMPLE = 20_000_000  # bytes of training text that a BPE is trained on
VERIFY_BYTES = 200_000_000  # shards are hashed when opened if they have at most so many bytes
SPLITS = ("train", "validation")
FILTERS = {  # reason to drop a document -> what a user reads
    "not_utf8": "not UTF-8",
    "binary": "binary",
    "short": "below 20 characters",
    "large": "code above 1 MB",
    "long_lines": "code with lines above 1000 characters, or above 100 on average",
}
WHY = FILTERS | {"duplicates": "duplicates", "beyond_max_mb": "beyond data.max_mb"}


class Corpus:
    """An opened corpus: its folder, manifest, tokenizer, and the splits train and validation."""

    def __init__(self, folder: Path, manifest: dict[str, Any], tokenizer: Tokenizer) -> None:
        self.folder, self.manifest, self.tokenizer = folder, manifest, tokenizer
        self.train, self.validation = (self._split(name) for name in SPLITS)

    def _split(self, name: str) -> Split:
        files = [self.folder / shard["file"] for shard in self.manifest["shards"][name]]
        manifest = self.manifest
        common = files, manifest["dtype"], self.tokenizer.eos, manifest["bytes"][name]
        if "records" in manifest:
            return Pairs(*common, read_lengths(self.folder / manifest["records"][name]["file"]))
        return Split(*common)


def open_corpus(folder: Path) -> Corpus:
    """Open a built corpus. BadInput names a file that is missing or was altered.

    Sizes are always checked; shards are hashed if they have at most VERIFY_BYTES in all.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such corpus")
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest.pop("sha256") != _digest(manifest):
            raise ValueError
    except FileNotFoundError:
        raise BadInput(_damage(folder / "manifest.json", "is missing")) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(_damage(folder / "manifest.json", "was altered")) from None
    width = np.dtype(manifest["dtype"]).itemsize
    hash_shards = sum(manifest["tokens"].values()) * width <= VERIFY_BYTES
    entries = [manifest["tokenizer"], *(s for name in SPLITS for s in manifest["shards"][name])]
    for entry in [*entries, *manifest.get("records", {}).values()]:
        file, is_shard = folder / entry["file"], "tokens" in entry
        if not file.is_file():
            raise BadInput(_damage(file, "is missing"))
        size = entry["tokens"] * width if is_shard else RECORD_BYTES * entry.get("records", 0)
        if size and file.stat().st_size != size:
            raise BadInput(_damage(file, "has the wrong size"))
        if (hash_shards or not is_shard) and file_sha256(file) != entry["sha256"]:
            raise BadInput(_damage(file, "was altered"))
    return Corpus(folder, manifest, load(folder))


def build(
    config: CorpusConfig,
    root: Path = Path("data"),
    progress: bool = True,
    saved_tokenizer: Tokenizer | None = None,
) -> Corpus:
    """The corpus of `config` in the folder root/NAME-HASH, built first if it is not there yet.

    saved_tokenizer  a run's own copy of the tokenizer, which replaces the one that the config
                     names by a path: that path may be gone by now

    A folder of that name is complete, since it is built under another name and renamed. If several
    processes ask for the same corpus, one builds it and the others wait. Raises BadInput on bad
    values, a source that cannot be read, no documents left after the filters, or a damaged corpus.
    """
    folder, source, tokenizer = _resolve(config, root, saved_tokenizer)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{root} cannot hold corpora: {error.strerror}") from None
    if not folder.exists():
        waiting = partial(_log, f"waiting for another process to build {folder.name}", progress)
        with locked(root / f".{folder.name}.lock", waiting=waiting):
            if not folder.exists():
                try:
                    _build(folder, config, source, tokenizer, progress)
                except OSError as error:
                    if error.errno not in FULL:
                        raise
                    raise BadInput(f"no space left for the corpus {folder}") from None
    return open_corpus(folder)


def open_if_built(config: CorpusConfig, root: Path = Path("data")) -> Corpus | None:
    """The corpus of `config` if it has been built under `root`."""
    folder, _, _ = _resolve(config, root)
    return open_corpus(folder) if folder.exists() else None


def _resolve(
    config: CorpusConfig, root: Path, saved_tokenizer: Tokenizer | None = None
) -> tuple[Path, Source, Tokenizer | None]:
    """The folder of a config's corpus, its source, and its tokenizer (None: one to be trained)."""
    if not 0 <= config.validation < 1:
        raise BadInput(f"validation is {config.validation}; it must be at least 0 and below 1")
    if config.max_mb < 0:
        raise BadInput(f"max_mb is {config.max_mb}; it must be at least 0 (0: all)")
    source = open_source(config.source, skip=root.resolve())
    if saved_tokenizer and names_a_path(config.tokenizer):
        tokenizer = saved_tokenizer
    else:
        tokenizer = from_name(config.tokenizer)
    identity = dataclasses.asdict(config) | {"format": FORMAT, "source": source.identity}
    if isinstance(tokenizer, LlamaTokenizer):
        identity["tokenizer"] = file_sha256(tokenizer.file)
    elif isinstance(tokenizer, BPE):  # another run's
        identity["tokenizer"] = _digest([tokenizer.inner.to_str(), tokenizer.names])
    if tokenizer is None:
        BPE.check(config.vocab)  # now, not after the source is read
    else:
        del identity["vocab"]
    return root / f"{source.name}-{_digest(identity)[:12]}", source, tokenizer


def _build(
    folder: Path,
    config: CorpusConfig,
    source: Source,
    tokenizer: Tokenizer | None,
    progress: bool,
) -> None:
    with atomic_folder(folder) as half:
        with (half / "texts").open("w+b") as texts:
            documents = _Documents(texts)
            documents.collect(source, config, progress)
            (half / "texts").unlink()  # the open file stays readable
            manifest = _tokenize(documents, half, config, tokenizer, source.pairs, progress)
        manifest |= {
            "format": FORMAT,
            "config": dataclasses.asdict(config),
            "source": source.identity,
            "python": platform.python_version(),
        }
        text = json.dumps(manifest | {"sha256": _digest(manifest)}, indent=2)
        (half / "manifest.json").write_text(text + "\n")


class _Documents:
    """The documents that pass the filters, spooled to a file so that they can be read in hash
    order."""

    def __init__(self, texts: BinaryIO) -> None:
        self.texts = texts
        self.spans: dict[bytes, tuple[int, int]] = {}  # sha256 -> start and length in `texts`
        self.counts = Counter(seen=0, duplicates=0)  # and why others are left out
        self.keys: dict[str, list[bytes]] = {name: [] for name in SPLITS}

    def collect(self, source: Source, config: CorpusConfig, progress: bool) -> None:
        end = 0
        with _bar(f"reading {source.name}", 0, progress) as bar:
            for document in self._pieces(source, bar):
                self.counts["seen"] += 1
                key = hashlib.sha256(document.content).digest()
                if document.group is not None:  # the group decides whether it is held out
                    key = key[:-8] + hashlib.sha256(document.group).digest()[-8:]
                reason = "duplicates" if key in self.spans else reason_to_drop(document)
                if reason:
                    self.counts[reason] += 1
                    continue
                self.texts.write(document.content)
                self.spans[key] = end, len(document.content)
                end += len(document.content)
                if source.streamed and config.max_mb and end >= config.max_mb * 1e6:
                    break
        self.texts.flush()
        self._split(config)
        self._report(config, progress)

    def _pieces(self, source: Source, bar: Any) -> Iterator[Document]:
        for document in source.documents():
            bar.update(len(document.content))
            parts = 0
            for parts, piece in enumerate(pieces(document), 1):
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
            _log(f"{self.counts['cut']} long documents cut into pieces", progress)
        left_out = f"{sum(reasons.values())} of {seen} documents left out: {found}"
        if not self.keys["train"] or dropped > (seen - self.counts["duplicates"]) / 2:
            why = f"{left_out}; " if found else f"{seen} seen; "
            if self.keys["validation"] and not self.keys["train"]:
                why += "the rest is held out: give more documents or set data.validation=0; "
            what = "too few" if self.keys["train"] else "no"
            raise BadInput(
                f"source {config.source} leaves {what} documents to train on: {why}see docs/data.md"
            )
        if found:
            _log(left_out, progress)

    def _split(self, config: CorpusConfig) -> None:
        """Assign documents to train or validation, in hash order, up to max_mb. Of few documents
        the share of `validation` may be none; then the one that is nearest to it is held out."""
        total = 0
        for number, key in enumerate(sorted(self.spans)):
            total += self.spans[key][1]
            if config.max_mb and total > config.max_mb * 1e6:
                self.counts["beyond_max_mb"] = len(self.spans) - number
                break
            # the end of the hash decides, since its front decides what max_mb keeps
            held_out = int.from_bytes(key[-8:]) < config.validation * 2**64
            self.keys["validation" if held_out else "train"].append(key)
        if config.validation and not self.keys["validation"] and len(self.keys["train"]) > 1:
            nearest = min(self.keys["train"], key=lambda key: key[-8:])
            self.keys["train"].remove(nearest)
            self.keys["validation"].append(nearest)

    def bytes(self, split: str) -> int:
        return sum(self.spans[key][1] for key in self.keys[split])

    def read(self, split: str, limit: int | None = None) -> Iterator[list[str]]:
        """The texts of a split, in batches of a few megabytes, up to `limit` bytes in all."""
        batch, size, total = [], 0, 0
        for key in self.keys[split]:
            start, length = self.spans[key]
            batch.append(os.pread(self.texts.fileno(), length, start).decode())
            size, total = size + length, total + length
            if size >= 4_000_000:
                yield batch
                batch, size = [], 0
            if limit is not None and total >= limit:
                break
        if batch:
            yield batch


def _tokenize(
    documents: _Documents,
    folder: Path,
    config: CorpusConfig,
    tokenizer: Tokenizer | None,
    pairs: bool,
    progress: bool,
) -> dict[str, Any]:
    """Write the tokenizer and the shards. Returns their part of the manifest."""
    if tokenizer is None:
        sample = documents.read("train", BPE_SAMPLE)
        _log(f"training bpe-{config.vocab}", progress)
        texts = (text for batch in sample for text in batch)
        tokenizer = BPE.train(map("".join, map(from_text, texts)) if pairs else texts, config.vocab)
    tokenizer.save(folder)
    (saved,) = folder.glob("tokenizer.*")
    dtype = "uint16" if tokenizer.vocab_size <= 65_535 else "uint32"
    shards: dict[str, list[dict[str, Any]]] = {}
    records: dict[str, dict[str, Any]] = {}
    text_bytes = {name: documents.bytes(name) for name in SPLITS}
    for split in SPLITS:
        writer = ShardWriter(folder, split, dtype)
        recorder = PairsWriter(folder, split, writer, tokenizer) if pairs else None
        with _bar(f"tokenizing {split}", documents.bytes(split), progress) as bar:
            for texts in documents.read(split):
                if recorder:
                    recorder.add(texts)
                else:
                    for ids in tokenizer.encode_batch(texts):
                        writer.add([tokenizer.bos, *ids, tokenizer.eos])
                bar.update(sum(len(text.encode()) for text in texts))
        shards[split] = writer.close()
        if recorder:
            records[split], text_bytes[split] = recorder.close(), recorder.bytes
    return {
        "documents": documents.counts | {name: len(documents.keys[name]) for name in SPLITS},
        "bytes": text_bytes,
        "tokens": {name: sum(shard["tokens"] for shard in shards[name]) for name in SPLITS},
        "dtype": dtype,
        "tokenizer": {"name": tokenizer.name, "vocab": tokenizer.vocab_size}
        | {"file": saved.name, "sha256": file_sha256(saved)},
        "shards": shards,
    } | ({"records": records} if pairs else {})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _damage(file: Path, how: str) -> str:
    return f"corpus file {file} {how}; delete {file.parent} to build it again"


@contextmanager
def _bar(title: str, total: int, progress: bool) -> Iterator[tqdm]:
    """A progress bar of bytes on a terminal, or one line in a log. A total of 0 is unknown."""
    if not has_terminal():
        _log(f"{title}, {total / 1e6:.1f} MB" if total else title, progress)
        progress = False
    with tqdm(
        desc=title, total=total or None, unit="B", unit_scale=True, disable=not progress
    ) as bar:
        yield bar


def _log(line: str, progress: bool) -> None:
    if progress:
        print(line, file=sys.stderr, flush=True)


@exit_cleanly
def main() -> None:
    parser = new_parser("mtp.data.corpus", CorpusConfig.__doc__)
    for field in dataclasses.fields(CorpusConfig):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    parser.add_argument("--root", type=Path, default=Path("data"))
    values = vars(parser.parse_args())
    began = time.perf_counter()
    corpus = build(root=values.pop("root"), config=CorpusConfig(**values))
    seconds = time.perf_counter() - began
    documents, tokens = corpus.manifest["documents"], corpus.manifest["tokens"]
    for split in SPLITS:
        size = corpus.manifest["bytes"][split] / 1e6
        print(f"{split:10} {documents[split]:,} documents, {size:.1f} MB, {tokens[split]:,} tokens")
    print(f"{corpus.folder}: {corpus.tokenizer.name}, ready after {seconds:.1f} s")


if __name__ == "__main__":
    main()
