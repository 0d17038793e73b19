"""Drafts along given texts, against a loop that feeds the model token by token."""

import pytest
import torch

from evals.probes.drafts import accepted_along, distinct, tokens_per_forward
from evals.probes.speculation import ranks
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from tests.mtp.decoding.helpers import clockwork, trained

# Of the words of `trained` with mistakes in them, so that the model would go on otherwise.
TEXTS = [
    [1, 2, 3, 4, 9, 6, 12, 3, 13, 1, 2, 15, 1, 7, 8, 3, 10, 11, 5, 2],
    [12, 3, 13, 14, 2, 15, 1, 2, 3, 4, 5, 6, 6, 6, 1, 7, 8, 9, 10, 11],
    [7, 8, 1, 2, 3, 9, 10, 11, 12, 3, 4, 4, 4, 5, 1, 2, 3, 4, 5, 6],
]


@torch.no_grad()
def by_hand(model: MultiTokenTransformer, before: list[int]) -> int:
    """How many drafts made after `before` equal head 1's own continuation, up to the first that
    does not."""
    first, *drafts = (int(logits[0, -1].argmax()) for logits in model(torch.tensor([before])))
    text, right = [*before, first], 0
    for draft in drafts:
        if int(model(torch.tensor([text]), 1)[0][0, -1].argmax()) != draft:
            break
        text, right = [*text, draft], right + 1
    return right


@pytest.mark.parametrize("head", ["parallel", "causal", "replicated"])
@pytest.mark.parametrize(("start", "stride", "batch"), [(1, 3, 2), (6, 7, 64)])
def test_a_pass_accepts_what_head_1_would_say(
    head: str, start: int, stride: int, batch: int
) -> None:
    model = trained(head)
    found = accepted_along(model, TEXTS, start, stride, batch)
    places = range(start, 21, stride)
    assert found.tolist() == [[by_hand(model, text[:at]) for text in TEXTS] for at in places]
    assert start > 1 or {0, 3} <= set(found.flatten().tolist()), "some are right, some are not"


def test_along_own_text_drafts_are_the_tokens_that_came() -> None:
    model = trained("parallel")
    prompts = [text[:4] for text in TEXTS]
    outputs = generate(model, prompts, 16, 1).tokens
    own = [prompt + output for prompt, output in zip(prompts, outputs, strict=True)]
    found = accepted_along(model, own, 4).T[:, : 16 - 3]  # places with three tokens after the next
    right = torch.tensor(ranks(model, prompts, outputs, 4)).view(3, -1, 3) == 0
    assert found.tolist() == right.long().cumprod(-1).sum(-1).tolist()


def test_tokens_per_forward_of_fewer_heads() -> None:
    accepted = torch.tensor([[0, 3], [1, 2]])
    assert [tokens_per_forward(accepted, k) for k in (1, 2, 3, 4)] == [1, 1.75, 2.25, 2.5]
    assert tokens_per_forward(accepted_along(clockwork(), [[0, 1, 2, 3]], 2), 4) == 4
    assert tokens_per_forward(accepted_along(clockwork(shift=1), [[0, 1, 2]], 2), 4) == 1


def test_places_whose_block_leaves_the_context_are_left_out() -> None:
    model = trained("parallel")  # n=4, context 64
    text = [[1, 2, 3, 4, 5, 6] * 11]
    assert len(accepted_along(model, [text[0][:64]], 50)) == 11  # 50 .. 60
    with pytest.raises(BadInput, match="66 tokens in a context of 64 has no place for a block"):
        accepted_along(model, text, 61)


def test_bad_texts_are_named() -> None:
    for texts, start, message in [
        ([[1, 2], [1]], 1, r"texts of \[1, 2\] tokens; they must be of one length"),
        ([], 1, r"texts of \[\] tokens"),
        ([[1, 2]], 3, "a text of 2 tokens in a context of 64 has no place"),
        ([[1, 2]], 0, "no place"),
    ]:
        with pytest.raises(BadInput, match=message):
            accepted_along(trained("parallel"), texts, start)


def test_distinct_is_low_where_a_text_repeats_itself() -> None:
    assert distinct([[1, 2, 3, 4, 5, 6, 7]]) == 1
    assert distinct([[1] * 13]) == 0.1
    assert distinct([[1, 2] * 5]) == 2 / 7
    # the same text twice is no repetition within a text, and short ones have nothing to count
    assert distinct([[1, 2, 3, 4, 5]] * 2 + [[1, 1, 1]]) == 1
    assert distinct([[1, 1, 2]], order=2) == 1 and distinct([[1, 1, 1]], order=2) == 0.5
    assert distinct([[1, 2, 3]]) is None and distinct([]) is None
