"""Files of records with a text each: .jsonl, .jsonl.gz, .jsonl.zst and .parquet.

A record's text is its field "text", else "content". One record is in memory at a time; of a
.parquet file, one batch.
"""

import gzip
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtp.errors import BadInput
from mtp.files import parse_json

FIELDS = ("text", "content")
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
BATCH_ROWS = 1000  # of a .parquet file
CHUNK_BYTES = 2**20  # of a .zst file


def is_known(file: Path) -> bool:
    return file.name.endswith(ENDINGS)


def texts(file: Path) -> Iterator[str]:
    """The texts of a file. Raises BadInput if a record has none, the file is damaged, or the
    package that reads it is missing."""
    if file.suffix == ".parquet":
        yield from _parquet(file)
        return
    number = 0
    try:
        for line in _lines(file):
            number += 1
            if line.strip():
                yield _text(parse_json(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(
            f'{file} line {number} is not a record with a "text" or "content" of type string'
        ) from None
    except (EOFError, gzip.BadGzipFile, *_damages()) as error:
        raise BadInput(f"{file} is damaged after line {number}: {error}") from None


def _text(record: dict[str, Any]) -> str:
    field = next(name for name in FIELDS if name in record) if record.keys() & FIELDS else "text"
    text = record[field]
    if not isinstance(text, str):
        raise TypeError
    return text


def _lines(file: Path) -> Iterator[bytes]:
    if file.suffix == ".zst":
        yield from _zstandard_lines(file)
        return
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        yield from stream


def _zstandard_lines(file: Path) -> Iterator[bytes]:
    """The lines of a file of one frame or several. Raises EOFError if the last one is not whole,
    which the package's own reader passes over."""
    decompressor = _package("zstandard", file).ZstdDecompressor()
    frame, rest = decompressor.decompressobj(), b""
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            while chunk:
                if frame.eof:
                    frame = decompressor.decompressobj()
                rest += frame.decompress(chunk)
                chunk = frame.unused_data if frame.eof else b""
            *lines, rest = rest.split(b"\n")
            yield from lines
    if not frame.eof:
        raise EOFError("its last frame is not whole")
    if rest:
        yield rest


def _damages() -> tuple[type[Exception], ...]:
    """What zstandard raises on a damaged file."""
    try:
        return (importlib.import_module("zstandard").ZstdError,)
    except ImportError:
        return ()


def _parquet(file: Path) -> Iterator[str]:
    reader = _package("pyarrow.parquet", file)
    try:
        table = reader.ParquetFile(file)
        column = next((name for name in FIELDS if name in table.schema_arrow.names), None)
        if column is None:
            there = ", ".join(table.schema_arrow.names)
            raise BadInput(f'{file} needs a column "text" or "content"; it has: {there}')
        for batch in table.iter_batches(BATCH_ROWS, columns=[column]):
            for text in batch.column(0).to_pylist():
                if not isinstance(text, str):
                    raise BadInput(f'{file}: the column "{column}" is not of type string')
                yield text
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors
        raise BadInput(f"{file} cannot be read: {error}") from None


def _package(name: str, file: Path) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise BadInput(
            f"{file} needs {package}; install it: .venv/bin/pip install -e '.[data]'"
        ) from None
