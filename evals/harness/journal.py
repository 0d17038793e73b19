"""A file of records that grows as work is done, and from which interrupted work continues.

The first line says what the records are of. A killed writer leaves at most a torn last line, and a
power cut may leave one with zeros in it; both are dropped. A file is refused and left alone if its
first line says something else, or if any other line is not a record.
"""

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtp.errors import BadInput
from mtp.files import parse_json


def header(file: Path) -> dict[str, Any]:
    """What a file's records are of; empty if it does not say."""
    try:
        with file.open("rb") as lines:
            line = lines.readline()
        return dict(parse_json(line)) if line.endswith(b"\n") else {}
    except (OSError, ValueError, TypeError):
        return {}  # Journal reports what is wrong


def has(**kinds: type) -> Callable[[Mapping[str, Any]], bool]:
    """For `Journal.check`: whether a record has fields of these types."""
    return lambda record: all(isinstance(record.get(name), kind) for name, kind in kinds.items())


class Journal:
    """`records`, those found first; `add` appends. A context manager; one process at a time."""

    def __init__(self, file: Path, header: Mapping[str, Any]) -> None:
        self.file, self.records = file, list[dict[str, Any]]()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self.stream = file.open("a+b")
        except OSError as error:
            raise BadInput(f"{file} cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self._read(json.loads(json.dumps(header)))  # as it will be found
        except BaseException:
            self.stream.close()
            raise

    def add(self, *records: Mapping[str, Any]) -> None:
        """Append records in one write."""
        self.records += [dict(record) for record in records]
        self.stream.write("".join(json.dumps(record) + "\n" for record in records).encode())
        self.stream.flush()

    def check(self, kind: str, is_one: Callable[[dict[str, Any]], bool]) -> None:
        """Raise BadInput that names the first record which is not of this kind: a whole line may be
        of something else."""
        for number, record in enumerate(self.records, 2):
            if not is_one(record):
                raise BadInput(
                    f"{self.file} line {number} is not a record of {kind}; delete the file"
                )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{self.file} is being written by another process") from None

    def _read(self, header: dict[str, Any]) -> None:
        self.stream.seek(0)
        content = self.stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        first = json.dumps(header).encode() + b"\n"
        if not lines and not first.startswith(content):  # nor a torn one of ours
            raise self._no_record(1)
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(dict(parse_json(line)))
            except (ValueError, TypeError):
                if not (b"\0" in line and 1 < number == len(lines)):
                    raise self._no_record(number) from None
                whole = whole[: -len(line)]
        if found and found[0] != header:
            names = sorted(found[0].keys() | header.keys())
            odd = [name for name in names if found[0].get(name) != header.get(name)]
            raise BadInput(
                f"{self.file} has results of another {', '.join(odd)}; choose another --out or "
                "move it away"
            )
        if len(whole) < len(content):
            os.truncate(self.stream.fileno(), len(whole))
        if not found:
            self.stream.write(first)
            self.stream.flush()
        self.records = found[1:]

    def _no_record(self, number: int) -> BadInput:
        return BadInput(f"{self.file} line {number} is not a record; move the file away")
