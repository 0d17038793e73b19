"""N-gram tables against a plain implementation with dictionaries, and as distributions."""

import lzma
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from evals.probes.ngrams import Ngrams, bits_per_byte, keys_of, largest_order, xz_bits_per_byte

V = 5


def plain(
    train: Sequence[int], order: int, context: tuple[int, ...], token: int, skip: int = 0
) -> float:
    """P(token | context, and `skip` unknown tokens) by the formula, with dictionaries."""
    ends = range(order - 1 + skip, len(train))
    grams = Counter((*train[i - skip - order + 1 : i - skip], train[i]) for i in ends)
    below = 1 / V
    for k in range(1, min(order, len(context) + 1) + 1):
        counts = grams
        for size in range(order - 1, k - 1, -1):  # of each k-gram, the tokens it was seen after
            counts = Counter(gram[1:] for gram in {g for g in counts if len(g) == size + 1})
        once = sum(c == 1 for c in counts.values())
        twice = sum(c == 2 for c in counts.values())
        discount = once / (once + 2 * twice) if once else 0.5
        h = context[len(context) - k + 1 :]
        after = {gram[-1]: c for gram, c in counts.items() if gram[:-1] == h}
        if after:
            kept = max(after.get(token, 0) - discount, 0)
            below = (kept + discount * len(after) * below) / sum(after.values())
    return below


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_are_those_of_the_formula(order: int) -> None:
    draw = np.random.default_rng(order)
    train = draw.choice(V, 60, p=[0.5, 0.2, 0.2, 0.1, 0.0])  # one token is never seen
    test = draw.integers(0, V, 40)
    found = Ngrams(train, order, V).probabilities(test)
    for i, token in enumerate(test):
        context = tuple(test[max(0, i - order + 1) : i].tolist())
        assert found[i] == pytest.approx(plain(train.tolist(), order, context, int(token)), 1e-12)


@pytest.mark.parametrize(("order", "skip"), [(1, 1), (3, 1), (4, 2)])
def test_tokens_between_are_passed_over(order: int, skip: int) -> None:
    draw = np.random.default_rng(order)
    train, test = draw.choice(V, 60, p=[0.5, 0.2, 0.2, 0.1, 0.0]), draw.integers(0, V, 20)
    found = Ngrams(train, order, V, skip).probabilities(test)
    assert (found[:skip] == 1 / V).all()
    for i in range(skip, len(test)):
        context = tuple(test[max(0, i - skip - order + 1) : i - skip].tolist())
        want = plain(train.tolist(), order, context, int(test[i]), skip)
        assert found[i] == pytest.approx(want, 1e-12)


@pytest.mark.parametrize("order", [1, 2, 5])
def test_what_follows_a_context_has_the_probabilities_of_a_stream(order: int) -> None:
    draw = np.random.default_rng(order)
    table = Ngrams(draw.choice(V, 60, p=[0.5, 0.2, 0.2, 0.1, 0.0]), order, V)
    for length in (0, 1, 2, 3, 8):
        context = draw.integers(0, V, length)
        found = table.following(context.tolist())
        assert found.sum() == pytest.approx(1, 1e-12)
        for token in range(V):
            stream = np.append(context, token)
            assert found[token] == pytest.approx(table.probabilities(stream)[-1], 1e-12)


def test_the_largest_order_is_the_last_whose_keys_fit() -> None:
    assert [largest_order(v, 5) for v in (258, 512, 4096, 32_000)] == [5, 5, 5, 4]
    for vocab in (2, 3, 512, 8192, 32_000):
        order = largest_order(vocab, 100)
        assert vocab**order < 2**63 <= vocab ** (order + 1)


@pytest.mark.parametrize("order", [1, 2, 4])
def test_they_add_up_to_one_after_any_context(order: int) -> None:
    draw = np.random.default_rng(0)
    table = Ngrams(draw.integers(0, V - 1, 200), order, V)
    for _ in range(20):
        context = draw.integers(0, V, order - 1)
        streams = [np.append(context, token) for token in range(V)]
        assert sum(table.probabilities(s)[-1] for s in streams) == pytest.approx(1, 1e-12)


def test_a_higher_order_finds_what_it_is_there_for() -> None:
    """Each token is decided by the two before it: 3-grams know, bigrams do not."""
    draw = np.random.default_rng(0)
    rule, stream = draw.integers(0, V, (V, V)), [0, 1]
    for _ in range(3000):
        known = draw.random() < 0.9
        stream.append(int(rule[stream[-2], stream[-1]]) if known else int(draw.integers(V)))
    train, test = np.array(stream[:2000]), np.array(stream[2000:])
    bits = [bits_per_byte(train, test, order, V, len(test)) for order in (1, 2, 3)]
    assert bits[2] < 0.6 * bits[1] < bits[0]


def test_bits_per_byte_counts_bytes() -> None:
    train = np.array([0, 1] * 500)
    whole = bits_per_byte(train, train, 1, 2, len(train))
    assert whole == pytest.approx(1, 1e-3)
    assert bits_per_byte(train, train, 1, 2, 4 * len(train)) == pytest.approx(whole / 4)
    text = b"abcdefgh" * 1000
    packed = lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
    assert xz_bits_per_byte(text) == 8 * len(packed) / len(text)


def test_what_has_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="order 5 with V=32000"):
        Ngrams(np.arange(10), 5, 32_000)
    with pytest.raises(ValueError, match="2 tokens have no 3-gram"):
        Ngrams(np.arange(2), 3, V)
    assert keys_of(np.array([1, 2, 3]), 2, 10).tolist() == [12, 23]
