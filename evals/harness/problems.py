"""The problems of a benchmark, and where they come from: a file by its canonical name, or the hub.

With DATA_DIR and `--benchmarks mbpp`, the file mbpp.jsonl is looked for in DATA_DIR/mbpp, then in
DATA_DIR. Generic names such as test.jsonl are looked for in the benchmark's own folder only. If the
original's sha256 is known, the file must have it, so that a number is of the benchmark and not of a
filtered or edited copy. `--own-data` accepts other files. Every row gives the file's hash, and
whether it is the original's.
"""

import argparse
import dataclasses
import gzip
import hashlib
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp.data.hub import rows as hub_rows
from mtp.errors import BadInput
from mtp.files import atomic_path, file_sha256, parse_json

Record = dict[str, Any]
GENERIC = ("test.jsonl", "train.jsonl", "val.jsonl", "valid.jsonl", "dev.jsonl")  # any set's
Hub = tuple[str, str | None, str]  # data set, subset, split


@dataclass(frozen=True)
class Problem:
    """fields: texts for the protocol's template; about: what judges an answer; group: problems of
    one kind, such as a level, are also counted apart."""

    id: str
    fields: Mapping[str, str]
    about: Mapping[str, Any]
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """examples: solved ones, in the order of the prompt; examples of a group are for its problems
    only. origin: in words, with a hash."""

    problems: tuple[Problem, ...]
    examples: tuple[Problem, ...]
    origin: str

    def __post_init__(self) -> None:
        counts = Counter(problem.id for problem in self.problems)
        if twice := next((name for name, count in counts.items() if count > 1), ""):
            raise BadInput(f"{self.origin}: two problems are called {twice}; each needs its own id")


@dataclass(frozen=True)
class Source:
    """Where data is looked for: in a folder, or on the Hugging Face hub if it is None. `own`: files
    may differ from the originals; `benchmark`: whose folder comes first."""

    folder: Path | None = None
    own: bool = False
    benchmark: str = ""

    def of(self, benchmark: str) -> "Source":
        return dataclasses.replace(self, benchmark=benchmark)

    def read(
        self, name: str, sha256: str, hub: Hub | None, also: Sequence[str] = ()
    ) -> tuple[list[Record], str]:
        """The records of a file, or of the hub, and their origin. The file holds one record a line,
        or all in one JSON array. `also`: other names of the file; hub: None if it is not there.
        Raises BadInput if it is missing, is another file, or has something else than records."""
        if self.folder is None:
            if hub is None:
                raise BadInput(f"{' or '.join((name, *also))} must be in a --data-dir")
            return from_hub(hub, name)
        file = self.find(name, *also)
        text, origin = self.text(file, sha256 if file.name == name else "")
        if text.lstrip().startswith("["):
            return array(file, text), origin
        return list(records(file, text.split("\n"))), origin

    def has(self, name: str) -> bool:
        """Whether there is a folder with this file in it."""
        return self.folder is not None and any((at / name).is_file() for at in self.folders())

    def find(self, *names: str) -> Path:
        """The first of these files that exists."""
        folders = self.folders()
        places = [
            folder / name
            for folder in folders
            for name in names
            if not (self.benchmark and name in GENERIC and folder == self.folder)
        ]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            others = [name for name in names[1:] if "/" not in name]
            others_too = f" (nor one called {', '.join(others)})" if others else ""
            generic = names[0] in GENERIC
            wanted = (folders[0] if generic else folders[-1]) / names[0]
            raise BadInput(f"{wanted} cannot be read: No such file{others_too}")
        return found

    def folders(self) -> list[Path]:
        """Where files may be: `arc-challenge`, `arc_challenge`, `arc` in the folder, and the folder
        itself."""
        assert self.folder is not None
        name = self.benchmark
        own = dict.fromkeys((name, name.replace("-", "_"), name.partition("-")[0]))
        return [*(self.folder / each for each in own if each), self.folder]

    def text(self, file: Path, sha256: str = "") -> tuple[str, str]:
        """A file's content and origin; sha256: the original's, if it is known. A name that ends in
        .gz says that the file is compressed."""
        try:
            found = file_sha256(file)
            with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
                text = stream.read().decode("utf-8").replace("\r\n", "\n")
        except UnicodeDecodeError:
            raise BadInput(f"{file} cannot be read: not UTF-8") from None
        except (gzip.BadGzipFile, EOFError, zlib.error):
            raise BadInput(f"{file} cannot be read: not a whole gzip file") from None
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}") from None
        if sha256 and found != sha256 and not self.own:
            raise BadInput(
                f"{file} is not the original: its sha256 is {found[:16]}.., the original's "
                f"{sha256[:16]}..; --own-data evaluates on it all the same"
            )
        status = "" if found == sha256 else ", not the original" if sha256 else ", unverified"
        return text, f"{file.name} sha256:{found[:16]}{status}"


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that `source_of` reads."""
    say = parser.add_argument
    say("--data-dir", type=Path, help="folder of the data files (default: the Hugging Face hub)")
    say("--own-data", action="store_true", help="take data files that differ from the originals")


def source_of(args: argparse.Namespace) -> Source:
    return Source(args.data_dir, args.own_data)


@contextmanager
def any_digits() -> Iterator[None]:
    """Integers in texts may have any number of digits: Python refuses more than 4300, and some
    benchmarks have them."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        yield
    finally:
        sys.set_int_max_str_digits(limit)


def records(file: Path, lines: Iterable[str]) -> Iterator[Record]:
    """The records of a text with one JSON object a line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            with any_digits():
                record = dict(parse_json(line))
        except (ValueError, TypeError):
            raise BadInput(f"{file} line {number} is not a JSON record") from None
        yield record


def array(file: Path, text: str) -> list[Record]:
    """The records of a text that is one JSON array of objects."""
    try:
        with any_digits():
            found = parse_json(text)
    except ValueError:
        raise BadInput(f"{file} is not a JSON array of records") from None
    for number, record in enumerate(found, 1):
        if not isinstance(record, dict):
            raise BadInput(f"{file}: item {number} is not a JSON record")
    return found


def field(record: Mapping[str, Any], name: str, origin: str, kind: type = str) -> Any:
    """A record's field. Raises BadInput if it has none of this kind."""
    value = record.get(name)
    if not isinstance(value, kind):
        raise BadInput(f"{origin}: a record has no {name!r} of type {kind.__name__}")
    return value


def convert(
    name: str, records: Iterable[Any], origin: str, make: Callable[[Any], Problem]
) -> tuple[Problem, ...]:
    """The results of `make` for each record, numbered. Raises BadInput if a record lacks
    something."""
    made = []
    for number, record in enumerate(records):
        try:
            made.append(dataclasses.replace(make(record), id=f"{name}/{number}"))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise BadInput(
                f"{origin}: record {number + 1} is not of this format ({reason})"
            ) from None
    return tuple(made)


def write_pairs(file: Path, found: Iterable[dict[str, str]]) -> int:
    """Write a line for each prompt with its completion, all or none; returns how many."""
    count = 0
    try:
        with atomic_path(file) as half, half.open("w") as lines:
            for pair in found:
                lines.write(json.dumps(pair) + "\n")
                count += 1
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None
    return count


def from_hub(hub: Hub, name: str) -> tuple[list[Record], str]:
    """All rows of a split of a data set of the Hugging Face hub; `name`: of the file that could
    replace them."""
    dataset, subset, split = hub
    rows = list(hub_rows(dataset, subset, split=split, instead=f"{name} in a --data-dir"))
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
    where = " ".join(part for part in hub if part)
    return rows, f"hub {where} sha256:{digest.hexdigest()[:16]}"
