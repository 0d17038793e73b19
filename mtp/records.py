"""What a record says of where it comes from, and how it is written: whole or not at all."""

import contextlib
import errno
import functools
import os
import platform
import subprocess
import tempfile
from pathlib import Path

import torch

from mtp.errors import BadInput


@functools.cache
def commit() -> str:
    """The commit of this checkout, "+" where files differ from it, "" outside a checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
        folder = Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def versions() -> str:
    return f"python {platform.python_version()}, torch {torch.__version__}"


def must_be_writable(file: Path) -> None:
    """BadInput before hours of work where `replace` could not write their result; makes the
    folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None


def replace(file: Path, content: bytes) -> None:
    """Write a file whole or not at all: beside its place, then moved there in one step."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(content)
        half.rename(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            half.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, error.strerror, str(file)) from None
        raise BadInput(f"{file} cannot be written: {error.strerror}") from None
