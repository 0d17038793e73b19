"""How a benchmark is put to a model: all that determines its number beside the model and the
data."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

from mtp.errors import choose


@dataclass(frozen=True)
class Protocol:
    """One way to run a benchmark, as a record that goes into every row.

    benchmark   its name, evals/benchmarks/NAME.py
    variant     names this way among the benchmark's own
    shots       solved examples before the problem
    template    the prompt's text, with {fields} of a problem in braces
    solved      what follows the template in a solved example, with {fields} too
    chat        the prompt is a message of a user, and put into the model's chat template if it has
                one
    shortens    the field that loses its end where the prompt does not fit the context
    stops       texts that end an answer; the answer is cut before the first that comes
    post        what is done to the answer before it is scored, in words
    max_new     tokens of an answer at most
    samples     answers for each problem
    temperature, top_p   of sampling; temperature 0 is greedy
    """

    benchmark: str
    variant: str
    shots: int = 0
    template: str = ""
    solved: str = ""
    chat: bool = False
    shortens: str = ""
    stops: tuple[str, ...] = ()
    post: str = ""
    max_new: int = 0
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0

    def text(self) -> str:
        """Canonical JSON, one line."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


def variant(protocols: Sequence[Protocol], name: str | None) -> Protocol:
    """The protocol with this name among a benchmark's, the first for None. Raises BadInput if there
    is none."""
    names = {protocol.variant: protocol for protocol in protocols}
    if name is not None:
        choose(f"variant of {protocols[0].benchmark}", name, names)
    return names[name or protocols[0].variant]


def cut(answer: str, stops: Sequence[str]) -> str:
    """The answer before the first of the stops in it."""
    places = (answer.find(stop) for stop in stops)
    return answer[: min((place for place in places if place >= 0), default=len(answer))]
