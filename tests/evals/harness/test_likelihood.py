"""Log-likelihoods in batches are those of one text at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.harness.likelihood import Likelihood, Request, likelihoods, request, windows
from mtp.config import ModelConfig
from mtp.data.tokenizer import BPE, ByteTokenizer
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

BYTES = ByteTokenizer()
VOCAB, CONTEXT = 11, 12


def make(head: str = "parallel", dtype: torch.dtype = torch.float64) -> MultiTokenTransformer:
    torch.manual_seed(0)
    config = ModelConfig(
        dim=16,
        layers=3,
        attn_heads=2,
        vocab=VOCAB,
        n=2,
        context=CONTEXT,
        head=head,  # type: ignore[arg-type]
    )
    return MultiTokenTransformer(config).to(dtype)


MODEL = make()
TOKENS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=CONTEXT)
REQUESTS = st.lists(st.builds(Request, TOKENS, TOKENS), max_size=8)


@torch.inference_mode()
def one_by_one(model: MultiTokenTransformer, asked: Request) -> Likelihood:
    """A token at a time, each from a forward pass of its own over what is before it."""
    nats, greedy = 0.0, True
    tokens = [*asked.context, *asked.continuation][-CONTEXT - 1 :]
    for at in range(len(tokens) - len(asked.continuation), len(tokens)):
        logits = model(torch.tensor([tokens[:at]]), 1)[0][0, -1].double()
        nats += float(logits[tokens[at]] - torch.logsumexp(logits, 0))
        greedy &= int(logits.argmax()) == tokens[at]
    return Likelihood(nats, greedy)


@given(REQUESTS, st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_a_batch_is_what_each_is_alone(asked: list[Request], batch_tokens: int) -> None:
    found = likelihoods(MODEL, asked, batch_tokens)
    assert len(found) == len(asked)
    for each, likelihood in zip(asked, found, strict=True):
        expected = one_by_one(MODEL, each)
        assert likelihood.nats == pytest.approx(expected.nats, abs=1e-9)
        assert likelihood.greedy == expected.greedy


@pytest.mark.parametrize("head", ["parallel", "causal", "anticausal", "linear", "replicated"])
def test_float32_of_every_head_type(head: str) -> None:
    model, reference = make(head, torch.float32), make(head)
    reference.load_state_dict(model.state_dict())
    asked = [
        Request([1, 2, 3][: 1 + i % 3], [(i * 7 + j) % VOCAB for j in range(1 + i)])
        for i in range(9)
    ]
    for each, likelihood in zip(asked, likelihoods(model, asked), strict=True):
        assert likelihood.nats == pytest.approx(one_by_one(reference, each).nats, abs=1e-4)


def test_greedy_is_reported() -> None:
    best = int(MODEL(torch.tensor([[1, 2]]), 1)[0][0, -1].argmax())
    found = likelihoods(MODEL, [Request([1, 2], [token]) for token in range(VOCAB)])
    assert [likelihood.greedy for likelihood in found] == [t == best for t in range(VOCAB)]
    total = sum(torch.tensor(likelihood.nats).exp() for likelihood in found)
    assert float(total) == pytest.approx(1)


def test_only_the_last_token_differs_so_a_row_is_shared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows, latents = [], MODEL.latents

    def counted(tokens: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
        rows.append(len(tokens))
        return latents(tokens, *rest)

    monkeypatch.setattr(MODEL, "latents", counted)
    likelihoods(MODEL, [Request([1, 2, 3], [letter]) for letter in range(4)] + [Request([4], [5])])
    assert sum(rows) == 2


@pytest.mark.parametrize(
    ("asked", "reported"),
    [
        (Request([1], [2] * (CONTEXT + 1)), "exceeds the model's context of 12"),
        (Request([], [2]), "request 0 has no context"),
        (Request([1], []), "request 0 has no context or no continuation"),
    ],
)
def test_what_cannot_be_scored_is_refused(asked: Request, reported: str) -> None:
    with pytest.raises(BadInput, match=reported):
        likelihoods(MODEL, [asked])


def test_a_model_of_no_numbers_scores_nothing() -> None:
    model = make()
    model.norm.weight.data[0] = float("nan")
    with pytest.raises(BadInput, match=r"ln p of nan; its weights"):
        likelihoods(model, [Request([1], [2])])


def test_a_continuation_may_fill_the_context() -> None:
    asked = Request([1], [2] * CONTEXT)
    (found,) = likelihoods(MODEL, [asked])
    assert found.nats == pytest.approx(one_by_one(MODEL, asked).nats)


# --------------------------------------------------------------------------------------------------
# texts to tokens

WORDS = ["the cat sat on the mat", "a cat and a hat", "that hat is flat"] * 20
TOKENIZERS: list[Callable[[], Any]] = [ByteTokenizer, lambda: BPE.train(WORDS, 280)]


@pytest.mark.parametrize("make_tokenizer", TOKENIZERS)
@given(st.text(" athc.\n", max_size=12), st.text(" athc.\n", min_size=1, max_size=12))
@settings(deadline=None, max_examples=100)
def test_parts_are_those_of_the_whole(
    make_tokenizer: Callable[[], Any], context: str, continuation: str
) -> None:
    text = make_tokenizer()
    asked = request(text, context, " " + continuation)
    assert asked.context[0] == text.bos
    assert asked.context[1:] == text.encode(context.rstrip())
    whole = text.encode(context.rstrip())
    assert len(whole) + len(asked.continuation) == len(text.encode(context + " " + continuation))


def test_trailing_spaces_move_to_the_continuation() -> None:
    assert request(BYTES, "so \n", "it") == request(BYTES, "so", " \nit")
    assert BYTES.decode(request(BYTES, "so ", "it").continuation) == " it"
    assert request(BYTES, "", "it") == Request([BYTES.bos], list(b"it"))


def test_an_empty_continuation_is_refused() -> None:
    with pytest.raises(BadInput, match="no token is left to score"):
        request(BYTES, "so", "")


@given(st.integers(1, 9), st.integers(0, 40))
def test_windows_score_every_token_once(context: int, count: int) -> None:
    tokens = list(range(count))
    found = windows(tokens, -1, context)
    assert [token for part in found for token in part.continuation] == tokens
    for part in found:
        whole = [*part.context, *part.continuation]
        assert whole == [-1, *tokens][whole[0] + 1 : whole[-1] + 2]  # a stretch of the text
        assert len(whole) <= context + 1
        assert len(whole) == context + 1 or whole[0] == -1


def test_windows_as_the_harness_documents_them() -> None:
    assert windows(range(10), -1, 4) == [
        Request([-1], [0, 1, 2, 3]),
        Request([3], [4, 5, 6, 7]),
        Request([5, 6, 7], [8, 9]),
    ]
