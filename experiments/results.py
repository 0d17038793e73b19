"""Tidy rows in, tidy tables out: results/STUDY/SCALE.csv holds one row per number."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.arms import shorten
from mtp.errors import BadInput
from mtp.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = [
    *("study", "scale", "run_id", "arm", "seed", "size", "n", "head", "unit", "changed"),
    *("data", "metric", "value", "count", "step", "precision", "device", "versions", "commit"),
]

NUMBERS = {"seed": int, "n": int, "value": float, "count": int, "step": int}


@dataclass(frozen=True)
class Measure:
    """One number; `count` is how many things it was averaged over. `value` is None if there was
    nothing to average over."""

    metric: str
    value: float | None
    count: int = 0


def read(file: Path) -> pd.DataFrame:
    """The rows of a results file. Raises BadInput if its columns are not this version's."""
    import pandas as pd

    try:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise BadInput(f"no results in {file}; run the study first") from None
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{file} is not a results file: {' '.join(str(error).split())}") from None
    if list(rows.columns) != COLUMNS:
        odd = sorted(set(rows.columns) ^ set(COLUMNS)) or ["their order"]
        raise BadInput(
            f"{file} was written by another version (columns differ: {', '.join(odd)}); "
            "move it away or check out its version"
        )
    for column, kind in NUMBERS.items():
        rows[column] = _numbers(file, rows[column], kind)
    return rows


def _numbers(file: Path, texts: pd.Series[str], kind: type) -> list[Any]:
    """A column's numbers; an empty value is nan. Raises BadInput that names line and column."""
    found = []
    for i, text in enumerate(texts):
        try:
            found.append(float("nan") if kind is float and not text else kind(text))
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise BadInput(
                f"{file}, line {i + 2}: {texts.name} is {text!r}; it must be {what}"
            ) from None
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """Replace a results file in one move; the same rows give the same bytes."""
    import pandas as pd

    text = io.StringIO()
    pd.DataFrame(rows, columns=COLUMNS).to_csv(text, index=False, lineterminator="\n")
    write_atomically(file, text.getvalue().encode())


def paper(root: Path = Path("results")) -> pd.DataFrame:
    """The paper's numbers: study, artefact, model, params, n, head, unit, data, metric, value."""
    import pandas as pd

    file = root / "paper" / "reported.csv"
    if not file.exists():
        file = Path(__file__).parent.parent / "results" / "paper" / "reported.csv"
    return pd.read_csv(file)


def load_record(file: Path) -> dict[str, Any] | None:
    """An evaluation's record, None if it is missing or torn."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def table(rows: pd.DataFrame, index: list[str], metrics: list[str], wide: int = 80) -> str:
    """Mean of each metric by `index`, ± half the range over seeds if there are several, as plain
    text; "-" for what was not measured. If a table is wider than `wide` characters, each metric has
    a block of its own. A column that has one value throughout is left out."""
    import pandas as pd

    index = [c for c in index if rows[c].nunique() > 1] or index[:1]
    if "data" in index:
        texts = list(dict.fromkeys(rows.data))
        rows = rows.assign(data=rows.data.map(dict(zip(texts, shorten(texts), strict=True))))
    groups = rows[rows.metric.isin(metrics)].groupby([*index, "metric"], sort=False).value
    cells = groups.agg(["mean", "min", "max", "size"])

    def cell(row: Any) -> str:
        if pd.isna(row["mean"]):
            return "-"
        spread = (row["max"] - row["min"]) / 2
        return f"{row['mean']:.3f} ± {spread:.3f}" if row["size"] > 1 else f"{row['mean']:.3f}"

    text = cells.apply(cell, axis=1).unstack("metric")
    text = text.reindex(columns=[m for m in metrics if m in text.columns]).fillna("-")
    text.columns.name = None
    whole = text.to_string()
    if max(map(len, whole.splitlines())) <= wide:
        return whole
    arms = [" ".join(map(str, key if isinstance(key, tuple) else (key,))) for key in text.index]
    arms = [arm if len(arm) <= wide - 24 else f"{arm[: wide - 25]}…" for arm in arms]
    room = max(map(len, arms))
    lines = []
    for metric in text.columns:
        lines.append(str(metric))
        lines += [f"  {a:{room}}  {v}" for a, v in zip(arms, text[metric], strict=True)]
    return "\n".join(lines)
