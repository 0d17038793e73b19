"""Corpora of generated documents, python:MODULE?NAME=VALUE,..: options, identity, errors."""

import doctest
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mtp.config import CorpusConfig
from mtp.data import sources
from mtp.data.corpus import Corpus, build
from mtp.data.sources import generator_options, open_source
from mtp.errors import BadInput
from tests.mtp.training.helpers import fails

STORIES = """
def documents(options):
    if int(options.get("count", "20")) > 99:
        raise ValueError("count is above 99")
    word = options.get("word", "fox")
    return (f"story {i} is of a {word} and of nothing else" for i in range(20))
"""

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a module (again) where imports find it; returns its name."""
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a .pyc is good for a second
    written = set[str]()

    def write(code: str, name: str = "made_stories") -> str:
        file = tmp_path / "modules" / f"{name.replace('.', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        written.add(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def read(source: str) -> list[str]:
    documents = open_source(source, Path("/nowhere")).documents()
    return [document.content.decode() for document in documents]


def build_source(source: str, folder: Path) -> Corpus:
    config = CorpusConfig(source, "bytes", validation=0.2)
    return build(config, folder / "data", progress=False)


def texts(corpus: Corpus) -> list[str]:
    splits = (corpus.train, corpus.validation)
    return [corpus.tokenizer.decode(i.tolist()) for split in splits for i in split.documents()]


# --------------------------------------------------------------------------------------------------
# options


def test_doctests() -> None:
    result = doctest.testmod(sources)
    assert result.attempted >= 1 and result.failed == 0


@pytest.mark.parametrize(
    ("source", "module", "options"),
    [
        ("python:a.b?p=7,d=2", "a.b", {"p": "7", "d": "2"}),
        ("python:a.b", "a.b", {}),
        ("python:a.b?", "a.b", {}),
        ("python:a?x=", "a", {"x": ""}),
        ("python:a?x=1=2?,y=:", "a", {"x": "1=2?", "y": ":"}),
    ],
)
def test_options_are_read(source: str, module: str, options: dict[str, str]) -> None:
    assert generator_options(source) == (module, options)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [("p", "'p'"), ("p=7,d", "'d'"), ("p=7,p=7", "'p=7'"), ("p=7,p=8", "'p=8'")],
)
def test_an_option_without_a_value_or_given_twice_is_bad_input(text: str, culprit: str) -> None:
    for source in (f"python:a?{text}", f"python:synthetic.polynomials?{text}"):
        with pytest.raises(BadInput) as error:
            read(source) if "synthetic" in source else generator_options(source)
        assert source in str(error.value) and culprit in str(error.value)


# --------------------------------------------------------------------------------------------------
# modules


@pytest.mark.parametrize("name", ["nope", "mtp.nope", "nope.nope", "?p=7", ".", ".nope"])
def test_an_unknown_module_is_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match="there is no module") as error:
        read(f"python:{name}")
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["json", "sys", "synthetic"])
def test_a_module_without_documents_is_bad_input(name: str) -> None:
    with pytest.raises(BadInput, match=f"module {name} has no function documents"):
        read(f"python:{name}")


def test_documents_must_be_a_function(write: Write) -> None:
    name = write("documents = ['one', 'two']\n")
    with pytest.raises(BadInput, match=f"module {name} has no function documents"):
        read(f"python:{name}")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0\n", "division by zero"),
        ("def documents(options:\n", "never closed"),
        ("import nope_nope\n", "No module named 'nope_nope'"),
        ("raise RuntimeError('one line\\nand another')\n", "one line"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_module_that_cannot_be_imported_is_bad_input(
    write: Write, code: str, message: str, inside: bool
) -> None:
    """The message names the module, or the package that it is in."""
    name = "broken_kind.stories" if inside else "broken_stories"
    if inside:
        write(code, "broken_kind.__init__")
        write(STORIES, name)
    else:
        write(code, name)
    with pytest.raises(BadInput) as error:
        read(f"python:{name}")
    line = str(error.value)
    assert line.startswith(f"source python:{name}: ") and "\n" not in line
    assert message in line or inside


def test_python_alone_is_not_a_source() -> None:
    for source in ("python", "python:"):
        with pytest.raises(BadInput, match=r"unknown source 'python.*python:MODULE"):
            read(source)


def test_what_the_module_rejects_is_bad_input(write: Write) -> None:
    source = f"python:{write(STORIES)}?count=100"
    with pytest.raises(BadInput) as error:
        open_source(source, Path("/nowhere"))
    assert str(error.value) == f"source {source}: count is above 99"
    with pytest.raises(BadInput, match=r"polynomials\?p=70: p is '70'; it must be .* 2 to 7"):
        open_source("python:synthetic.polynomials?p=70", Path("/nowhere"))


# --------------------------------------------------------------------------------------------------
# corpora


def test_a_corpus_holds_what_the_module_yields(write: Write, tmp_path: Path) -> None:
    source = f"python:{write(STORIES)}?word=hen"
    wanted = [f"story {i} is of a hen and of nothing else" for i in range(20)]
    assert read(source) == read(source) == wanted
    corpus = build_source(source, tmp_path)
    assert sorted(texts(corpus)) == sorted(wanted)
    assert corpus.folder.name.startswith("made_stories-")
    assert len(list(corpus.train.documents())) not in (0, 20)
    assert corpus.manifest["config"]["source"] == source


def test_generated_documents_are_not_filtered_as_code(write: Write, tmp_path: Path) -> None:
    """Filters against generated code would drop a line of 2000 characters."""
    name = write("def documents(options):\n    return [str(i) * 2000 for i in range(9)]\n")
    assert len(texts(build_source(f"python:{name}", tmp_path))) == 9


def test_the_same_source_is_built_once(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"python:{write(STORIES)}"
    first = build_source(source, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("mtp.data.corpus._build", lambda *_: pytest.fail("built again"))
        again = build_source(source, tmp_path)
    assert again.folder == first.folder and texts(again) == texts(first)
    elsewhere = build_source(source, tmp_path / "elsewhere")
    assert elsewhere.folder.name == first.folder.name and texts(elsewhere) == texts(first)


def test_another_option_is_another_corpus(write: Write, tmp_path: Path) -> None:
    name = write(STORIES)
    fox, hen = (build_source(f"python:{name}{options}", tmp_path) for options in ("", "?word=hen"))
    assert fox.folder != hen.folder and not set(texts(fox)) & set(texts(hen))


def test_a_changed_module_makes_another_corpus(write: Write, tmp_path: Path) -> None:
    before = build_source(f"python:{write(STORIES)}", tmp_path)
    after = build_source(f"python:{write(STORIES.replace('story', 'tale'))}", tmp_path)
    assert before.folder != after.folder
    assert texts(before)[0].startswith("story") and texts(after)[0].startswith("tale")
    back = build_source(f"python:{write(STORIES)}", tmp_path)
    assert back.folder == before.folder


def test_a_changed_file_beside_the_module_makes_another_corpus(write: Write) -> None:
    """A generator may import its parts from there."""
    source = f"python:{write(STORIES, 'kind.stories')}"
    identities = []
    for word in ("hill", "lake"):
        write(f"PLACE = {word!r}\n", "kind.parts")
        identities.append(open_source(source, Path("/nowhere")).identity)
    assert identities[0] != identities[1]


def test_polynomials_are_a_source(tmp_path: Path) -> None:
    corpus = build_source("python:synthetic.polynomials?p=3,d=2,ops=2,count=320", tmp_path)
    lines = [line for text in texts(corpus) for line in text.split("\n")]
    assert len(lines) == 320 and all(line.count("=") == 1 for line in lines)


# --------------------------------------------------------------------------------------------------
# the command line


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("python:nope", "there is no module nope"),
        ("python:json", "module json has no function documents"),
        ("python:synthetic.polynomials?p=7,p=7", "'p=7' is not NAME=VALUE, or NAME comes twice"),
        ("python:synthetic.polynomials?q=7", "unknown option 'q'; choose from: p, d, ops"),
    ],
)
def test_the_command_line_reports_a_bad_source_in_one_line(
    source: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = ("--run", tmp_path / "run", "--data", tmp_path / "data")
    line = fails(capsys, monkeypatch, *places, f"data.source={source}", "tokens=1e4")
    assert line.startswith(f"error: source {source}: ") and message in line
    assert not (tmp_path / "data").exists() and not (tmp_path / "run" / "checkpoint").exists()
