"""From rows to figures, and what is printed of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import results
from experiments.contrasts import sentences
from experiments.figures import save
from experiments.study import STUDIES, Study, find
from experiments.trials import SUFFIX

if TYPE_CHECKING:
    import pandas as pd


def plot(study: Study, file: Path, root: Path) -> None:
    """Draw a results file. Print its summary: our table, the paper's, the finding, and
    what became of the study's predictions."""
    rows = results.read(file)
    _, png = save(study.figure(rows, results.paper(root)), file.with_suffix(""))
    table, index = list(study.table), ["head", "n", "unit"]
    index += [column for column in ("size", "data") if varies(rows, column, index)]
    if varies(rows, "arm", index):  # arms that differ in something else
        index = ["arm"]
    wide = shutil.get_terminal_size((80, 24)).columns or 80
    last = rows[rows.step == rows.groupby(["run_id", "metric"]).step.transform("max")]
    ours = results.table(last, index, table, wide)
    changed = "".join(f", {text}" for text in rows.changed.unique() if text)
    print(f"ours (scale {rows.scale.iloc[0]}{changed}):\n{ours}")
    if "±" in ours:
        print("mean over seeds ± half of their range")
    reported, index = study.paper(results.paper(root)).astype({"n": int}), ["head", "n", "unit"]
    if reported.metric.isin(table).any():  # else in the figure alone
        theirs = results.table(reported, index, table, wide)
        print(f"\nthe paper's {study.artefact}:\n{theirs}")
    print(f"\n{study.finding(rows)}")
    for line in sentences(study.contrasts, rows):
        print(line)
    print(f"rows: {file}\nfigure: {png}")


def varies(rows: pd.DataFrame, column: str, index: list[str]) -> bool:
    """Whether rows of one group differ in a column; then they have no common mean."""
    return bool((rows.groupby(index)[column].nunique() > 1).any())


def plot_all(root: Path) -> None:
    """Redraw every figure under a folder of results, a line each."""
    for name in (part for study in STUDIES for part in (study, study + SUFFIX)):
        for file in sorted((root / name).glob("*.csv")):
            figure = find(name).figure(results.read(file), results.paper(root))
            print(f"figure: {save(figure, file.with_suffix(''))[1]}")
    draw_evaluations(root)


def draw_evaluations(root: Path) -> None:
    """Draw the figures of rows that `make evaluate` and `make evaluate-released` have written."""
    from evals.harness.rows import read
    from experiments import evaluate, evaluate_released

    for file in sorted(root.glob("*/results.csv")):
        if len(evaluate.shown(rows := read(file))):
            print(f"figure: {save(evaluate.figure(rows), file.with_suffix(''))[1]}")
    for file in sorted((root / "evaluate-released").glob("*.csv")):
        figure = evaluate_released.figure(read(file), results.paper(root))
        print(f"figure: {save(figure, file.with_suffix(''))[1]}")
