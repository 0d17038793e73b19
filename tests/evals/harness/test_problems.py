"""Files and hub: where data is looked for, whether it is the original, and one line for what is
missing or unreadable."""

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.harness.problems import Dataset, Problem, Source, convert, from_hub
from mtp.errors import BadInput
from tests.conftest import write_jsonl

HUB = ("some/set", None, "test")


def test_lines_may_hold_any_character_but_a_line_break(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": "x\u2028y"}\n\n{"a": "\\n"}\r\n', encoding="utf-8", newline="")
    assert Source(tmp_path).read("a.jsonl", "", HUB)[0] == [{"a": "x\u2028y"}, {"a": "\n"}]


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"a\.jsonl cannot be read: not UTF-8"):
        Source(tmp_path).read("a.jsonl", "", HUB)


def test_a_line_that_is_nested_too_deep(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n" + "[" * 100_000)
    with pytest.raises(BadInput, match=r"a\.jsonl line 2 is not a JSON record"):
        Source(tmp_path).read("a.jsonl", "", HUB)


def test_a_benchmarks_own_folder_comes_first(tmp_path: Path) -> None:
    source, places = Source(tmp_path).of("arc-easy"), ["arc-easy", "arc_easy", "arc", "."]
    for place in reversed(places):
        write_jsonl(tmp_path / place / "b.jsonl", place)
        assert source.find("b.jsonl") == tmp_path / place / "b.jsonl"
    write_jsonl(tmp_path / "arc-easy" / "a.jsonl")
    assert source.find("a.jsonl", "b.jsonl").name == "a.jsonl"
    assert source.find("c.jsonl", "b.jsonl").name == "b.jsonl"
    reported = r"c\.jsonl cannot be read: No such file \(nor one called d\.jsonl\)"
    with pytest.raises(BadInput, match=reported):
        source.find("c.jsonl", "d.jsonl")


@pytest.mark.parametrize("name", ["test", "train", "val", "valid", "dev"])
def test_a_name_that_many_sets_have_is_looked_for_in_ones_own_folder(
    name: str, tmp_path: Path
) -> None:
    """Else any set's file would serve as any other's."""
    file, source = f"{name}.jsonl", Source(tmp_path).of("gsm8k")
    write_jsonl(tmp_path / file)
    write_jsonl(tmp_path / "apps" / file)
    with pytest.raises(BadInput, match=rf"gsm8k/{name}\.jsonl cannot be read: No such file"):
        source.find(file)
    write_jsonl(tmp_path / "gsm8k" / file)
    assert source.find(file) == tmp_path / "gsm8k" / file


def test_origin_says_whether_a_file_is_the_original(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", {})
    digest = hashlib.sha256(file.read_bytes()).hexdigest()

    def origin(sha256: str, name: str = "a.jsonl") -> str:
        return Source(tmp_path, own=True).read(name, sha256, HUB, ["a.jsonl"])[1]

    assert origin(digest) == f"a.jsonl sha256:{digest[:16]}"
    assert origin("0" * 64) == f"a.jsonl sha256:{digest[:16]}, not the original"
    assert origin("") == origin("0" * 64, "b.jsonl") == f"a.jsonl sha256:{digest[:16]}, unverified"
    with pytest.raises(BadInput, match=r"a\.jsonl is not the original: its sha256 is"):
        Source(tmp_path).read("a.jsonl", "0" * 64, HUB)


def test_conversion_numbers_what_it_makes_and_what_it_cannot() -> None:
    def make(record: dict[str, str]) -> Problem:
        return Problem("", {"q": record["q"]}, {})

    assert [p.id for p in convert("x", [{"q": "a"}, {"q": "b"}], "f", make)] == ["x/0", "x/1"]
    with pytest.raises(BadInput, match=r"f: record 2 is not of this format .*KeyError"):
        convert("x", [{"q": "a"}, {}], "f", make)


def test_two_problems_of_one_name_are_reported() -> None:
    """Answers are kept by it: both would count with those of one."""
    named = tuple(Problem(name, {}, {}) for name in ("a", "b", "b"))
    with pytest.raises(BadInput, match=r"^file: two problems are called b; each needs its own id$"):
        Dataset(named, (), "file")
    Dataset(named[:2], (named[1], named[1]), "file")


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **options: Any) -> list[dict[str, int]]:
        asked.append((args, options))
        return [{"a": 1}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found, origin = from_hub(HUB, "a.jsonl")
    assert found == [{"a": 1}] and origin.startswith("hub some/set test sha256:")
    assert asked == [(("some/set", None), {"split": "test"})]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda: None))
    with pytest.raises(BadInput, match=r"^some/set could not be read: .*; give a\.jsonl in a --d"):
        from_hub(HUB, "a.jsonl")
    monkeypatch.setitem(sys.modules, "datasets", None)
    install = r"\.venv/bin/pip install -e '\.\[hf\]'"
    reported = rf"^some/set needs datasets \({install}\), or a\.jsonl in a --data-dir$"
    with pytest.raises(BadInput, match=reported):
        from_hub(HUB, "a.jsonl")


def test_of_a_scripts_data_set_the_hubs_copy_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **options: Any) -> list[dict[str, int]]:
        asked.append((args, options))
        if "revision" not in options:
            raise RuntimeError("Dataset scripts are no longer supported, but found set.py")
        return [{"a": 1}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert from_hub(("some/set", "part", "test"), "a.jsonl")[0] == [{"a": 1}]
    options = {"data_dir": "part", "revision": "refs/convert/parquet", "split": "test"}
    assert asked == [(("some/set", "part"), {"split": "test"}), (("some/set",), options)]


def test_without_the_harness_its_adapter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.delitem(sys.modules, "evals.lm_eval", raising=False)
    with pytest.raises(BadInput, match=r"needs lm-evaluation-harness; install it: \.venv/bin/pip"):
        importlib.import_module("evals.lm_eval")
    hide = "import sys, runpy; sys.modules['lm_eval.api.model'] = None; "
    run = hide + "runpy.run_module('evals.lm_eval', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: this needs lm-evaluation-harness")
    assert result.stderr.count("\n") == 1
