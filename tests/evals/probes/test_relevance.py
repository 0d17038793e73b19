"""Information of neighbours and relevance, against plain computations; Lemma L.3 where all is known
exactly."""

import math

import numpy as np
import pytest
import torch

from evals.probes import relevance
from evals.probes.ngrams import Ngrams
from evals.probes.relevance import Information, Reference, class_of, exact, token_losses, two_steps
from evals.statistics.regression import slope
from mtp.config import CorpusConfig, ModelConfig
from mtp.data.corpus import Corpus, build
from mtp.data.tokenizer import ByteTokenizer
from mtp.model.model import MultiTokenTransformer

CONTEXT = 16


@pytest.fixture(scope="module")
def corpus(texts: object, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    config = CorpusConfig(f"files:{texts}", "bytes", validation=0.3)
    return build(config, tmp_path_factory.mktemp("data"), progress=False)


def make(head: str = "parallel", n: int = 2) -> MultiTokenTransformer:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=4, attn_heads=2, vocab=258, n=n, head=head, context=CONTEXT)
    return MultiTokenTransformer(config)


# --------------------------------------------------------------------------------------------------
# The lemma, where p and q are known


def cross(p: np.ndarray, q: np.ndarray) -> float:
    return -float((p * np.log(q)).sum())


@pytest.mark.parametrize("seed", range(5))
def test_the_lemma_holds_for_exact_distributions(seed: int) -> None:
    """For joint distributions p and q of two tokens: I by its definition, as a difference of
    divergences, is what `information` finds from the losses of all pairs, and Lemma L.3 holds."""
    draw = np.random.default_rng(seed)
    p, q = (draw.dirichlet(np.ones(12)).reshape(3, 4) for _ in range(2))
    qx, qy = q.sum(1, keepdims=True), q.sum(0, keepdims=True)
    apart = float((p * np.log(p / (qx * qy))).sum())  # D(p || q_X q_Y)
    defined = apart - float((p * np.log(p / q)).sum())  # less D(p || q)
    # every pair as often as p says, in 10^6 draws that are exactly so
    counts = np.round(p * 1e6).astype(int)
    share = counts / counts.sum()
    pairs = np.repeat(np.arange(12), counts.ravel())
    x, given, y = (
        -np.log(np.broadcast_to(each, q.shape)).ravel()[pairs] for each in (qx, q / qx, qy)
    )
    found = relevance.information(x, given, y)
    assert found.mutual == pytest.approx(defined, abs=1e-4) and found.pairs == len(pairs)
    assert found.x == pytest.approx(cross(share, qx)) and found.y == pytest.approx(cross(share, qy))
    assert found.y_given_x == pytest.approx(cross(share, q / qx))
    assert found.x_given_y == pytest.approx(cross(share, q / qy))  # Bayes' rule
    assert_lemma(found)


def assert_lemma(found: Information) -> None:
    assert found.x == pytest.approx(found.x_given_y + found.mutual, abs=1e-12)
    both = found.x_given_y + 2 * found.mutual + found.y_given_x
    assert found.x + found.y == pytest.approx(both, abs=1e-12)


def test_information_can_be_negative_and_is_nothing_for_independent_tokens() -> None:
    q = np.outer([0.2, 0.8], [0.6, 0.4])
    x, y = -np.log(q.sum(1)), -np.log(q.sum(0)[[1, 0]])
    given = -np.log(q[[0, 1], [1, 0]] / q.sum(1))
    assert relevance.information(x, given, y).mutual == pytest.approx(0, abs=1e-12)
    assert relevance.information(x, given + 1, y).mutual == pytest.approx(-1)


def test_pairs_without_a_loss_are_left_out() -> None:
    nan = math.nan
    x, given, y = (np.array(each) for each in ([1.0, nan, 2.0], [0.5, 1.0, 0.5], [1.0, 2.0, nan]))
    found = relevance.information(x, given, y)
    assert (found.pairs, found.x, found.mutual) == (1, 1.0, 0.5)


# --------------------------------------------------------------------------------------------------
# Losses of models


@pytest.mark.parametrize("head", ["parallel", "linear", "causal"])
def test_losses_are_those_of_the_heads_at_their_targets(corpus: Corpus, head: str) -> None:
    model, tokens = make(head), 2500
    found = token_losses(model, corpus, tokens, 2)
    text, eos = corpus.validation.read(0, tokens), corpus.tokenizer.eos
    want = np.full((2, tokens), np.nan)
    for start in range(0, tokens - 1, CONTEXT):
        window = text[start : start + CONTEXT]
        with torch.no_grad():
            logits = model(torch.from_numpy(window)[None])
        for t in range(len(window)):
            for i in (1, 2):
                s = start + t + i
                if s < tokens and eos not in text[start + t : s] and t + i <= CONTEXT:
                    want[i - 1, s] = -logits[i - 1][0, t].log_softmax(-1)[text[s]]
    assert np.array_equal(np.isnan(found), np.isnan(want))
    assert np.isnan(want[0]).sum() > 1 and np.isnan(want[1]).sum() > 40
    np.testing.assert_allclose(found, want, rtol=1e-5)
    of_heads = relevance.of_heads(found)
    assert 2000 < of_heads.pairs < 2500
    assert_lemma(of_heads)
    np.testing.assert_allclose(token_losses(model, corpus, tokens)[0], found[0], rtol=1e-5)


@pytest.mark.parametrize(("head", "n"), [("parallel", 1), ("parallel", 3), ("linear", 2)])
def test_two_steps_are_those_of_the_whole_model(head: str, n: int) -> None:
    model = make(head, n).double()
    pasts = torch.randint(258, (3, 7))
    first, second = two_steps(model, pasts)
    with torch.no_grad():
        torch.testing.assert_close(first, model(pasts, 1)[0][:, -1].log_softmax(-1))
        for x in (0, 5, 257):
            longer = torch.cat([pasts, torch.full((3, 1), x)], 1)
            torch.testing.assert_close(second[:, x], model(longer, 1)[0][:, -1].log_softmax(-1))
    total = (first[..., None] + second).exp().sum((1, 2))
    torch.testing.assert_close(total, torch.ones(3).double())


def test_exact_information_is_of_head_1_alone(corpus: Corpus) -> None:
    model = make(n=1).double()
    found = exact(model, corpus, 20, 8)
    split, eos = corpus.validation, corpus.tokenizer.eos
    mutual = []
    for start in np.linspace(0, split.tokens - 10, 20).astype(int):
        text = split.read(start, start + 10)
        if eos in text[7:9]:
            continue
        first, second = two_steps(model, torch.from_numpy(text[None, :8]))
        joint = (first[0, :, None] + second[0]).exp()  # (x, y)
        x, y = text[8:]
        mutual.append(float((joint[x, y] / joint[x].sum() / joint[:, y].sum()).log()))
    assert found.pairs == len(mutual) and found.mutual == pytest.approx(np.mean(mutual))
    assert_lemma(found)


def test_a_vocabulary_out_of_reach_is_refused(corpus: Corpus) -> None:
    with torch.device("meta"):
        model = MultiTokenTransformer(ModelConfig(16, 2, 2, vocab=2000, context=16))
    with pytest.raises(ValueError, match="V=2000"):
        exact(model, corpus, 4, 8)


# --------------------------------------------------------------------------------------------------
# Relevance


def made_up(documents: int = 8, seed: int = 0) -> np.ndarray:
    """Documents of 300 tokens, in which "a" decides the next one and "b" does not."""
    draw, out = np.random.default_rng(seed), list[int]()
    text = ByteTokenizer()
    for _ in range(documents):
        out.append(text.bos)
        for _ in range(149):
            out += [97, 99] if draw.random() < 0.5 else [98, int(draw.integers(100, 116))]
        out.append(text.eos)
    return np.array(out)


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(made_up(40, seed=1), made_up(), ByteTokenizer(), 258)


def test_relevance_is_what_a_token_says_of_its_successor(reference: Reference) -> None:
    text = made_up()
    assert len(reference.places) == len(reference.relevance) == len(reference.rest)
    assert not np.isin(text[reference.places], (256, 257)).any() and reference.places.max() < 2400
    train = made_up(40, seed=1)
    one = -np.log(Ngrams(train, 5, 258).probabilities(text))
    two = -np.log(Ngrams(train, 5, 258, 1).probabilities(text))
    for place, value in list(zip(reference.places, reference.relevance, strict=True))[:50]:
        assert value == two[place + 1] - one[place + 1]
    by = {c: reference.relevance[text[reference.places] == ord(c)].mean() for c in "abc"}
    # c, or one of 16 others: "a" is worth ln 2, "b" too, which says that it is one of the others
    assert by["a"] == pytest.approx(math.log(2), abs=0.1)
    assert abs(by["c"]) < 0.2, "what follows c is independent of it, if its place is known"
    assert (np.diff(reference.documents) >= 0).all() and reference.documents.max() == 7


def test_the_slope_is_that_of_the_regression(reference: Reference) -> None:
    draw = np.random.default_rng(3)
    losses = draw.normal(3, 1, 2400)
    losses[reference.places] += 0.3 * reference.relevance + reference.base[:, 0]
    own = losses[reference.places]
    want = slope(own, reference.relevance, reference.documents, reference.base)
    assert reference.slope(losses) == pytest.approx(want.value, abs=1e-9)
    assert want.value == pytest.approx(0.3, abs=0.1)
    assert len(reference.numerators(losses)) == len(reference.denominators) == 8
    whole = reference.numerators(losses).sum() / reference.denominators.sum()
    assert whole == pytest.approx(want.value, abs=1e-9)


def test_the_slope_of_a_difference_is_the_difference_of_slopes(reference: Reference) -> None:
    draw = np.random.default_rng(4)
    one, other = draw.normal(3, 1, (2, 2400))
    apart = reference.numerators(one) - reference.numerators(other)
    np.testing.assert_allclose(apart, reference.numerators(one - other), atol=1e-9)


def test_what_follows_from_the_controls_has_no_slope(reference: Reference) -> None:
    losses = np.zeros(2400)
    losses[reference.places] = reference.base @ np.arange(1.0, 1 + reference.base.shape[1])
    assert reference.slope(losses) == pytest.approx(0, abs=1e-9)
    assert reference.slope(losses + 5) == pytest.approx(0, abs=1e-9), "nor has a constant"


def test_tenths_are_equal_and_ordered_and_keep_the_mean(reference: Reference) -> None:
    losses = np.random.default_rng(5).normal(3, 1, 2400)
    middle, level = reference.by_tenth(losses)
    assert (np.diff(middle) > 0).all() and len(level) == relevance.TENTHS
    assert level.mean() == pytest.approx(losses[reference.places].mean(), abs=0.03)


def test_a_reference_reads_as_much_as_there_is(corpus: Corpus) -> None:
    found = relevance.reference(corpus, 258, 10**9, 10**9)
    assert found is relevance.reference(corpus, 258, 10**9, 10**9)
    assert found.places.max() == corpus.validation.tokens - 2


@pytest.mark.parametrize(
    ("token", "name"),
    [(b"", "end"), (b"\n    ", "line break"), (b"  ", "space"), (b"7", "digit"), (b" def", "word "
     "begins"), (b"_x", "word goes on"), (b"ing", "word goes on"), (b"):", "sign"),
     (b"\xc3", "sign"), (" é".encode(), "word begins"), (b"):\n", "line break")],
)  # fmt: skip
def test_classes_are_told_by_bytes(token: bytes, name: str) -> None:
    assert class_of(token) == name and name in relevance.CLASSES
