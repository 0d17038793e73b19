"""Atomic writes, checksums, and JSON from untrusted files. The project does each of these here and
nowhere else."""

import contextlib
import errno
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtp.errors import BadInput

FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or the user's share of it


# --------------------------------------------------------------------------------------------------
# reading


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text. Raises ValueError if the text is not JSON, or is nested so deeply
    that the parser gives up (Python raises RecursionError then)."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def file_sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_existing(dest: Path) -> None:
    """Raise BadInput if `dest` exists already."""
    if dest.exists() or dest.is_symlink():
        raise BadInput(f"{dest} exists; choose another folder")


# --------------------------------------------------------------------------------------------------
# writing


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's names, to the disk, so that they survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def must_be_writable(file: Path) -> None:
    """Raise BadInput if `file` could not be written, before hours of work for its content. Makes
    its folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def atomic_path(file: Path, flush: bool = False, shared: bool = False) -> Iterator[Path]:
    """A path beside `file` to write to. It becomes `file` at the end, or disappears after an error.

    flush   flush to the disk before and after the rename, for what must survive a power cut
    shared  several processes may write this file at once, so each gets a path of its own
    """
    writer = f".{platform.node()}.{os.getpid()}" if shared else ""
    half = file.with_name(f".half-{file.name}{writer}")
    try:
        yield half
        if flush:
            sync(half)
        half.rename(file)
        if flush:
            sync(file.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            half.unlink()
        raise


@contextlib.contextmanager
def atomic_folder(dest: Path) -> Iterator[Path]:
    """A folder beside `dest` to write in. At the end it is flushed to the disk and becomes `dest`,
    replacing an older one; after an error it disappears."""
    half = dest.with_name(f".half-{dest.name}")
    shutil.rmtree(half, ignore_errors=True)  # left by a killed process
    half.mkdir(parents=True)
    try:
        yield half
        for path in [*half.rglob("*"), half]:
            sync(path)
        if dest.exists():
            shutil.rmtree(dest)
        half.rename(dest)
        sync(dest.parent)
    except BaseException:
        shutil.rmtree(half, ignore_errors=True)
        raise


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file whole or not at all; makes its folder. Raises BadInput if it cannot be written,
    OSError if the disk is full."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file, shared=True) as half:
            half.write_bytes(content)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, error.strerror, str(file)) from None
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None
