"""Drafts along human text, against a model that is asked one position at a time."""

from pathlib import Path

import pytest
import torch

from evals.probes.agreement import measure, tokens_per_forward
from mtp.config import CorpusConfig, ModelConfig
from mtp.data.corpus import Corpus, build
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer

CONTEXT, K = 24, 3


@pytest.fixture(scope="module")
def corpus(texts: Path, data: Path) -> Corpus:
    return build(CorpusConfig(f"files:{texts}", "bytes", validation=0.3), data)


def a_model(n: int, head: str = "parallel") -> MultiTokenTransformer:
    """Untrained, and it says only a few tokens, so that heads often agree."""
    torch.manual_seed(1)
    config = ModelConfig(16, 5, 2, vocab=258, n=n, head=head, context=CONTEXT)
    model = MultiTokenTransformer(config)
    with torch.no_grad():
        for i in range(1, n + 1):
            model.unembedding(i).zero_()[60:64] = torch.randn(4, 16)
    return model


def slow(model: MultiTokenTransformer, text: list[int], eos: int) -> tuple[list[list[bool]], ...]:
    """For each position of each window with K tokens of its document after it: which drafts agree,
    and which would if they were copies of head 1's token. One prefix at a time."""
    own, copies, n = [], [], model.config.n
    for start in range(0, len(text) - 1, CONTEXT):
        window = text[start : start + CONTEXT]
        said = []  # by every head at every position
        for t in range(len(window)):
            ahead = torch.tensor([text[start + t + 1 : start + t + 1 + n]]).long()
            latents = model.latents(torch.tensor([window[: t + 1]]), n, ahead=ahead)
            logits = [model.logits(each[0, t], i) for i, each in enumerate(latents, 1)]
            said.append([int(each.argmax()) for each in logits])
        for t in range(CONTEXT - K + 1):
            after = text[start + t : start + t + K]  # the tokens between, and the one read
            if start + t + K >= len(text) or eos in after:
                continue
            later = [said[t + i - 1][0] for i in range(2, K + 1)]
            own.append([said[t][i - 1] == later[i - 2] for i in range(2, min(K, n) + 1)])
            copies.append([said[t][0] == each for each in later])
    return own, copies


def runs_of(agrees: list[list[bool]]) -> float:
    """1 and the mean number of drafts before the first wrong one."""
    lengths = []
    for row in agrees:
        length = 0
        while length < len(row) and row[length]:
            length += 1
        lengths.append(length)
    return 1 + sum(lengths) / len(lengths)


@torch.no_grad()
@pytest.mark.parametrize(
    ("n", "head"), [(4, "parallel"), (2, "linear"), (3, "replicated"), (3, "sequential")]
)
def test_it_is_what_one_position_at_a_time_gives(n: int, head: str, corpus: Corpus) -> None:
    model, limit = a_model(n, head), 150
    text = corpus.validation.read(0, limit).tolist()
    own, copies = slow(model, text, corpus.tokenizer.eos)
    found = measure(model, corpus.validation, K, limit)
    assert found.positions == len(own) > 80
    shares = torch.tensor(own).double().mean(0)
    assert found.heads == pytest.approx(shares.tolist()) and len(found.heads) == min(n, K) - 1
    assert found.tokens_per_forward == pytest.approx(runs_of(own))
    assert found.copies == pytest.approx(runs_of(copies)) and 1 < found.copies < K


def test_documents_end_what_is_looked_at(corpus: Corpus) -> None:
    first = len(next(iter(corpus.validation.documents())))
    within = measure(a_model(3), corpus.validation, K, first)
    across = measure(a_model(3), corpus.validation, K, first + K)
    assert across.positions == within.positions, "no position looks beyond the end"


def test_a_head_that_copies_head_1_is_the_copies(corpus: Corpus) -> None:
    from mtp.model.surgery import grow_heads

    one = a_model(1)
    alone = measure(one, corpus.validation, K, 300)
    assert alone.heads == [] and alone.tokens_per_forward == 1
    grown = measure(grow_heads(one, K, "parallel"), corpus.validation, K, 300)
    assert grown.tokens_per_forward == grown.copies == alone.copies
    assert grown.constant == alone.constant <= 3


def test_a_constant_head_1_is_always_agreed_with(corpus: Corpus) -> None:
    model = a_model(3)
    with torch.no_grad():
        model.unembedding(1).zero_()
    found = measure(model, corpus.validation, K, 300)
    assert found.constant == found.copies == found.tokens_per_forward == K
    assert found.heads == [1, 1]


def test_the_first_wrong_draft_ends_a_run() -> None:
    agrees = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]]).bool()
    assert tokens_per_forward(agrees) == 1 + (2 + 0 + 1 + 3) / 4


def test_what_cannot_be_measured(corpus: Corpus) -> None:
    with pytest.raises(BadInput, match="from 1 to the context 24"):
        measure(a_model(2), corpus.validation, CONTEXT + 1)
    with pytest.raises(BadInput, match="no position of the text has 3 tokens"):
        measure(a_model(2), corpus.validation, K, 3)
