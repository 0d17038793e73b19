"""A journal goes on where a killed writer ended, and belongs to one header."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.harness.journal import Journal
from mtp.errors import BadInput

HEADER = {"protocol": {"stops": ("a", "b")}, "seed": 0}
RECORDS = [{"n": i, "answer": "ü\n" * i} for i in range(4)]


def written(file: Path) -> bytes:
    with Journal(file, HEADER) as journal:
        for record in RECORDS:
            journal.add(record)
    return file.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


@given(st.data())
def test_cut_anywhere_it_ends_as_one_that_was_not(folder: Path, data: st.DataObject) -> None:
    (folder / "whole").unlink(missing_ok=True)
    whole = written(folder / "whole")
    cut = data.draw(st.integers(0, len(whole)))
    file = folder / "cut"
    file.write_bytes(whole[:cut])
    with Journal(file, HEADER) as journal:
        assert journal.records == RECORDS[: len(journal.records)]
        assert len(journal.records) == max(0, whole[:cut].count(b"\n") - 1)
        journal.add(*RECORDS[len(journal.records) :])
    assert file.read_bytes() == whole


def test_a_last_line_of_zeros_is_dropped_and_a_torn_one_inside_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "j"
    whole = written(file)
    for last in (b"\0\0\0\n", b'{"n": 4, "ans\0\0\n'):
        file.write_bytes(whole + last)
        with Journal(file, HEADER) as journal:
            assert journal.records == RECORDS
        assert file.read_bytes() == whole
    file.write_bytes(whole.replace(b'{"n": 1', b'{"n'))
    with pytest.raises(BadInput, match=r"j line 3 is not a record; move the file away$"):
        Journal(file, HEADER)


@pytest.mark.parametrize(
    "content",
    [
        b"something, my only line\n",
        b"something, my only line",
        b"{\n",
        b"\0\0\0\n",
        b'{"protocol',
        b"\n",
    ],
)
def test_a_file_that_is_not_a_journal_is_refused_and_stays(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(content)
    header = {"seed": 0} if content == b'{"protocol' else HEADER
    with pytest.raises(BadInput, match=r"j line 1 is not a record; move the file away$"):
        Journal(tmp_path / "j", header)
    assert (tmp_path / "j").read_bytes() == content


def test_a_last_line_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    whole = written(tmp_path / "j") + b"something\n"
    (tmp_path / "j").write_bytes(whole)
    with pytest.raises(BadInput, match="j line 6 is not a record"):
        Journal(tmp_path / "j", HEADER)
    assert (tmp_path / "j").read_bytes() == whole


def test_another_header_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    whole = written(tmp_path / "j")
    with pytest.raises(BadInput, match=r"j has results of another seed; choose another --out"):
        Journal(tmp_path / "j", HEADER | {"seed": 1})
    assert (tmp_path / "j").read_bytes() == whole
    assert json.loads(whole.splitlines()[0])["seed"] == 0


def test_two_writers_at_once_are_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", HEADER), pytest.raises(BadInput, match="another process"):
        Journal(tmp_path / "j", HEADER)


def test_a_place_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        Journal(tmp_path / "file" / "j", HEADER)
