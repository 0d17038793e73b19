"""The file of rows, OUT/results.csv: a row for each number, with its origin."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.harness.candidates import Measured
from mtp.errors import BadInput
from mtp.files import must_be_writable, write_atomically
from mtp.hardware import device_name
from mtp.locks import locked
from mtp.records import commit, versions

if TYPE_CHECKING:
    import pandas as pd

FIELDS = [field.name for field in dataclasses.fields(Measured)]
COLUMNS = [*FIELDS, "precision", "device", "versions", "commit"]
NUMBERS = {"value": float, "low": float, "high": float, "count": int}
WHOSE = ["benchmark", "variant", "checkpoint"]


def write(
    file: Path, found: Sequence[Measured], precision: str = "float32", device: str = ""
) -> pd.DataFrame:
    """Write the numbers into a file as rows with their origin. They replace rows of the same
    benchmarks, variants and checkpoints. Returns all rows of the file."""
    import pandas as pd

    origin = {"precision": precision, "device": device_name(device)}
    origin |= {"versions": versions(), "commit": commit()}
    rows = pd.DataFrame([dataclasses.asdict(row) | origin for row in found], columns=COLUMNS)
    must_be_writable(file)
    with locked(file.with_name(f".{file.name}.lock")):  # another evaluation may write it too
        before = read(file)
        kept = before[~measured(before, found)]
        text = io.StringIO()
        for part, header in ((kept, True), (rows, False)):
            part.to_csv(text, index=False, lineterminator="\n", header=header)
        write_atomically(file, text.getvalue().encode())
        return read(file)


def read(file: Path) -> pd.DataFrame:
    """The rows of a file, none if it does not exist; every number as it was written."""
    import pandas as pd

    kinds = {name: str for name in COLUMNS} | NUMBERS
    empty = {name: [""] for name in NUMBERS}
    try:
        rows = pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        return pd.DataFrame(columns=COLUMNS)
    except (OSError, ValueError, OverflowError):
        rows = pd.DataFrame()
    if list(rows.columns) != COLUMNS:
        raise BadInput(f"{file} is not a table of results; choose another --out or move it away")
    return rows


def measured(rows: pd.DataFrame, found: Sequence[Measured]) -> pd.Series:
    """Which rows belong to a benchmark, variant and checkpoint that was just measured."""
    import pandas as pd

    now = {(row.benchmark, row.variant, row.checkpoint) for row in found}
    return pd.Series(
        [key in now for key in zip(*(rows[n] for n in WHOSE), strict=True)], rows.index, bool
    )


def table(rows: pd.DataFrame) -> str:
    """The measured numbers with their intervals, a line each; ROUGE as F1 only, and where a
    temperature was chosen, no number of a single one."""
    import pandas as pd

    def cell(row: pd.Series) -> str:
        if pd.isna(row.low):
            return f"{row.value:.4g}"
        return f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"

    keep = ["benchmark", "variant", "checkpoint", "metric", "temperature", "count"]
    rows = rows[~rows.metric.str.contains(" precision, | recall, ")]
    chosen = rows.temperature.isin(["oracle", "cross-validated"])
    whose = [*WHOSE, "metric"]
    has_choice = chosen.groupby([rows[name] for name in whose]).transform("any")
    rows = rows[chosen | ~has_choice]
    shown = rows[keep].assign(**{"value [90% interval]": rows.apply(cell, axis=1)})
    return shown.to_string(index=False)
