"""The model: causality, its caches, and the Llama inside it."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.heads import reach
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.model.surgery import drop_heads
from mtp.model.transformer import (
    Block,
    LayerCache,
    Placement,
    Rope,
    attend,
    attend_cached,
)
from mtp.objective import cross_entropy

TYPES = tuple(HEADS)
TINY = {"dim": 16, "layers": 5, "attn_heads": 4, "vocab": 19, "context": 12}


def config_of(head: str, n: int = 3, **changes: Any) -> ModelConfig:
    return ModelConfig(head=head, n=n, **(TINY | changes))  # type: ignore[arg-type]


def tiny(head: str, n: int = 3, **changes: Any) -> MultiTokenTransformer:
    """Random float64 weights, also for the norms' gains: equal gains would hide a mixed-up norm."""
    torch.manual_seed(0)
    model = MultiTokenTransformer(config_of(head, n, **changes)).double()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.uniform_(0.5, 1.5)
    return model


def some_tokens(rows: int = 2, length: int = 12, vocab: int = 19) -> Tensor:
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(1))


# --------------------------------------------------------------------------------------------------
# what it computes


@pytest.mark.parametrize("head", TYPES)
def test_a_changed_token_changes_nothing_before_it(head: str) -> None:
    model = tiny(head)
    tokens = some_tokens(rows=1)
    before = model(tokens)
    for t in (1, 6, 11):
        other = tokens.clone()
        other[0, t] = (other[0, t] + 1) % 19
        for i, (a, b) in enumerate(zip(before, model(other), strict=True), 1):
            first = max(0, t - reach(model.config, i))  # the first that reads it
            assert torch.equal(a[:, :first], b[:, :first])
            changed = ~torch.isclose(a[:, first:], b[:, first:]).all(-1)
            assert changed.all()  # and all from it on


@pytest.mark.parametrize("head", TYPES)
def test_heads_differ_and_fewer_can_be_asked_for(head: str) -> None:
    model = tiny(head)
    tokens = some_tokens()
    logits = model(tokens)
    assert [x.shape for x in logits] == [(2, 12, 19)] * 3
    assert not any(torch.allclose(logits[i], logits[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    for k in (1, 2):
        for few, all_ in zip(model(tokens, k=k), logits[:k], strict=True):
            torch.testing.assert_close(few, all_, rtol=0, atol=0)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_the_attention_kernels_agree(kv_heads: int) -> None:
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 7, 8, generator=g, dtype=torch.float64)
    k, v = torch.randn(2, 2, kv_heads, 7, 8, generator=g, dtype=torch.float64)
    hidden = torch.rand(2, 1, 7, 7, generator=g) < 0.5
    look = torch.ones(7, 7, dtype=torch.bool).tril() & ~hidden | torch.eye(7, dtype=torch.bool)
    for mask in (None, look):
        got = [attend(q, k, v, mask, kernel) for kernel in ("sdpa", "matmul")]
        torch.testing.assert_close(got[0], got[1], rtol=1e-12, atol=1e-12)
        half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask, "sdpa")
        torch.testing.assert_close(half.double(), got[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_cached_attention_reads_shared_keys_and_values_where_they_are(
    kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = torch.Generator().manual_seed(0)
    q = torch.randn(3, 5, 4, 8, generator=g, dtype=torch.float64).transpose(1, 2)
    k, v = torch.randn(2, 3, kv_heads, 9, 8, generator=g, dtype=torch.float64)[..., :5, :]
    given: list[Tensor] = []
    sdpa = torch.nn.functional.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        given.extend([k, v])
        assert not options.get("enable_gqa") and q.dim() == k.dim() == v.dim() == 4
        return sdpa(q, k, v, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", watched)
    look = torch.ones(3, 1, 5, 5, dtype=torch.bool).tril()
    rows = look.repeat(1, 1, 4 // kv_heads, 1)
    got = [attend_cached(q, k, v, mask) for mask in (None, rows)]
    assert {t.untyped_storage().data_ptr() for t in given} == {k.untyped_storage().data_ptr()}
    for found in got:
        torch.testing.assert_close(found, attend(q, k, v, look, "matmul"), rtol=1e-12, atol=1e-12)


def test_rotary_positions_depend_on_distance_alone() -> None:
    model = tiny("parallel", context=64)
    with torch.no_grad():
        layer = model.trunk[0]
        x = torch.randn(1, 5, 16, dtype=torch.float64)
        near = layer(x, model.rope(torch.arange(5)))
        far = layer(x, model.rope(torch.arange(40, 45)))
    torch.testing.assert_close(near, far, rtol=1e-5, atol=1e-6)
    assert model.bfloat16().rope.table.dtype == torch.float32


class Layer:
    """A random float64 layer and a cache of `rows` rows of 14 slots, of which it sees 12."""

    def __init__(self, rows: int, kv_heads: int) -> None:
        torch.manual_seed(0)
        config = config_of("parallel", kv_heads=kv_heads)
        self.block, self.rope = Block(config).double(), Rope(config)
        like = torch.zeros(0, dtype=torch.float64)
        shape = rows, config.key_value_heads, 14, config.dim // config.attn_heads
        self.cache = LayerCache(like, *shape)
        self.block.prepare()

    @torch.no_grad()
    def whole(self, x: Tensor) -> Tensor:
        return self.block(x, self.rope(torch.arange(x.shape[1])))

    @torch.no_grad()
    def extend(
        self, x: Tensor, start: Tensor, at: Tensor | None = None, see: Tensor | None = None
    ) -> Tensor:
        """x (B, T, D) at positions from `start` (B,) on, after what is cached. Each sees itself and
        those before it, or those of the T that `see` (T, T) says. From position 0 on, without a
        mask."""
        (B, T, _), slot = x.shape, torch.arange(12)
        see = torch.ones(T, T, dtype=torch.bool).tril() if see is None else see
        steps = start[:, None] + torch.arange(T)  # (B, T)
        before = (slot < start[:, None]).expand(T, B, 12).transpose(0, 1)  # (B, T, W)
        look = before.scatter(2, steps[:, None].expand(B, T, T), see.expand(B, T, T))
        mask = torch.zeros(look.shape, dtype=x.dtype).masked_fill(~look, -torch.inf)[:, None]
        K = self.cache.k.shape[1]
        first = 14 * torch.arange(B * K).view(B, K, 1)
        slots, rope = (first + steps[:, None]).flatten(), self.rope(steps)
        placement = Placement(slots, 12, mask.repeat(1, 1, 4 // K, 1), rope)
        if not start.any():
            placement = Placement(slots, T, None, rope)
        return self.block.extend(x, self.cache, placement, at)

    def stored(self) -> Tensor:
        return torch.stack([self.cache.k, self.cache.v])


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_a_cached_layer_gives_what_the_whole_pass_gives(kv_heads: int) -> None:
    layer, start = Layer(3, kv_heads), torch.tensor([7, 3, 0])
    x = torch.randn(3, 12, 16, dtype=torch.float64)
    expected = layer.whole(x).gather(
        1, (start[:, None] + torch.arange(5))[..., None].expand(3, 5, 16)
    )
    padded = x[:, :7].clone()
    for row, length in enumerate(start.tolist()):
        padded[row, length:] = 9.0  # not the row's own text
    first = layer.extend(padded, torch.zeros(3, dtype=torch.long))
    for row, length in enumerate(start.tolist()):
        same = layer.whole(x)[row, :length], first[row, :length]
        torch.testing.assert_close(*same, rtol=1e-12, atol=1e-12)
    one = layer.extend(padded, torch.zeros(3, dtype=torch.long), start[:, None].clamp(max=6))
    for row, length in enumerate(start.clamp(max=6).tolist()):
        torch.testing.assert_close(one[row, 0], first[row, length], rtol=1e-12, atol=1e-12)
    block = torch.stack([x[row, length : length + 5] for row, length in enumerate(start.tolist())])
    before = layer.stored()
    got = layer.extend(block, start)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    after = layer.stored()
    for index in ([0, 0, 0], [4, 4, 4], [1, 4, 0], [3, 2, 1]):
        layer.cache.k, layer.cache.v = before.clone()
        at = torch.tensor(index)[:, None]  # (B, 1)
        one = layer.extend(block, start, at)
        assert one.shape == (3, 1, 16)
        torch.testing.assert_close(
            one, expected.take_along_dim(at[..., None], 1), rtol=1e-12, atol=1e-12
        )
        # keys and values of all five positions are there, and of no others
        torch.testing.assert_close(layer.stored(), after, rtol=1e-12, atol=1e-12)
    assert not torch.isclose(after, before).all()


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_cached_layer_sees_what_its_mask_says(kv_heads: int) -> None:
    """Two candidates for one position: each sees its own line, as if the other were not there."""
    layer, start = Layer(1, kv_heads), torch.tensor([4])
    x = torch.randn(1, 7, 16, dtype=torch.float64)
    layer.extend(x[:, :4], torch.tensor([0]))
    # nodes 0 - 1 and 0 - 2; the rotary table is the slots' own, so node 2 is compared at position 6
    see = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=torch.bool)
    got = layer.extend(x[:, 4:], start, see=see)
    one = layer.extend(x[:, 4:], start, torch.tensor([[2]]), see=see)
    torch.testing.assert_close(one, got[:, 2:], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(got[:, :2], layer.whole(x)[:, 4:6], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(got[:, 2], layer.whole(x)[:, 6]).all()
    hidden = x.clone()
    hidden[:, 5] = 5.0  # node 1, which node 2 must not see
    other = layer.extend(hidden[:, 4:], start, see=see)
    torch.testing.assert_close(other[:, 2], got[:, 2], rtol=1e-12, atol=1e-12)
    assert not torch.isclose(other[:, 1], got[:, 1]).any()


def test_prepared_layers_follow_their_weights() -> None:
    layer = Layer(1, 2)
    x, start = torch.randn(1, 5, 16, dtype=torch.float64), torch.tensor([0])
    first = layer.extend(x, start)
    state = {name: torch.randn_like(w) for name, w in layer.block.state_dict().items()}
    with torch.no_grad():
        for weight in layer.block.parameters():  # as a step of training
            weight.mul_(0.9)
    torch.testing.assert_close(layer.extend(x, start), layer.whole(x), rtol=1e-12, atol=1e-12)
    assert not torch.isclose(layer.whole(x), first).any()
    layer.block.load_state_dict(state)
    torch.testing.assert_close(layer.extend(x, start), layer.whole(x), rtol=1e-12, atol=1e-12)
    layer.block.float().double()  # moved, and in new memory
    layer.block.prepare()
    layer.block.prepare()  # twice is once
    torch.testing.assert_close(layer.extend(x, start), layer.whole(x), rtol=1e-12, atol=1e-12)
    copied = copy.deepcopy(layer)
    with torch.no_grad():
        for weight in copied.block.parameters():
            weight.mul_(0.9)
    copied.block.prepare()
    torch.testing.assert_close(copied.extend(x, start), copied.whole(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.extend(x, start), layer.whole(x), rtol=1e-12, atol=1e-12)


def test_more_tokens_than_the_context_are_refused() -> None:
    with pytest.raises(ValueError, match="13 tokens exceed the context 12"):
        tiny("parallel")(some_tokens(length=13))


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("head", TYPES)
def test_dropping_heads_leaves_the_same_next_token_model(head: str, n: int) -> None:
    model = tiny(head, n, extra_layers=1, kv_heads=2)
    kept = drop_heads(model)
    assert kept.config.n == 1
    tokens = some_tokens()
    (alone,) = kept(tokens)
    torch.testing.assert_close(alone, model(tokens)[0], rtol=1e-12, atol=1e-12)
    row = HEADS[head]
    layers = 6 - row.layers(n) + 1 if row.is_layer and row.first_is_alone(n) else 6
    assert kept.config.layers == layers
    rest = kept.parameter_counts()
    assert rest["total"] == rest["non_embedding"] + 2 * 19 * 16
    assert rest["non_embedding"] == 16 + layers * parameter_counts(model.config)["trunk"] // len(
        model.trunk
    )


def llama_weights(model: MultiTokenTransformer) -> dict[str, Tensor]:
    """The weights of a next-token model under Hugging Face's names."""
    names = {
        "input_layernorm": "attention_norm",
        "self_attn.q_proj": "attention.wq",
        "self_attn.k_proj": "attention.wk",
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.down_proj": "feed_forward.w2",
        "mlp.up_proj": "feed_forward.w3",
    }
    weights: dict[str, Any] = {
        "model.embed_tokens.weight": model.embedding.weight,
        "model.norm.weight": model.norm.weight,
        "lm_head.weight": model.unembedding(1),
    }
    layers = [*model.trunk, *(h for h in model.heads if any(True for _ in h.parameters()))]
    for i, layer in enumerate(layers):
        for theirs, ours in names.items():
            weights[f"model.layers.{i}.{theirs}.weight"] = layer.get_submodule(ours).weight
    return weights


@pytest.mark.parametrize("kv_heads", [0, 2])
@pytest.mark.parametrize("head", TYPES)
def test_what_is_left_is_an_ordinary_llama(head: str, kv_heads: int) -> None:
    transformers = pytest.importorskip("transformers", reason="the bench extra is not installed")
    model = tiny(head, kv_heads=kv_heads)
    kept = drop_heads(model)
    c = kept.config
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=c.vocab,
            hidden_size=c.dim,
            intermediate_size=c.ffn,
            num_hidden_layers=c.layers,
            num_attention_heads=c.attn_heads,
            num_key_value_heads=c.key_value_heads,
            max_position_embeddings=c.context,
            rms_norm_eps=c.norm_eps,
            rope_theta=c.rope_base,
            tie_word_embeddings=False,
        )
    ).double()
    theirs.load_state_dict(llama_weights(kept), strict=True)
    tokens = some_tokens()
    # rotary tables are float32 in both, of angles rounded differently
    torch.testing.assert_close(theirs(tokens).logits, model(tokens)[0], rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------------------------------
# initialisation


def test_initialisation_follows_the_seed() -> None:
    a, b, c = (self_seeded(seed) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not any(torch.equal(x, y) for x, y in zip(a, c, strict=True) if x.dim() > 1)


def self_seeded(seed: int) -> list[nn.Parameter]:
    torch.manual_seed(seed)
    return list(MultiTokenTransformer(config_of("linear")).parameters())


@pytest.mark.parametrize("head", ["parallel", "anticausal"])
def test_thirty_layers_train_without_warm_up(head: str) -> None:
    torch.manual_seed(0)
    config = config_of(head, 2, dim=32, layers=30, context=32, vocab=19)
    model = MultiTokenTransformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    losses = []
    for _ in range(20):
        start = torch.randint(19, (8, 1))
        count = (start + 3 * torch.arange(34)) % 19  # always three further
        targets = torch.stack([count[:, 1:33], count[:, 2:34]])
        losses.append(
            cross_entropy.fused(model, count[:, :32], targets, cross_entropy.valid_counts(targets))
        )
        assert torch.isfinite(losses[-1]).all()
        assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())  # type: ignore[union-attr]
        optimizer.step()
        optimizer.zero_grad()
    assert (losses[-1] < 0.8 * losses[0]).all(), (losses[0], losses[-1])


@pytest.mark.parametrize("count", [parameter_counts, flops_per_token])
def test_weights_larger_than_a_tensor_can_be_are_refused(count: Callable[..., object]) -> None:
    with pytest.raises(BadInput, match=r"model.dim=1000000000 .* larger than a tensor can be"):
        count(ModelConfig(dim=1_000_000_000))
