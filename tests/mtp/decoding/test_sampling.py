"""Sampled decoding is lossless: over all short sequences, outputs are as frequent as the model's
own distribution says, whatever is drafted."""

import itertools
import math
from typing import Any

import pytest
import torch

from mtp.decoding.generate import generate
from mtp.decoding.sampling import Sampling, choose_token
from mtp.decoding.trees import Tree, best_tree, chain
from mtp.errors import BadInput
from mtp.head_types import HEADS
from tests.mtp.decoding.helpers import random_model

VOCAB, NEW, DRAWS = 4, 3, 8000
TREE = Tree(((), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)))
PROMPT = [2, 0, 3]


@pytest.fixture(autouse=True)
def narrow_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of 16 slots, not 64, for sequences this short."""
    monkeypatch.setattr("mtp.decoding.generate.WINDOW", 16)


def p_value(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's chi-square test; cells expected fewer than 5 times are taken together."""
    rare = expected < 5
    if rare.any():
        counts = torch.cat([counts[~rare], counts[rare].sum()[None]])
        expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic = ((counts - expected) ** 2 / expected).sum()
    freedom = torch.tensor((len(counts) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, statistic / 2))


def exact(model: Any, sampling: Sampling) -> torch.Tensor:
    """The probability of every sequence of NEW tokens after PROMPT, from uncached logits."""
    sequences = torch.tensor(list(itertools.product(range(VOCAB), repeat=NEW)))
    prompts = torch.tensor(PROMPT).expand(len(sequences), -1)
    with torch.no_grad():
        logits = model(torch.cat([prompts, sequences], 1), k=1)[0]
    p = sampling.probabilities(logits[:, len(PROMPT) - 1 : -1])  # (V^NEW, NEW, V)
    found = p.gather(2, sequences[..., None])[..., 0].prod(1)
    assert float(found.sum()) == pytest.approx(1)
    return found.double()


def frequencies(model: Any, tree: Tree, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each sequence came, and how many drafts were accepted."""
    got = generate(model, [PROMPT] * DRAWS, NEW, tree=tree, sampling=sampling)
    counts = torch.zeros([VOCAB] * NEW, dtype=torch.float64)
    index = torch.tensor(got.tokens).T
    counts.index_put_(tuple(index), torch.ones(DRAWS, dtype=torch.float64), accumulate=True)
    return counts.flatten(), got.accepted


WAYS = {"k=1": chain(1), "chain": chain(4), "tree": TREE}
LAWS = {
    "T=1": Sampling(1.0, seed=3),
    "T=0.6": Sampling(0.6, seed=3),
    "top-k": Sampling(1.0, top_k=2, seed=3),
    "top-p": Sampling(1.3, top_p=0.7, seed=3),
    "both": Sampling(1.1, top_k=3, top_p=0.8, seed=3),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("way", WAYS)
def test_outputs_have_the_models_own_distribution(way: str, law: str) -> None:
    model = random_model(5, n=4, vocab=VOCAB, context=16)
    counts, accepted = frequencies(model, WAYS[way], LAWS[law])
    expected = exact(model, LAWS[law]) * DRAWS
    assert (counts[expected == 0] == 0).all()
    assert p_value(counts, expected) > 1e-3
    if way != "k=1":  # some drafts were accepted, and not all
        assert accepted[1] > 0.1 * accepted[0] and accepted[-1] < 0.9 * accepted[0]
    # the test would notice a distribution that is a little off
    other = Sampling(LAWS[law].temperature * 1.15, LAWS[law].top_k, LAWS[law].top_p)
    assert p_value(counts, exact(model, other) * DRAWS) < 1e-3


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ("parallel", "mlp")])
def test_other_heads_sample_the_same(head: str) -> None:
    layers = 5 if HEADS[head].is_layer else 2
    model = random_model(6, n=4, head=head, layers=layers, vocab=VOCAB, context=16)
    counts, _ = frequencies(model, TREE, LAWS["T=1"])
    assert p_value(counts, exact(model, LAWS["T=1"]) * DRAWS) > 1e-3


def test_a_seed_gives_the_same_draws_again() -> None:
    model = random_model(5, n=4)
    rows = [
        generate(model, [PROMPT] * 3, 12, sampling=Sampling(1.0, seed=seed)).tokens
        for seed in (0, 0, 1)
    ]
    assert rows[0] == rows[1] != rows[2]
    assert rows[0][0] != rows[0][1], "rows have draws of their own"


def test_one_choice_alone_is_greedy() -> None:
    model = random_model(5, n=4)
    greedy = generate(model, [PROMPT], 20).tokens
    for sampling in (Sampling(1.0, top_k=1), Sampling(1.0, top_p=1e-9), Sampling(1e-4)):
        assert generate(model, [PROMPT], 20, sampling=sampling).tokens == greedy


def test_top_k_and_top_p_by_hand() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()

    def p(**law: Any) -> list[float]:
        return [round(x, 4) for x in Sampling(1.0, **law).probabilities(logits).tolist()]

    assert p(top_k=2) == [0, 0.5714, 0, 0.4286]
    assert p(top_p=0.4) == [0, 1, 0, 0]  # the fewest that reach it
    assert p(top_p=0.41) == [0, 0.5714, 0, 0.4286]
    assert p(top_p=0.95) == [0.1, 0.4, 0.2, 0.3]
    assert p(top_k=3, top_p=0.7) == [0, 0.5714, 0, 0.4286]  # top-p of what top-k left


def test_a_number_draws_the_token_whose_part_of_the_unit_interval_it_is_in() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()

    def drawn(*numbers: float, **law: Any) -> list[int]:
        u = torch.tensor(numbers, dtype=torch.float64)
        return choose_token(logits.expand(len(numbers), 4), Sampling(1.0, **law), u).tolist()

    assert drawn(0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 1 - 2**-53) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert drawn(0.0, 0.57, 0.58, 1 - 2**-53, top_k=2) == [1, 1, 3, 3]  # never 0 or 2


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_bad_values_are_named(law: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Sampling(**law)


# --------------------------------------------------------------------------------------------------
# trees


def test_the_best_tree_has_the_most_frequent_paths_and_the_chain() -> None:
    ranks = [(0, 0)] * 5 + [(1, 0)] * 4 + [(1, 2)] * 3 + [(3, 0)] * 1 + [(0, 1)] * 2
    assert best_tree(ranks, 3, 3) == chain(3)
    # (0): 7 times, (1): 7, (0, 0): 5, (1, 0): 4, (1, 2): 3, (0, 1): 2
    assert best_tree(ranks, 3, 5).paths == ((), (0,), (1,), (0, 0), (1, 0))
    assert best_tree(ranks, 3, 6).paths == ((), (0,), (1,), (0, 0), (1, 0), (1, 2))
    assert best_tree([(4, 4)] * 9, 3, 4).paths == ((), (0,), (4,), (0, 0)), "the chain stays"
    with pytest.raises(BadInput, match="2 nodes cannot contain the chain of k=3"):
        best_tree(ranks, 3, 2)


@pytest.mark.parametrize("paths", [((0,),), ((), (0, 0)), ((), (0,), (0,)), (), ((), (0, 0), (0,))])
def test_what_is_not_a_tree_is_refused(paths: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(BadInput, match="tree"):
        Tree(paths)
