"""ROUGE-1, 2, 3, L and Lsum with precision, recall and F1, by the package rouge-score.

    style           tokens                                   stemmer
    ascii           rouge-score's own: [a-z0-9]+             none
    ascii-stemmed   the same                                 Porter's, of words above three letters
    unicode         words of letters, marks and digits;      none
                    Thai, Lao, Khmer, Burmese, Chinese and
                    Japanese by grapheme cluster

rouge-score's own tokenizer drops whatever is not ASCII. Of a Persian or Thai text it keeps numbers
and Latin names alone, a text without them scores 0 against itself, and French loses its accented
letters and falls apart there ("été" is "t"). So the paper's scores near 1 on pn-summary (Table S8)
measure those alone. The paper does not say whether it stemmed; rouge-score does not unless asked
to, evaluations of CNN/DailyMail commonly do.

Scripts without spaces would need a dictionary to find words. Their clusters (a letter with its
vowel signs and tone marks) need none, but recur far more often than words: scores of different
styles or scripts do not compare.

Lsum takes each line as a sentence and matches the lines of a summary with those of the reference
as a set. Lines are those of the texts, nothing splits them here: of the paper's sets only
CNN/DailyMail's references have several, and it is the only one for which the paper prints an Lsum
of its own.
"""

import functools
import unicodedata
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import regex

from mtp.errors import choose

TYPES = {
    "ROUGE-1": "rouge1",
    "ROUGE-2": "rouge2",
    "ROUGE-3": "rouge3",
    "ROUGE-L": "rougeL",
    "ROUGE-Lsum": "rougeLsum",
}
_UNSPACED = (
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Han}\p{Hiragana}\p{Katakana}]"
    r"&&[\p{L}\p{N}\p{M}]"
)
_WORD = rf"[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]"
_TOKENS = regex.compile(
    rf"(?V1)(?=[{_UNSPACED}])\X"  # a cluster
    rf"|[{_WORD}](?:\u200c?[{_WORD}])*"  # a word; the zero-width non-joiner is inside Persian ones
)


class Score(NamedTuple):
    precision: float
    recall: float
    f1: float


class Tokenizer(Protocol):
    def tokenize(self, text: str) -> list[str]: ...


class AsciiTokenizer:
    """rouge-score's own."""

    def __init__(self, stemmed: bool) -> None:
        self.stemmed = stemmed

    def tokenize(self, text: str) -> list[str]:
        return _own(self.stemmed).tokenize(text)


@functools.cache
def _own(stemmed: bool) -> Any:
    from rouge_score.tokenizers import DefaultTokenizer  # takes seconds to import

    return DefaultTokenizer(use_stemmer=stemmed)


class UnicodeTokenizer:
    """Words of any script, and grapheme clusters where words are not parted by spaces. Of ASCII
    text the same as rouge-score's own."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKENS.findall(unicodedata.normalize("NFC", text.lower()))


TOKENIZERS: dict[str, Tokenizer] = {
    "ascii": AsciiTokenizer(stemmed=False),
    "ascii-stemmed": AsciiTokenizer(stemmed=True),
    "unicode": UnicodeTokenizer(),
}


def score(references: Sequence[str], summary: str, style: str) -> dict[str, Score]:
    """Each type's score of a summary against its reference; of several, against the one with the
    highest F1 of that type."""
    choose("style of ROUGE", style, TOKENIZERS)
    from rouge_score.rouge_scorer import RougeScorer  # takes seconds to import

    scorer = RougeScorer(list(TYPES.values()), tokenizer=TOKENIZERS[style])
    found = scorer.score_multi(references, summary)
    return {name: Score(*map(float, found[kind])) for name, kind in TYPES.items()}
