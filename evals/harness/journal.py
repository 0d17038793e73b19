"""A file of records that grows as work is done, so that interrupted work can continue from it.

The first line says what the records belong to. A killed writer leaves at most a torn last line, and
a power cut a last line with zeros in it; both are dropped. A file is refused and stays as it is if
its first line says something else, or if any other line is not a record.
"""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mtp.errors import BadInput
from mtp.files import parse_json
from mtp.locks import locked


def header(file: Path) -> dict[str, Any]:
    """What a file's records belong to; empty if the file does not say."""
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
    """`records` holds the records of the file; `add` appends some. A context manager. Only one
    process at a time can have a journal open."""

    def __init__(self, file: Path, header: Mapping[str, Any]) -> None:
        self.file, self.records = file, list[dict[str, Any]]()
        lock = file.with_name(f".{file.name}.lock")
        with ExitStack() as opened:
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                opened.enter_context(locked(lock, f"{file} is being written by another process"))
                self.stream = opened.enter_context(file.open("a+b"))
            except OSError as error:
                raise BadInput(f"{file} cannot be written: {error.strerror}") from None
            self._read(json.loads(json.dumps(header)))  # as it will be read back
            self.opened = opened.pop_all()

    def add(self, *records: Mapping[str, Any]) -> None:
        """Append records in one write."""
        self.records += [dict(record) for record in records]
        self.stream.write("".join(json.dumps(record) + "\n" for record in records).encode())
        self.stream.flush()

    def check(self, kind: str, is_one: Callable[[dict[str, Any]], bool]) -> None:
        """Raise BadInput for the first record that is not of this kind: even a whole line may
        belong to something else."""
        for number, record in enumerate(self.records, 2):
            if not is_one(record):
                raise BadInput(
                    f"{self.file} line {number} is not a record of {kind}; delete the file"
                )

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    def _read(self, header: dict[str, Any]) -> None:
        self.stream.seek(0)
        content = self.stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = whole.splitlines(keepends=True)
        first = json.dumps(header).encode() + b"\n"
        if not lines and not first.startswith(content):  # not even a torn header of ours
            raise self._not_a_record(1)
        found = []
        for number, line in enumerate(lines, 1):
            try:
                found.append(dict(parse_json(line)))
            except (ValueError, TypeError):
                if not (b"\0" in line and 1 < number == len(lines)):
                    raise self._not_a_record(number) from None
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

    def _not_a_record(self, number: int) -> BadInput:
        return BadInput(f"{self.file} line {number} is not a record; move the file away")
