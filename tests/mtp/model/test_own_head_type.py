"""A head type of one's own: with a row of the table and a module, everything works."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp import head_types
from mtp.decoding.generate import generate
from mtp.decoding.trees import Tree
from mtp.errors import BadInput
from mtp.head_types import HeadType
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads, grow_heads
from mtp.objective.cross_entropy import SCHEMES, valid_counts
from tests.mtp.decoding.helpers import random_model
from tests.mtp.formats.helpers import TOKENS, logits, our_model

PROMPTS = [[1, 2, 3], [5], [7, 8, 9, 10, 3, 2, 4]]


class Bottleneck(nn.Module):
    """A narrow residual layer; every head has weights, including the first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, 8, bias=False)
        self.up = nn.Linear(8, dim, bias=False)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x + self.up(F.silu(self.down(x)))


class Growing(Bottleneck):
    def pass_on(self) -> None:
        nn.init.zeros_(self.up.weight)


@pytest.fixture(params=["siblings", "chain"], autouse=True)
def own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The new type's name; its heads read the trunk, or one another."""
    chain = request.param == "chain"
    row = HeadType(lambda i, n: i - 1 if chain else 0, "bottleneck")
    monkeypatch.setitem(head_types.HEADS, "own", row)
    monkeypatch.setitem(heads.MODULES, "bottleneck", lambda config, i: Growing(config.dim))
    return "own"


def test_it_trains_alike_in_all_three_schemes(own: str) -> None:
    model = our_model(own, 3).double()
    targets = torch.randint(97, (3, *TOKENS.shape))
    gradients: dict[str, dict[str, Tensor]] = {}
    for name, scheme in SCHEMES.items():
        model.zero_grad()
        losses = scheme(model, TOKENS, targets, valid_counts(targets))
        assert losses.shape == (3,)
        gradients[name] = {key: p.grad.clone() for key, p in model.named_parameters()}  # type: ignore[union-attr]
    assert all(float(g.abs().sum()) > 0 for g in gradients["plain"].values())
    for name in ("sequential", "fused"):
        for key, expected in gradients["plain"].items():
            torch.testing.assert_close(gradients[name][key], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tree", [None, Tree(((), (0,), (1,), (0, 0), (0, 1)))])
def test_its_drafts_change_nothing(own: str, tree: Tree | None) -> None:
    model = random_model(4, head=own, n=3)
    got = generate(model, PROMPTS, 20, tree=tree)
    assert got.tokens == generate(model, PROMPTS, 20, k=1).tokens
    assert len({token for row in got.tokens for token in row}) > 3


def test_it_grows_and_drops(own: str) -> None:
    for start in (our_model("parallel", 1), our_model("causal", 1), our_model(own, 2)):
        before, grown = logits(start), grow_heads(start, 4, own)
        assert (grown.config.head, grown.config.n) == (own, 4)
        now = logits(grown)
        assert torch.equal(now[: len(before)], before)
        assert all(torch.equal(each, before[-1]) for each in now[len(before) :])
        for n in (1, 3):
            assert torch.equal(logits(drop_heads(grown, n)), now[:n])


def test_heads_that_cannot_pass_on_their_input_are_not_grown(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(heads.MODULES, "bottleneck", lambda config, i: Bottleneck(config.dim))
    message = "own heads cannot be grown: their module has no pass_on()"
    with pytest.raises(BadInput) as error:
        grow_heads(our_model("parallel", 1), 2, own)
    assert str(error.value) == message


def test_weights_of_head_1_are_not_lost_in_another_type(own: str) -> None:
    def other(**changes: Any) -> MultiTokenTransformer:
        return grow_heads(our_model(own, 1), 3, **changes)

    with pytest.raises(BadInput, match="own head has weights that parallel heads cannot take"):
        other(head="parallel")
    assert other(head=own).config.n == 3
