"""Files and hub: what is missing or unreadable is told in one line."""

import hashlib
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals import records
from evals.records import convert, hub, origin, read_jsonl
from mtp.errors import BadInput


def test_lines_may_hold_any_character_but_a_line_break(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"a": "x\u2028y"}\n\n{"a": "\\n"}\r\n', encoding="utf-8", newline="")
    assert read_jsonl(file) == [{"a": "x\u2028y"}, {"a": "\n"}]


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"a\.jsonl cannot be read: "):
        read_jsonl(tmp_path / "a.jsonl")


def test_origin_knows_published_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert origin(file) == f"sha256 {digest}"
    monkeypatch.setattr(records, "ORIGINALS", {"a.jsonl": digest})
    assert origin(file) == f"sha256 {digest}, the original"
    file.write_text("{ }")
    assert origin(file).endswith(", not the original")


def test_conversion_leaves_out_none_and_numbers_the_rest() -> None:
    assert convert("x", [1, 2, 3], lambda one: None if one == 2 else str(one)) == ["1", "3"]
    with pytest.raises(BadInput, match="x record 2 is not of this format"):
        convert("x", [{"a": 1}, {}], lambda one: one["a"])


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: Any, **options: Any) -> list[dict[str, int]]:
        asked.append((args, options))
        return [{"a": 1}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert hub("some/set", None, "test") == [{"a": 1}]
    assert asked == [(("some/set", None), {"split": "test"})]
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda: None))
    with pytest.raises(BadInput, match=r"data set some/set \(test\) could not be read: "):
        hub("some/set", None, "test")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"needs datasets; install it \(pip install -e '\.\[hf\]'\)"):
        hub("some/set", None, "test")


def test_without_the_harness_its_adapter_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    monkeypatch.delitem(sys.modules, "evals.lm_eval", raising=False)
    with pytest.raises(BadInput, match="needs lm-evaluation-harness; install it: pip install"):
        importlib.import_module("evals.lm_eval")
    hide = "import sys, runpy; sys.modules['lm_eval.api.model'] = None; "
    run = hide + "runpy.run_module('evals.lm_eval', run_name='__main__')"
    said = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True)
    assert said.returncode == 2
    assert said.stderr.startswith("error: this needs lm-evaluation-harness")
    assert said.stderr.count("\n") == 1
