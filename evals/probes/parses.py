"""What a model of Python code writes into functions: does it parse?

Likelihood is a mean over tokens, most of which are easy whatever the model. Here a model continues
the beginnings of held-out functions, and what it writes counts or does not. A prompt is what stands
in the document before a function's body, as much as fits, and ends with the header:

    def add(self, item):            the end of the prompt
        item = check(item)          the first statement
        self.items.append(item)     the body: complete lines, up to the first line that is not
    def remo                        indented deeper than `def`; what follows is cut

Python's parser judges, with the header before the body. Two shares are counted:

    first   the body begins with complete lines that parse, with a statement or more. Few tokens
            show it, and models of little training write some
    whole   the body parses to its end and has LEAST statements or more. Where a model writes no end
            within its tokens, the last complete line is the end, which costs the real text too

Statements within statements count too; `pass` and constants, such as docstrings, are none. The same
beginning, or body, counts once, for whichever prompts it is written. So neither an empty body, nor
half a line, nor one answer to all prompts is worth anything. `real` text is the ceiling; an n-gram
table (`of_table`) is a floor, and so is a `constant`.
"""

import ast
import functools
import itertools
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evals.probes.domains import FUNCTIONS
from evals.probes.ngrams import Ngrams
from mtp.data.corpus import Corpus
from mtp.decoding.generate import generate
from mtp.decoding.sampling import Sampling
from mtp.model.model import MultiTokenTransformer

STATEMENT, BODY = 32, 64  # tokens that a model may write for each
LEAST = 2  # statements of a whole body
TEMPERATURE = 0.8
BATCH = 256
PER_DOCUMENT = 4  # prompts at most


@dataclass(frozen=True)
class Prompt:
    """The beginning of a function.

    tokens  BODY at most, the last of which ends the header, without its line break
    header  its lines, from `def` on, as indented as in the document
    real    the tokens that follow in the document, BODY at most
    """

    tokens: tuple[int, ...]
    header: str
    real: tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """What was written for some prompts.

    first, whole  shares of the prompts, as above
    statements    before the first mistake, on average
    distinct      share of the 4-grams of all tokens that are different ones
    """

    first: float
    whole: float
    statements: float
    distinct: float


@functools.lru_cache(maxsize=4)
def prompts(corpus: Corpus, count: int) -> tuple[Prompt, ...]:
    """At most `count` beginnings of held-out functions; documents take turns. A function has no
    docstring, which would fill all tokens, and LEAST statements or more. None if no held-out
    document is Python with such functions."""
    found = list[list[Prompt]]()
    for document in corpus.validation.documents():
        own = _functions(corpus, corpus.tokenizer.decode(document.tolist()))
        found.append(list(itertools.islice(own, PER_DOCUMENT)))
        if sum(map(len, found)) >= 2 * count:
            break  # enough of a large split
    turns = itertools.chain(*itertools.zip_longest(*found))
    return tuple([prompt for prompt in turns if prompt][:count])


def _functions(corpus: Corpus, text: str) -> Iterator[Prompt]:
    tokenizer, reach = corpus.tokenizer, 16 * BODY  # characters that are enough tokens
    tree = parsed(text)
    lines = text.split("\n")
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, FUNCTIONS) or ast.get_docstring(node, clean=False) is not None:
            continue
        first = min([node.body[0].lineno, *(d.lineno for d in _decorators(node.body[0]))])
        header = "\n".join(lines[node.lineno - 1 : first - 1]).rstrip()
        if not header or statements(node) < LEAST:  # none: the body begins on the header's line
            continue
        before = "\n".join([*lines[: node.lineno - 1], header])
        begin = before.find("\n", len(before) - reach) + 1 if len(before) > reach else 0
        tokens = [*[tokenizer.bos] * (begin == 0), *tokenizer.encode(before[begin:])]
        behind = "\n".join(lines[node.lineno - 1 :])[len(header) :]
        real = tokenizer.encode(behind[:reach])
        yield Prompt(tuple(tokens[-BODY:]), header, tuple(real[:BODY]))


def _decorators(node: ast.stmt) -> list[ast.expr]:
    return node.decorator_list if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else []


def parsed(text: str) -> ast.Module | None:
    """The tree of a text, None if it is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: nested too deep
            return None


def statements(function: ast.AST) -> int:
    """How many statements a function has within it, `pass` and constants left out."""
    inside = (node for node in ast.walk(function) if node is not function)
    return sum(
        isinstance(node, ast.stmt)
        and not isinstance(node, ast.Pass)
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in inside
    )


def body_of(continuation: str, header: str, ended: bool) -> str:
    """The complete lines of a continuation up to the first that is indented no deeper than the
    header, each with a line break before it. `ended`: the document ends with the continuation, so
    that its last line is complete."""
    rest, *lines = continuation.split("\n")
    if rest.strip():
        return ""  # it goes on with the header
    lines = lines if ended else lines[:-1]
    deep = len(header) - len(header.lstrip())
    inside = itertools.takewhile(
        lambda line: not line.strip() or len(line) - len(line.lstrip()) > deep, lines
    )
    return "".join(f"\n{line}" for line in inside).rstrip()


def count_of(header: str, body: str) -> int:
    """The statements of a body; 0 if it does not parse behind its header."""
    nested = header[:1].isspace()
    tree = parsed("if 1:\n" * nested + header + body + "\n")
    if tree is None or not body:
        return 0
    function = tree.body[0]
    if isinstance(function, ast.If):
        function = function.body[0]
    return statements(function)


def beginnings(header: str, body: str) -> dict[str, int]:
    """The beginnings of a body, of complete lines, and their statements: 0 where it does not
    parse."""
    lines = body.split("\n")[1:]
    parts = ["".join(f"\n{line}" for line in lines[:i]) for i in range(1, len(lines) + 1)]
    return {part: count_of(header, part) for part in parts}


def judge(asked: Sequence[Prompt], answers: Sequence[Sequence[int]], corpus: Corpus) -> Written:
    """Of the tokens that continue each prompt, in the order of the prompts."""
    text, total, four = corpus.tokenizer, 0, 0
    first, whole, grams = set[str](), set[str](), set[tuple[int, ...]]()
    for prompt, tokens in zip(asked, answers, strict=True):
        continuation = text.decode([token for token in tokens if token != text.eos])
        body = body_of(continuation, prompt.header, text.eos in tokens)
        counts = beginnings(prompt.header, body)
        first.update([textwrap.dedent(part) for part, count in counts.items() if count][:1])
        if counts.get(body, 0) >= LEAST:
            whole.add(textwrap.dedent(body))
        total += max(counts.values(), default=0)
        own = list(zip(*(tokens[i:] for i in range(4)), strict=False))
        grams.update(own)
        four += len(own)
    return Written(
        len(first) / len(asked), len(whole) / len(asked), total / len(asked),
        len(grams) / four if four else 0.0,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------
# who writes


def written(
    model: MultiTokenTransformer, asked: Sequence[Prompt], corpus: Corpus, new: int, seed: int = 0
) -> list[list[int]]:
    """Up to `new` tokens with which head 1 continues each prompt's last `new` tokens, drawn at
    TEMPERATURE; fewer of both in a short context."""
    new = min(new, model.config.context // 2)
    draw, made = Sampling(temperature=TEMPERATURE, seed=seed), list[list[int]]()
    for start in range(0, len(asked), BATCH):
        batch = [list(prompt.tokens[-new:]) for prompt in asked[start : start + BATCH]]
        made += generate(model, batch, new, k=1, eos=corpus.tokenizer.eos, sampling=draw).tokens
    return made


def real(asked: Sequence[Prompt], new: int) -> list[list[int]]:
    """What follows in the documents."""
    return [list(prompt.real[:new]) for prompt in asked]


def constant(asked: Sequence[Prompt], corpus: Corpus) -> list[list[int]]:
    """The same two statements for every prompt, and then the end."""
    answers = list[list[int]]()
    for prompt in asked:
        line = "\n" + " " * (len(prompt.header) - len(prompt.header.lstrip()) + 4)
        answer = corpus.tokenizer.encode(f"{line}result = None{line}return result")
        answers.append([*answer, corpus.tokenizer.eos])
    return answers


def of_table(
    table: Ngrams, asked: Sequence[Prompt], corpus: Corpus, new: int, seed: int = 0
) -> list[list[int]]:
    """What an n-gram table writes, drawn as from a model."""
    rng, eos, answers = np.random.default_rng(seed), corpus.tokenizer.eos, list[list[int]]()
    for prompt in asked:
        tokens, answer = list(prompt.tokens), list[int]()
        while len(answer) < new and eos not in answer[-1:]:
            weights = table.following(tokens + answer) ** (1 / TEMPERATURE)
            below = weights.cumsum()
            answer.append(int(np.searchsorted(below, rng.random() * below[-1], side="right")))
        answers.append(answer)
    return answers
