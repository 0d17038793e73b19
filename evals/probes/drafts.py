"""How far drafts reach from places of a given text, and how much texts repeat themselves.

    the text so far    def area(self): return self.
    head 1 goes on     w i d t h
    heads 2..4         i d e           drafts from that place for the tokens after w

The next pass of self-speculative decoding accepts two of the drafts and makes three tokens. It is
what it would be if the text so far were the prompt, whoever wrote it: along human text the model
has not chosen what it continues. Along a model's own greedy text, which is its own continuation
everywhere, drafts are easier, and most where it repeats itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtp.decoding.generate import stream
from mtp.errors import BadInput

if TYPE_CHECKING:
    from mtp.model.model import MultiTokenTransformer

NEEDED = 2  # tokens after a place, so that there is a pass after the prefill


def accepted_along(
    model: MultiTokenTransformer,
    texts: Sequence[list[int]],
    start: int,
    stride: int = 1,
    batch: int = 64,
) -> Tensor:
    """How many drafts the first pass accepts after each `stride`-th place of each text: (places,
    texts), from 0 to n - 1.

    texts  of equal length
    start  the first place: how many tokens of a text are before it

    The last place is the text's end, or earlier where a block would not fit the model's context.
    Raises BadInput if there is no place.
    """
    lengths = {len(text) for text in texts}
    if len(lengths) != 1:
        raise BadInput(f"texts of {sorted(lengths)} tokens; they must be of one length")
    context, n = model.config.context, model.config.n
    places = range(start, min(*lengths, context - max(n, NEEDED)) + 1, stride)
    if not places or start < 1:
        raise BadInput(
            f"a text of {max(lengths)} tokens in a context of {context} has no place for a block "
            f"of {n} from {start} on"
        )
    found = []
    for place in places:
        row = list[int]()
        for i in range(0, len(texts), batch):
            passes = stream(model, [text[:place] for text in texts[i : i + batch]], NEEDED)
            next(passes)  # the prefill: head 1's answer, and the drafts
            row += [gain.accepted for gain in next(passes)]
        found.append(row)
    return torch.tensor(found)


def tokens_per_forward(accepted: Tensor, k: int) -> float:
    """What k of the heads would make of each pass, on average: 1 and the drafts that are accepted.
    A shorter chain of drafts is the beginning of a longer one."""
    return 1 + float(accepted.clamp(max=k - 1).double().mean())


def distinct(texts: Sequence[list[int]], order: int = 4) -> float | None:
    """The share of a text's n-grams that are different from one another, over all texts: 1 if none
    repeats itself, near 0 if all are loops. None if no text is so long."""
    different = count = 0
    for text in texts:
        own = list(zip(*(text[i:] for i in range(order)), strict=False))
        different += len(set(own))
        count += len(own)
    return different / count if count else None
