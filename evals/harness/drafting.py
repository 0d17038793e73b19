"""How many heads draft when answers are drawn: all, or none if that is faster.

Drafts save forward passes and make each one larger. Whether this pays depends on the model, the
device, the batch and the temperature, so both ways are timed on a first small batch. Which answers
are drawn depends on the number of heads (their distribution does not). So a file of answers records
it, and an evaluation that continues keeps it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from evals.harness.candidates import Options
from evals.harness.generation import sampling
from evals.harness.journal import header
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol

if TYPE_CHECKING:
    from mtp.model.model import MultiTokenTransformer

TOKENS, REPEATS = 32, 2


def heads(
    file: Path,
    model: MultiTokenTransformer,
    asked: Mapping[str, Prompt],
    protocol: Protocol,
    options: Options,
    eos: int,
) -> int:
    """The number of heads for the answers in `file`: the number asked for, as far as the model has
    them; else the number that the file began with; else the faster one, which is printed."""
    n = model.config.n
    if options.k or n == 1 or not asked:
        return min(options.k or n, n)
    begun = header(file).get("heads")
    if isinstance(begun, int) and 1 <= begun <= n:
        return begun
    from evals.probes.speculation import side_by_side  # torch takes seconds to import
    from mtp.decoding.generate import generate

    count = min(options.batch, len(asked) * protocol.samples)
    every = [prompt.tokens for prompt in asked.values()]
    spread = every[:: max(1, len(every) // count)]
    prompts = list(itertools.islice(itertools.cycle(spread), count))
    new, how = min(TOKENS, protocol.max_new), sampling(protocol, 0)
    ways = {k: partial(generate, model, max_new=new, k=k, eos=eos, sampling=how) for k in (1, n)}
    found = side_by_side(ways, prompts, count, REPEATS)
    rates = {k: sum(map(len, one.tokens)) / min(one.seconds) for k, one in found.items()}
    best, other = sorted(rates, key=lambda k: -rates[k])
    print(
        f"{file.parent.name} {protocol.benchmark} T={protocol.temperature:g}: k={best}, "
        f"{rates[best] / rates[other]:.2f} times the tokens/s of k={other} on {count} prompts",
        file=sys.stderr,
    )
    return best
