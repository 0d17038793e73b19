"""Prompts from a protocol's template and solved examples, as far as the model's context allows.

A prompt and its answer must fit the context. Where they do not, whole solved examples are left out,
the first ones first; a problem that does not fit alone is not asked, and counts as not solved, so
that a model with a short context gains nothing by it. Both are counted (rows `shots given` and
`skipped`).
"""

from typing import NamedTuple

from evals.problems import Dataset
from evals.protocol import Protocol
from mtp.errors import BadInput
from mtp.tokenizer import Tokenizer


class Prompt(NamedTuple):
    tokens: list[int]
    shots: int


def prompts(
    data: Dataset, protocol: Protocol, text: Tokenizer, context: int
) -> dict[str, Prompt | None]:
    """The prompt of each problem by its id; None for one that does not fit."""
    room = context - protocol.max_new
    if len(data.examples) < protocol.shots:
        raise BadInput(
            f"{data.origin} has {len(data.examples)} solved examples; {protocol.benchmark} "
            f"{protocol.variant} shows {protocol.shots}"
        )
    solved = protocol.template + protocol.solved
    examples = [solved.format_map(e.fields) for e in data.examples[: protocol.shots]]
    made: dict[str, Prompt | None] = {}
    for problem in data.problems:
        asked, made[problem.id] = protocol.template.format_map(problem.fields), None
        for left_out in range(protocol.shots + 1):
            whole = "".join(examples[left_out:]) + asked
            tokens = [text.bos, *text.encode(whole)]
            if len(tokens) <= room:
                made[problem.id] = Prompt(tokens, protocol.shots - left_out)
                break
    return made
