"""Records of data sets: a file in a folder, or rows of the Hugging Face hub."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mtp.errors import BadInput
from mtp.shards import file_sha256

ORIGINALS = {  # sha256 of published files whose names tell them
    "NQ-open.dev.jsonl": "f15567f38099f3615f5b8a685c0aef449c11ad90d3da3735e8d1b98115b40616",
    "SciTLDR-A.dev.jsonl": "3191fa98ccc09521332b7a1cd63b1930be4e8df125a235ccd31e40329709525e",
    "SciTLDR-A.test.jsonl": "fb42dd6cd4f4a1928ae8a01a189456fbfe994a07e938bd49f68653933f6503c9",
}

T = TypeVar("T")
Record = dict[str, Any]


def folder(data_dir: Path, name: str) -> Path:
    """Where a benchmark's files are: `arc`, `arc_challenge` or `arc-challenge` in `data_dir` for
    arc-challenge, or `data_dir` itself."""
    for own in (name, name.replace("-", "_"), name.partition("-")[0]):
        if (data_dir / own).is_dir():
            return data_dir / own
    return data_dir


def origin(file: Path) -> str:
    """The sha256 of a file, and whether it is the one its authors publish where that is known."""
    digest = file_sha256(file)
    known = ORIGINALS.get(file.name)
    told = "" if known is None else ", the original" if known == digest else ", not the original"
    return f"sha256 {digest}{told}"


def find(folder: Path, names: list[str]) -> Path:
    """The first of these files that is in `folder`; BadInput names them all."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise BadInput(f"{folder} has none of these files: {', '.join(names)}")


def read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 file that hold anything; BadInput where it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    return [line for line in text.split("\n") if line.strip()]


def read_jsonl(file: Path) -> list[Record]:
    """One JSON object a line."""
    records = []
    for number, line in enumerate(read_lines(file), 1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise BadInput(f"{file} line {number} is not a JSON object")
        records.append(record)
    return records


def convert(where: object, records: list[Any], make: Callable[[Any], T | None]) -> list[T]:
    """What `make` makes of each record, those of which it makes None left out; BadInput with the
    record's number where it lacks something."""
    made = []
    for number, record in enumerate(records, 1):
        try:
            one = make(record)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            told = f"{type(error).__name__}: {error}"
            raise BadInput(f"{where} record {number} is not of this format ({told})") from None
        if one is not None:
            made.append(one)
    return made


def hub(name: str, subset: str | None, split: str) -> list[Record]:
    """All rows of a split of a data set of the Hugging Face hub."""
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise BadInput(
            f"data set {name} needs datasets; install it (pip install -e '.[hf]') or give its "
            "files in a data folder"
        ) from None
    try:
        return [dict(row) for row in library.load_dataset(name, subset, split=split)]
    except Exception as error:  # datasets raises its own kinds for no network, name or split
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"data set {name} ({split}) could not be read: {reason}") from None
