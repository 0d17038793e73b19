"""A problem planted in a corpus is found; its neighbours are not."""

import csv
import random
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import contamination
from evals.benchmarks.humaneval import HUMANEVAL
from evals.contamination import CHARACTERS, WORDS, overlaps
from evals.harness.problems import Source
from mtp.config import CorpusConfig
from mtp.data.corpus import build

FILLER = "The fox went to the hill and came back before noon, as it did on every day. " * 3


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(1, 6))) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(0, 40))
def test_both_rules_hold_at_every_length_and_place(seed: int, shared: int, before: int) -> None:
    """Of a text of random words, some words stand in a document: exactly what is common counts."""
    rng = random.Random(seed)
    text = words(rng, 60)
    start = rng.randint(0, 60 - shared)
    part = text[start : start + shared]
    document = ["0"] * before + part + ["1"] * rng.randint(0, 5)
    (found,) = overlaps([("p", " ".join(text))], ["nothing", " ".join(document)])
    assert len(found.found) == max(0, shared - WORDS + 1)
    length = len("".join(part))
    assert found.characters == (length if length >= CHARACTERS else 0)
    hit = shared >= WORDS or length >= CHARACTERS
    assert found.where == (1 if hit else -1)


@pytest.mark.parametrize("length", [CHARACTERS - 1, CHARACTERS])
def test_fifty_characters_are_found_wherever_they_stand(length: int) -> None:
    rng = random.Random(0)
    for before in range(60):
        part = "".join(rng.choices(string.ascii_lowercase, k=length))
        (found,) = overlaps([("p", "0" * 7 + part + "1")], ["2" * before + part + "3" * 9])
        assert found.characters == (length if length >= CHARACTERS else 0)


def test_spelling_and_layout_do_not_hide_a_problem() -> None:
    text = "def add(left, right):\n    return left + right  # the sum of both numbers, as expected"
    hidden = text.upper().replace("\n    ", "\n\t\t").replace(",", " ;")
    (found,) = overlaps([("p", text)], [FILLER, hidden])
    assert found.where == 1 and len(found.found) == found.ngrams and found.characters > 50


def test_a_planted_problem_is_found_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = {p.id: p for p in HUMANEVAL.load(Source()).problems}
    planted = problems["HumanEval/31"]
    folder = tmp_path / "texts"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i}.txt").write_text(f"{i} {FILLER}")
    solution = planted.about["prompt"] + planted.about["canonical_solution"]
    (folder / "planted.txt").write_text(FILLER + solution + FILLER)
    corpus = build(
        CorpusConfig(f"files:{folder}", "bytes", validation=0.0), tmp_path / "data", progress=False
    )
    run: Callable[..., None] = lambda *args: monkeypatch.setattr("sys.argv", ["x", *args])  # noqa: E731
    run("--corpus", str(corpus.folder), "--out", str(tmp_path / "rows.csv"))
    contamination.main()
    result = capsys.readouterr().out
    assert "1 of 164 problems: 1 have 13 words in a row" in result
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    hits = [row for row in rows if int(row["ngrams found"])]
    assert len(rows) == 164 and [row["problem"] for row in hits] == ["HumanEval/31"]
    assert hits[0]["ngrams"] == hits[0]["ngrams found"] and int(hits[0]["characters"]) > 100
    run("--corpus", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as left:
        contamination.main()
    assert left.value.code == 2 and "no such corpus" in capsys.readouterr().err
