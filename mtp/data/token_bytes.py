"""The bytes that each token stands for, so that labels of a text become labels of its tokens."""

import json
import re
from collections.abc import Callable
from functools import cache

from mtp.data.tokenizer import BPE, LlamaTokenizer, Tokenizer

# GPT-2's alphabet of byte-level BPEs: printable bytes are written as themselves, the others as the
# characters from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [b for b in range(256) if b not in _PRINTABLE]
BYTE_OF = {chr(b): b for b in _PRINTABLE} | {chr(256 + i): b for i, b in enumerate(_OTHERS)}


def bytes_of_tokens(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """A function from an id to its bytes; empty for bos, eos and ids without a text."""
    piece, read = _pieces(tokenizer)

    @cache
    def of(token: int) -> bytes:
        if token in (tokenizer.bos, tokenizer.eos) or token >= tokenizer.vocab_size:
            return b""
        return read(piece(token))

    return of


def _pieces(tokenizer: Tokenizer) -> tuple[Callable[[int], str], Callable[[str], bytes]]:
    """From an id to its piece, and from a piece to its bytes."""
    if isinstance(tokenizer, LlamaTokenizer):
        return tokenizer.inner.id_to_piece, _sentencepiece
    if not isinstance(tokenizer, BPE):
        return chr, lambda piece: bytes([ord(piece)])
    inner, added = tokenizer.inner, tokenizer.inner.get_added_tokens_decoder()
    state = json.loads(inner.to_str())
    parts = json.dumps([state["pre_tokenizer"], state["decoder"]])
    read = _byte_level if '"ByteLevel"' in parts else _sentencepiece
    whole = {token.content for token in added.values()}  # in no alphabet but their own
    return (
        lambda token: inner.id_to_token(token) or "",
        lambda piece: piece.encode() if piece in whole else read(piece),
    )


def _byte_level(piece: str) -> bytes:
    return b"".join(bytes([BYTE_OF[c]]) if c in BYTE_OF else c.encode() for c in piece)


def _sentencepiece(piece: str) -> bytes:
    """<0x0A> is a byte that no piece has."""
    if byte := re.fullmatch("<0x([0-9A-Fa-f]{2})>", piece):
        return bytes([int(byte[1], 16)])
    return piece.replace("▁", " ").encode()
