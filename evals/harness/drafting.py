"""How many heads draft when answers are drawn: all, or none where that is faster.

Drafts save forward passes and make each one larger. What that is worth depends on the model, the
device, the batch and the temperature, so both ways are timed on a first small batch. Answers that
are drawn depend on the number of heads (their distribution does not), so a file of answers says it,
and is gone on with as it began.
"""

import itertools
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from evals.harness.candidates import Options
from evals.harness.generation import sampling
from evals.harness.journal import header
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol
from evals.probes.speculation import side_by_side
from mtp.decoding.generate import generate
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
    """For the answers in `file`: as told, as far as the model has them; as they were begun; else
    what is faster, and says so."""
    n = model.config.n
    if options.k or n == 1 or not asked:
        return min(options.k or n, n)
    begun = header(file).get("heads")
    if isinstance(begun, int) and 1 <= begun <= n:
        return begun
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
