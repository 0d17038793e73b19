"""Heads of one's own that read tokens, in other ways than the built-in types do."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mtp.decoding.trees import Tree, chain
from mtp.head_types import HEADS, HeadType
from mtp.model.heads import MODULES
from mtp.model.transformer import Block
from mtp.objective.cross_entropy import EQUAL, SCHEMES, valid_counts
from tests.mtp.decoding.helpers import random_model
from tests.mtp.decoding.test_generate import check

FORK = Tree(((), (0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)))


class ToldLayer(Block):
    """A layer that begins with the sum of all that it reads."""

    def enter(self, x: Tensor, *more: Tensor) -> Tensor:
        return torch.stack([x, *more]).sum(0)


class ToldMap(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, rope: object, *embeddings: Tensor) -> Tensor:
        return self.linear(torch.stack([x, *embeddings]).sum(0))


def every_token_between(i: int) -> tuple[int, ...]:
    return tuple(range(1, i))


TYPES = {
    "siblings": HeadType(lambda i, n: 0, "told layer", is_layer=True, reads=every_token_between),
    "maps": HeadType(lambda i, n: 0, "told map", reads=every_token_between),
    # 1 <- 4 <- 3 <- 2, whose last reads the first
    "backwards": HeadType(
        lambda i, n: 0 if i == 1 else i + 1 if i < n else 1,
        "told layer",
        is_layer=True,
        reads=lambda i: (1,) if i > 1 else (),
    ),
    # only head 3 reads anything: the draft of head 2, which has none to read
    "one": HeadType(
        lambda i, n: 0, "told layer", is_layer=True, reads=lambda i: (2,) if i == 3 else ()
    ),
}


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, row in TYPES.items():
        monkeypatch.setitem(HEADS, name, row)
    monkeypatch.setitem(MODULES, "told layer", lambda config, i: ToldLayer(config))
    monkeypatch.setitem(MODULES, "told map", lambda config, i: ToldMap(config.dim))
    yield


@pytest.mark.parametrize("tree", [chain(2), chain(3), chain(4), FORK], ids=["2", "3", "4", "tree"])
@pytest.mark.parametrize("head", TYPES)
def test_their_drafts_are_those_of_a_fresh_pass(head: str, tree: Tree) -> None:
    accepted = 0
    for seed in range(3):
        model = random_model(seed, head=head, n=4, vocab=5, layers=5)
        prompts = [[1, 2, 3], [4], [1, 2, 3], [0, 1, 4, 4, 3, 2, 4]]
        accepted += int(check(model, prompts, 24, tree).accepted[1:].sum())
    assert accepted > 5


@pytest.mark.parametrize("head", TYPES)
def test_the_schemes_agree(head: str) -> None:
    text = torch.randint(13, (2, 16), generator=torch.Generator().manual_seed(1))
    targets = torch.stack([text[:, i : i + 12] for i in (1, 2, 3, 4)])
    gradients = []
    for scheme in SCHEMES.values():
        model = random_model(0, head=head, n=4)
        scheme(model, text[:, :12], targets, valid_counts(targets), EQUAL, text[:, 12:])
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0], rtol=1e-9, atol=1e-12)
