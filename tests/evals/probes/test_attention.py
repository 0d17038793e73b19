"""Attention weights are those that the model attends with; prefix matching finds induction."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evals.probes.attention import maps, prefix_matching
from mtp.config import ModelConfig
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Attention, Block

VOCAB, LAYERS = 40, 6
TYPES: list[str] = ["parallel", "causal", "anticausal", "linear", "replicated"]
# layers on the way to the next token, of 6: parallel and causal heads beyond the first are off it
ON_PATH = {
    (head, n): LAYERS - n + 1 if head in ("parallel", "causal") else LAYERS
    for head, n in itertools.product(TYPES, (1, 2, 4))
}


def model(head: str = "parallel", n: int = 2, kv_heads: int = 0) -> MultiTokenTransformer:
    torch.manual_seed(1)
    config = ModelConfig(
        dim=32, layers=LAYERS, attn_heads=4, kv_heads=kv_heads, vocab=VOCAB, n=n, head=head,
        context=24,
    )  # fmt: skip
    return MultiTokenTransformer(config).double()


def drawn(length: int = 17) -> Tensor:
    return torch.randint(VOCAB, (length,), generator=torch.Generator().manual_seed(2))


# --------------------------------------------------------------------------------------------------
# weights


@pytest.mark.parametrize(("head", "n"), list(ON_PATH))
def test_rows_sum_to_one_and_look_back_alone(head: str, n: int) -> None:
    found = maps(model(head, n), drawn())
    assert found.shape == (ON_PATH[head, n], 4, 17, 17)
    assert torch.allclose(found.sum(-1), torch.ones(()).double())
    assert (found >= 0).all() and (found.triu(1) == 0).all()
    assert (found[..., 0, 0] == 1).all()
    assert len({float(each[0, 16, 3]) for each in found}) == len(found), "each layer its own"


@torch.no_grad()
def attended(own: MultiTokenTransformer, tokens: Tensor) -> list[tuple[Attention, Tensor, Tensor]]:
    """Each attention layer with its input (T, D) and output (T, D), as the model calls them on the
    way to the next token."""
    seen: list[tuple[Attention, Tensor, Tensor]] = []

    def watch(layer: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, Attention)
        seen.append((layer, given[0][0], out[0]))

    hooks = [m.register_forward_hook(watch) for m in own.modules() if isinstance(m, Attention)]
    own(tokens[None], 1)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("kv_heads", [0, 1, 2])
@pytest.mark.parametrize(("head", "n"), list(ON_PATH))
@torch.no_grad()
def test_weights_times_values_are_the_layers_output(head: str, n: int, kv_heads: int) -> None:
    own, tokens = model(head, n, kv_heads), drawn()
    layers = attended(own, tokens)
    found = maps(own, tokens)
    assert len(layers) == len(found), "no layer more or less than the model runs"
    for weights, (layer, x, out) in zip(found, layers, strict=True):
        values = layer.wv(x).view(17, -1, 8).transpose(0, 1)  # (K, T, E)
        heads = [weights[h] @ values[h * len(values) // 4] for h in range(4)]  # queries in groups
        made = layer.wo(torch.cat(heads, dim=1))
        assert torch.allclose(made, out, rtol=1e-10, atol=1e-12)


def test_a_layer_alone_gives_what_its_attention_does() -> None:
    """Called by itself: head 1 of an anticausal model, the last of its path."""
    own, tokens = model("anticausal", 3), drawn()
    last = own.heads[0]
    assert isinstance(last, Block)
    _, x, _ = attended(own, tokens)[-1]
    rope = own.rope(torch.arange(17))
    with torch.no_grad():
        values = last.attention.wv(x).view(17, 4, 8)
        heads = torch.einsum("hts,she->the", maps(own, tokens)[-1], values).reshape(17, 32)
        want = last.attention(x[None], rope)[0]
        assert torch.allclose(last.attention.wo(heads), want, rtol=1e-10, atol=1e-12)


def test_later_tokens_change_no_row() -> None:
    own, tokens = model(), drawn()
    short = maps(own, tokens[:9])
    assert torch.allclose(short, maps(own, tokens)[..., :9, :9])


def test_maps_are_in_single_precision_too() -> None:
    own = model().float()
    found = maps(own, drawn())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), maps(model(), drawn()), atol=1e-5)


# --------------------------------------------------------------------------------------------------
# prefix matching


def attention(rows: list[dict[int, float]]) -> Tensor:
    """One layer, one head: row t's weight by position."""
    made = torch.zeros(1, 1, len(rows), len(rows), dtype=torch.float64)
    for t, row in enumerate(rows):
        assert max(row) <= t
        for s, weight in row.items():
            made[0, 0, t, s] = weight
    return made


def uniform(length: int) -> Tensor:
    return attention([{s: 1 / (t + 1) for s in range(t + 1)} for t in range(length)])


def repeats(tokens: list[int]) -> Tensor:
    return torch.tensor(
        [t for t, token in enumerate(tokens) if token in tokens[:t]], dtype=torch.long
    )


def score(weights: Tensor, tokens: list[int]) -> float:
    found = prefix_matching(weights, torch.tensor(tokens), repeats(tokens))
    assert found.shape == weights.shape[:2]
    return float(found[0, 0])


def test_perfect_induction_scores_one() -> None:
    tokens = [7, 8, 9, 7, 8, 9]
    perfect: list[dict[int, float]] = [{0: 1}, {0: 1}, {0: 1}, {1: 1}, {2: 1}, {3: 1}]
    assert score(attention(perfect), tokens) == 1
    perfect[3] = {0: 1}  # the earlier occurrence itself, not what came after it
    assert score(attention(perfect), tokens) == pytest.approx(2 / 3)
    perfect[0], perfect[2] = {0: 0}, {2: 1}  # new tokens do not count
    assert score(attention(perfect), tokens) == pytest.approx(2 / 3)


def test_a_head_of_the_token_before_scores_nothing() -> None:
    before: list[dict[int, float]] = [{0: 1}, {0: 1}, {1: 1}, {2: 1}, {3: 1}, {4: 1}]
    assert score(attention(before), [7, 8, 9, 7, 8, 9]) == 0


@pytest.mark.parametrize(
    ("tokens", "value"),
    [
        ([7, 8, 9, 7, 8, 9], (1 / 4 + 1 / 5 + 1 / 6) / 3),
        ([7, 8, 7, 9, 7], (1 / 3 + 2 / 5) / 2),  # twice before: after each of the two
        ([7, 7], 1 / 2),  # what came after the first is the token itself
        ([7, 7, 7], (1 / 2 + 2 / 3) / 2),
        ([7, 8, 7], 1 / 3),
    ],
)
def test_uniform_attention_scores_the_share_of_positions(tokens: list[int], value: float) -> None:
    assert score(uniform(len(tokens)), tokens) == pytest.approx(value)


def test_heads_and_layers_have_scores_of_their_own() -> None:
    perfect = attention([{0: 1}, {0: 1}, {1: 1}])
    nothing = attention([{0: 1}, {0: 1}, {2: 1}])
    both = torch.cat([torch.cat([perfect, nothing], 1), torch.cat([nothing, nothing], 1)])
    found = prefix_matching(both, torch.tensor([7, 8, 7]), torch.tensor([2]))
    assert found.tolist() == [[1, 0], [0, 0]]


def test_positions_that_are_not_asked_do_not_count() -> None:
    tokens = torch.tensor([7, 8, 7, 8])
    weights = attention([{0: 1}, {0: 1}, {1: 1}, {0: 1}])
    scores = [float(prefix_matching(weights, tokens, torch.tensor(at))[0, 0]) for at in ([2], [3])]
    assert scores == [1, 0]


def test_where_no_token_repeats_there_is_no_score() -> None:
    assert math.isnan(score(uniform(4), [1, 2, 3, 4]))
    assert math.isnan(score(uniform(1), [1]))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=6, max_size=14))  # of 6 tokens one is there twice
def test_prefix_matching_is_the_slow_sum(tokens: list[int]) -> None:
    length = len(tokens)
    weights = torch.rand(2, 3, length, length, generator=torch.Generator().manual_seed(0)).tril()
    means = []
    for t, token in enumerate(tokens):
        after = [s + 1 for s in range(t) if tokens[s] == token]
        if after:
            means.append(weights[:, :, t, after].sum(-1))
    want = torch.stack(means).mean(0)
    found = prefix_matching(weights, torch.tensor(tokens), repeats(tokens))
    assert torch.allclose(found, want, atol=1e-6)


@torch.no_grad()
def test_scores_of_a_real_model_are_shares() -> None:
    own = model()
    tokens = drawn(24) % 6
    found = prefix_matching(maps(own, tokens), tokens, repeats(tokens.tolist()))
    assert found.shape == (LAYERS - 1, 4) and ((found > 0) & (found < 1)).all()
