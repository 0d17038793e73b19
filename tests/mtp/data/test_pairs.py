"""Prompts and completions: what is a target, what is cut, what is held out, what is refused."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.benchmarks.summaries import pair, protocols
from evals.harness.problems import Dataset, Problem, write_pairs
from evals.harness.prompts import prompts
from mtp.config import CorpusConfig
from mtp.data.batches import Batches, evaluation_batches
from mtp.data.corpus import Corpus, build, open_corpus
from mtp.data.pairs import Pairs
from mtp.data.tokenizer import ByteTokenizer
from mtp.data.window import IGNORE
from mtp.errors import BadInput
from mtp.files import file_sha256
from tests.mtp.data.helpers import both

BOS, EOS = 0, 1


class Memory(Pairs):
    """Records in memory. A token's id is its position, so that no target is taken for another."""

    def __init__(self, lengths: Sequence[tuple[int, ...]]) -> None:
        """lengths: of prompts, completions and perhaps the prompts' suffixes."""
        self.texts: list[tuple[list[int], list[int], int]] = []
        parts, table, next_id = [], [], 2
        for prompt, completion, *rest in lengths:
            suffix = min(sum(rest), prompt)
            ids = list(range(next_id, next_id + prompt + completion))
            next_id += len(ids)
            self.texts.append((ids[:prompt], ids[prompt:], suffix))
            parts += [BOS, *ids, EOS]
            table.append((len(ids) + 2, prompt + 1, suffix))
        self.stream = np.array(parts, dtype=np.int64)
        super().__init__([], EOS, 0, np.array(table, dtype=np.uint32).reshape(-1, 3))
        self.tokens = len(self.stream)

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.tokens
        return self.stream[start:stop]


def slowly(
    prompt: list[int], completion: list[int], suffix: int, context: int, n: int
) -> tuple[list[int], list[list[int]]]:
    """Inputs and the heads' targets of one record, token by token."""
    prompt, answer = [*prompt], [*completion, EOS]
    while prompt and 1 + len(prompt) + len(answer) > context + 1:
        prompt.pop(len(prompt) - suffix - 1 if 0 < suffix < len(prompt) else 0)
    while 1 + len(answer) > context + 1:
        answer.pop()
    record = [BOS, *prompt, *answer]
    scored = [False] * (1 + len(prompt)) + [True] * len(answer)
    inputs = [record[t] if t < len(record) else EOS for t in range(context)]
    targets = []
    for i in range(1, n + 1):
        row = []
        for t in range(context):
            at = t + i
            row.append(record[at] if at < len(record) and scored[at] else IGNORE)
        targets.append(row)
    return inputs, targets


record = st.tuples(st.integers(0, 9), st.integers(1, 9), st.integers(0, 4))
lengths = st.lists(record, min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(lengths, st.integers(1, 14), st.integers(1, 5))
def test_targets_are_the_completion_and_its_eos(
    records: list[tuple[int, int, int]], context: int, n: int
) -> None:
    split = Memory(records)
    inputs, targets = both(*evaluation_batches(split, len(records), context, n))
    for row, texts in enumerate(split.texts):
        expected = slowly(*texts, context, n)
        assert inputs[row].tolist() == expected[0]
        assert targets[:, row].tolist() == expected[1]


def test_a_record_by_hand() -> None:
    split = Memory([(3, 2)])  # bos 2 3 4 | 5 6 eos
    x = IGNORE
    inputs, targets = both(*evaluation_batches(split, 1, 8, 2))
    assert inputs.tolist() == [[BOS, 2, 3, 4, 5, 6, EOS, EOS]]
    assert targets[0].tolist() == [[x, x, x, 5, 6, EOS, x, x]]
    assert targets[1].tolist() == [[x, x, 5, 6, EOS, x, x, x]]
    inputs, targets = both(*evaluation_batches(split, 1, 4, 2))  # two of the prompt's tokens go
    assert inputs.tolist() == [[BOS, 4, 5, 6]]
    assert targets[0].tolist() == [[x, 5, 6, EOS]]
    inputs, targets = both(*evaluation_batches(split, 1, 2, 2))  # the prompt and eos go
    assert inputs.tolist() == [[BOS, 5]]
    assert targets.tolist() == [[[5, 6]], [[6, x]]]


def test_a_record_with_a_suffix_by_hand() -> None:
    split = Memory([(4, 2, 1)])  # bos 2 3 4 5 | 6 7 eos, of which 5 asks
    inputs, targets = both(*evaluation_batches(split, 1, 5, 1))  # 3 and 4 go
    assert inputs.tolist() == [[BOS, 2, 5, 6, 7]]
    assert targets.tolist() == [[[IGNORE, IGNORE, 6, 7, EOS]]]
    inputs, _ = both(*evaluation_batches(split, 1, 3, 1))
    assert inputs.tolist() == [[BOS, 6, 7]]


def test_what_the_context_cuts_is_counted() -> None:
    split = Memory([(3, 2), (0, 4), (9, 1)])  # 7, 6 and 12 tokens
    assert split.cuts(11) == (0, 0, pytest.approx((6 + 5 + 11) / 33))
    assert split.cuts(10)[:2] == (1, 0) and split.cuts(5)[:2] == (2, 0)
    assert split.cuts(4) == (2, 1, 1.0)
    assert "3 records; a context of 5 cuts 2 prompts and 0 completions" in split.summary(5)


def test_an_epoch_has_every_record_once_and_resumes() -> None:
    split = Memory([(2, 1 + i % 5) for i in range(10)])
    whole, part, resumed = (Batches(split, 4, 12, 2, seed=3) for _ in range(3))
    assert whole.windows_per_epoch == 10
    first = [row for _ in range(5) for row in whole.next().inputs.tolist()]
    firsts = sorted(row[1] for row in first[:10])
    assert firsts == sorted(prompt[0] for prompt, *_ in split.texts) and first[:10] != first[10:]
    part.next()
    resumed.load_state(part.state())
    for ours, theirs in zip(both(resumed.next()), both(part.next()), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(BadInput, match="10 windows of 12 tokens, fewer than one batch of 11"):
        Batches(split, 11, 12, 2, seed=3)


@pytest.mark.parametrize(("limit", "records"), [(2, 1), (7, 1), (12, 1), (13, 2), (10**6, 3)])
def test_an_evaluation_may_take_the_first_records(limit: int, records: int) -> None:
    split = Memory([(3, 2), (0, 4), (9, 1)])
    found = list(evaluation_batches(split, 2, 8, 1, limit))
    assert sum(int((t != IGNORE).any(2).sum()) for _, t in map(both, found)) == records


# --------------------------------------------------------------------------------------------------
# as a corpus


def write(file: Path, records: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"prompt": p, "completion": c, "more": 1}) for p, c in records]
    file.write_text("\n".join(lines) + "\n\n")
    return file


def build_pairs(tmp_path: Path, records: list[tuple[str, str]], **changes: object) -> Corpus:
    file = write(tmp_path / "train.jsonl", records)
    values = {"source": f"pairs:{file}", "tokenizer": "bytes", "validation": 0.3} | changes
    return build(CorpusConfig(**values), tmp_path / "data", progress=False)  # pyright: ignore


SUMS = [(f"What is {i} + {i}?", f" {i + i} é.\n") for i in range(40)]


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_records_come_back_whole(tmp_path: Path, tokenizer: str) -> None:
    corpus = build_pairs(tmp_path, [*SUMS, SUMS[0], ("", "x")], tokenizer=tokenizer, vocab=280)
    assert corpus.manifest["documents"]["duplicates"] == 1
    found, scored_bytes = [], []
    for split in (corpus.train, corpus.validation):
        assert isinstance(split, Pairs)
        scored = 0
        for index, document in enumerate(split.documents()):
            total, before, suffix = split.lengths[index].tolist()
            assert len(document) == total
            assert document[0] == corpus.tokenizer.bos and document[-1] == corpus.tokenizer.eos
            prompt, completion = document[1:before].tolist(), document[before:-1].tolist()
            texts = corpus.tokenizer.decode(prompt), corpus.tokenizer.decode(completion)
            assert prompt == corpus.tokenizer.encode(texts[0]) and not suffix  # as a model is asked
            found.append(texts)
            scored += len(texts[1].encode())
        scored_bytes.append((split.bytes, scored))
    assert sorted(found) == sorted([*SUMS, ("", "x")])
    assert all(a == b > 0 for a, b in scored_bytes)
    text = corpus.tokenizer.decode(corpus.train.read(0, corpus.train.tokens).tolist())
    assert "[" not in text and "\\" not in text


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe"])
def test_a_long_document_is_learned_as_it_is_asked(tmp_path: Path, tokenizer: str) -> None:
    documents = [f"{i:02} the story of a fox who ran and ran for {i:02} days." for i in range(40)]
    problems = [Problem(d[:2], {"document": d, "summary": "fox"}, {}) for d in documents]
    file = tmp_path / "long.jsonl"
    write_pairs(file, map(pair, problems))
    config = CorpusConfig(f"pairs:{file}", tokenizer, vocab=280, validation=0.0)
    corpus = build(config, tmp_path / "data", progress=False)
    split, text, context = corpus.train, corpus.tokenizer, 30
    assert isinstance(split, Pairs)
    after = len(text.encode(" fox")) + 1
    asked = prompts(
        Dataset(tuple(problems), (), ""), protocols("xsum")[0], text, context + 1, lambda _: after
    )
    tokens = {tuple(prompt.tokens) for prompt in asked.values() if prompt and not prompt.whole}
    assert len(tokens) == 40 and all(text.decode([*t]).endswith("\nTL;DR:") for t in tokens)
    learned = set()
    for index in range(split.records):
        window, scored = split.window(index, context, 1)
        learned.add(tuple(window[: scored.argmax()].tolist()))
    assert learned == tokens


def test_answers_to_one_prompt_are_held_out_together(tmp_path: Path) -> None:
    records = [(f"Problem {i}:", f" solution {j}") for i in range(30) for j in range(4)]
    corpus = build_pairs(tmp_path, records)
    sides = []
    for split in (corpus.train, corpus.validation):
        texts = [corpus.tokenizer.decode(ids.tolist()) for ids in split.documents()]
        sides.append({text.split(":")[0] for text in texts})
        assert len(texts) == 4 * len(sides[-1])
    assert not sides[0] & sides[1] and len(sides[0]) + len(sides[1]) == 30
    assert 3 <= len(sides[1]) <= 20


def test_the_manifest_counts_long_records(tmp_path: Path) -> None:
    # 2 + 60 + n bytes and specials: 67 and 134 tokens
    corpus = build_pairs(tmp_path, [("p" * 60, "c" * 5), ("q" * 60, "c" * 72)], validation=0.0)
    records = corpus.manifest["records"]["train"]
    assert (records["records"], records["longest"]) == (2, 134)
    assert records["cut_by_context"] == {"64": 2, "128": 1}
    assert isinstance(corpus.train, Pairs)
    assert [sum(corpus.train.cuts(n)[:2]) for n in (64, 128)] == [2, 1]
    assert corpus.manifest["records"]["validation"]["records"] == 0
    with pytest.raises(BadInput, match="nothing to evaluate"):
        next(evaluation_batches(corpus.validation, 2, 8, 1))


def test_the_corpus_follows_the_files_content(tmp_path: Path) -> None:
    first = build_pairs(tmp_path, SUMS)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "train.jsonl").rename(moved / "train.jsonl")
    config = CorpusConfig(f"pairs:{moved / 'train.jsonl'}", "bytes", validation=0.3)
    assert build(config, tmp_path / "data", progress=False).folder == first.folder
    assert build_pairs(tmp_path, SUMS[1:]).folder != first.folder


def test_an_altered_table_of_records_is_found(tmp_path: Path) -> None:
    corpus = build_pairs(tmp_path, SUMS)
    file = corpus.folder / "train-records.bin"
    data = file.read_bytes()
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(BadInput, match=r"train-records.bin was altered"):
        open_corpus(corpus.folder)


def test_a_records_table_of_another_form_is_reported(tmp_path: Path) -> None:
    """A table from before records had suffixes; its hashes are right."""
    folder = build_pairs(tmp_path, SUMS).folder
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    for entry in manifest["records"].values():
        file = folder / entry["file"]
        rows = np.fromfile(file, np.uint32).reshape(-1, 3)
        file.write_bytes(rows[:, :2].tobytes())
        entry["sha256"] = file_sha256(file)
    digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | {"sha256": digest}))
    with pytest.raises(
        BadInput, match=r"records.bin has the wrong size; delete .* to build it again"
    ):
        open_corpus(folder)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '"text"',
        "3",
        '{"prompt": "a"}',
        '{"prompt": 1, "completion": "b"}',
        '{"prompt": "a", "completion": ""}',
        '{"prompt": "a", "completion": null}',
        '{"prompt": "a", "suffix": 1, "completion": "b"}',
        "[" * 100_000,
    ],
    ids=lambda line: line[:40],
)
def test_a_line_that_is_not_a_record_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n' + line + "\n")
    with pytest.raises(BadInput, match=r"bad.jsonl line 2 is not a record") as error:
        build(CorpusConfig(f"pairs:{file}", "bytes"), tmp_path / "data", progress=False)
    assert "\n" not in str(error.value)


def test_other_bad_input(tmp_path: Path) -> None:
    write(tmp_path / "good.jsonl", SUMS)
    for source, message in (
        (f"pairs:{tmp_path}/none.jsonl", "no such file"),
        (f"pairs:{tmp_path}", "no such file"),
        (f"mix:1*pairs:{tmp_path}/good.jsonl|1*stdlib", "only texts can be mixed"),
        ("pairs:", "unknown source"),
    ):
        with pytest.raises(BadInput, match=message):
            build(CorpusConfig(source, "bytes"), tmp_path / "data", progress=False)


def test_text_that_is_not_unicode_is_counted(tmp_path: Path) -> None:
    corpus = build_pairs(tmp_path, [*SUMS, ("half a pair: \ud800", "x")])
    assert corpus.manifest["documents"]["not_utf8"] == 1
    assert isinstance(corpus.tokenizer, ByteTokenizer)
