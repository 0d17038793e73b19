"""Atomic writes leave all of a file or nothing."""

import errno
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from mtp import files
from mtp.errors import BadInput
from mtp.files import (
    atomic_folder,
    atomic_path,
    must_be_writable,
    parse_json,
    write_atomically,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --------------------------------------------------------------------------------------------------
# writing


@pytest.mark.parametrize("options", [{}, {"flush": True}, {"shared": True}])
def test_a_file_appears_at_the_end_and_not_after_an_error(
    options: dict[str, bool], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    with atomic_path(file, **options) as half:
        half.write_text("old")
        assert not file.exists()
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), atomic_path(file, **options) as half:
            half.write_text("new, but torn")
            raise error
        with pytest.raises(error), atomic_path(file, **options):
            raise error  # before anything is written
    assert file.read_text() == "old" and names(tmp_path) == ["file"]


def test_a_folder_appears_at_the_end_and_not_after_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    left = tmp_path / ".half-folder"  # by a killed process
    left.mkdir()
    (left / "torn").write_text("")
    for content in ("old", "new"):
        with atomic_folder(folder) as half:
            (half / "inner").mkdir()
            (half / "inner" / "file").write_text(content)
        assert names(folder) == ["inner"] and (folder / "inner/file").read_text() == content
        with pytest.raises(RuntimeError), atomic_folder(folder) as half:
            (half / "file").write_text("torn")
            raise RuntimeError
        assert names(folder) == ["inner"] and names(tmp_path) == ["folder"]


def write_often(file: Path, content: bytes) -> None:
    for _ in range(40):
        write_atomically(file, content)


def test_two_writers_at_once_never_leave_a_torn_file(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    file, contents = tmp_path / "new" / "file", [b"a" * 100_000, b"b" * 100_001]
    writers = [processes.Process(target=write_often, args=(file, each)) for each in contents]
    for writer in writers:
        writer.start()
    seen = set[bytes]()
    while any(writer.is_alive() for writer in writers):
        if file.exists():
            seen.add(file.read_bytes())
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen | {file.read_bytes()} <= set(contents)
    assert names(file.parent) == ["file"]


def test_a_full_disk_is_an_os_error_and_any_other_failure_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def fail(number: int) -> Callable[..., None]:
        def write(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        return write

    for number in files.FULL:
        monkeypatch.setattr(Path, "write_bytes", fail(number))
        with pytest.raises(OSError, match=str(file)) as error:
            write_atomically(file, b"new")
        assert error.value.errno == number
    monkeypatch.setattr(Path, "write_bytes", fail(errno.EACCES))
    with pytest.raises(BadInput, match=f"{file} cannot be written: Permission denied"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    must_be_writable(tmp_path / "new" / "file")
    assert names(tmp_path / "new") == []
    (tmp_path / "file").write_text("")
    for impossible in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match=f"{impossible} cannot be written"):
            must_be_writable(impossible)


# --------------------------------------------------------------------------------------------------
# reading


@pytest.mark.parametrize("text", ["", "{", b"\xff", "[" * 10**5], ids=["", "{", "bytes", "deep"])
def test_what_is_not_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)
