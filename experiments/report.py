"""`make report`: one static page of everything that is committed, results/index.html.

A pure function of the rows: the same rows give the same bytes, and a test compares. It needs no
network. Figures are the files beside the rows, linked.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from experiments import provenance, results
from experiments.artefacts import ARTEFACTS, EVALUATIONS, MINUTES, Evaluated
from experiments.contrasts import sentences
from experiments.report_curves import Scale, chart, has_curve, small
from experiments.report_html import Html, box, cells, code, exact, join, lines, table, tag
from experiments.study import STUDIES, Study, find
from mtp.command_line import COMMITTED
from mtp.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

DOCS = Path("docs")
FEW = 12  # rows of a table of the paper's numbers that is not folded


def write(root: Path = COMMITTED, out: Path | None = None) -> Path:
    """Write the page of the rows under `root`, by default beside them. Returns its file."""
    out = out or root / "index.html"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, Page(root, out).text().encode())
    return out


class Page:
    """The page of the rows in `root`, for a file `out` from which its links start."""

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root, out
        self.paper = results.paper(root)

    def text(self) -> str:
        sections = [self.study(find(name)) for name in STUDIES]
        sections += [part for each in EVALUATIONS if (part := self.evaluation(each))]
        template = Template(Path(__file__).with_name("report.html").read_text())
        return template.substitute(
            contents=self.contents(), artefacts=self.artefacts(), sections="\n".join(sections)
        )

    # ----------------------------------------------------------------------------------------------
    # the head

    def contents(self) -> Html:
        entries = [(name, find(name).artefact, find(name).question) for name in STUDIES]
        entries += [(e.name, e.artefact, e.question) for e in EVALUATIONS if self.rows_of(e)]
        items = [
            tag("li", tag("a", name, href=f"#{name}"), tag("span", f"{artefact}: {question}"))
            for name, artefact, question in entries
        ]
        return lines(items)

    def artefacts(self) -> Html:
        """The table of all artefacts; what has no study is open, and stands there as well."""
        rows = []
        for each in ARTEFACTS:
            name = tag("a", each.name, href=f"#{each.section}") if each.section else each.name
            short = each.page.removesuffix("/README").rpartition("/")[2]
            page = self.doc(each.page, short) if each.page else "–"
            command = code(each.command) if each.command else "–"
            state = tag("span", each.state, class_=f"state {each.state}")
            rows.append([name, state, command, each.note or "–", page])
        head = ["Artefact", "State", "Command", "Note", "Page"]
        return table("The paper's artefacts and what stands for each here", head, rows, len(head))

    # ----------------------------------------------------------------------------------------------
    # sections

    def study(self, study: Study) -> Html:
        files = sorted((self.root / study.name).glob("*.csv"), key=lambda file: file.stem)
        parts = [part for file in files for part in self.rows(study, file)]
        if not files:
            parts = [tag("p", "No rows are committed yet.", class_="none")]
        limits = tag("p", study.limits) if study.limits else join()
        theirs = study.paper(self.paper)
        none = tag("p", "The paper prints no numbers for this artefact, it draws them.")
        parts += [
            tag("h3", "What the rows cannot say"),
            *([limits] if limits else []),
            tag("p", "Design and limits in full: ", self.doc(f"studies/{study.name}"), "."),
            tag("h3", "The paper's numbers"),
            paper_table(study.artefact, theirs) if len(theirs) else none,
            tag("h3", "Run it"),
            self.command(study.name, f"make {study.name}"),
        ]
        return self.section(study.name, study.artefact, study.question, parts)

    def section(self, name: str, artefact: str, question: str, parts: list[Html]) -> Html:
        head = tag("h2", artefact, " ", tag("small", name))
        asked = tag("p", question[0].upper() + question[1:], class_="question")
        return tag("section", lines([head, asked, *parts]), id=name)

    def rows(self, study: Study, file: Path) -> list[Html]:
        """What one file of rows says: figure, finding, contrasts, runs."""
        rows = results.read(file)
        finding, runs = study.finding(rows), provenance.read(file.with_suffix(".json"))
        changed = "".join(f", {text}" for text in rows.changed.unique() if text)
        scale = rows.scale.iloc[0] if not changed else file.stem.partition("-")[0]
        verdicts = [tag("li", line) for line in sentences(study.contrasts, rows)]
        parts = [
            tag("h3", f"Rows of the {scale} scale{changed}"),
            tag("p", finding, class_="finding"),
            *([tag("ul", *verdicts)] if verdicts else []),
            self.figure(file, finding),
            runs_table(study, rows, runs),
        ]
        if curves := {name: run for name, run in runs.items() if has_curve(run)}:
            arms = dict(zip(rows.run_id, rows.arm, strict=True))
            curves = {name: run for name, run in curves.items() if name in arms}
            heading = tag("h4", "Training loss of head 1")
            parts += [heading, chart(curves, arms, Scale(list(curves.values())))]
        else:
            missing = "No curves committed: there is no "
            parts.append(tag("p", missing, code(f"{file.stem}.json"), " beside these rows."))
        return [*parts, self.facts(file, rows, runs)]

    def evaluation(self, each: Evaluated) -> Html | None:
        """The section of an evaluation, None if it has no rows."""
        from evals.harness.rows import read
        from experiments.evaluate import shown, skipped, without_hash

        if not (file := self.rows_of(each)):
            return None
        rows = read(file)
        names = list(dict.fromkeys(rows.checkpoint))
        points = shown(rows).sort_index()
        points = points.assign(checkpoint=[without_hash(c, names) for c in points.checkpoint])
        found = scores(points)
        theirs = self.paper[self.paper.artefact.isin(each.paper)]
        parts = [
            tag("h3", "Rows"),
            tag("ul", *(tag("li", line) for line in found), class_="finding"),
            *([tag("p", text)] if (text := skipped(rows)) else []),
            self.figure(file, "Scores with 90% intervals. " + ". ".join(found)),
            scores_table(points),
            self.facts(file, rows, {}),
            tag("h3", "What the rows cannot say"),
            tag("p", each.limits),
            tag("p", "Design and limits in full: ", self.doc(f"studies/{each.name}"), "."),
            tag("h3", "The paper's numbers"),
            paper_table(", ".join(each.paper), theirs),
            tag("h3", "Run it"),
            self.command(each.name, each.command),
        ]
        return self.section(each.name, each.artefact, each.question, parts)

    def rows_of(self, each: Evaluated) -> Path | None:
        file = self.root / each.name / "results.csv"
        return file if file.exists() else None

    # ----------------------------------------------------------------------------------------------
    # parts

    def figure(self, file: Path, finding: str) -> Html:
        picture = file.with_suffix(".svg")
        if not picture.exists():
            return tag("p", "Not drawn yet: ", code("make figures"), class_="none")
        width, height = size_of(picture)
        link, name = self.link(picture), f"Figure of {file.parent.name}, {file.stem}"
        image = tag("img", src=link, alt=finding, width=width, height=height, loading="lazy")
        whole = tag("figcaption", tag("a", "the figure alone", href=link))
        return tag("figure", box(name, image, class_="box card"), whole)

    def facts(self, file: Path, rows: pd.DataFrame, runs: dict[str, Any]) -> Html:
        """Where the rows come from, as far as they and their .json tell it."""
        facts = {
            "Rows": tag("a", str(file.relative_to(self.root)), href=self.link(file)),
            "Machine": several(rows.device),
            "Software": several(rows.versions),
            "Precision": several(rows.precision),
            "Commits": several(rows.commit),
            "Data": several(rows.data),
        }
        if runs:
            flops = sum(run["flops"] for run in runs.values())
            tokens = sum(run["tokens"] for run in runs.values())
            reasons = [part["reason"] for run in runs.values() for part in run["execution"]]
            facts["Training"] = (
                f"{len(runs)} runs, {tokens / 1e6:.1f}M tokens, {flops:.1e} FLOPs in all"
            )
            if reasons:
                facts["Execution"] = f"e.g. {one_thread(reasons[0])}"
        terms = [
            part for name, text in facts.items() for part in (tag("dt", name), tag("dd", text))
        ]
        return tag("dl", *terms)

    def command(self, name: str, text: str) -> Html:
        time = f"About {MINUTES[name]} on two cores at the cpu scale." if name in MINUTES else ""
        return join(box("Command", tag("pre", code(text))), tag("p", time) if time else join())

    def doc(self, page: str, text: str = "") -> Html:
        """A link to a page under docs/, from wherever this page lies."""
        file = self.root.resolve().parent / DOCS / f"{page}.md"
        file = file if file.exists() else Path(__file__).parents[1] / DOCS / f"{page}.md"
        return tag("a", text or f"docs/{page}.md", href=self.link(file))

    def link(self, file: Path) -> str:
        return quote(os.path.relpath(file.resolve(), self.out.parent.resolve()))


def several(values: pd.Series[str]) -> str:
    text = "; ".join(filter(None, dict.fromkeys(map(str, values)))) or "not recorded"
    return one_thread(text)


def one_thread(text: str) -> str:
    return re.sub(r"\b1 threads", "1 thread", text)


def size_of(picture: Path) -> tuple[int, int]:
    """The width and height that an SVG file declares, for a page that does not jump."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture.read_text()[:2000])
    return (round(float(found[1])), round(float(found[2]))) if found else (1000, 400)


def runs_table(study: Study, rows: pd.DataFrame, described: dict[str, Any]) -> Html:
    """A line for each run: what tells it from the others, the study's main metrics at its last
    step, and its curves."""
    metrics = [name for name in study.table if (rows.metric == name).any()]
    own = rows.drop_duplicates("run_id").set_index("run_id", drop=False)
    arms = ["arm", *(c for c in ("size", "data") if own.groupby("arm")[c].nunique().max() > 1)]
    last = rows[rows.step == rows.groupby(["run_id", "metric"]).step.transform("max")]
    values = last.groupby(["run_id", "metric"]).value.mean()
    columns = [own[name].map(str).tolist() for name in arms]
    columns += [[run.rpartition("-")[2] for run in own.index]]
    columns += [own.seed.map(str).tolist()]
    columns += [
        cells([values.get((run, name)) for run in own.index], "(%)" in name) for name in metrics
    ]
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

    index = [c for c in ("artefact", "model", "n", "head", "unit", "data") if rows[c].nunique() > 1]
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
