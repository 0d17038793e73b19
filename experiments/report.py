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
from experiments.report_curves import Scale, chart, has_curve
from experiments.report_html import Html, box, code, join, lines, table, tag
from experiments.report_tables import (
    one_thread,
    paper_table,
    runs_table,
    scores,
    scores_table,
    several,
)  # fmt: skip
from experiments.study import STUDIES, Study, find
from experiments.trials import SUFFIX
from mtp.command_line import COMMITTED
from mtp.errors import BadInput
from mtp.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd

DOCS = Path("docs")


def write(root: Path = COMMITTED, out: Path | None = None) -> Path:
    """Write the page of the rows under `root`, by default beside them. Returns its file."""
    if not root.is_dir():
        raise BadInput(f"no folder {root}")
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
        items = []
        for name, artefact, question in entries:
            without = not any((self.root / name).glob("*.csv"))
            state = tag("small", " no rows yet") if without else join()
            link = tag("a", name, href=f"#{name}")
            items.append(tag("li", link, state, tag("span", f"{artefact}: {question}")))
        return lines(items)

    def artefacts(self) -> Html:
        """The table of all artefacts; what has no study is open, and stands there as well."""
        rows = []
        for each in ARTEFACTS:
            name = tag("a", each.name, href=f"#{each.section}") if each.section else each.name
            page = self.doc(each.page, "details") if each.page else "–"
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
        parts += self.trials(study)
        limits = tag("p", study.limits) if study.limits else join()
        theirs = study.paper(self.paper)
        none = tag("p", "The paper prints no numbers to compare with.")
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
        arms = dict(zip(rows.run_id, rows.arm, strict=True))
        if curves := {name: runs[name] for name in arms if has_curve(runs.get(name))}:
            heading = tag("h4", "Training loss of head 1")
            parts += [heading, chart(curves, arms, Scale(list(curves.values())))]
        else:
            missing = "No curves committed: there is no "
            parts.append(tag("p", missing, code(f"{file.stem}.json"), " beside these rows."))
        return [*parts, self.facts(file, rows, runs)]

    def trials(self, study: Study) -> list[Html]:
        """The trials of the study's learning rates, if there are any."""
        parts = list[Html]()
        for file in sorted((self.root / (study.name + SUFFIX)).glob("*.csv")):
            finding = find(study.name + SUFFIX).finding(results.read(file))
            heading = tag("h3", f"Learning rates, {file.stem} scale")
            parts += [heading, tag("p", finding), self.figure(file, finding)]
        return parts

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
        theirs = [(name, self.paper[self.paper.artefact == name]) for name in each.paper]
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
            *(paper_table(name, own) for name, own in theirs),
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


def size_of(picture: Path) -> tuple[int, int]:
    """The width and height that an SVG file declares, for a page that does not jump."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture.read_text()[:2000])
    return (round(float(found[1])), round(float(found[2]))) if found else (1000, 400)
