"""Records in files of several forms give the same documents, and damaged files are named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mtp.config import CorpusConfig
from mtp.data import records
from mtp.data.corpus import build
from mtp.errors import BadInput

TEXTS = [f"Text number {i}, long enough to be kept. é\n" for i in range(2500)]


def lines(texts: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": i, field: t}) + "\n" for i, t in enumerate(texts)).encode()


def plain(folder: Path, texts: list[str]) -> Path:
    (folder / "a.jsonl").write_bytes(lines(texts, "content"))
    return folder / "a.jsonl"


def zipped(folder: Path, texts: list[str]) -> Path:
    with gzip.open(folder / "a.jsonl.gz", "wb") as stream:
        stream.write(lines(texts))
    return folder / "a.jsonl.gz"


def zstandard(folder: Path, texts: list[str]) -> Path:
    package = pytest.importorskip("zstandard", reason="extra [data] not installed")
    (folder / "a.jsonl.zst").write_bytes(package.ZstdCompressor().compress(lines(texts)))
    return folder / "a.jsonl.zst"


def parquet(folder: Path, texts: list[str]) -> Path:
    pyarrow = pytest.importorskip("pyarrow", reason="extra [data] not installed")
    module = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"id": list(range(len(texts))), "text": texts})
    module.write_table(table, folder / "a.parquet", row_group_size=700)
    return folder / "a.parquet"


Writer = Callable[[Path, list[str]], Path]
FORMS: list[Writer] = [plain, zipped, zstandard, parquet]


@pytest.mark.parametrize("write", FORMS)
def test_texts_come_back_in_order(write: Writer, tmp_path: Path) -> None:
    assert list(records.texts(write(tmp_path, TEXTS))) == TEXTS


@pytest.mark.parametrize("write", FORMS)
def test_a_folder_of_any_form_is_a_corpus(write: Writer, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts", TEXTS[:200])
    config = CorpusConfig(f"files:{tmp_path / 'texts'}", tokenizer="bytes", validation=0.1)
    corpus = build(config, tmp_path / "data", progress=False)
    found = [
        corpus.tokenizer.decode(document.tolist())
        for split in (corpus.train, corpus.validation)
        for document in split.documents()
    ]
    assert sorted(found) == sorted(TEXTS[:200])


@pytest.mark.parametrize("write", [zipped, zstandard, parquet])
def test_a_file_that_is_cut_short_is_named(write: Writer, tmp_path: Path) -> None:
    file = write(tmp_path, TEXTS)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(BadInput, match=file.name) as error:
        list(records.texts(file))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.parquet"):
        (tmp_path / name).write_bytes(lines(TEXTS[:3]))
        with pytest.raises(BadInput, match=name):
            list(records.texts(tmp_path / name))


def test_a_table_without_texts_names_its_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="extra [data] not installed")
    module = pytest.importorskip("pyarrow.parquet")
    module.write_table(pyarrow.table({"id": [1], "words": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(BadInput, match='needs a column "text" or "content"; it has: id, words'):
        list(records.texts(tmp_path / "a.parquet"))
    module.write_table(pyarrow.table({"text": [1, 2]}), tmp_path / "b.parquet")
    with pytest.raises(BadInput, match='the column "text" is not of type string'):
        list(records.texts(tmp_path / "b.parquet"))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    for name, package in (("a.jsonl.zst", "zstandard"), ("a.parquet", "pyarrow")):
        (tmp_path / name).write_bytes(b"")
        with monkeypatch.context() as patch:
            patch.setattr("importlib.import_module", missing)
            with pytest.raises(
                BadInput, match=f"needs {package}; install it: .venv/bin/pip install"
            ):
                list(records.texts(tmp_path / name))
