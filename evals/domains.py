"""Prompts from the validation split, code and prose apart (Table S2 has code, Wikipedia, books)."""

import ast
import inspect
import textwrap
from collections.abc import Iterator

from mtp.corpus import Corpus
from mtp.errors import BadInput


def domains(corpus: Corpus, length: int, count: int) -> dict[str, list[list[int]]]:
    """`count` prompts of `length` tokens from each domain, the beginning-of-document token first.

    Of held-out Python: "code" is the beginnings of functions without a docstring, "prose" those of
    docstrings. Where the split has neither, "text" is the beginnings of its documents. A domain
    with too few repeats them; BadInput where nothing is long enough.
    """
    tokenizer, found = corpus.tokenizer, dict[str, list[list[int]]](code=[], prose=[], text=[])
    for document in corpus.validation.documents():
        text = tokenizer.decode(document.tolist())
        for domain, part in [*_parts(text), ("text", text)]:
            if len(found[domain]) < count:
                prompt = [tokenizer.bos, *tokenizer.encode(part[: 32 * length])][:length]
                found[domain] += [prompt] if len(prompt) == length else []
    if found["code"] or found["prose"]:
        del found["text"]
    kept = {name: (prompts * count)[:count] for name, prompts in found.items() if prompts}
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
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            continue
        if docstring := ast.get_docstring(node):
            yield "prose", inspect.cleandoc(docstring)
        elif isinstance(node, ast.FunctionDef):
            # padded: the first line keeps its indentation, so that dedent takes it from all
            yield "code", textwrap.dedent(ast.get_source_segment(text, node, padded=True) or "")
