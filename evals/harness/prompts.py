"""Prompts from a protocol's template and solved examples, as far as the model's context allows.

    template  "Answer these questions:\n\n{shots}Q: {question}?\nA:"     solved  " {answer}\n\n"
    prompt    "Answer these questions:\n\nQ: who wrote hamlet?\nA: Shakespeare\n\nQ: who ...?\nA:"

{shots} is where the solved examples stand, each the rest of the template and `solved`; a template
without it has them in front.

A prompt and what follows it must fit the context. Where they do not, whole solved examples are left
out, the first ones first. A problem that does not fit alone loses the end of its field
`protocol.shortens`, or is not asked where there is none and counts as not solved, so that a model
with a short context gains nothing by it. All are counted (rows `shots given`, `shortened`,
`skipped`). The row `chat template` of a protocol for chat models is 1 if the model has a template,
and else 0.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from evals.harness.chat import has_template, message
from evals.harness.problems import Dataset, Problem
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput

SHOTS = "{shots}"


class Prompt(NamedTuple):
    """whole: nothing of the problem is left out; chat: the text is in the model's template."""

    tokens: list[int]
    shots: int
    text: str = ""
    whole: bool = True
    chat: bool = False


def prompts(
    data: Dataset,
    protocol: Protocol,
    text: Tokenizer,
    context: int,
    after: Callable[[Problem], int] | None = None,
) -> dict[str, Prompt | None]:
    """The prompt of each problem by its id; None for one that does not fit. `after`: how many
    tokens follow a problem's prompt at most, if not the protocol's max_new."""
    head, mark, body = protocol.template.partition(SHOTS)
    if not mark:
        head, body = "", protocol.template
    chat = protocol.chat and has_template(text)
    made: dict[str, Prompt | None] = {}
    for problem in data.problems:
        room = context - (protocol.max_new if after is None else after(problem))
        solved = [
            (body + protocol.solved).format_map(example.fields)
            for example in examples(data, protocol, problem)
        ]
        made[problem.id] = None
        for left_out in range(len(solved) + 1):
            parts = [part.format_map(problem.fields) for part in (head, body)]
            whole = parts[0] + "".join(solved[left_out:]) + parts[1]
            tokens = message(text, whole) if chat else [text.bos, *text.encode(whole)]
            if len(tokens) <= room:
                made[problem.id] = Prompt(tokens, len(solved) - left_out, whole, chat=chat)
                break
        else:
            if protocol.shortens:
                made[problem.id] = shortened(problem, protocol, head + body, text, room)
    return made


def examples(data: Dataset, protocol: Protocol, problem: Problem) -> list[Problem]:
    """The first examples of the problem's group, without the problem itself."""
    own = [example for example in data.examples if example.group in ("", problem.group)]
    if len(own) < protocol.shots:
        of = f" of {problem.group}" if problem.group else ""
        raise BadInput(
            f"{data.origin} has {len(own)} solved examples{of}; {protocol.benchmark} "
            f"{protocol.variant} shows {protocol.shots}"
        )
    if not protocol.shots:
        return []
    return [example for example in own if example.fields != problem.fields][: protocol.shots]


def shortened(
    problem: Problem, protocol: Protocol, template: str, text: Tokenizer, room: int
) -> Prompt | None:
    """The prompt with as much of the field's beginning as fits; None if none of it fits."""
    name = protocol.shortens
    ids, fields = text.encode(problem.fields[name]), dict(problem.fields)
    while True:
        whole = template.format_map(fields)
        tokens = [text.bos, *text.encode(whole)]
        if len(tokens) <= room:
            return Prompt(tokens, 0, whole, whole=False)
        # A part may be cut into more tokens than it has in the whole, so this takes some rounds.
        ids = ids[: max(0, len(ids) - (len(tokens) - room))]
        fields[name] = text.decode(ids).rstrip("\ufffd")  # of a character torn apart
        if not fields[name].strip():
            return None


def counts(made: Mapping[str, Prompt | None], protocol: Protocol) -> list[tuple[str, float]]:
    """What was left out, as rows: (metric, value)."""
    asked = [prompt for prompt in made.values() if prompt]
    rows = [("skipped", 1 - len(asked) / len(made))]
    if protocol.shots and asked:
        rows.append(("shots given", sum(prompt.shots for prompt in asked) / len(asked)))
    if protocol.chat and asked:
        rows.append(("chat template", sum(prompt.chat for prompt in asked) / len(asked)))
    if protocol.shortens:
        rows.append(("shortened", sum(not prompt.whole for prompt in asked) / len(made)))
    return rows
