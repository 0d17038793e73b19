"""Figures: the same rows give the same bytes, and every committed figure is its rows'."""

import functools
import hashlib
import importlib.metadata
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from evals.harness.rows import COLUMNS, read
from experiments import evaluate, results
from experiments.evaluations import ALONG
from experiments.figures import finish, panels, save
from experiments.plot import draw_evaluations
from experiments.studies.sweep_n import BUDGETS
from experiments.study import STUDIES, find, head_name, plan

ROOT = Path(__file__).parents[2]
SWEEPS = [name for name in STUDIES if name.startswith("sweep")]  # test_decoding_study has the rest
COMMITTED = sorted(f for name in STUDIES for f in (ROOT / "results" / name).glob("*.csv"))
EVALUATED = sorted((ROOT / "results").glob("*/results.csv"))


def rows_for(name: str, scale: str = "cpu", seeds: int = 2) -> pd.DataFrame:
    """Rows as a study's runs would give them, with made-up numbers."""
    rows: list[dict[str, Any]] = []
    metrics = ("bits per byte", "accuracy, head 1 (%)", ALONG, "tokens per forward")
    for config in plan(find(name), scale):
        if config.seed >= seeds:
            continue
        common = {
            "study": name, "scale": scale, "run_id": f"{find(name).arm(config)} {config.seed}",
            "arm": find(name).arm(config), "seed": config.seed, "size": "2.0M",
            "n": config.model.n, "head": head_name(config),
            "unit": "byte" if config.data.tokenizer == "bytes" else "token", "data": "stdlib",
            "count": 100, "step": 20, "device": "cpu", "versions": "v", "commit": "c",
        }  # fmt: skip
        for i, metric in enumerate(metrics):
            value = 1 + i + config.model.n / 7 + config.seed / 10
            rows.append(common | {"metric": metric, "value": value})
        rows.append(common | {"metric": "MBPP pass@1 (%)", "value": None, "count": 0})
    return pd.DataFrame(rows, columns=results.COLUMNS)


def draw(name: str, rows: pd.DataFrame, stem: Path) -> list[Path]:
    return save(find(name).figure(rows, results.paper(ROOT / "results")), stem)


def digests(files: list[Path]) -> list[str]:
    return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]


def test_the_same_rows_give_the_same_bytes_here_and_in_another_process(tmp_path: Path) -> None:
    drawn = {}
    for name in SWEEPS:
        file = tmp_path / "results" / name / "cpu.csv"
        results.write(file, rows_for(name).to_dict("records"))  # type: ignore[arg-type]
        drawn[name] = digests(draw(name, rows_for(name), tmp_path / "a.b"))
        assert (tmp_path / "a.b.svg").exists()
        assert drawn[name] == digests(draw(name, results.read(file), tmp_path / "again"))
    command = [sys.executable, "-m", "experiments", "plot", "--results", str(tmp_path / "results")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(re.findall(r"^figure: .*/cpu\.png$", done.stdout, re.MULTILINE)) == len(SWEEPS)
    for name in SWEEPS:
        there = [tmp_path / "results" / name / f"cpu.{kind}" for kind in ("svg", "png")]
        assert digests(there) == drawn[name]


@pytest.mark.parametrize(("name", "seeds"), itertools.product(SWEEPS, (1, 2)))
def test_every_run_is_a_point_and_no_text_is_lost(name: str, seeds: int, tmp_path: Path) -> None:
    rows = rows_for(name, seeds=seeds)
    figure = find(name).figure(rows, results.paper(ROOT / "results"))
    bits = rows[rows.metric == "bits per byte"]
    points = [sum(len(c.get_offsets()) for c in axes.collections) for axes in figure.axes]  # type: ignore[arg-type]
    if name == "sweep-n":
        whole = bits[~bits.arm.str.contains("%")]
        assert points[0] == len(whole) + sum(whole.n == 1)  # n=1 begins both lines
        assert points[1] == len(bits) - sum(~whole.arm.isin(list(BUDGETS)))
        assert points[2] == sum(whole.n > 1) and points[3] > 4
    else:
        drawn = [each for each in find(name).contrasts if each.metric == "bits per byte"]
        assert points[0] == len(bits)
        assert points[1] == len(drawn) * (1 + seeds)  # a margin for each, each seed's difference
    text = " ".join(" ".join(t.get_text() for t in figure.texts).split())
    assert ("one seed", "2 seeds")[seeds - 1] in text and "stdlib" in text
    _, png = save(figure, tmp_path / "a")
    assert matplotlib.image.imread(png).shape[0] > 400


def test_one_finished_run_can_be_drawn(tmp_path: Path) -> None:
    for name in SWEEPS:
        rows = rows_for(name)
        draw(name, rows[rows.run_id == rows.run_id[0]], tmp_path / name)


# --------------------------------------------------------------------------------------------------
# committed figures


def pinned() -> str:
    found = re.search(r"^matplotlib==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found
    return found[1]


def figure_of(file: Path) -> Figure:
    """The figure of a results file's rows."""
    if file.stem == "results":  # of `make evaluate`
        return evaluate.figure(read(file))
    return find(file.parent.name).figure(results.read(file), results.paper(ROOT / "results"))


committed = functools.cache(figure_of)  # of files that do not change


def redrawn_differs(
    file: Path, folder: Path, drawn: Callable[[Path], Figure] = figure_of
) -> list[str]:
    """What is wrong with the figure beside a results file; nothing if it is its rows'."""
    beside_svg, beside_png = file.with_suffix(".svg"), file.with_suffix(".png")
    if wrong := [f"{f} is missing" for f in (beside_svg, beside_png) if not f.exists()]:
        return wrong
    svg, png = save(drawn(file), folder / file.stem)
    if svg.read_bytes() != beside_svg.read_bytes():
        wrong.append(f"{beside_svg} is not what make figures draws")
    if not wrong:
        ours, theirs = (matplotlib.image.imread(f) for f in (png, beside_png))
        if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
            wrong.append(f"{beside_png} is not what make figures draws")
    return wrong


@pytest.mark.parametrize("file", COMMITTED + EVALUATED, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_committed_figures_are_their_rows(file: Path, tmp_path: Path) -> None:
    installed = importlib.metadata.version("matplotlib")
    if installed != pinned():
        pytest.skip(f"matplotlib {installed} draws other bytes than the pinned {pinned()}")
    assert redrawn_differs(file, tmp_path, committed) == []


def test_figures_of_evaluations_are_drawn_where_there_is_something_to_draw(tmp_path: Path) -> None:
    for number, file in enumerate(EVALUATED):
        (tmp_path / str(number)).mkdir()
        shutil.copy(file, tmp_path / str(number))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "results.csv").write_text(",".join(COLUMNS) + "\n")
    draw_evaluations(tmp_path)
    drawn = sorted(f.relative_to(tmp_path).as_posix() for f in tmp_path.glob("*/results.png"))
    assert drawn == [f"{number}/results.png" for number in range(len(EVALUATED))] != []


def test_an_altered_figure_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "sweep-n" / "cpu.csv"
    results.write(file, rows_for("sweep-n").to_dict("records"))  # type: ignore[arg-type]
    new = tmp_path / "new"
    assert len(redrawn_differs(file, new)) == 2  # missing
    draw("sweep-n", results.read(file), file.with_suffix(""))
    assert redrawn_differs(file, new) == []

    kept = tmp_path / "kept"
    shutil.copytree(file.parent, kept)
    svg, png = file.with_suffix(".svg"), file.with_suffix(".png")
    svg.write_text(svg.read_text().replace("#222222", "#222223", 1))
    assert redrawn_differs(file, new) == [f"{svg} is not what make figures draws"]
    shutil.copy(kept / svg.name, svg)
    pixels = matplotlib.image.imread(png).copy()
    pixels[5, 5, 0] = 1 - pixels[5, 5, 0]
    matplotlib.image.imsave(png, pixels)
    assert redrawn_differs(file, new) == [f"{png} is not what make figures draws"]
    shutil.copy(kept / png.name, png)
    file.write_text(
        re.sub(r"bits per byte,[0-9.]+", "bits per byte,9.9", file.read_text(), count=1)
    )
    assert redrawn_differs(file, new) != []


# --------------------------------------------------------------------------------------------------
# legible at half width, and no legend on data


def faults(figure: Figure) -> list[str]:
    """What a reader of a figure could not see: text below 6 points at half width, text beyond the
    figure's edge, points under a legend or outside their panel."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, found = canvas.get_renderer(), []
    edge = figure.bbox.padded(1)
    undrawn = set[Text]()  # ticks beyond the ends of an axis
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not low <= tick.get_loc() <= high:
                    undrawn |= {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if not text.get_text().strip() or not text.get_visible() or text in undrawn:
            continue
        if float(text.get_fontsize()) / 2 < 6:
            found.append(f"{text.get_text()!r} is of {text.get_fontsize():g} points")
        box = text.get_window_extent(renderer)
        if min(box.x0 - edge.x0, box.y0 - edge.y0, edge.x1 - box.x1, edge.y1 - box.y1) < 0:
            found.append(f"{text.get_text()!r} is beyond the edge")
    for axes in figure.axes:
        places = [np.asarray(line.get_xydata()) for line in axes.lines]
        places = [axes.transData.transform(p) for p in places if np.isfinite(p).all()]
        for points in axes.collections:
            if isinstance(points, PathCollection):
                places.append(axes.transData.transform(points.get_offsets()))
        every = np.concatenate([p for p in places if len(p)] or [np.empty((0, 2))])
        if legend := axes.get_legend():
            box = legend.get_window_extent(renderer)
            if any(box.contains(x, y) for x, y in every):
                found.append(f"the legend of {axes.get_title('left')!r} covers a point")
    return found


@pytest.mark.parametrize("file", COMMITTED + EVALUATED, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_committed_figures_can_be_read_at_half_width(file: Path) -> None:
    assert faults(committed(file)) == []


def test_small_text_and_legends_on_points_are_noticed() -> None:
    figure, (axes,) = panels(1)
    axes.plot([0, 1], [0, 1], "o-", label="a line")
    axes.text(0.5, 0.2, "small", fontsize=8)
    finish(figure, "a caption")
    assert faults(figure) == ["'small' is of 8 points"]
    axes.legend(loc="upper right")
    assert "the legend of '' covers a point" in faults(figure)
    figure.text(0.95, 0.5, "too far to the right")
    assert "'too far to the right' is beyond the edge" in faults(figure)
