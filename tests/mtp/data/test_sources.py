"""Every source is read by its real code, without a network."""

import hashlib
import json
import os
import random
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtp.config import CorpusConfig
from mtp.data import sources
from mtp.data.corpus import build
from mtp.errors import BadInput

TEXTS = [f"This is text number {i}, and it is unlike the others.\n" for i in range(30)]
NOWHERE = Path("/nowhere")


def read(source: str) -> list[str]:
    return [
        document.content.decode() for document in sources.open_source(source, NOWHERE).documents()
    ]


def test_stdlib_builds_by_default(tmp_path: Path) -> None:
    corpus = build(CorpusConfig(tokenizer="bytes"), tmp_path, progress=False)
    found = {
        corpus.tokenizer.decode(ids.tolist())
        for split in (corpus.train, corpus.validation)
        for ids in split.documents()
    }
    assert len(found) > 400 and corpus.train.bytes > 5e6
    assert {Path(module.__file__ or "").read_text() for module in (json, shutil, random)} <= found
    assert Path(pytest.__file__).read_text() not in found  # a package
    own_tests = Path(json.__file__).parents[1].glob("test/test_json/*.py")
    assert not found & {file.read_text() for file in own_tests if file.stat().st_size}


def test_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name in ("b/x.txt", "b/y.md", "a.py", ".hidden.txt", ".git/z.txt"):
        (tmp_path / name).write_text(name)
    assert read(f"files:{tmp_path}") == ["a.py", "b/x.txt", "b/y.md"]
    assert read(f"files:{tmp_path / 'a.py'}") == ["a.py"]
    skipped = sources.open_source(f"files:{tmp_path}", tmp_path.resolve() / "b")
    assert list(skipped.documents()) == [sources.Document(b"a.py", code=True)]
    with pytest.raises(BadInput, match="no such file or folder"):
        read(f"files:{tmp_path / 'none'}")
    for name in ("files:", "files", "hf:", "wikipedia"):
        with pytest.raises(BadInput, match=f"unknown source '{name}'; choose one of: stdlib"):
            read(name)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    memory = Path("/proc/self/mem")  # a file that even root cannot read from its start
    if not memory.exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "bad.txt").symlink_to(memory)
    with pytest.raises(BadInput, match=r"cannot read .*bad\.txt: "):
        read(f"files:{tmp_path}")


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts" / "secret").mkdir(parents=True)
    scan = os.scandir

    def denied(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(BadInput, match=r"texts/secret cannot be read: Permission denied"):
        read(f"files:{tmp_path / 'texts'}")


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text(TEXTS[0])
    assert read("files:~/a.txt") == [TEXTS[0]]


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    rows = [json.dumps({"text": text, "id": 1}) for text in TEXTS]
    file.write_text("\n".join(rows) + "\n\n")
    assert read(f"files:{file}") == read(f"files:{tmp_path}") == TEXTS
    for bad in ("[1]", '{"words": "x"}', '{"text": 3}', "{"):
        file.write_text(rows[0] + "\n" + bad + "\n")
        with pytest.raises(BadInput, match=r"records\.jsonl line 2"):
            read(f"files:{file}")


@pytest.mark.parametrize("column", ["text", "content"])
@pytest.mark.parametrize("form", ["json", "parquet"])
def test_hugging_face_dataset_folder(tmp_path: Path, form: str, column: str) -> None:
    datasets = pytest.importorskip("datasets", reason="extra [hf] not installed")
    folder = tmp_path / "dataset"
    folder.mkdir()
    rows = datasets.Dataset.from_dict({column: TEXTS})
    getattr(rows, f"to_{form}")(folder / f"train.{form}")
    assert read(f"hf:{folder}") == TEXTS
    config = CorpusConfig(source=f"hf:{folder}", tokenizer="bytes", max_mb=0.0005)
    corpus = build(config, tmp_path / "data", progress=False)
    assert corpus.manifest["documents"]["seen"] < 12  # the stream is not read to its end


def test_bad_hugging_face_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "datasets", None)
        with pytest.raises(
            BadInput, match=r"needs datasets \(\.venv/bin/pip install -e '.\[hf\]'\)$"
        ):
            read(f"hf:{tmp_path}")

        class Own(Exception):
            """As pyarrow and huggingface_hub have some."""

        def load_dataset(*_: Any, **options: Any) -> Any:
            yield {"text": "x"}
            raise Own("half a file\nand more")

        patch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
        message = "^source hf:some/set#part could not be read: half a file$"
        with pytest.raises(BadInput, match=message):
            read("hf:some/set#part")
    pytest.importorskip("datasets", reason="extra [hf] not installed")
    with pytest.raises(BadInput, match="could not be read"):
        read(f"hf:{tmp_path}")
    (tmp_path / "train.jsonl").write_text('{"code": "x"}\n')
    with pytest.raises(BadInput, match="it has: code"):
        read(f"hf:{tmp_path}")


def test_pinned_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip itself finds, checks and hands over a wheel, from a folder instead of the network."""
    wheel = tmp_path / "demo_mtp-1.0-cp311-cp311-manylinux2014_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for i in range(5):
            archive.writestr(f"demo_mtp/m{i}.py", TEXTS[i])
        archive.writestr("demo_mtp/data.txt", "no module")
        info = "demo_mtp-1.0.dist-info/"
        archive.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: demo_mtp\nVersion: 1.0\n")
        archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: false\n")
        archive.writestr(info + "RECORD", "")
    pins = tmp_path / "pins.txt"
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    pins.write_text(f"demo_mtp==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr(sources, "PYPI_LIST", pins)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert read("pypi-v1") == TEXTS[:5]
    pins.write_text(f"demo_mtp==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(BadInput, match="source pypi-v1: pip could not download") as error:
        read("pypi-v1")
    assert "\n" not in str(error.value)


def test_pypi_list_is_pinned() -> None:
    lines = sources.PYPI_LIST.read_text().splitlines()
    assert len(lines) == 10 and not any("transformers" in line for line in lines)
    assert all("==" in line and len(line.split("--hash=sha256:")[1]) == 64 for line in lines)


def test_mixtures_keep_the_ratio_until_a_source_ends(tmp_path: Path) -> None:
    long, short = (tmp_path / name for name in ("long.jsonl", "short.jsonl"))
    for file, letter, size, count in ((long, "l", 900, 20), (short, "s", 50, 400)):
        texts = ({"text": letter * size} for _ in range(count))
        file.write_text("".join(json.dumps(text) + "\n" for text in texts))
    for one, other in ((3, 1), (1, 4), (0.5, 0.5)):
        found = read(f"mix:{one}*files:{long}|{other}*files:{short}")
        sizes = [sum(len(text) for text in found if text[0] == letter) for letter in "ls"]
        assert 20 * 900 in sizes or 400 * 50 in sizes, "one of them was read to its end"
        assert abs(sizes[0] / one - sizes[1] / other) <= 900 / one
        assert read(f"mix:{one}*files:{long}|{other}*files:{short}") == found


def test_different_mixtures_are_different_corpora(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name * 50)
    a, b = (f"files:{tmp_path / name}.txt" for name in "ab")
    sources_ = [f"mix:9*{a}|1*{b}", f"mix:1*{a}|9*{b}", f"mix:9*{b}|1*{a}"]
    opened = [sources.open_source(name, NOWHERE) for name in sources_]
    assert len({json.dumps(each.identity) for each in opened}) == 3
    assert opened[0].name == "mix-files-a.txt-files-b.txt"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mix:stdlib|stdlib", "'stdlib' is not WEIGHT"),
        ("mix:0*stdlib|1*stdlib", "'0.stdlib' is not WEIGHT"),
        ("mix:nan*stdlib|1*stdlib", "'nan.stdlib' is not WEIGHT"),
        ("mix:inf*stdlib|1*stdlib", "'inf.stdlib' is not WEIGHT"),
        ("mix:1*stdlib", "mixes one source"),
        ("mix:1*stdlib|2*other", "unknown source 'other'"),
        ("mix:1*stdlib|2*files:/no/such", "no such file or folder"),
        ("mix:", "unknown source 'mix:'"),
    ],
)
def test_bad_mixtures(source: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        sources.open_source(source, NOWHERE)
