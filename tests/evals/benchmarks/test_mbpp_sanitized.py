"""Sanitized MBPP: a file of its own, an array or lines, with fields of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from evals.benchmarks import mbpp
from evals.harness.problems import Source
from evals.harness.prompts import prompts
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from tests.conftest import MBPP_LINES, write_jsonl
from tests.evals.sandbox.helpers import need

LINES: list[dict[str, Any]] = [
    {
        "source_file": "made up",
        "task_id": i,
        "prompt": f"Write a function to return the square root of a number plus {i}.",
        "code": f"import math\ndef root_{i}(n):\n  return math.sqrt(n) + {i}",
        "test_imports": ["import math", "from math import isclose"],
        "test_list": [f"assert isclose(root_{i}({j}), math.sqrt({j}) + {i})" for j in (0, 2)],
    }
    for i in (2, 3, 4, 11, 510, 511)
]


@pytest.mark.parametrize("name", ["sanitized-mbpp.json", "sanitized-mbpp.jsonl"])
@pytest.mark.parametrize("as_array", [True, False])
def test_it_is_read_as_an_array_and_as_lines(tmp_path: Path, name: str, as_array: bool) -> None:
    if as_array:
        (tmp_path / name).write_text(json.dumps(LINES, indent=1))
    else:
        write_jsonl(tmp_path / name, *LINES)
    found = mbpp.load_sanitized(Source(tmp_path).of("mbpp"))
    assert [p.id for p in found.problems] == ["mbpp/11", "mbpp/510"] and len(found.examples) == 3
    assert found.origin.startswith(f"{name} sha256:") and found.origin.endswith(", unverified")
    for variant, start in (("sanitized", '"""\nWrite'), ("sanitized-austin", "You are an expert")):
        protocol = mbpp.MBPP.protocol(variant)
        made = prompts(found, protocol, ByteTokenizer(), 4096)["mbpp/510"]
        assert made and made.text.startswith(start) and "plus 510" in made.text
        assert mbpp.MBPP.other[variant] is mbpp.load_sanitized


def test_its_tests_have_their_imports() -> None:
    """Neither the answer nor the reference imports isclose."""
    need()
    made = (mbpp.in_full_form(line, "made up") for line in LINES)
    problem = mbpp.dataset(made, "made up").problems[0]
    answers = {
        "def root_11(n): return n ** 0.5 + 11": "passed",
        "def root_11(n): return n ** 0.5 + 12": "failed",
        "def other(n): return n ** 0.5 + 11": "failed",
    }
    asked = [(problem, answer) for answer in answers]
    found = mbpp.MBPP.check.verdicts(asked, mbpp.MBPP.protocol("sanitized"), False)
    assert list(found) == list(answers.values())


def test_what_is_missing_or_wrong_is_named(tmp_path: Path) -> None:
    source = Source(tmp_path).of("mbpp")
    missing = r"sanitized-mbpp\.json cannot be read: No such file \(nor one called .*\.jsonl\)$"
    with pytest.raises(BadInput, match=missing):
        mbpp.load_sanitized(source)
    file = tmp_path / "sanitized-mbpp.json"
    for content, reported in (
        ("[1]", "item 1 is not a JSON record"),
        ('[{"a": 1}, {"a"]', "is not a JSON array of records"),
        (json.dumps([LINES[0] | {"test_imports": [1]}]), "problem 2 has test_imports that are no"),
        (json.dumps([LINES[0] | {"test_imports": None}]), "no 'test_imports' of type list"),
        (json.dumps(MBPP_LINES), "no 'test_imports' of type list"),
    ):
        file.write_text(content)
        with pytest.raises(BadInput, match=reported):
            mbpp.load_sanitized(source)


def test_the_full_variants_name_the_sanitized_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "sanitized-mbpp.json").write_text(json.dumps(LINES))
    with pytest.raises(BadInput, match=r"^mbpp\.jsonl is missing, .* mbpp=sanitized reads it$"):
        mbpp.load(Source(tmp_path).of("mbpp"))
