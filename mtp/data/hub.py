"""Data sets of the Hugging Face hub, also those made by a script, which datasets>=4 refuses."""

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from mtp.errors import BadInput

PARQUET = "refs/convert/parquet"  # the hub's own copy of what a script made


def rows(
    name: str, subset: str | None, *, label: str = "", instead: str = "", **options: Any
) -> Iterator[dict[str, Any]]:
    """The rows of a data set, one by one; options: of `datasets.load_dataset`. BadInput, with its
    first line, where they cannot be read; label: what it names, if not the data set; instead: what
    can be given in its place."""
    label = label or name
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        otherwise = f", or {instead}" if instead else ""
        raise BadInput(f"{label} needs datasets (pip install -e '.[hf]'){otherwise}") from None
    try:
        for row in _load(library, name, subset, **options):
            yield dict(row)
    except Exception as error:  # datasets raises its own kinds for no network, name or split
        reason = (str(error) or type(error).__name__).splitlines()[0]
        otherwise = f"; give {instead}" if instead else ""
        raise BadInput(f"{label} could not be read: {reason}{otherwise}") from None


def _load(library: ModuleType, name: str, subset: str | None, **options: Any) -> Any:
    """As `library.load_dataset`; of what a script makes, the hub's copy. Subsets are folders in
    it."""
    try:
        return library.load_dataset(name, subset, **options)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    return library.load_dataset(name, data_dir=subset, revision=PARQUET, **options)
