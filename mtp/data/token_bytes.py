"""The bytes that each token stands for, so that labels of a text become labels of its tokens."""

from collections.abc import Callable
from functools import cache

from mtp.data.tokenizer import BPE, LlamaTokenizer, Tokenizer

# GPT-2's alphabet of byte-level BPEs: printable bytes are written as themselves, the others as the
# characters from 256 on.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [b for b in range(256) if b not in _PRINTABLE]
BYTE_OF = {chr(b): b for b in _PRINTABLE} | {chr(256 + i): b for i, b in enumerate(_OTHERS)}
_SPACE = "▁"  # SentencePiece's


def bytes_of_tokens(tokenizer: Tokenizer) -> Callable[[int], bytes]:
    """A function from an id to its bytes; empty for bos, eos and ids without a text."""

    @cache
    def of(token: int) -> bytes:
        if token in (tokenizer.bos, tokenizer.eos) or token >= tokenizer.vocab_size:
            return b""
        if isinstance(tokenizer, BPE):
            return _bytes(tokenizer.inner.id_to_token(token) or "")
        if isinstance(tokenizer, LlamaTokenizer):
            return _bytes(tokenizer.inner.id_to_piece(token))
        return bytes([token])

    return of


def _bytes(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x"):  # SentencePiece's byte
        return bytes([int(piece[3:5], 16)])
    if all(c in BYTE_OF for c in piece):
        return bytes(BYTE_OF[c] for c in piece)
    return piece.replace(_SPACE, " ").encode()
