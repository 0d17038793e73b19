"""Summaries: formats, prompts that fit the context, scores."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.benchmarks import summaries
from evals.benchmarks.registry import BENCHMARKS
from evals.benchmarks.summaries import METRICS, SETS, judge, load, pair
from evals.harness.journal import Journal
from evals.harness.one_answer import Work
from evals.harness.problems import Dataset, Problem, Source
from evals.harness.prompts import Prompt, prompts
from evals.harness.protocol import Protocol
from mtp.data.pairs import read_records
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer
from mtp.errors import BadInput
from tests.conftest import BENCHMARK_DATA, Cli, bytes_model, write_jsonl

BYTES = ByteTokenizer()
WORDS = BPE.train(["the cat sat on the mat", "été à l'école, 漢字"] * 20, 300)


def protocol(name: str, **changes: Any) -> Protocol:
    return dataclasses.replace(BENCHMARKS[name].protocol("finetuned"), **changes)


def document(text: str, *references: str) -> Problem:
    fields = {"document": text, "summary": references[0]}
    return Problem("", fields, {"references": references})


# --------------------------------------------------------------------------------------------------
# formats


def plain(found: Dataset) -> list[Problem]:
    return [dataclasses.replace(problem, id="") for problem in found.problems]


@pytest.mark.parametrize("name", SETS)
def test_lines_of_document_and_summary(name: str, tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "test.jsonl",
        {"document": " long ", "summary": "short\nlines "},
        {"document": ["a ", "b"], "summary": ["one", "two"]},
    )
    found = load(name, Source(tmp_path))
    assert plain(found) == [document("long", "short\nlines"), document("a b", "one", "two")]
    assert found.problems[1].id == f"{name}/1" and found.origin.endswith(", unverified")


@pytest.mark.parametrize("name", SETS)
def test_columns_of_the_hub(name: str, tmp_path: Path) -> None:
    row = {SETS[name].document: "long", SETS[name].summary: "short", "id": 1}
    write_jsonl(tmp_path / name / "test.jsonl", row)
    found = load(name, Source(tmp_path).of(name))
    assert plain(found) == [document("long", "short")]


def test_scitldrs_own_file(tmp_path: Path) -> None:
    record = {"source": ["We do.", "It works. \n"], "target": ["A. ", "B."], "title": "T"}
    write_jsonl(tmp_path / "SciTLDR-A.test.jsonl", record)
    found = load("scitldr", Source(tmp_path, own=True))
    assert plain(found) == [document("We do. It works.", "A.", "B.")]
    with pytest.raises(BadInput, match="is not the original"):
        load("scitldr", Source(tmp_path))


def test_a_variant_says_which_split(tmp_path: Path) -> None:
    for split in ("test", "dev"):
        write_jsonl(tmp_path / "xsum" / f"{split}.jsonl", {"document": split, "summary": "short"})
    found = {
        variant.variant: summaries.of_variant("xsum", Source(tmp_path).of("xsum"), variant)
        for variant in summaries.protocols("xsum")
    }
    texts = {name: data.problems[0].fields["document"] for name, data in found.items()}
    assert texts == {"finetuned": "test", "prompted": "test", "finetuned-dev": "dev"}


@pytest.mark.parametrize(
    ("record", "reported"),
    [
        ({"document": "long"}, "record 1 is not of this format .*dialogue"),
        ({"document": " ", "summary": "short"}, "no document or no summary"),
        ({"document": "long", "summary": []}, "no document or no summary"),
        ({"document": "long", "summary": 3}, "record 1 is not of this format"),
    ],
)
def test_a_bad_record_is_named(record: object, reported: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "test.jsonl", record)
    with pytest.raises(BadInput, match=reported):
        load("samsum", Source(tmp_path))


@pytest.mark.skipif(not (BENCHMARK_DATA / "scitldr").is_dir(), reason=f"no {BENCHMARK_DATA}")
def test_the_original_file() -> None:
    found = load("scitldr", Source(BENCHMARK_DATA).of("scitldr"))
    assert len(found.problems) == 618
    assert found.origin == "SciTLDR-A.test.jsonl sha256:fb42dd6cd4f4a192"
    first, last = list[float](), list[float]()
    for problem in found.problems[:60]:
        references = problem.about["references"]
        start = problem.fields["document"].split(". ")[0]
        first.append(judge(start, references)["ROUGE-L F1, ascii-stemmed"])
        last.append(judge(references[-1], references)["ROUGE-3 F1, unicode"])
    assert 0.15 < sum(first) / 60 < 0.5 and last == [1] * 60


def test_pairs_are_written_of_a_split(tmp_path: Path, run_evals: Cli) -> None:
    record = {"source": ["We do."], "target": ["A.", "B."]}
    write_jsonl(tmp_path / "SciTLDR-A.train.jsonl", record)
    (tmp_path / "scitldr").mkdir()
    write_jsonl(tmp_path / "scitldr" / "dev.jsonl", {"document": "long", "summary": "short"})
    args = ("--pairs", tmp_path / "pairs.jsonl", "--set", "scitldr", "--data-dir", tmp_path)
    for more, written in (
        ((), ("We do.", "\nTL;DR:", " A.")),
        (("--split", "dev"), ("long", "\nTL;DR:", " short")),
    ):
        result = run_evals(*args, *more, main=summaries.main)
        assert result.code == 0 and ": 1 pairs of " in result.out, result.err
        assert list(read_records(tmp_path / "pairs.jsonl")) == [written]
    result = run_evals(*args, "--set", "xsum", main=summaries.main)
    assert result.code == 2 and "train.jsonl cannot be read: No such file" in result.err


# --------------------------------------------------------------------------------------------------
# prompts


def test_what_a_finetuned_model_has_seen_begins_with_its_prompt() -> None:
    problem = document("Long {text}.", "Short.", "Other.")
    seen = {"prompt": "Long {text}.", "suffix": "\nTL;DR:", "completion": " Short."}
    assert pair(problem) == seen
    assert fitting(BYTES, "Long {text}.", 99) == Prompt(
        [256, *b"Long {text}.\nTL;DR:"], 0, "Long {text}.\nTL;DR:"
    )


def fitting(text: Tokenizer, asked: str, left: int) -> Prompt | None:
    wanted = protocol("xsum", max_new=7)
    (made,) = prompts(Dataset((document(asked, "x"),), (), "x"), wanted, text, left + 7).values()
    return made


@given(st.text("the cat été漢字 ", min_size=1, max_size=60), st.integers(16, 60))
@settings(deadline=None)
@pytest.mark.parametrize("text", [BYTES, WORDS])
def test_a_document_too_long_loses_its_end(text: Tokenizer, asked: str, left: int) -> None:
    found = fitting(text, asked, left)
    if found is None:
        assert not asked[:9].strip()
        return
    kept = found.text.removesuffix("\nTL;DR:")
    assert found.text != kept and asked.startswith(kept)
    assert found.tokens == [text.bos, *text.encode(found.text)] and len(found.tokens) <= left
    assert found.whole == (kept == asked)
    if kept != asked:  # and no more of it than it must: four bytes and a merge or two
        more = asked[: len(kept) + 3] + "\nTL;DR:"
        assert 1 + len(text.encode(more)) > left - 3


@pytest.mark.parametrize("left", range(16, 40))
def test_no_character_is_torn(left: int) -> None:
    found = fitting(BYTES, "漢字" * 20, left)
    assert found and set(found.text.removesuffix("\nTL;DR:")) <= set("漢字")


def test_no_room_for_a_document() -> None:
    assert fitting(BYTES, "long", 8) is None


# --------------------------------------------------------------------------------------------------
# scores


def test_scores_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wanted = bytes_model(64), protocol("xsum", max_new=16)
    pair = (document("the cat sat " * 9, "a cat"), document("short", "none", "zz"))
    by_id = {str(i): dataclasses.replace(problem, id=str(i)) for i, problem in enumerate(pair)}
    made = prompts(Dataset(tuple(by_id.values()), (), "x"), wanted, BYTES, 64)
    asked = {name: prompt for name, prompt in made.items() if prompt}
    assert [prompt.whole for prompt in asked.values()] == [False, True]
    with Journal(tmp_path / "j", {}) as journal:
        work = Work(model, BYTES, wanted, asked, by_id, journal, 8)
        found = summaries.score(work)
        written = {record["problem"]: record["answer"] for record in journal.records}
        assert found["0"] == judge(written["0"], ["a cat"])
        assert summaries.score(dataclasses.replace(work, model=None)) == found  # type: ignore[arg-type]
    monkeypatch.setattr(summaries, "draw", lambda *_, **__: {"0": [" a cat \n"], "1": [" zz none"]})
    found = summaries.score(work)
    assert found["0"]["ROUGE-2 F1, unicode"] == found["0"]["ROUGE-2 F1, ascii"] == 1
    assert found["1"]["ROUGE-1 precision, unicode"] == 0.5
    assert found["1"]["ROUGE-1 recall, unicode"] == 1
    assert tuple(found["1"]) == METRICS and len(METRICS) == 3 * 5 * 3


@pytest.mark.parametrize(
    "line",
    [
        '{"x": 1}',
        '{"problem": "0", "sample": 0, "answer": null}',
        '{"problem": "0", "sample": "0", "answer": "a"}',
        '{"problem": ["0"], "sample": 0, "answer": "a"}',
    ],
)
def test_a_record_of_something_else_is_named(line: str, tmp_path: Path) -> None:
    (tmp_path / "j").write_text("{}\n" + line + "\n")
    with Journal(tmp_path / "j", {}) as journal:
        work = Work(bytes_model(64), BYTES, protocol("xsum"), {}, {}, journal, 8)
        with pytest.raises(
            BadInput, match=r"j line 2 is not a record of an answer; delete the file"
        ):
            summaries.score(work)


def test_every_set_is_a_benchmark() -> None:
    assert set(SETS) <= set(BENCHMARKS)
