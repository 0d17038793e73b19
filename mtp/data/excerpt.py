"""The beginnings of a split's documents: less to score, with no document left out."""

from collections.abc import Iterator

import numpy as np

from mtp.data.shards import Split
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import Tokenizer


class Excerpt(Split):
    """Of each document of a split the first tokens, as many as stand for at most `most` bytes; in
    memory. Whatever the tokenizer, it is the same text, but for the bytes of one token in each
    document. A document that is cut has no end-of-text token."""

    def __init__(self, split: Split, tokenizer: Tokenizer, most: int) -> None:
        of = bytes_of_tokens(tokenizer)
        super().__init__([], split.eos, 0)
        self._parts = list[np.ndarray]()
        for document in split.documents():
            ends = np.cumsum([len(of(token)) for token in document.tolist()])
            count = int(np.searchsorted(ends, most, side="right"))
            self._parts.append(document[:count])
            self.bytes += int(ends[count - 1]) if count else 0
        self._tokens = np.concatenate([np.empty(0, np.int64), *self._parts])
        self.tokens = len(self._tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        if not 0 <= start <= stop <= self.tokens:
            raise ValueError(f"read({start}, {stop}) of {self.tokens} tokens")
        return self._tokens[start:stop].copy()

    def documents(self) -> Iterator[np.ndarray]:
        yield from (part.copy() for part in self._parts)
