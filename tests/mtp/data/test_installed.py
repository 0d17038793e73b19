"""The source `installed`: which files, what identifies them, and what is refused."""

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import pytest
import torch

from mtp.config import CorpusConfig
from mtp.data import installed, sources
from mtp.data.corpus import build
from mtp.errors import BadInput

NOWHERE = Path("/nowhere")


@pytest.fixture
def two_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages `one` and `two`, installed in a folder, are all that the source reads."""
    for name in ("one", "two"):
        listed = []
        for file, text in {
            f"{name}/a.py": f"the first text of {name}, long enough to be kept\n",
            f"{name}/b.py": f"the second text of {name}, long enough as well\n",
            f"{name}/large.py": "x = 1\n" * installed.LARGEST,
            f"{name}/tests/c.py": "a test\n",
            f"{name}/test_d.py": "another test\n",
            f"{name}/data.txt": "no code\n",
        }.items():
            path = tmp_path / file
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
            listed.append(f"{file},sha256={digest.decode()},{len(text)}")
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "RECORD").write_text("\n".join(listed) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installed, "PACKAGES", ("one", "two"))
    return tmp_path


def test_it_reads_the_code_of_packages_without_tests_and_long_files(two_packages: Path) -> None:
    names = [str(file) for file in installed.files()]
    assert names == ["one/a.py", "one/b.py", "two/a.py", "two/b.py"]
    texts = [document.content for document in sources.open_source("installed", NOWHERE).documents()]
    assert texts == [(two_packages / name).read_bytes() for name in names]


def test_its_identity_is_that_of_its_files(two_packages: Path) -> None:
    before = sources.open_source("installed", NOWHERE).identity
    record = two_packages / "one-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text().replace("one/b.py", "one/c.py"))
    assert sources.open_source("installed", NOWHERE).identity != before


def test_a_changed_file_is_named(two_packages: Path) -> None:
    (two_packages / "two" / "a.py").write_text("mine\n")
    with pytest.raises(BadInput, match=r"two/a.py has changed since it was installed"):
        list(installed.contents())


def test_a_missing_package_and_file_are_named(
    two_packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (two_packages / "two" / "a.py").unlink()
    with pytest.raises(BadInput, match=r"cannot read two/a.py: No such file"):
        list(installed.contents())
    monkeypatch.setattr(installed, "PACKAGES", ("one", "three"))
    with pytest.raises(BadInput, match="three is not installed"):
        sources.open_source("installed", NOWHERE)


def test_a_package_without_a_list_of_files_is_named(two_packages: Path) -> None:
    (two_packages / "two-1.0.dist-info" / "RECORD").write_text("")
    with pytest.raises(BadInput, match="no list of the files of two"):
        installed.files()


def test_what_set_up_installs_is_enough_for_the_sweeps(tmp_path: Path) -> None:
    """At least 30 MB, with over 200 documents held out, none with more than 2% of their bytes."""
    sizes = [file.size or 0 for file in installed.files()]
    assert sum(sizes) > 30e6
    assert metadata.version("torch") == torch.__version__
    share = CorpusConfig(source="installed", tokenizer="bytes", validation=0.045)
    held_out = build(share, tmp_path, progress=False).validation
    lengths = [len(document) for document in held_out.documents()]
    assert len(lengths) >= 200 and max(lengths) <= 0.02 * sum(lengths)
