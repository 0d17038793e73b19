"""The source `installed`: Python code that set-up has installed, torch's and that of PACKAGES.

About 80 MB of text without a network, seven times the standard library. Each file is known by the
hash in its package's RECORD, so that the same versions give the same corpus on every machine.
Files above LARGEST are left out: the few that are as long would be much of what is held out.
"""

import base64
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import PurePosixPath

from mtp.errors import BadInput

# What `pip install` of this package brings along, where it has much code.
PACKAGES = ("fonttools", "matplotlib", "networkx", "nltk", "numpy", "pandas", "sympy", "torch")
LARGEST = 50_000  # bytes of a file
TESTS = {"test", "tests", "testing", "_test", "idle_test"}


def files() -> list[metadata.PackagePath]:
    """The files, sorted by name. Raises BadInput for a package that is not installed, or was not
    installed from a wheel."""
    found = list[metadata.PackagePath]()
    for name in PACKAGES:
        try:
            own = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            raise BadInput(
                f"source installed: {name} is not installed; install this package with pip, which "
                "brings it along"
            ) from None
        chosen = [file for file in own if _is_wanted(file)]
        if not chosen:
            raise BadInput(f"source installed: pip has no list of the files of {name}")
        found += chosen
    return sorted(found, key=str)


def _is_wanted(file: metadata.PackagePath) -> bool:
    if file.suffix != ".py" or file.hash is None or file.hash.mode != "sha256":
        return False
    tests = TESTS & {*file.parts} or file.name.startswith("test_")
    return not tests and file.size is not None and file.size <= LARGEST


def identity() -> str:
    """A hash of the files' names and contents, without reading them."""
    digest = hashlib.sha256()
    for file in files():
        assert file.hash
        digest.update(f"{PurePosixPath(file)} {file.hash.value}\n".encode())
    return digest.hexdigest()


def contents() -> Iterator[bytes]:
    """The files' contents. Raises BadInput for one that is not as it was installed."""
    for file in files():
        assert file.hash
        try:
            found = file.read_binary()
        except OSError as error:
            raise BadInput(f"source installed: cannot read {file}: {error.strerror}") from None
        digest = base64.urlsafe_b64encode(hashlib.sha256(found).digest()).rstrip(b"=").decode()
        if digest != file.hash.value:
            raise BadInput(
                f"source installed: {file} has changed since it was installed; install its package "
                "again"
            )
        yield found
