"""The beginnings of a split's documents: less to score, with no document left out."""

from collections.abc import Iterator

import numpy as np

from mtp.data.shards import Split
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import Tokenizer


class Excerpt(Split):
    """At most `most` first tokens of each document of a split, in memory. A document that is cut
    has no end-of-text token. `bytes` counts what the tokens that are left stand for."""

    def __init__(self, split: Split, tokenizer: Tokenizer, most: int) -> None:
        parts = [document[:most] for document in split.documents()]
        of = bytes_of_tokens(tokenizer)
        text_bytes = sum(len(of(token)) for part in parts for token in part.tolist())
        super().__init__([], split.eos, text_bytes)
        self._parts = parts
        self._tokens = np.concatenate(parts) if parts else np.empty(0, np.int64)
        self.tokens = len(self._tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        if not 0 <= start <= stop <= self.tokens:
            raise ValueError(f"read({start}, {stop}) of {self.tokens} tokens")
        return self._tokens[start:stop].copy()

    def documents(self) -> Iterator[np.ndarray]:
        yield from (part.copy() for part in self._parts)
