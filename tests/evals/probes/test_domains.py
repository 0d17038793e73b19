"""Prompts by kind of text: functions and docstrings of held-out Python, beginnings of the rest."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from evals.probes.domains import domains
from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus, build
from mtp.errors import BadInput

Build = Callable[..., Corpus]

MODULE = '''"""Module {i}: what is in here, told in one sentence."""

import os


class Box{i}:
    """Box number {i}.

    Indented further down, and told at length.
    """

    def plain{i}(self, value):
        if value is None:
            return os.sep
        return value + {i}

    def told{i}(self):
        """Docstring of a function that says {i}."""
        return self


def outer{i}(x):
    def inner{i}(y):
        return y + x + {i}

    return inner{i}
'''
NO_PYTHON = "Story {i} tells of a fox that went to the hill; it didn't come back before noon."


@pytest.fixture
def corpus_of(tmp_path: Path) -> Build:
    """Files of a folder, from templates with their numbers filled in, as a corpus of bytes."""

    def make(count: int = 16, tokenizer: str = "bytes", **templates: str) -> Corpus:
        folder = tmp_path / "texts"
        folder.mkdir()
        for kind, template in templates.items():
            for i in range(count):
                (folder / f"{i:02}.{kind}").write_text(template.replace("{i}", str(i)))
        config = CorpusConfig(
            source=f"files:{folder}", tokenizer=tokenizer, vocab=300, validation=0.5
        )
        return build(config, tmp_path / "data", progress=False)

    return make


def held_out(corpus: Corpus) -> list[str]:
    return [corpus.tokenizer.decode(ids.tolist()) for ids in corpus.validation.documents()]


def numbers(corpus: Corpus, pattern: str) -> list[int]:
    """The numbers of the held-out files, found by what comes before them."""
    return [int(text.split(pattern)[1].split()[0].strip(":;")) for text in held_out(corpus)]


def texts(corpus: Corpus, prompts: list[list[int]]) -> list[str]:
    assert all(prompt[0] == corpus.tokenizer.bos for prompt in prompts)
    assert all(corpus.tokenizer.bos not in prompt[1:] for prompt in prompts)
    return [corpus.tokenizer.decode(prompt) for prompt in prompts]


def test_python_is_code_and_prose(corpus_of: Build) -> None:
    corpus = corpus_of(py=MODULE)
    files = numbers(corpus, "Module ")
    assert 3 < len(files) < 16
    found = domains(corpus, 24, 3 * len(files))
    assert list(found) == ["code", "prose"]
    for domain, prompts in found.items():
        assert {len(prompt) for prompt in prompts} == {24}, domain
    plain = "def plain{i}(self, value):\n    if value is None:\n"  # no longer indented
    inner = "def inner{i}(y):\n    return y + x + {i}\n"
    outer = "def outer{i}(x):\n    def inner{i}(y):\n"
    code = [t.replace("{i}", str(i))[:23] for i in files for t in (plain, inner, outer)]
    assert sorted(texts(corpus, found["code"])) == sorted(set(code))
    module = "Module {i}: what is in here, told"
    box = "Box number {i}.\n\nIndented further down"  # as inspect.cleandoc leaves it
    reported = "Docstring of a function that says {i}."
    prose = [t.replace("{i}", str(i))[:23] for i in files for t in (module, box, reported)]
    assert sorted(texts(corpus, found["prose"])) == sorted(set(prose)), "each once"


def test_prompts_are_beginnings_whatever_the_length(corpus_of: Build) -> None:
    corpus = corpus_of(py=MODULE, tokenizer="bpe")
    functions, docstrings = [], []
    for text in held_out(corpus):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is None:
                lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
                functions.append(textwrap.dedent("\n".join(lines)))
            elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                docstrings.append(inspect.cleandoc(ast.get_docstring(node) or "?"))
    for length in (2, 9, 20):
        found = domains(corpus, length, 6)
        for domain, parts in (("code", functions), ("prose", docstrings)):
            for prompt in found[domain]:
                assert len(prompt) == length
                assert any(corpus.tokenizer.encode(p)[: length - 1] == prompt[1:] for p in parts)


def test_what_is_not_python_is_text(corpus_of: Build) -> None:
    corpus = corpus_of(txt=NO_PYTHON)
    files = numbers(corpus, "Story ")
    found = domains(corpus, 30, len(files))
    assert list(found) == ["text"]
    assert texts(corpus, found["text"]) == [NO_PYTHON.replace("{i}", str(i))[:29] for i in files]
    assert domains(corpus, 30, 2)["text"] == found["text"][:2]


def test_python_hides_the_text_beside_it(corpus_of: Build) -> None:
    corpus = corpus_of(txt=NO_PYTHON, py=MODULE)
    assert {"Story", '"""Module'} == {text.split()[0] for text in held_out(corpus)}
    assert list(domains(corpus, 20, 4)) == ["code", "prose"]
    assert list(domains(corpus, 70, 4)) == ["code"]  # no docstring is so long
    assert list(domains(corpus, 100, 4)) == ["text"]  # nor any function; documents are


def test_python_without_functions_and_docstrings_is_text(corpus_of: Build) -> None:
    corpus = corpus_of(py="NUMBER = {i}\nprint(NUMBER, 'is the number')\n")
    assert list(domains(corpus, 12, 4)) == ["text"]


def test_prompts_differ_and_documents_take_turns(corpus_of: Build) -> None:
    corpus = corpus_of(txt=NO_PYTHON)
    few = len(held_out(corpus))
    found = domains(corpus, 30, 2 * few + 3)["text"]
    assert len(found) == len({tuple(prompt) for prompt in found}) == few


def test_no_document_fills_a_domain(corpus_of: Build) -> None:
    corpus = corpus_of(py=MODULE)
    files = numbers(corpus, "Module ")
    found = texts(corpus, domains(corpus, 24, len(files))["prose"])
    assert sorted(found) == sorted(f"Module {i}: what is in here, told"[:23] for i in files)


def test_nothing_long_enough_is_reported(corpus_of: Build) -> None:
    corpus = corpus_of(txt=NO_PYTHON)
    longest = max(len(text.encode()) for text in held_out(corpus))
    assert len(domains(corpus, longest + 1, 2)["text"]) == 2  # bos and all of it
    with pytest.raises(BadInput, match=f"no validation document has the {longest + 2} tokens"):
        domains(corpus, longest + 2, 2)


def test_documents_that_python_cannot_parse_are_text(corpus_of: Build) -> None:
    corpus = corpus_of(py="def broken{i}(:\n    pass\n", txt="{" * 900 + "} number {i}")
    assert list(domains(corpus, 12, 4)) == ["text"]


def test_a_document_too_deep_to_parse_is_text(corpus_of: Build) -> None:
    corpus = corpus_of(txt="-" * 10_000 + " story {i}")
    assert list(domains(corpus, 12, 2)) == ["text"]
