"""Named sources of documents: stdlib, installed, pypi-v1, files:PATH, pairs:FILE, hf:DATASET,
python:MODULE?options, and mixtures of them; and of tokens that others have made: shards:PATH.

A source can be described before it is read: its identity decides whether its corpus is built
already.
"""

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from mtp.data import installed, pairs, records, token_files
from mtp.data.hub import rows as hub_rows
from mtp.data.token_files import TokenFile
from mtp.errors import BadInput
from mtp.files import file_sha256

SOURCES = (
    "stdlib",
    "installed",
    "pypi-v1",
    "files:PATH",
    "shards:PATH",
    "pairs:FILE",
    "hf:DATASET",
    "python:MODULE?NAME=VALUE,..",
    "mix:WEIGHT*SOURCE|WEIGHT*SOURCE..",
)
LONG_BYTES = 65_536  # texts above it are cut
PIECE_BYTES = 16_384
PYPI_LIST = Path(__file__).with_name("pypi-v1.txt")
CODE = frozenset((  # suffixes of files that the filters against generated code look at
    ".py", ".pyi", ".ipynb", ".js", ".mjs", ".jsx", ".ts", ".tsx", ".css", ".c", ".h",
    ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cu", ".cuh", ".java", ".kt", ".scala", ".go",
    ".rs", ".rb", ".php", ".pl", ".pm", ".lua", ".r", ".jl", ".m", ".swift", ".cs", ".fs",
    ".hs", ".ml", ".ex", ".exs", ".erl", ".clj", ".lisp", ".el", ".sh", ".bash", ".ps1",
    ".sql", ".vue", ".dart", ".zig", ".f90",
))  # fmt: skip
TESTS = {"test", "tests", "idle_test"}


class Document(NamedTuple):
    """One text as it was found. `code` asks for the filters against generated code. Documents of
    the same `group` are held out together; a document without a group is held out on its own.
    `whole` forbids to cut it."""

    content: bytes
    code: bool
    group: bytes | None = None
    whole: bool = False


@dataclass(frozen=True)
class Source:
    """A source of documents.

    name      can be part of a folder's name
    identity  JSON values of everything that determines the documents
    streamed  may be too long to read to the end if only max_mb of it are wanted
    pairs     its documents are prompts with completions (mtp/data/pairs.py)
    tokens    files of tokens that others have made; such a source has no documents
    files     if set, its documents file by file, so that reading can go on after any file
    """

    name: str
    identity: dict[str, Any]
    documents: Callable[[], Iterator[Document]]
    streamed: bool = False
    pairs: bool = False
    tokens: tuple[TokenFile, ...] = ()
    files: Callable[[], Iterator[Iterator[Document]]] | None = None


def open_source(source: str, skip: Path) -> Source:
    """The source with a name of the forms in SOURCES. The folder `skip` is left out of folders.

    Raises BadInput for an unknown name or a missing path and, while documents are read, for a
    missing package or network.
    """
    kind, colon, where = source.partition(":")
    if source == "stdlib":
        return _stdlib()
    if source == "installed":
        return _installed()
    if source == "pypi-v1":
        return _pypi()
    if colon and where and kind == "files":
        return _files(Path(where).expanduser(), skip)
    if colon and where and kind == "shards":
        return _shards(Path(where).expanduser(), skip)
    if colon and where and kind == "pairs":
        return _pairs(Path(where).expanduser())
    if colon and where and kind == "hf":
        return _hugging_face(where, skip)
    if colon and where and kind == "python":
        return _generator(source)
    if colon and where and kind == "mix":
        return _mixture(source, skip)
    raise BadInput(f"unknown source {source!r}; choose one of: {', '.join(SOURCES)}")


def reason_to_drop(document: Document) -> str | None:
    """Why a document is dropped, as a key for counting; None if it is kept."""
    try:
        text = document.content.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    if "\0" in text:
        return "binary"
    if len(text.strip()) < 20:
        return "short"
    if document.code:  # drop generated code and data; prose may have long lines
        lines = [len(line) for line in text.splitlines()]
        if len(document.content) > 1_000_000:
            return "large"
        if max(lines) > 1000 or sum(lines) > 100 * len(lines):
            return "long_lines"
    return None


def pieces(document: Document) -> Iterator[Document]:
    """A long text in pieces of about PIECE_BYTES. They are documents of their own: each may be held
    out, and none costs much memory. A piece ends at its last blank line, else line, else space.
    Code, and texts of at most LONG_BYTES, stay whole."""
    content = document.content
    if document.code or document.whole or len(content) <= LONG_BYTES:
        yield document
        return
    start = 0
    while len(content) - start > 1.5 * PIECE_BYTES:  # no short rest
        end = _last_break(content, start + PIECE_BYTES // 2, start + PIECE_BYTES)
        yield document._replace(content=content[start:end])
        start = end
    yield document._replace(content=content[start:])


def _last_break(content: bytes, low: int, high: int) -> int:
    """Where to cut between `low` and `high`; never within a character of UTF-8."""
    for mark in (b"\n\n", b"\n", b" "):
        if (at := content.rfind(mark, low, high)) >= 0:
            return at + len(mark)
    while low < high and content[high] & 0xC0 == 0x80:
        high -= 1
    return high


def _stdlib() -> Source:
    """The running interpreter's own modules, without installed packages and without tests."""
    root = Path(sysconfig.get_path("stdlib"))

    def documents() -> Iterator[Document]:
        outside = TESTS | {"site-packages", "dist-packages"}
        for file in _walk(root, skip=None, ignored=outside):
            if file.suffix == ".py":
                yield Document(file.read_bytes(), code=True)

    version = f"{platform.python_implementation()} {platform.python_version()}"
    return Source("stdlib", {"stdlib": version}, documents)


def _installed() -> Source:
    """The Python files of packages that set-up has installed (mtp/data/installed.py)."""

    def documents() -> Iterator[Document]:
        for content in installed.contents():
            yield Document(content, code=True)

    return Source("installed", {"installed": installed.identity()}, documents)


def _pypi() -> Source:
    """The Python files of the wheels that pypi-v1.txt pins by hash."""

    def documents() -> Iterator[Document]:
        with tempfile.TemporaryDirectory() as folder:
            _download(Path(folder))
            for wheel in sorted(Path(folder).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    for name in sorted(archive.namelist()):
                        if name.endswith(".py"):
                            yield Document(archive.read(name), code=True)

    digest = hashlib.sha256(PYPI_LIST.read_bytes()).hexdigest()
    return Source("pypi-v1", {"pypi-v1.txt": digest}, documents)


def _download(folder: Path) -> None:
    # the hashes are of one platform's wheels, which any host can read
    target = "--implementation cp --python-version 3.11 --abi cp311 --platform manylinux2014_x86_64"
    options = f"--quiet --no-deps --require-hashes --only-binary=:all: {target}".split()
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    command += ["-r", str(PYPI_LIST)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "No mod" in line]
        reason = (errors or done.stderr.splitlines() or ["no message"])[-1].strip()
        raise BadInput(
            f"source pypi-v1: pip could not download the packages (is there a network?): {reason}"
        )


def _files(path: Path, skip: Path) -> Source:
    """A text file, a file of records (mtp/data/records.py), or a folder of them."""

    def read(file: Path) -> Iterator[Document]:
        try:
            if records.is_known(file):
                for text in records.texts(file):
                    yield Document(text.encode(errors="surrogatepass"), code=False)
            else:
                yield Document(file.read_bytes(), code=file.suffix.lower() in CODE)
        except OSError as error:
            raise BadInput(f"cannot read {file}: {error.strerror}") from None

    if not path.exists():
        raise BadInput(f"source files:{path}: no such file or folder")

    def files() -> Iterator[Iterator[Document]]:
        return map(read, _walk(path, skip))

    def documents() -> Iterator[Document]:
        return chain.from_iterable(files())

    name = f"files-{_slug(path.resolve().name)}"
    return Source(name, _listing(path, skip), documents, files=files)


def _shards(path: Path, skip: Path) -> Source:
    """Files of tokens, which are identified by their names, sizes, times and headers."""
    if not path.exists():
        raise BadInput(f"source shards:{path}: no such file or folder")
    files = token_files.find(path, list(_walk(path, skip)))
    digest = hashlib.sha256()
    for file in files:
        status, shard = file.shard.file.stat(), file.shard
        described = [str(shard.file.relative_to(path)), status.st_size, status.st_mtime_ns]
        described += [file.format, shard.dtype, shard.offset, shard.tokens]
        digest.update(f"{json.dumps(described)}\n".encode())
    identity = {"path": str(path.resolve()), "files": len(files), "tokens": digest.hexdigest()}
    name = f"shards-{_slug(path.resolve().name)}"
    return Source(name, identity, lambda: iter(()), tokens=tuple(files))


def _pairs(file: Path) -> Source:
    """A .jsonl file of records (mtp/data/pairs.py). Records with the same prompt are held out
    together, so that no prompt of the validation split has been trained on."""

    def documents() -> Iterator[Document]:
        for record in pairs.read_records(file):
            content = pairs.to_text(record).encode(errors="surrogatepass")
            group = record.prompt.encode(errors="surrogatepass")
            yield Document(content, code=False, group=group, whole=True)

    if not file.is_file():
        raise BadInput(f"source pairs:{file}: no such file")
    try:
        identity = {"pairs": file_sha256(file), "format": 2}
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from None
    return Source(f"pairs-{_slug(file.stem)}", identity, documents, pairs=True)


def _hugging_face(name: str, skip: Path) -> Source:
    """A dataset of the Hugging Face hub, or in a local folder. NAME#CONFIG selects a subset."""
    dataset, _, subset = name.partition("#")

    def documents() -> Iterator[Document]:
        label = f"source hf:{name}"
        found = hub_rows(dataset, subset or None, split="train", streaming=True, label=label)
        for row in found:
            text = row.get("text", row.get("content"))
            if not isinstance(text, str):
                columns = ", ".join(row)
                raise BadInput(f'{label} needs a column "text" or "content"; it has: {columns}')
            yield Document(text.encode(errors="surrogatepass"), code=False)

    local = _listing(Path(dataset), skip) if Path(dataset).exists() else {"hub": dataset}
    return Source(f"hf-{_slug(name)}", local | {"subset": subset}, documents, streamed=True)


def _generator(source: str) -> Source:
    """Generated documents: the strings that the module's `documents(options)` yields. The module's
    code is part of the identity, so that a changed generator gives another corpus."""
    module, options = generator_options(source)
    make: Callable[..., Iterator[str]] | None
    try:
        try:
            spec = None if module.startswith(".") else importlib.util.find_spec(module)
        except (ModuleNotFoundError, ValueError):
            spec = None
        if spec is None or spec.origin is None:
            raise BadInput(f"source {source}: there is no module {module}")
        make = getattr(importlib.import_module(module), "documents", None)
    except BadInput:
        raise
    except Exception as error:  # a module may fail in any way
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise BadInput(f"source {source}: module {module} cannot be imported: {reason}") from None
    if not callable(make):
        raise BadInput(f"source {source}: module {module} has no function documents(options)")

    def documents() -> Iterator[Document]:
        try:
            for text in make(options):
                yield Document(text.encode(), code=False)
        except ValueError as error:
            raise BadInput(f"source {source}: {error}") from None
        except AttributeError:
            raise BadInput(
                f"source {source}: {module}.documents must yield strings, and does not"
            ) from None

    try:
        make(options)  # reports bad options before anything is built
    except ValueError as error:
        raise BadInput(f"source {source}: {error}") from None

    folder = Path(spec.origin).parent
    parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.glob("*.py"))]
    return Source(_slug(module), {"module": module, "options": options, "code": parts}, documents)


def _mixture(source: str, skip: Path) -> Source:
    """Documents of several sources until one of them ends. Their bytes are in the ratio of the
    weights, up to a document."""
    weights: list[float] = []
    sources: list[Source] = []
    for part in source.removeprefix("mix:").split("|"):
        number, _, name = part.partition("*")
        try:
            weight = float(number)
        except ValueError:
            weight = 0.0
        if not 0 < weight < float("inf"):
            raise BadInput(f"source {source}: {part!r} is not WEIGHT*SOURCE with a weight above 0")
        weights.append(weight)
        sources.append(open_source(name, skip))
        if sources[-1].pairs or sources[-1].tokens:
            raise BadInput(f"source {source} mixes in {name}; only texts can be mixed")
    if len(sources) < 2:
        raise BadInput(f"source {source} mixes one source; give at least two, separated by |")

    def documents() -> Iterator[Document]:
        rest = [each.documents() for each in sources]
        bytes_taken = [0.0] * len(rest)
        while True:
            # the source that is furthest behind its share
            i = min(range(len(rest)), key=lambda i: bytes_taken[i] / weights[i])
            document = next(rest[i], None)
            if document is None:
                return
            bytes_taken[i] += len(document.content)
            yield document

    parts = [[w, each.identity] for w, each in zip(weights, sources, strict=True)]
    name = "mix-" + "-".join(each.name for each in sources)
    return Source(_slug(name), {"mix": parts}, documents, any(each.streamed for each in sources))


def generator_options(source: str) -> tuple[str, dict[str, str]]:
    """The module and the options in "python:MODULE?NAME=VALUE,..".

    >>> generator_options("python:synthetic.polynomials?p=7,d=2")
    ('synthetic.polynomials', {'p': '7', 'd': '2'})
    """
    module, _, text = source.removeprefix("python:").partition("?")
    options: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name in options:
            raise BadInput(f"source {source}: {part!r} is not NAME=VALUE, or NAME comes twice")
        options[name] = value
    return module, options


def _walk(path: Path, skip: Path | None, ignored: Collection[str] = ()) -> Iterator[Path]:
    """The files in a folder, in a fixed order, or the file itself. Leaves out hidden files, the
    folder `skip`, and folders of the `ignored` names."""
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path, onerror=_refuse):
        hidden = [name for name in folders if name.startswith(".")]
        outside = [name for name in folders if skip and (Path(folder) / name).resolve() == skip]
        folders[:] = sorted(set(folders).difference(hidden, outside, ignored, ["__pycache__"]))
        for name in sorted(files):
            if not name.startswith(".") and (Path(folder) / name).is_file():
                yield Path(folder) / name


def _refuse(error: OSError) -> NoReturn:
    raise BadInput(f"{error.filename} cannot be read: {error.strerror}")


def _listing(path: Path, skip: Path) -> dict[str, Any]:
    """What identifies the files under a path without reading them: their names, sizes and times."""
    digest, count = hashlib.sha256(), 0
    for file in _walk(path, skip):
        status = file.stat()
        digest.update(
            f"{file.relative_to(path)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()
        )
        count += 1
    return {"path": str(path.resolve()), "files": count, "listing": digest.hexdigest()}


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)[:60]
