"""Every type of head round trips through its own format, is grown and dropped; what the tests of
other people's checkpoints share."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.config import ModelConfig
from mtp.data.tokenizer import ByteTokenizer, load
from mtp.errors import BadInput
from mtp.formats import folders
from mtp.formats.folders import read_model
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads, grow_heads
from mtp.objective import cross_entropy

TYPES = tuple(HEADS)
TOKENS = torch.randint(97, (2, 48), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    for p in model.parameters():
        p.uniform_(0.5, 1.5) if p.dim() == 1 else p.normal_(std=p.shape[1] ** -0.5)


def our_model(head: str = "parallel", n: int = 3, **changes: Any) -> MultiTokenTransformer:
    shape = {"dim": 32, "layers": 5, "attn_heads": 4, "vocab": 97, "context": 64}
    torch.manual_seed(0)
    model = MultiTokenTransformer(ModelConfig(head=head, n=n, **(shape | changes)))  # type: ignore[arg-type]
    randomise(model)
    return model


def logits(model: MultiTokenTransformer) -> Tensor:
    """(n, B, T, V)"""
    with torch.no_grad():
        return torch.stack(model(TOKENS))


def assert_equal_models(a: MultiTokenTransformer, b: MultiTokenTransformer) -> None:
    assert a.config == b.config
    assert torch.equal(logits(a), logits(b))


def refused(*told: str) -> Any:
    class Refused:
        def __enter__(self) -> None:
            self.inner = pytest.raises(BadInput)
            self.error = self.inner.__enter__()

        def __exit__(self, *args: Any) -> Any:
            done = self.inner.__exit__(*args)
            message = str(self.error.value)
            assert "\n" not in message
            for part in told:
                assert part in message, message
            return done

    return Refused()


def write(name: str, content: bytes) -> Any:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float) -> Any:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


# --------------------------------------------------------------------------------------------------
# all heads


def test_a_context_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    folders.write_all(tmp_path, our_model(), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"context": 10**13}))
    with refused("config.json", "model.context is 10000000000000", "at most"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("head", "field", "told"),
    [
        ("parallel", "layers", "weights of 5 layers; its config wants 1000000000"),
        ("linear", "extra_layers", "weights of 5 layers; its config wants 1000000005"),
        ("linear", "n", "50 weights; its config wants 1000000000 heads"),
        ("replicated", "n", "50 weights; its config wants 1000000000 heads"),
    ],
)
def test_layers_and_heads_beyond_the_weights_are_refused(
    head: str, field: str, told: str, tmp_path: Path
) -> None:
    """At once: a billion would be built for hours, until the memory is full."""
    folders.write_all(tmp_path, our_model(head), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: 10**9}))
    with refused(str(tmp_path), told):
        read_model(tmp_path)


@pytest.mark.parametrize("head", TYPES)
def test_all_heads_round_trip(head: str, tmp_path: Path) -> None:
    model = our_model(head, kv_heads=2, extra_layers=1, rope_scaling="linear:2")
    folders.write_all(tmp_path, model, ByteTokenizer())
    assert_equal_models(read_model(tmp_path), model)
    assert isinstance(load(tmp_path), ByteTokenizer)


# --------------------------------------------------------------------------------------------------
# heads grown and dropped


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
            torch.testing.assert_close(other, before)
    more = {"parallel": 3, "causal": 3}.get(head, 0)  # Table S6: "+3 layers"
    assert (grown.config.layers, grown.config.extra_layers) == (5, more)
    assert torch.equal(logits(model)[0], before)
    # nothing is shared with the model that was grown, nor between heads
    with torch.no_grad():
        for p in (*grown.heads[1].parameters(), *grown.unembeddings[1:].parameters()):
            p.mul_(0.5)
    assert torch.equal(logits(model)[0], before)
    assert torch.equal(logits(grown)[0], before) or head == "anticausal"


@pytest.mark.parametrize("head", TYPES)
def test_more_heads_grow_beside_those_there_are(head: Any) -> None:
    model = our_model(head, 2)
    grown = grow_heads(model, 4, head)
    assert torch.equal(logits(grown)[:2], logits(model))
    if head != "anticausal":
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
            assert all(bool(p.grad.any()) for p in block.parameters()) or head == "causal"  # type: ignore[union-attr]
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


def test_heads_that_cannot_be() -> None:
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
