"""The beginnings of documents: the same text for every tokenizer, and the loss of that text."""

from pathlib import Path

import numpy as np
import pytest

from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus, build
from mtp.data.excerpt import Excerpt

TEXTS = ["def add(a, b):\n    return a + b\n" * 3, "short, but long enough\n", "é" * 40 + "\n"]


def corpus(folder: Path, tokenizer: str) -> Corpus:
    for i, text in enumerate(TEXTS):
        (folder / f"{i}.txt").write_text(text)
    source = f"files:{folder}"
    return build(CorpusConfig(source, tokenizer, vocab=300, validation=0.9), folder / "data")


@pytest.mark.parametrize("most", [1, 7, 30, 10_000])
def test_an_excerpt_is_the_beginning_of_each_document(tmp_path: Path, most: int) -> None:
    whole = corpus(tmp_path, "bytes")
    split, found = whole.validation, Excerpt(whole.validation, whole.tokenizer, most)
    expected = [document for document in split.documents()]
    parts = list(found.documents())
    assert len(parts) == len(expected) > 0
    for part, document in zip(parts, expected, strict=True):
        text = [token for token in document.tolist() if token < 256]
        assert [token for token in part.tolist() if token < 256] == text[:most]
    assert found.bytes == sum(min(most, sum(d < 256)) for d in expected)
    assert (found.read(0, found.tokens) == np.concatenate(parts)).all()
    assert (found.read(1, 3) == np.concatenate(parts)[1:3]).all()
    with pytest.raises(ValueError, match="read"):
        found.read(0, found.tokens + 1)


def test_tokenizers_have_the_same_text_but_for_a_token(tmp_path: Path) -> None:
    sizes = []
    for tokenizer in ("bytes", "bpe"):
        (folder := tmp_path / tokenizer).mkdir()
        own = corpus(folder, tokenizer)
        found = Excerpt(own.validation, own.tokenizer, 50)
        text = own.tokenizer.decode(found.read(0, found.tokens).tolist()).encode()
        assert len(text) == pytest.approx(found.bytes, abs=6)  # a character that is cut
        sizes.append(found.bytes)
    assert sizes[1] <= sizes[0] < sizes[1] + 20
