"""Answers that a model writes to prompts, each up to a stop text."""

from collections.abc import Sequence

from mtp.decode import stream
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer
from mtp.sampling import GREEDY, Sampling
from mtp.tokenizer import Tokenizer

BATCH = 32


def room(model: MultiTokenTransformer, max_new: int) -> int:
    """Tokens that a prompt may have, bos included, where max_new follow; BadInput if none."""
    left = model.config.context - max_new
    if max_new < 1 or left < 1:
        raise BadInput(
            f"max_new is {max_new}; it must be from 1 to {model.config.context - 1}, so that the "
            "model's context has room for a prompt"
        )
    return left


def answers(
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
    """What follows each prompt, cut before the first stop text or the end of text. A prompt too
    long for the model loses tokens at its beginning.

    Greedy answers depend on neither k nor the batch, up to rounding.
    """
    left = room(model, max_new)
    tokens = [[text.bos, *ids][-left:] for ids in text.encode_batch(list(prompts))]
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))  # little padding
    found = [""] * len(tokens)
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        made: list[list[int]] = [[] for _ in chosen]
        written, ended = [""] * len(chosen), set[int]()
        passes = stream(model, [tokens[i] for i in chosen], max_new, k, text.eos, sampling=sampling)
        for gains in passes:
            for row, new, _ in gains:
                if row not in ended:
                    made[row] += new
                    written[row] = text.decode(made[row])
                    if any(stop in written[row] for stop in stops):
                        ended.add(row)
            if len(ended) == len(chosen):
                break
        for i, answer in zip(chosen, written, strict=True):
            found[i] = cut(answer, stops)
    return found


def cut(answer: str, stops: Sequence[str]) -> str:
    """The answer before the first stop in it."""
    places = (answer.find(stop) for stop in stops)
    return answer[: min((place for place in places if place >= 0), default=len(answer))]
