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
import platform
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mtp.command_line import new_parser
from mtp.config import CorpusConfig
from mtp.data import tokenized
from mtp.data.documents import SPLITS, Documents, bar, log
from mtp.data.pairs import RECORD_BYTES, Pairs, PairsWriter, from_text, read_lengths
from mtp.data.shards import Shard, ShardWriter, Split
from mtp.data.sources import Source, open_source
from mtp.data.spool import Spool
from mtp.data.tokenizer import BPE, LlamaTokenizer, Tokenizer, from_name, load, names_a_path
from mtp.errors import BadInput, exit_cleanly
from mtp.files import FULL, atomic_folder, file_sha256
from mtp.locks import locked

FORMAT = 3  # version of the folder's format, which is part of its name
BPE_SAMPLE = 20_000_000  # bytes of training text that a BPE is trained on
VERIFY_BYTES = 200_000_000  # shards are hashed when opened if they have at most so many bytes


class Corpus:
    """An opened corpus: its folder, manifest, tokenizer, and the splits train and validation."""

    def __init__(self, folder: Path, manifest: dict[str, Any], tokenizer: Tokenizer) -> None:
        self.folder, self.manifest, self.tokenizer = folder, manifest, tokenizer
        self.train, self.validation = (self._split(name) for name in SPLITS)

    def _split(self, name: str) -> Split:
        manifest, entries = self.manifest, self.manifest["shards"][name]
        if "formats" in manifest:  # others' tokens
            shards = [tokenized.shard_of(entry) for entry in entries]
            vocab = self.tokenizer.vocab_size
            return Split(shards, self.tokenizer.eos, manifest["bytes"][name], vocab)
        dtype = manifest["dtype"]
        shards = [Shard(self.folder / entry["file"], dtype, entry["tokens"]) for entry in entries]
        common = shards, self.tokenizer.eos, manifest["bytes"][name]
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
    shards = [shard for name in SPLITS for shard in manifest["shards"][name]]
    entries = [manifest["tokenizer"], *manifest.get("records", {}).values()]
    if "formats" in manifest:  # others' tokens, outside the folder
        for shard in shards:
            if how := tokenized.change(shard):
                raise BadInput(f"{shard['file']} {how}; delete {folder} to look at its source anew")
        width, hash_shards = 0, False
    else:
        width = np.dtype(manifest["dtype"]).itemsize
        hash_shards = sum(manifest["tokens"].values()) * width <= VERIFY_BYTES
        entries += shards
    for entry in entries:
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
        waiting = partial(log, f"waiting for another process to build {folder.name}", progress)
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


def check_values(config: CorpusConfig) -> None:
    """Raise BadInput for values that no corpus can have. Reads nothing."""
    if not 0 <= config.validation < 1:
        raise BadInput(f"validation is {config.validation}; it must be at least 0 and below 1")
    if config.max_mb < 0:
        raise BadInput(f"max_mb is {config.max_mb}; it must be at least 0 (0: all)")
    if not names_a_path(config.tokenizer) and from_name(config.tokenizer) is None:
        BPE.check(config.vocab)


def _resolve(
    config: CorpusConfig, root: Path, saved_tokenizer: Tokenizer | None = None
) -> tuple[Path, Source, Tokenizer | None]:
    """The folder of a config's corpus, its source, and its tokenizer (None: one to be trained)."""
    check_values(config)
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
    if source.tokens and tokenizer is None:
        raise BadInput(
            f"source {config.source}: name the tokenizer that made the tokens, "
            "data.tokenizer=bytes, llama:FILE, run:FOLDER or file:PATH (its tokenizer.json)"
        )
    if tokenizer is not None:
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
        if source.tokens:
            assert tokenizer is not None
            manifest = tokenized.describe(source.tokens, config, tokenizer, progress)
            manifest["tokenizer"] = _save_tokenizer(tokenizer, half)
            _write_manifest(half, manifest, config, source)
            return
        with _spool(folder, source) as spool:
            documents = Documents(spool)
            documents.collect(source, config, progress)
            manifest = _tokenize(documents, half, config, tokenizer, source.pairs, progress)
        _write_manifest(half, manifest, config, source)


@contextmanager
def _spool(folder: Path, source: Source) -> Iterator[Spool]:
    """The spool of the corpus in `folder`, removed afterwards. If the process is killed or
    interrupted it stays, for the next build to go on from."""
    where = folder.with_name(f".spool-{folder.name}")
    try:
        with closing(Spool(where, resume=source.files is not None)) as spool:
            yield spool
    except Exception:
        shutil.rmtree(where, ignore_errors=True)
        raise
    shutil.rmtree(where)


def _write_manifest(
    folder: Path, manifest: dict[str, Any], config: CorpusConfig, source: Source
) -> None:
    manifest |= {
        "format": FORMAT,
        "config": dataclasses.asdict(config),
        "source": source.identity,
        "python": platform.python_version(),
    }
    text = json.dumps(manifest | {"sha256": _digest(manifest)}, indent=2)
    (folder / "manifest.json").write_text(text + "\n")


def _save_tokenizer(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """Write the tokenizer to a corpus's folder; returns its entry in the manifest."""
    tokenizer.save(folder)
    file = next(p for p in folder.glob("tokenizer.*"))
    entry = {"name": tokenizer.name, "vocab": tokenizer.vocab_size}
    return entry | {"file": file.name, "sha256": file_sha256(file)}


def _tokenize(
    documents: Documents,
    folder: Path,
    config: CorpusConfig,
    tokenizer: Tokenizer | None,
    pairs: bool,
    progress: bool,
) -> dict[str, Any]:
    """Write the tokenizer and the shards. Returns their part of the manifest."""
    if tokenizer is None:
        sample = documents.read("train", BPE_SAMPLE)
        log(f"training bpe-{config.vocab}", progress)
        texts = (text for batch in sample for text in batch)
        tokenizer = BPE.train(map("".join, map(from_text, texts)) if pairs else texts, config.vocab)
    saved = _save_tokenizer(tokenizer, folder)
    dtype = "uint16" if tokenizer.vocab_size <= 65_535 else "uint32"
    shards: dict[str, list[dict[str, Any]]] = {}
    records: dict[str, dict[str, Any]] = {}
    text_bytes = {name: documents.bytes(name) for name in SPLITS}
    for split in SPLITS:
        writer = ShardWriter(folder, split, dtype)
        recorder = PairsWriter(folder, split, writer, tokenizer) if pairs else None
        with bar(f"tokenizing {split}", documents.bytes(split), progress) as shown:
            if recorder:
                for texts in documents.read(split):
                    recorder.add(texts)
                    shown.update(sum(len(text.encode()) for text in texts))
            else:
                for ids, size in _encoded(tokenizer, documents.read(split)):
                    writer.add(ids)
                    shown.update(size)
        shards[split] = writer.close()
        if recorder:
            records[split], text_bytes[split] = recorder.close(), recorder.bytes
    return {
        "documents": documents.counts | {name: len(documents.chosen[name]) for name in SPLITS},
        "bytes": text_bytes,
        "tokens": {name: sum(shard["tokens"] for shard in shards[name]) for name in SPLITS},
        "dtype": dtype,
        "tokenizer": saved,
        "shards": shards,
    } | ({"records": records} if pairs else {})


def _encoded(
    tokenizer: Tokenizer, batches: Iterable[list[str]]
) -> Iterator[tuple[np.ndarray, int]]:
    """The tokens of each batch of texts, with bos and eos, and the bytes of the texts. While a
    batch is encoded, on all cores, the one after it is read and the one before it is stored."""
    with ThreadPoolExecutor(1, "encoding") as pool:
        before: Future[tuple[np.ndarray, int]] | None = None
        for texts in batches:
            coming = pool.submit(_encode, tokenizer, texts)
            if before:
                yield before.result()
            before = coming
        if before:
            yield before.result()


def _encode(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, int]:
    encoded = tokenizer.encode_batch(texts)
    found = np.empty(sum(map(len, encoded)) + 2 * len(encoded), dtype=np.uint32)
    place = 0
    for ids in encoded:
        end = place + len(ids) + 2
        found[place], found[end - 1] = tokenizer.bos, tokenizer.eos
        found[place + 1 : end - 1] = ids
        place = end
    return found, sum(len(text.encode()) for text in texts)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _damage(file: Path, how: str) -> str:
    return f"corpus file {file} {how}; delete {file.parent} to build it again"


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
    documents, tokens = corpus.manifest.get("documents"), corpus.manifest["tokens"]
    for split in SPLITS:
        size = corpus.manifest["bytes"][split] / 1e6
        text = f"{documents[split]:,} documents, " if documents else ""
        text += f"{size:.1f} MB, " if size else ""
        print(f"{split:10} {text}{tokens[split]:,} tokens")
    print(f"{corpus.folder}: {corpus.tokenizer.name}, ready after {seconds:.1f} s")


if __name__ == "__main__":
    main()
