"""What counts of what a model writes into functions: prompts, cuts, counts, and who writes."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from evals.probes import parses
from evals.probes.ngrams import Ngrams
from evals.probes.parses import Prompt, body_of, count_of, judge
from mtp.config import CorpusConfig, ModelConfig
from mtp.data.corpus import Corpus, build
from mtp.model.model import MultiTokenTransformer

MODULE = """import os


class Box{i}:
    @property
    def kept{i}(
        self, value: int = {i}
    ) -> str:
        if value is None:
            return os.sep
        return str(value)

    def told{i}(self):
        \"\"\"A docstring of {i}, and so no prompt.\"\"\"
        first = self
        return first

    def short{i}(self):
        return {i}

    def line{i}(self): return {i}; pass


def last{i}(x):
    # a comment of {i}

    @os.register
    def inner(y):
        z = y + x
        return z

    return inner
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("modules")
    for i in range(12):
        (folder / f"{i}.py").write_text(MODULE.replace("{i}", str(i)))
        (folder / f"{i}.txt").write_text(f"Story {i} isn't code: it tells of a fox and {i} hens.\n")
    config = CorpusConfig(f"files:{folder}", "bytes", validation=0.5)
    return build(config, tmp_path_factory.mktemp("data"), progress=False)


@pytest.fixture(scope="module")
def asked(corpus: Corpus) -> tuple[Prompt, ...]:
    return parses.prompts(corpus, 100)


def test_prompts_end_where_a_body_begins(corpus: Corpus, asked: tuple[Prompt, ...]) -> None:
    text = corpus.tokenizer
    headers = {p.header.translate(str.maketrans("", "", "0123456789")).strip() for p in asked}
    assert headers == {
        "def kept(\n        self, value: int = \n    ) -> str:",
        "def last(x):\n    # a comment of",
        "def inner(y):",
    }
    documents = [text.decode(d.tolist()) for d in corpus.validation.documents()]
    for prompt in asked:
        before, behind = text.decode(list(prompt.tokens)), text.decode(list(prompt.real))
        assert before.endswith(prompt.header[-20:]) and behind.startswith("\n")
        assert sum(before + behind in document for document in documents) == 1
        assert len(prompt.tokens) == parses.BODY >= len(prompt.real)


def test_documents_take_turns(corpus: Corpus, asked: tuple[Prompt, ...]) -> None:
    names = [re.findall(r"def ([a-z]+)", prompt.header)[0] for prompt in asked]
    modules = names.count("last")
    assert modules > 2
    assert names == ["last"] * modules + ["kept"] * modules + ["inner"] * modules
    few = parses.prompts(corpus, 3)
    assert len(few) == 3 and few[:2] == asked[:2], "two documents have enough"


def test_the_beginning_of_a_document_is_known_as_such(tmp_path: Path) -> None:
    for i in range(8):
        (tmp_path / f"{i}.py").write_text(f"def f{i}(x):\n    y = x + {i}\n    return y\n")
    corpus = build(CorpusConfig(f"files:{tmp_path}", "bytes", validation=0.5), tmp_path / "data")
    for prompt in parses.prompts(corpus, 100):
        assert prompt.tokens[0] == corpus.tokenizer.bos
        assert corpus.tokenizer.decode(list(prompt.tokens)) == prompt.header


DEF = "    def f(self):"


@pytest.mark.parametrize(
    ("continuation", "ended", "body"),
    [
        ("\n        a = 1\n        b = 2\n    def g", False, "\n        a = 1\n        b = 2"),
        ("\n        a = 1\n\n        b = 2\n        c", False,
         "\n        a = 1\n\n        b = 2"),  # the last line is not complete
        ("\n        a = 1\n        b = 2", True, "\n        a = 1\n        b = 2"),
        ("\n        a = 1\n    b = 2\n        c = 3\n", False, "\n        a = 1"),
        ("\n    a = 1\n        b = 2\n", False, ""),
        ("\n        a = 1", False, ""),
        (" -> int:\n        a = 1\n        b", False, ""),  # the header goes on
        ("  \n        a = 1\n\n\n        ", False, "\n        a = 1"),
        ("", True, ""),
    ],
)  # fmt: skip
def test_a_body_is_cut_at_its_end_or_at_the_last_complete_line(
    continuation: str, ended: bool, body: str
) -> None:
    assert body_of(continuation, DEF, ended) == body


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ("\n        a = 1", 1),
        ("\n        if a:\n            b = 1\n        return b", 3),
        ("\n        pass", 0),
        ('\n        """Told."""\n        ...\n        1', 0),
        ('\n        """Told."""\n        return', 1),
        ("\n        if a:", 0),
        ("\n        a = (1,", 0),
        ("\n        a = 1\n          b = 2", 0),
        ("\n        a = '\\d'\n        return \0", 0),
        ("\n        return await x", 1),
        ("", 0),
    ],
)
def test_statements_are_counted_where_a_body_parses(body: str, count: int) -> None:
    assert count_of(DEF, body) == count
    flat = body.replace("\n        ", "\n    ")
    assert count_of("def f(self):", flat) == count


def of(corpus: Corpus, *texts: str) -> parses.Written:
    """What becomes of continuations of the same header."""
    prompt = Prompt((1,), DEF, ())
    return judge([prompt] * len(texts), [corpus.tokenizer.encode(t) for t in texts], corpus)


def test_what_is_written_counts_once_and_only_if_it_parses(corpus: Corpus) -> None:
    two = "\n        a = 1\n        b = 2\n    "
    found = of(corpus, two, two, "\n        a = 1\n        b = = 2\n    ", "\n        x = = 3\n")
    # a = 1 begins three bodies and counts once; the body of two statements twice, and counts once
    assert (found.first, found.whole, found.statements) == (1 / 4, 1 / 4, (2 + 2 + 1 + 0) / 4)
    other = of(corpus, two, two.replace("1", "7"), two.replace("a", "c"), "\n        pass\n    ")
    assert (other.first, other.whole) == (3 / 4, 3 / 4)
    one = of(corpus, "\n        return 1\n    def", "\n        if 1:\n            x = 1\n    d")
    assert (one.first, one.whole) == (1, 1 / 2)  # a body of one statement is too short
    late = of(corpus, "\n        x = (\n            1)\n        y")  # a statement of two lines
    assert (late.first, late.statements) == (1, 1)


def test_repeated_tokens_are_told(corpus: Corpus) -> None:
    assert of(corpus, "abcdabcd").distinct == 4 / 5
    assert of(corpus, "abcde", "abcde").distinct == 2 / 4 and of(corpus, "abc").distinct == 0


def test_the_real_text_parses_and_a_constant_counts_once(
    corpus: Corpus, asked: tuple[Prompt, ...]
) -> None:
    constant = judge(asked, parses.constant(asked, corpus), corpus)
    assert constant.first == constant.whole == 1 / len(asked)
    assert constant.statements == 2
    short = [p for p in asked if "inner" in p.header]  # the others are longer than BODY
    answers = parses.real(short, parses.BODY)
    assert judge(short, answers, corpus).statements == 2
    assert all(len(answer) == 8 for answer in parses.real(asked, 8))


def test_a_table_of_the_same_text_writes_it(corpus: Corpus, asked: tuple[Prompt, ...]) -> None:
    train = corpus.train.read(0, corpus.train.tokens)
    table = Ngrams(train, 6, 258)
    found = judge(asked, parses.of_table(table, asked, corpus, parses.BODY), corpus)
    even = judge(asked, parses.of_table(Ngrams(train, 1, 258), asked, corpus, 64), corpus)
    assert found.statements > 0.2 > even.statements
    first, again = (parses.of_table(table, asked, corpus, 20) for _ in range(2))
    assert first == again
    assert {len(answer) for answer in first if corpus.tokenizer.eos not in answer} == {20}


def test_a_model_writes_up_to_half_of_its_context(
    corpus: Corpus, asked: tuple[Prompt, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=32)
    model = MultiTokenTransformer(config)
    answers = parses.written(model, asked, corpus, parses.BODY)
    eos = corpus.tokenizer.eos
    assert all(len(answer) == 16 or answer[-1] == eos for answer in answers)
    assert len(answers) == len(asked) and len({tuple(answer) for answer in answers}) > 1
    assert answers == parses.written(model, asked, corpus, parses.BODY)
    assert answers != parses.written(model, asked, corpus, parses.BODY, seed=1)
    monkeypatch.setattr(parses, "BATCH", 2)
    assert len(parses.written(model, asked, corpus, 4)) == len(asked)


def test_text_that_is_no_code_has_no_prompts(texts: Path, tmp_path: Path) -> None:
    corpus = build(CorpusConfig(f"files:{texts}", "bytes", validation=0.3), tmp_path)
    assert parses.prompts(corpus, 10) == ()


def test_shares_of_many_distinct_bodies_do_not_depend_on_their_order(corpus: Corpus) -> None:
    draw = np.random.default_rng(0)
    texts = [f"\n        a = {i % 7}\n        b = {i % 5}\n    " for i in range(30)]
    shuffled = [texts[i] for i in draw.permutation(30)]
    assert of(corpus, *texts) == of(corpus, *shuffled)
    assert of(corpus, *texts).first == 7 / 30 and of(corpus, *texts).whole == 30 / 30
