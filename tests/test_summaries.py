"""Summaries: formats, prompts that fit the context, mean scores."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import BENCHMARK_DATA
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import summaries
from evals.protocol import Protocol
from evals.records import origin
from evals.summaries import PROTOCOLS, SETS, Document, fitting, judge, means, training_text
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import BPE, ByteTokenizer, Tokenizer

BYTES = ByteTokenizer()
WORDS = BPE.train(["the cat sat on the mat", "été à l'école, 漢字"] * 20, 300)


def protocol(name: str, variant: str = "finetuned", **changes: Any) -> Protocol:
    (found,) = (p for p in PROTOCOLS if (p.benchmark, p.variant) == (name, variant))
    return dataclasses.replace(found, **changes)


# --------------------------------------------------------------------------------------------------
# formats


def write(file: Path, *records: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize("name", SETS)
def test_lines_of_document_and_summary(name: str, tmp_path: Path) -> None:
    write(
        tmp_path / "test.jsonl",
        {"document": " long ", "summary": "short\nlines "},
        {"document": ["a ", "b"], "summary": ["one", "two"]},
    )
    found = summaries.load(name, "test", tmp_path)
    assert found == [Document("long", ("short\nlines",)), Document("a b", ("one", "two"))]


@pytest.mark.parametrize("name", SETS)
def test_columns_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {SETS[name].document: "long", SETS[name].summary: "short", "id": 1}
    monkeypatch.setattr(summaries, "hub", lambda *_: [row])
    assert summaries.load(name, "validation") == [Document("long", ("short",))]
    write(tmp_path / name / "validation.jsonl", row)
    assert summaries.load(name, "validation", tmp_path) == [Document("long", ("short",))]


def test_scitldrs_own_file(tmp_path: Path) -> None:
    record = {"source": ["We do.", "It works. \n"], "target": ["A. ", "B."], "title": "T"}
    write(tmp_path / "SciTLDR-A.dev.jsonl", record)
    found = summaries.load("scitldr", "validation", tmp_path)
    assert found == [Document("We do. It works.", ("A.", "B."))]
    assert origin(tmp_path / "SciTLDR-A.dev.jsonl").endswith(", not the original")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"document": "long"}, "record 1 is not of this format .*dialogue"),
        ({"document": " ", "summary": "short"}, "no document or no summary"),
        ({"document": "long", "summary": []}, "no document or no summary"),
        ({"document": "long", "summary": 3}, "record 1 is not of this format"),
    ],
)
def test_a_bad_record_is_named(record: object, told: str, tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", record)
    with pytest.raises(BadInput, match=told):
        summaries.load("samsum", "train", tmp_path)


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="unknown summarization set 'cnn'; choose one of: big-pat"):
        summaries.load("cnn", "test", tmp_path)
    with pytest.raises(BadInput, match=r"none of these files: test\.jsonl$"):
        summaries.load("xsum", "test", tmp_path)


def test_real_files() -> None:
    folder = BENCHMARK_DATA / "scitldr"
    if not folder.is_dir():
        pytest.skip(f"no scitldr in {BENCHMARK_DATA}; BENCHMARK_DATA names another folder")
    found = summaries.load("scitldr", "test", BENCHMARK_DATA)
    assert len(found) == 618 and len(summaries.load("scitldr", "validation", BENCHMARK_DATA)) == 619
    assert origin(folder / "SciTLDR-A.test.jsonl").endswith(", the original")
    first = [judge(document.text.split(". ")[0], document.references) for document in found[:60]]
    last = [judge(document.references[-1], document.references) for document in found[:60]]
    assert means(last)["ROUGE-3 F1, unicode"] == (100, 100, 100)
    assert 15 < means(first)["ROUGE-L F1, ascii-stemmed"][0] < 50


# --------------------------------------------------------------------------------------------------
# prompts


def test_what_a_finetuned_model_has_seen_begins_with_its_prompt() -> None:
    document = Document("Long {text}.", ("Short.", "Other."))
    assert training_text(document, protocol("xsum")) == "Long {text}.\nTL;DR: Short."
    assert fitting(BYTES, document.text, protocol("xsum"), 99) == "Long {text}.\nTL;DR:"


@given(st.text("the cat été漢字 ", min_size=1, max_size=60), st.integers(16, 60))
@settings(deadline=None)
@pytest.mark.parametrize("text", [BYTES, WORDS])
def test_a_document_too_long_loses_its_end(text: Tokenizer, document: str, left: int) -> None:
    found = fitting(text, document, protocol("xsum"), left)
    kept = found.removesuffix("\nTL;DR:")
    assert found != kept and document.startswith(kept)
    assert 1 + len(text.encode(found)) <= left
    if kept != document:  # and no more of it than it must: four bytes and a merge or two
        more = document[: len(kept) + 3] + "\nTL;DR:"
        assert 1 + len(text.encode(more)) > left - 3


@pytest.mark.parametrize("left", range(16, 40))
def test_no_character_is_torn(left: int) -> None:
    found = fitting(BYTES, "漢字" * 20, protocol("xsum"), left)
    assert set(found.removesuffix("\nTL;DR:")) <= set("漢字")


def test_no_room_for_a_document() -> None:
    with pytest.raises(BadInput, match="leave 8 of the model's context, too few for a document"):
        fitting(BYTES, "long", protocol("xsum"), 8)


# --------------------------------------------------------------------------------------------------
# scores


def test_scores_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=64)
    model, wanted = MultiTokenTransformer(config), protocol("xsum", max_new=16)
    documents = [Document("the cat sat " * 9, ("a cat",)), Document("short", ("none", "zz"))]
    (one, two) = summaries.score(model, BYTES, documents, wanted)
    assert one.scores == judge(one.text, ["a cat"]).scores
    seen = []

    def written(_model: object, _text: object, prompts: list[str], *rest: object) -> list[str]:
        seen.extend([prompts, rest])
        return [" a cat \n", " zz none"]

    monkeypatch.setattr(summaries, "answers", written)
    (one, two) = summaries.score(model, BYTES, documents, wanted, ["unicode"])
    assert seen == [[("the cat sat " * 9)[:40] + "\nTL;DR:", "short\nTL;DR:"], ((), 16)]
    assert one.text == "a cat" and one.scores["unicode"]["ROUGE-2"].f1 == 1
    assert two.scores["unicode"]["ROUGE-1"] == pytest.approx((0.5, 1, 2 / 3))
    found = means([one, two])
    assert found["ROUGE-1 precision, unicode"] == (75, 50, 100)
    assert found["ROUGE-1 recall, unicode"] == (100, 100, 100)
    assert len(found) == 15


def test_variants_are_named_once() -> None:
    names = {(p.benchmark, p.variant) for p in PROTOCOLS}
    assert len(names) == len(PROTOCOLS) == 2 * len(SETS)
