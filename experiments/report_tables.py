"""The report's tables of numbers: a study's runs, the paper's rows, the scores of an evaluation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from experiments.arms import shorten
from experiments.report_curves import Scale, has_curve, small
from experiments.report_html import Html, cells, exact, table, tag
from experiments.study import Study

if TYPE_CHECKING:
    import pandas as pd

FEW = 12  # rows of a table of the paper's numbers that is not folded


def several(values: pd.Series[str]) -> str:
    text = "; ".join(filter(None, dict.fromkeys(map(str, values)))) or "not recorded"
    return one_thread(text)


def one_thread(text: str) -> str:
    return re.sub(r"\b1 threads", "1 thread", text)


def runs_table(study: Study, rows: pd.DataFrame, described: dict[str, Any]) -> Html:
    """A line for each run: what tells it from the others, the study's main metrics at its last
    step, and its curves."""
    metrics = [name for name in study.table if (rows.metric == name).any()]
    own = rows.drop_duplicates("run_id").set_index("run_id", drop=False)
    arms = ["arm", *(c for c in ("size", "data") if own.groupby("arm")[c].nunique().max() > 1)]
    last = rows[rows.step == rows.groupby(["run_id", "metric"]).step.transform("max")]
    values = last.groupby(["run_id", "metric"]).value.mean()
    columns = [[text or "–" for text in shorten(own[name].map(str).tolist())] for name in arms]
    columns += [[run.rpartition("-")[2] for run in own.index]]
    columns += [own.seed.map(str).tolist()]
    for name in metrics:
        found = [values.get((run, name)) for run in own.index]
        columns.append(cells(found, percent="(%)" in name))
    head = [*(name.capitalize() for name in arms), "Run", "Seed", *metrics]
    curves = [described[run] for run in own.index if has_curve(described.get(run))]
    unsorted = ["Loss by tokens"]
    if curves:
        scale = Scale(curves)
        head += unsorted
        columns.append([
            small(described[run], scale, f"{own.arm[run]}, seed {own.seed[run]}")
            if has_curve(described.get(run)) else "no curve"
            for run in own.index
        ])  # fmt: skip
    caption = f"Runs of {study.name}"
    return table(caption, head, list(zip(*columns, strict=True)), len(arms) + 1, unsorted)


def paper_table(artefact: str, rows: pd.DataFrame) -> Html:
    """The paper's numbers with a column for each metric; folded if it is long."""
    import pandas as pd

    index = [c for c in ("model", "n", "head", "unit", "data") if rows[c].nunique() > 1]
    index = index or ["model"]
    rows = rows.assign(n=[f"{n:g}" if pd.notna(n) else "" for n in rows.n])
    rows = rows.fillna({name: "" for name in index if name != "n"})
    wide = rows.pivot_table("value", index, "metric", sort=False)
    names = [key if isinstance(key, tuple) else (key,) for key in wide.index]
    columns: list[list[str]] = [[str(value) for value in part] for part in zip(*names, strict=True)]
    columns += [exact(wide[name].tolist()) for name in wide.columns]
    basis = ", ".join(dict.fromkeys(rows.basis))
    basis = "printed in its tables" if basis == "table" else basis
    caption = f"The paper's {artefact}: {several(rows.model)}; {basis}"
    head = [name.capitalize() if name != "n" else name for name in index] + list(wide.columns)
    found = table(caption, head, list(zip(*columns, strict=True)), len(index))
    if len(wide) <= FEW:
        return found
    return tag("details", tag("summary", f"{len(wide)} rows"), found)


def scores(points: pd.DataFrame) -> list[str]:
    """A sentence for each benchmark: the first of its scores, by checkpoint."""
    found = []
    for (name, variant), own in points.groupby(["benchmark", "variant"], sort=False):
        metric = own.metric.iloc[-1] if "ROUGE" in own.metric.iloc[0] else own.metric.iloc[0]
        own = own[own.metric == metric]
        each = "; ".join(
            f"{row.checkpoint} {100 * row.value:.1f} [{100 * row.low:.1f}, {100 * row.high:.1f}]"
            for row in own.itertuples()
        )
        found.append(f"{name}, {variant}, {metric} in %: {each}")
    return found


def scores_table(points: pd.DataFrame) -> Html:
    words = ["benchmark", "variant", "checkpoint", "metric", "temperature"]
    numbers = [
        cells((100 * points[name]).tolist(), percent=True) for name in ("value", "low", "high")
    ]
    columns = [[str(value) or "–" for value in points[name]] for name in words]
    columns += [*numbers, points["count"].map(str).tolist()]
    head = [name.capitalize() for name in words] + ["Score (%)", "Low", "High", "Problems"]
    caption = "Scores with 90% intervals over problems"
    return table(caption, head, list(zip(*columns, strict=True)), len(words))
