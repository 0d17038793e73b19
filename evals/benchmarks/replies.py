"""The program in what a model has written: markers at the end of its text, and code among prose.

Chat models answer in Markdown. Their code is in fenced blocks:

    Sure! Here is the function:
    ```python
    def f(x):
        return x
    ```

Of the blocks without a language or of Python's, the first that defines a wanted name is taken, else
the first. A block that is not closed goes to the end. An answer without such blocks is code itself.
"""

import re
from collections.abc import Callable, Sequence

from evals.harness.problems import Problem
from evals.harness.protocol import Protocol, cut
from evals.sandbox.runner import Job

# Texts of tokens with which models end. They come as text where a tokenizer has no such token, and
# in answers that other programs have drawn.
MARKERS = (
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|EOT|>", "<|end|>",
    "<|return|>", "<end_of_turn>", "</s>", "<\uff5cend\u2581of\u2581sentence\uff5c>",
)  # fmt: skip
FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([^`]*)")
PYTHON = ("python", "python3", "py")


def without_markers(
    job: Callable[[Problem, str, Protocol], Job],
) -> Callable[[Problem, str, Protocol], Job]:
    """The job of an answer that ends at a marker in it."""

    def of_answer(problem: Problem, answer: str, protocol: Protocol) -> Job:
        return job(problem, cut(answer, MARKERS), protocol)

    return of_answer


def code(reply: str, names: Sequence[str]) -> str:
    """The program in a reply that should define one of `names`."""
    found = blocks(reply)
    return next((block for block in found if defines(block, names)), (*found, reply)[0])


def blocks(reply: str) -> list[str]:
    """The fenced blocks of Python in a text, without the indentation of their fences."""
    found: list[str] = []
    fence, indent, inside, python = "", "", list[str](), False
    for line in reply.split("\n"):
        match = FENCE.fullmatch(line.rstrip("\r"))
        if fence and match and match[2].startswith(fence) and not match[3].strip():
            found += ["".join(f"{each}\n" for each in inside)] if python else []
            fence = ""
        elif fence:
            inside.append(line.removeprefix(indent))
        elif match:
            indent, fence, language = match.groups()
            inside, python = [], (language.lower().split() or PYTHON)[0] in PYTHON
    if fence and python:
        found.append("\n".join(inside))
    return [block for block in found if block.strip()]


def defines(program: str, names: Sequence[str]) -> bool:
    """Whether a line at the left defines one of the names."""
    for name in names:
        own = re.escape(name)
        if re.search(
            rf"^(?:(?:async )?def|class) +{own}\b|^{own} *(?::[^=\n]*)?=(?!=)", program, re.M
        ):
            return True
    return False


def completed(prompt: str, name: str, program: str) -> str:
    """A prompt that ends in the function `name`, with a reply's code: what the prompt has before
    the function, then the code if it defines it; else the prompt with the code as the body."""
    if not defines(program, [name]):
        return prompt + program
    head = re.search(rf"^def +{re.escape(name)}\b", prompt, re.M)
    return (prompt[: head.start()] if head else "") + program
