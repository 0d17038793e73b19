"""From rows to figures and printed tables."""

from pathlib import Path

import pandas as pd

from experiments import results
from experiments.figures import save
from experiments.study import STUDIES, Study, find


def plot(study: Study, file: Path, root: Path) -> None:
    """Draw the figure of a results file and print a summary of its rows."""
    rows = results.read(file)
    _, png = save(study.figure(rows, results.paper(root)), file.with_suffix(""))
    table, index = list(study.table), ["head", "n", "unit"]
    index += [column for column in ("size", "data") if varies(rows, column, index)]
    summary = results.table(rows, index, table)
    print(f"ours ({file.stem} scale):\n{summary}")
    if "±" in summary:
        print("± half the spread over seeds")
    reported, index = study.paper(results.paper(root)).astype({"n": int}), ["head", "n", "unit"]
    if reported.metric.isin(table).any():  # other metrics are only in the figure
        print(f"\nthe paper's {study.artefact}:\n{results.table(reported, index, table)}")
    print(f"\nrows: {file}\nfigure: {png}")


def varies(rows: pd.DataFrame, column: str, index: list[str]) -> bool:
    """Whether rows of one group differ in a column. A mean over such rows would be wrong."""
    return bool((rows.groupby(index)[column].nunique() > 1).any())


def plot_all(root: Path) -> None:
    """Draw every figure whose rows are in `root`."""
    for name in STUDIES:
        for file in sorted((root / name).glob("*.csv")):
            plot(find(name), file, root)
    draw_evaluations(root)


def draw_evaluations(root: Path) -> None:
    """Draw the figures of the rows from `make evaluate` and `make evaluate-released`."""
    from evals.__main__ import read  # benchmarks and their packages take a second to import
    from experiments import evaluate, evaluate_released

    for file in sorted(root.glob("*/results.csv")):
        if len(evaluate.shown(rows := read(file))):
            save(evaluate.figure(rows), file.with_suffix(""))
    for file in sorted((root / "evaluate-released").glob("*.csv")):
        save(evaluate_released.figure(read(file), results.paper(root)), file.with_suffix(""))
