"""Answers that a model writes to prompts, each up to a stop text, with heads that draft."""

from collections.abc import Sequence

from evals.harness.protocol import cut
from mtp.data.tokenizer import Tokenizer
from mtp.decoding.generate import stream
from mtp.decoding.sampling import GREEDY, Sampling
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

BATCH = 32


def answers(
    model: MultiTokenTransformer,
    text: Tokenizer,
    prompts: Sequence[list[int]],
    stops: Sequence[str],
    max_new: int,
    *,
    sampling: Sampling = GREEDY,
    k: int | None = None,
) -> list[str]:
    """One answer to each prompt of a batch, cut before the first stop in it or the end of text. A
    row leaves the batch once it has a stop. Greedy answers do not depend on k, up to rounding."""
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
    passes = stream(model, list(prompts), max_new, k, text.eos, sampling=sampling)
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
    sampling: Sampling = GREEDY,
    k: int | None = None,
    batch: int = BATCH,
) -> list[str]:
    """`answers` to any number of texts, in batches of like lengths. A prompt too long for the model
    loses tokens at its beginning."""
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
        made = answers(model, text, own, stops, max_new, sampling=sampling, k=k)
        for i, answer in zip(rows, made, strict=True):
            found[i] = answer
    return found
