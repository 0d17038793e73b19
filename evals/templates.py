"""From a protocol's template to the text a model is given.

    template  "Answer these questions:\n\n{shots}Q: {question}?\nA:"
    prompt    "Answer these questions:\n\nQ: who wrote hamlet?\nA: Shakespeare\n\nQ: who ...?\nA:"

{shots} is where the solved examples stand, an empty line after each; what follows it is repeated
for each of them. A template without it has them in front.
"""

from collections.abc import Mapping, Sequence

from evals.protocol import Protocol
from mtp.errors import BadInput

SHOTS = "{shots}"
BETWEEN = "\n\n"

Fields = Mapping[str, str]


def prompt(protocol: Protocol, fields: Fields, examples: Sequence[tuple[Fields, str]] = ()) -> str:
    """The text before the answer; `examples` are fields and answers of solved problems, of which
    the first `protocol.shots` are shown. BadInput where there are fewer."""
    if len(examples) < protocol.shots:
        raise BadInput(
            f"{protocol.benchmark} {protocol.variant} shows {protocol.shots} solved examples; "
            f"there are {len(examples)}"
        )
    head, mark, body = protocol.template.partition(SHOTS)
    if not mark:
        head, body = "", protocol.template
    solved = [
        body.format(**each) + delimiter(protocol) + answer + BETWEEN
        for each, answer in examples[: protocol.shots]
    ]
    return head.format(**fields) + "".join(solved) + body.format(**fields)


def delimiter(protocol: Protocol) -> str:
    """What stands between a prompt and its answer: a space, unless the template ends in one."""
    return "" if protocol.template[-1:].isspace() else " "
