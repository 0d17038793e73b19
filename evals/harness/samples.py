"""Answers to a benchmark's prompts, drawn in batches, with heads that draft (mtp/decoding/generate.py).

The batches follow from the prompts, the protocol and the seed alone, and each has random numbers of
its own. So a run that was killed makes the missing batches and ends with the answers of one that
was not; a file of answers belongs to one protocol, model and batch size.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from tqdm import tqdm

from evals.harness import answering
from evals.harness.journal import Journal, has
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import Tokenizer
from mtp.decoding.sampling import GREEDY, Sampling
from mtp.model.model import MultiTokenTransformer

SECONDS = 20.0  # between lines of progress where there is no terminal


def draw(
    model: MultiTokenTransformer,
    text: Tokenizer,
    asked: Mapping[str, Prompt],
    protocol: Protocol,
    journal: Journal,
    *,
    batch: int,
    k: int | None = None,
    seed: int = 0,
) -> dict[str, list[str]]:
    """`protocol.samples` answers to each prompt, by the problem's id; what `journal` has already is
    not drawn again."""
    journal.check("an answer", has(problem=str, sample=int, answer=str))
    have = {(record["problem"], record["sample"]): record["answer"] for record in journal.records}
    order = sorted(asked, key=lambda name: (len(asked[name].tokens), name))  # little padding
    rows = [(name, sample) for name in order for sample in range(protocol.samples)]
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    with Counter(f"{protocol.benchmark} T={protocol.temperature:g}", len(rows)) as counter:
        counter.skip(len(have))
        for number, names in enumerate(batches):
            if all(name in have for name in names):
                continue
            prompts = [asked[name].tokens for name, _ in names]
            own = f"{seed} {protocol.temperature!r} {number}".encode()
            drawn = int.from_bytes(hashlib.sha256(own).digest()[:7])
            made = answers(model, text, prompts, protocol, k, drawn)
            new = [(n, a) for n, a in zip(names, made, strict=True) if n not in have]
            journal.add(*({"problem": n[0], "sample": n[1], "answer": a} for n, a in new))
            have |= dict(new)
            counter.add(len(new))
    return {name: [have[name, i] for i in range(protocol.samples)] for name in order}


def answers(
    model: MultiTokenTransformer,
    text: Tokenizer,
    prompts: Sequence[list[int]],
    protocol: Protocol,
    k: int | None,
    seed: int,
) -> list[str]:
    """One answer to each prompt, as the protocol has it."""
    stops, max_new, how = protocol.stops, protocol.max_new, sampling(protocol, seed)
    return answering.answers(model, text, prompts, stops, max_new, sampling=how, k=k)


def sampling(protocol: Protocol, seed: int) -> Sampling:
    if protocol.temperature == 0:
        return GREEDY
    return Sampling(protocol.temperature, top_p=protocol.top_p, seed=seed)


class Counter:
    """Progress with the time left: a bar on a terminal, a line now and then in a log."""

    def __init__(self, title: str, total: int, say: Callable[[str], None] | None = None) -> None:
        self.title, self.total, self.done, self.new = title, total, 0, 0
        self.start = self.told = time.monotonic()
        self.say = say or (lambda line: print(line, file=sys.stderr, flush=True))
        self.bar = tqdm(desc=title, total=total, disable=not sys.stderr.isatty(), leave=False)

    def skip(self, count: int) -> None:
        """So many are done already."""
        self.done += count
        self.bar.update(count)

    def add(self, count: int) -> None:
        self.skip(count)
        self.new += count
        now = time.monotonic()
        if self.bar.disable and (now - self.told > SECONDS or self.done == self.total):
            rate = self.new / max(now - self.start, 1e-9)
            left = (self.total - self.done) / max(rate, 1e-9)
            self.say(f"{self.title}: {self.done}/{self.total}, {rate:.1f}/s, ETA {left:.0f} s")
            self.told = now

    def __enter__(self) -> "Counter":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
