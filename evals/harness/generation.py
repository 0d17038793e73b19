"""Answers that a model writes to prompts: each up to a stop text, with heads that draft; and the
many answers to a benchmark's prompts, drawn in batches and kept in a journal.

The batches follow from the prompts, the protocol and the seed alone, and each has random numbers of
its own. So a run that was killed makes the missing batches and ends with the answers of a run that
was not. A file of answers belongs to one protocol, model and batch size.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from evals.harness.counter import Counter
from evals.harness.journal import Journal, has
from evals.harness.prompts import Prompt
from evals.harness.protocol import Protocol, cut
from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput

if TYPE_CHECKING:  # torch takes seconds to import, so it is when there is something to draw
    from mtp.decoding.sampling import Sampling
    from mtp.model.model import MultiTokenTransformer

BATCH = 32


def answers(
    model: MultiTokenTransformer,
    text: Tokenizer,
    prompts: Sequence[list[int]],
    stops: Sequence[str],
    max_new: int,
    *,
    sampling: Sampling | None = None,
    k: int | None = None,
) -> list[str]:
    """One answer to each prompt of a batch, cut before the first stop in it or the end of text. A
    row leaves the batch once it has a stop. Greedy, which is the default, answers do not depend on
    k, up to rounding."""
    from mtp.decoding.generate import stream
    from mtp.decoding.sampling import GREEDY

    before = [len(text.decode(prompt)) for prompt in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]

    def answer(row: int) -> str:
        # With its prompt: SentencePiece drops a space at the beginning of what it decodes.
        return text.decode([*prompts[row], *tokens[row]])[before[row] :]

    def stopped(row: int, new: int) -> bool:
        # A token is a byte at least, so a stop lies within as many tokens as it has bytes.
        tail = text.decode(tokens[row][-(new + longest) :])
        return any(stop in tail for stop in stops) and cut(answer(row), stops) != answer(row)

    longest = max((len(stop.encode()) for stop in stops), default=0)
    passes = stream(model, list(prompts), max_new, k, text.eos, sampling=sampling or GREEDY)
    gains = next(passes, None)
    while gains is not None:
        for row, new, _ in gains:
            tokens[row] += new
        ended = [row for row, new, _ in gains if stopped(row, len(new))]
        try:
            gains = passes.send(ended)
        except StopIteration:
            gains = None
    return [cut(answer(row), stops) for row in range(len(prompts))]


def completions(
    model: MultiTokenTransformer,
    text: Tokenizer,
    prompts: Sequence[str],
    stops: Sequence[str],
    max_new: int,
    *,
    sampling: Sampling | None = None,
    k: int | None = None,
    batch: int = BATCH,
) -> list[str]:
    """`answers` for any number of texts, in batches of similar lengths, each with random numbers of
    its own. A prompt that is too long for the model loses tokens at its beginning."""
    left = model.config.context - max_new
    if max_new < 1 or left < 1:
        raise BadInput(
            f"max_new is {max_new}; it must be from 1 to {model.config.context - 1}, so that the "
            "model's context has room for a prompt"
        )
    tokens = [[text.bos, *ids][-left:] for ids in text.encode_batch(list(prompts))]
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # little padding
    found = [""] * len(tokens)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        own = [tokens[i] for i in rows]
        how = sampling and dataclasses.replace(sampling, seed=sampling.seed + start)
        made = answers(model, text, own, stops, max_new, sampling=how, k=k)
        for i, answer in zip(rows, made, strict=True):
            found[i] = answer
    return found


# --------------------------------------------------------------------------------------------------
# a benchmark's answers


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
    """`protocol.samples` answers to each prompt, by the problem's id. Answers that are already in
    the `journal` are not drawn again."""
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
            made = protocol_answers(model, text, prompts, protocol, k, drawn)
            new = [(n, a) for n, a in zip(names, made, strict=True) if n not in have]
            journal.add(*({"problem": n[0], "sample": n[1], "answer": a} for n, a in new))
            have |= dict(new)
            counter.add(len(new))
    return {name: [have[name, i] for i in range(protocol.samples)] for name in order}


def protocol_answers(
    model: MultiTokenTransformer,
    text: Tokenizer,
    prompts: Sequence[list[int]],
    protocol: Protocol,
    k: int | None,
    seed: int,
) -> list[str]:
    """One answer to each prompt, with the protocol's stops, length and sampling."""
    stops, max_new, how = protocol.stops, protocol.max_new, sampling(protocol, seed)
    return answers(model, text, prompts, stops, max_new, sampling=how, k=k)


def sampling(protocol: Protocol, seed: int) -> Sampling:
    from mtp.decoding.sampling import GREEDY, Sampling

    if protocol.temperature == 0:
        return GREEDY
    return Sampling(protocol.temperature, top_p=protocol.top_p, seed=seed)
