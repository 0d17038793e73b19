"""Growing and dropping heads: what stays the same, what is new, and what is refused."""

from typing import Any

import pytest
import torch

from mtp.head_types import HEADS
from mtp.model.surgery import drop_heads, grow_heads
from mtp.objective import cross_entropy
from tests.mtp.formats.helpers import TOKENS, logits, our_model, refused

TYPES = tuple(HEADS)


@pytest.mark.parametrize("start", ["parallel", "linear"])
@pytest.mark.parametrize("head", TYPES)
def test_heads_grow_and_head_1_stays(head: Any, start: str) -> None:
    model = our_model(start, 1, kv_heads=2)
    before = logits(model)[0]
    grown = grow_heads(model, 4, head)
    after = logits(grown)
    assert grown.config.n == 4 and len(after) == 4
    assert torch.equal(after[0], before)
    if head == "anticausal":  # the others stop earlier in the same row of layers
        assert not any(torch.allclose(after[i], before) for i in (1, 2, 3))
    else:
        for other in after[1:]:
            close: Any = (
                {"rtol": 1e-5, "atol": 3e-5} if HEADS[head].reads(2) else {}
            )  # norm_eps twice
            torch.testing.assert_close(other, before, **close)
    added = {"parallel": 3, "causal": 3, "sequential": 3, "sequential-shared": 1}
    more = added.get(head, 0)  # Table S6: "+3 layers"
    assert (grown.config.layers, grown.config.extra_layers) == (5, more)
    assert torch.equal(logits(model)[0], before)
    # nothing is shared with the model that was grown, nor between heads
    with torch.no_grad():
        for p in (*grown.heads[1].parameters(), *grown.unembeddings[1:].parameters()):
            p.mul_(0.5)
    assert torch.equal(logits(model)[0], before)
    assert torch.equal(logits(grown)[0], before) or head == "anticausal"


@pytest.mark.parametrize("head", TYPES)
def test_more_heads_grow_beside_the_existing_ones(head: Any) -> None:
    model = our_model(head, 2)
    grown = grow_heads(model, 4, head)
    assert torch.equal(logits(grown)[:2], logits(model))
    if head not in ("anticausal", "sequential-shared"):
        torch.testing.assert_close(logits(grown)[3], logits(model)[1])
        assert not torch.allclose(logits(grown)[3], logits(model)[0])


@pytest.mark.parametrize("head", ["parallel", "causal"])
def test_matched_heads_take_layers_from_the_trunk(head: Any) -> None:
    model = our_model("parallel", 1)
    grown = grow_heads(model, 3, head, matched=True)
    c = grown.config
    assert (c.layers, c.extra_layers, c.trunk_layers) == (5, 0, 2)  # Table S6: "+0"
    assert grown.parameter_counts()["total"] == model.parameter_counts()["total"]
    state, old = grown.state_dict(), model.state_dict()
    assert torch.equal(state["trunk.1.attention.wq.weight"], old["trunk.1.attention.wq.weight"])
    assert torch.equal(state["heads.0.attention.wq.weight"], old["heads.0.attention.wq.weight"])


@pytest.mark.parametrize("head", TYPES)
def test_grown_heads_learn_to_differ(head: Any) -> None:
    model = grow_heads(our_model("parallel", 1), 3, head)
    targets = TOKENS.roll(-1, 1).repeat(3, 1, 1)
    targets[1], targets[2] = TOKENS.roll(-2, 1), TOKENS.roll(-3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        cross_entropy.fused(model, TOKENS, targets, cross_entropy.valid_counts(targets))
        for block in (*model.trunk, *model.heads):
            silent = HEADS[head].grown_from == "silent head"
            assert silent or all(bool(p.grad.any()) for p in block.parameters())  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    after = logits(model)
    assert not any(torch.allclose(after[i], after[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("head", TYPES)
def test_dropping_what_was_grown_gives_the_model_back(head: Any) -> None:
    model = our_model("parallel", 1)
    again = drop_heads(grow_heads(model, 4, head))
    assert again.config.layers == 5 and torch.equal(logits(again), logits(model))


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("head", TYPES)
def test_the_first_heads_are_kept(head: str, n: int) -> None:
    model = our_model(head, 4, extra_layers=1, kv_heads=2)
    kept = drop_heads(model, n)
    assert kept.config.n == n
    torch.testing.assert_close(logits(kept), logits(model)[:n], rtol=0, atol=0)


def test_heads_that_cannot_be_grown_or_dropped_are_refused() -> None:
    model = our_model("linear", 3)
    with refused("4 heads", "has 3"):
        drop_heads(model, 4)
    with refused("0 heads"):
        drop_heads(model, 0)
    with refused("3 linear heads", "parallel"):
        grow_heads(model, 4, "parallel")
    with refused("n is 3", "3 heads already"):
        grow_heads(model, 3, "linear")
    with refused("linear", "nothing to match"):
        grow_heads(model, 4, "linear", matched=True)
    with refused("'medusa'", "parallel"):
        grow_heads(model, 4, "medusa")  # type: ignore[arg-type]
    with refused("trunk"):
        grow_heads(our_model("parallel", 1), 6, "parallel", matched=True)
    with refused("trunk"):
        grow_heads(our_model("parallel", 1), 6, "anticausal")
    with refused("trunk"):
        grow_heads(our_model("parallel", 1, layers=1), 2, "parallel")
