"""How answers are drawn fastest: with all heads that draft or with none, and on how many threads.

Drafts save forward passes and make each one larger. More threads share the work of a pass, and wait
for each other. Whether either pays depends on the model, the machine and what else runs there, the
batch and the temperature, so all ways are timed side by side on a first batch, unless that takes
long beside the drawing itself: then all heads draft, on all threads. Which answers are drawn
depends on the number of heads, and by rounding on the threads (their distribution does not). So a
file of answers records both, and an evaluation that continues keeps them.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evals.harness.candidates import Options
from evals.harness.generation import sampling
from evals.harness.journal import header
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol

if TYPE_CHECKING:
    from mtp.decoding.generate import Generation
    from mtp.model.model import MultiTokenTransformer

TOKENS, REPEATS = 32, 2
SHARE = 0.5  # of the tokens that the answers may have; the test writes no more


class Way(NamedTuple):
    """heads: that draft, 1 for none; threads: of the processor, None on a GPU."""

    heads: int
    threads: int | None

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"k={self.heads}" + (f" on {self.threads} thread{plural}" if self.threads else "")


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Let torch compute on so many threads; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def counts(most: int) -> list[int]:
    """The numbers of threads that are tried: one, four times as many each, and all.

    >>> counts(24)
    [1, 4, 16, 24]
    """
    powers = itertools.takewhile(lambda count: count < most, (4**i for i in itertools.count()))
    return [*powers, most]


def way(
    file: Path,
    model: MultiTokenTransformer,
    asked: Mapping[str, Prompt],
    protocol: Protocol,
    options: Options,
    eos: int,
) -> Way:
    """How to draw the answers in `file`: with the heads, as far as the model has them, and the
    threads that were asked for; else as the file began; else the fastest way, which is printed, or
    all heads and threads for so few answers that finding out would not pay."""
    import torch

    n, begun = model.config.n, header(file)
    all_threads = torch.get_num_threads()
    heads = [min(options.k or n, n)]
    if not options.k and n > 1:
        kept = begun.get("heads")
        heads = [kept] if isinstance(kept, int) and 1 <= kept <= n else [n, 1]
    threads: Sequence[int | None] = [options.threads or all_threads]
    if next(model.parameters()).device.type != "cpu":
        threads = [None]
    elif not options.threads and all_threads > 1:
        kept = begun.get("threads")
        threads = [kept] if isinstance(kept, int) and kept >= 1 else counts(all_threads)[::-1]
    ways = [Way(*each) for each in itertools.product(heads, threads)]
    if len(ways) == 1 or not asked:
        return ways[0]
    answers = len(asked) * protocol.samples
    count = min(options.at_once(model.config), answers)
    tried = len(ways) * (1 + REPEATS) * count * min(TOKENS, protocol.max_new)
    if tried > SHARE * answers * protocol.max_new:
        return ways[0]
    title = f"{file.parent.name} {protocol.benchmark} T={protocol.temperature:g}"
    print(f"{title}: timing how to draw {answers} answers", file=sys.stderr, flush=True)
    rates = timed(model, ways, spread([p.tokens for p in asked.values()], count), protocol, eos)
    best, *_, slowest = sorted(rates, key=lambda each: -rates[each])
    print(
        f"{title}: {best}, {rates[best] / rates[slowest]:.2f} times the tokens/s of {slowest} on "
        f"{count} prompts",
        file=sys.stderr,
    )
    return best


def spread(prompts: list[list[int]], count: int) -> list[list[int]]:
    """So many of them, of all lengths, some twice where there are fewer."""
    some = prompts[:: max(1, len(prompts) // count)]
    return list(itertools.islice(itertools.cycle(some), count))


def timed(
    model: MultiTokenTransformer,
    ways: Sequence[Way],
    prompts: list[list[int]],
    protocol: Protocol,
    eos: int,
) -> dict[Way, float]:
    """Tokens per second of each way."""
    from evals.probes.speculation import side_by_side  # torch takes seconds to import
    from mtp.decoding.generate import generate

    new, how = min(TOKENS, protocol.max_new), sampling(protocol, 0)

    def drawing(own: Way, group: list[list[int]]) -> Generation:
        with on_threads(own.threads):
            return generate(model, group, max_new=new, k=own.heads, eos=eos, sampling=how)

    by_way = {each: lambda group, own=each: drawing(own, group) for each in ways}
    found = side_by_side(by_way, prompts, len(prompts), REPEATS)
    return {each: sum(map(len, one.tokens)) / min(one.seconds) for each, one in found.items()}
