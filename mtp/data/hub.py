"""Datasets of the Hugging Face hub, including those made by a script, which datasets>=4 refuses."""

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mtp.errors import BadInput

PARQUET = "refs/convert/parquet"  # the hub's own copy of what a script makes


def rows(
    name: str, subset: str | None, *, label: str = "", instead: str = "", **options: Any
) -> Iterator[dict[str, Any]]:
    """The rows of a dataset, one by one. Raises BadInput, with the first line of the cause, if they
    cannot be read.

    label    what the message calls the dataset; default: its name
    instead  what the message says the user can give instead
    options  passed to `datasets.load_dataset`
    """
    label = label or name
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        otherwise = f", or {instead}" if instead else ""
        raise BadInput(
            f"{label} needs datasets (.venv/bin/pip install -e '.[hf]'){otherwise}"
        ) from None
    try:
        for row in _load(library, name, subset, **options):
            yield dict(row)
    except Exception as error:  # of many types: no network, no such name, no such split
        reason = (str(error) or type(error).__name__).splitlines()[0]
        otherwise = f"; give {instead}" if instead else ""
        raise BadInput(f"{label} could not be read: {reason}{otherwise}") from None


def _load(library: ModuleType, name: str, subset: str | None, **options: Any) -> Any:
    """As `library.load_dataset`. For a dataset made by a script it reads the hub's copy, in which
    subsets are folders."""
    try:
        return library.load_dataset(name, subset, **options)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    return library.load_dataset(name, data_dir=subset, revision=PARQUET, **options)
