"""The report: committed as the rows give it, complete, escaped, with the numbers of the rows."""

import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest

from experiments import results
from experiments.artefacts import ARTEFACTS, EVALUATIONS, MINUTES
from experiments.report import Page, write
from experiments.report_curves import Scale, chart, small
from experiments.report_html import Html, cells, exact, table, tag
from experiments.study import STUDIES, find
from mtp.command_line import COMMITTED
from mtp.errors import BadInput
from tests.conftest import Cli

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / COMMITTED


class Reader(HTMLParser):
    """What a page has: elements with their attributes, and its text; every element is closed."""

    EMPTY = ("meta", "img", "path", "line")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def committed() -> str:
    return (RESULTS / "index.html").read_text()


@pytest.fixture(scope="module")
def page(committed: str) -> Reader:
    return Reader(committed)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Results of one study, whose rows tests may change."""
    root = tmp_path / "results"
    (root / "sweep-n").mkdir(parents=True)
    for name in ("cpu.csv", "cpu.json", "cpu.svg"):
        shutil.copy(RESULTS / "sweep-n" / name, root / "sweep-n")
    return root


def test_the_committed_page_is_what_the_rows_give(committed: str) -> None:
    made = Page(RESULTS, RESULTS / "index.html").text()
    assert made == committed, "run `make report` and commit results/index.html"


def test_every_element_is_closed_and_headings_descend_in_order(page: Reader) -> None:
    assert page.open == []
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_links_within_lead_to_a_part_and_files_exist(page: Reader) -> None:
    parts = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(parts) == len(set(parts))
    for target in [each["href"] for each in page.all("a")] + [i["src"] for i in page.all("img")]:
        assert target
        if target.startswith("#"):
            assert target[1:] in parts
        elif not target.startswith("https://arxiv.org/"):
            assert (RESULTS / unquote(target)).exists(), target


def test_every_study_and_every_figure_is_there_with_its_finding(page: Reader) -> None:
    parts = [attributes.get("id") for attributes in page.all("section")]
    assert parts == ["artefacts", *STUDIES, *(each.name for each in EVALUATIONS)]
    alt = {unquote(image["src"] or ""): image["alt"] for image in page.all("img")}
    for name in STUDIES:
        for file in (RESULTS / name).glob("*.csv"):
            text = find(name).finding(results.read(file))
            assert alt[f"{name}/{file.stem}.svg"] == text and text in page.words
    assert all(alt.values())


def test_artefacts_are_those_of_the_docs_and_name_every_study() -> None:
    text = (ROOT / "docs" / "studies" / "README.md").read_text()
    lines = re.findall(r"^\| ((?:Table|Figure|Section|L\.\d).*?) \|", text, re.MULTILINE)
    names = [each.name for each in ARTEFACTS]
    assert [name for name in names if not name.startswith("beyond the paper")] == lines
    sections = {each.section for each in ARTEFACTS} - {""}
    assert sections == {*STUDIES, *(each.name for each in EVALUATIONS)}
    assert set(MINUTES) <= sections


def test_a_study_without_rows_and_a_run_without_curve_are_told(few: Path) -> None:
    words = Reader(Page(few, few / "index.html").text()).words
    assert words.count("No rows are committed yet.") == len(STUDIES) - 1
    assert "No curves committed" not in words
    described = json.loads((few / "sweep-n" / "cpu.json").read_text())
    described["runs"].pop(next(iter(described["runs"])))
    (few / "sweep-n" / "cpu.json").write_text(json.dumps(described))
    assert Reader(Page(few, few / "index.html").text()).words.count("no curve") == 1
    (few / "sweep-n" / "cpu.json").unlink()
    (few / "sweep-n" / "cpu.svg").unlink()
    words = Reader(Page(few, few / "index.html").text()).words
    assert "No curves committed: there is no cpu.json" in words
    assert "Not drawn yet: make figures" in words


def test_text_of_rows_is_escaped(few: Path) -> None:
    bad = "\"><script>alert('x')</script>&"
    file = few / "sweep-n" / "cpu.csv"
    rows = results.read(file)
    for column in ("arm", "device", "commit", "changed", "data", "versions", "precision"):
        rows[column] = bad
    results.write(file, rows.to_dict("records"))  # pyright: ignore[reportArgumentType]
    text = Page(few, few / "index.html").text()
    found = Reader(text)
    assert bad not in text and len(found.all("script")) == 1 and found.open == []
    assert found.words.count(bad) >= 6


def test_cells_are_the_last_values_of_the_rows(few: Path) -> None:
    rows = results.read(few / "sweep-n" / "cpu.csv")
    bits = rows[rows.metric == "bits per byte"]
    earlier = bits.assign(step=1, value=99.0)
    both = pd.concat([rows, earlier])
    results.write(few / "sweep-n" / "cpu.csv", both.to_dict("records"))  # pyright: ignore
    text = Page(few, few / "index.html").text()
    shown = re.findall(r"<tr><td>n=[^<]*</td><td>\w+</td><td[^>]*>\d</td><td[^>]*>(.*?)</td>", text)
    assert shown == [f"{value:.3f}" for value in bits.value]


def test_the_command_writes_beside_the_rows_or_where_it_is_told(cli: Cli, few: Path) -> None:
    before = {file: file.read_bytes() for file in few.rglob("*") if file.is_file()}
    assert cli("report").code == 0
    first = (few / "index.html").read_bytes()
    result = cli("report", "--results", str(few), "--out", "elsewhere/page.html")
    assert (result.code, result.out) == (0, "page: elsewhere/page.html\n")
    text = Path("elsewhere/page.html").read_text()
    assert 'src="../results/sweep-n/cpu.svg"' in text
    write(few)
    assert (few / "index.html").read_bytes() == first
    assert all(file.read_bytes() == content for file, content in before.items())
    assert cli("report", "--results", "nowhere").err == "error: no folder nowhere\n"


def test_rows_of_another_version_are_refused(few: Path) -> None:
    (few / "sweep-n" / "cpu.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="another version"):
        Page(few, few / "index.html").text()


def test_numbers_of_a_column_have_equal_digits() -> None:
    assert cells([1.23456, None, float("nan"), 2]) == ["1.235", "–", "–", "2.000"]
    assert cells([1.5, 22.26]) == ["1.5", "22.3"]
    assert cells([1.25], percent=True) == ["1.2"] and cells([]) == []
    assert exact([2.8, 10.25, None]) == ["2.80", "10.25", "–"] and exact([3.0, 4.0]) == ["3", "4"]


def test_elements_escape_all_that_is_no_markup() -> None:
    assert tag("p", "a<b & c", tag("b", "d"), title='"<') == (
        '<p title="&quot;&lt;">a&lt;b &amp; c<b>d</b></p>'
    )
    assert isinstance(tag("p"), Html)
    assert "<td>&lt;i&gt;</td>" in table("caption", ["a"], [["<i>"]], 1)


def described(tokenizer: str, *losses: list[float]) -> dict[str, object]:
    curve = {"tokens": [100, 200], "loss": list(losses)}
    return {"config": {"data": {"tokenizer": tokenizer}}, "curve": curve}


def test_curves_lie_within_their_box_on_one_scale() -> None:
    runs = {"a": described("bpe", [3.0, 2.0]), "b": described("bytes", [3.5, 1.0], [4.0, 1.5])}
    scale = Scale(list(runs.values()))
    assert scale.line(runs["a"], 0, (0, 0, 100, 30)) == "M50.0,10.0 100.0,20.0"
    assert scale.line(runs["b"], 1, (0, 0, 100, 30)) == "M50.0,0.0 100.0,25.0"
    whole = chart(runs, {"a": "n=1", "b": "n=2"}, scale)
    assert "n=1 2.00, n=2 1.00 nats" in whole and "nats per token or byte" in whole
    one = small(runs["b"], scale, "n=2")
    assert "head 1 1.00, head 2 1.50 nats" in one and one.count("<path") == 2
