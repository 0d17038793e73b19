"""Log-likelihoods of continuations, in batches.

    context "Question: ... Answer:"   continuation " the dry palms"
    tokens  bos Question : ... Answer :  |  the dry palms
                                         ^ scored: the sum of ln p of these, by head 1

Both texts are encoded together and divided where the context alone ends, after its trailing spaces
have moved to the continuation, as in lm-evaluation-harness. bos comes first, as it does in every
training document.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mtp.data.tokenizer import Tokenizer
from mtp.errors import BadInput

if TYPE_CHECKING:  # torch takes seconds to import, so it is when there is something to score
    from mtp.model.model import MultiTokenTransformer

BATCH_TOKENS = 8192  # of a batch, padding included
CHUNK_LOGITS = 2**24  # logits alive at a time


class Request(NamedTuple):
    """Tokens to score, after a context of at least one."""

    context: list[int]
    continuation: list[int]


class Likelihood(NamedTuple):
    """Summed ln p of a continuation's tokens, and whether each is the model's best."""

    nats: float
    greedy: bool


def request(text: Tokenizer, context: str, continuation: str) -> Request:
    """The tokens of a text after another. Raises BadInput if there is nothing to score."""
    kept = context.rstrip()
    continuation, context = context[len(kept) :] + continuation, kept
    before = text.encode(context)
    after = text.encode(context + continuation)[len(before) :]
    if not after:
        raise BadInput(
            f"no token is left to score in continuation {continuation!r}; give some text"
        )
    return Request([text.bos, *before], after)


def windows(tokens: Sequence[int], bos: int, context: int) -> list[Request]:
    """A text of any length as requests that score each token once. When the last token of a window
    is scored, all windows but the first have the last `context` tokens in view. So the last window,
    which has fewer tokens to score, sees more before them (lm-evaluation-harness's rolling
    windows)."""
    found, whole = [], [bos, *tokens]
    for start in range(0, len(tokens), context):
        end = min(start + context, len(tokens))
        found.append(Request(whole[max(0, end - context) : start + 1], whole[start + 1 : end + 1]))
    return found


def likelihoods(
    model: MultiTokenTransformer, requests: Sequence[Request], batch_tokens: int = BATCH_TOKENS
) -> list[Likelihood]:
    """Score each request. A context too long for the model loses tokens at its beginning; BadInput
    where a continuation alone is too long.

    Rows are padded on the right, which causal attention does not see, in batches of like lengths.
    Requests with the same tokens but the last (the letters of MMLU) share a row.
    """
    import torch

    C = model.config.context
    rows: dict[tuple[int, ...], list[int]] = {}  # input tokens -> who needs them
    for index, (context, continuation) in enumerate(requests):
        if not context or not continuation:
            raise BadInput(f"request {index} has no context or no continuation; both need a token")
        if len(continuation) > C:
            raise BadInput(
                f"a continuation of {len(continuation)} tokens exceeds the model's context of {C}"
            )
        rows.setdefault(tuple([*context, *continuation][-C - 1 : -1]), []).append(index)
    found: list[Likelihood | None] = [None] * len(requests)
    order = sorted(rows, key=len, reverse=True)
    while order:
        count = max(1, batch_tokens // len(order[0]))
        batch, order = order[:count], order[count:]
        asked = [(row, index) for row, key in enumerate(batch) for index in rows[key]]
        with torch.inference_mode():
            scored = _batch(model, batch, [(row, requests[i].continuation) for row, i in asked])
        for (_, index), likelihood in zip(asked, scored, strict=True):
            found[index] = likelihood
    return [likelihood for likelihood in found if likelihood is not None]


def _batch(
    model: MultiTokenTransformer,
    rows: list[tuple[int, ...]],
    asked: list[tuple[int, list[int]]],
) -> list[Likelihood]:
    """Likelihoods of continuations, each with the row whose last tokens predict it."""
    import torch

    device, longest = model.embedding.weight.device, max(map(len, rows))
    padded = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
    latents = model.latents(padded, 1)[0].flatten(0, 1)  # (B T, D)
    places = [
        row * longest + len(rows[row]) - len(continuation) + at
        for row, continuation in asked
        for at in range(len(continuation))
    ]
    index = torch.tensor(places, device=device)  # (N,)
    targets = torch.tensor([token for _, c in asked for token in c], device=device)
    step = max(1, CHUNK_LOGITS // model.config.vocab)
    nats, greedy = list[torch.Tensor](), list[torch.Tensor]()
    for at, target in zip(index.split(step), targets.split(step), strict=True):
        logits = model.logits(latents[at])  # (n, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        nats.append(logits.log_softmax(-1).gather(-1, target[:, None])[:, 0].double())
        greedy.append(logits.argmax(-1) == target)
    lengths = [len(continuation) for _, continuation in asked]
    by_request = zip(
        torch.cat(nats).cpu().split(lengths), torch.cat(greedy).cpu().split(lengths), strict=True
    )
    found = [Likelihood(float(n.sum()), bool(g.all())) for n, g in by_request]
    if odd := [each.nats for each in found if not math.isfinite(each.nats)]:
        raise BadInput(f"the model gives a text ln p of {odd[0]}; its weights are damaged")
    return found
