"""Prompts from the validation split, code and prose apart (Table S2 has code, Wikipedia, books)."""

import ast
import itertools
import textwrap
from collections.abc import Iterator

from mtp.data.corpus import Corpus
from mtp.errors import BadInput

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def domains(corpus: Corpus, length: int, count: int) -> dict[str, list[list[int]]]:
    """Up to `count` different prompts of `length` tokens from each domain, the
    beginning-of-document token first.

    From held-out Python, "code" is the beginnings of functions without a docstring, and "prose" the
    beginnings of docstrings, without their quotes. If the split has neither, "text" is the
    beginnings of its documents. Documents take turns, so that a long one does not fill a domain.
    Raises BadInput if nothing is long enough.
    """
    tokenizer = corpus.tokenizer
    lists: dict[str, list[list[list[int]]]] = {"code": [], "prose": [], "text": []}
    for document in corpus.validation.documents():
        text = tokenizer.decode(document.tolist())
        for found in lists.values():
            found.append([])
        for domain, part in [*_parts(text), ("text", text)]:
            prompt = [tokenizer.bos, *tokenizer.encode(part[: 32 * length])][:length]
            if len(prompt) == length:
                lists[domain][-1].append(prompt)
        if min(sum(map(len, lists[domain])) for domain in ("code", "prose")) > 8 * count:
            break  # enough of a large split
    if any(lists["code"]) or any(lists["prose"]):
        del lists["text"]
    kept = {}
    for domain, found in lists.items():
        turns = itertools.chain(*itertools.zip_longest(*found))
        different = dict.fromkeys(tuple(prompt) for prompt in turns if prompt)
        if different:
            kept[domain] = [list(prompt) for prompt in different][:count]
    if not kept:
        raise BadInput(f"no validation document has the {length} tokens of a prompt")
    return kept


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The functions without a docstring, and the docstrings, of a Python document."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: nested too deep
        return
    for node in nodes:
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Module)):
            continue
        if docstring := ast.get_docstring(node):
            yield "prose", docstring
        elif isinstance(node, FUNCTIONS):
            # padded: the first line keeps its indentation, so that dedent takes it from all
            yield "code", textwrap.dedent(ast.get_source_segment(text, node, padded=True) or "")
