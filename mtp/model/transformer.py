"""A Llama block and its key-value cache. Nothing here knows about prediction heads.

RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
Shapes: B rows, T positions, D = dim, H attention heads, K key-value heads, E the width of a head
(D / H by default), S slots of a cache.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mtp.config import ModelConfig, parse_rope_scaling

# The weights of a Block, as a state dict names them.
LAYER_WEIGHTS = (
    *("attention.wq", "attention.wk", "attention.wv", "attention.wo"),
    *("feed_forward.w1", "feed_forward.w2", "feed_forward.w3"),
    *("attention_norm", "ffn_norm"),
)


class Rope(nn.Module):
    """Rotary positions: cosines and sines by position, in float32 even if weights are not."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        half = config.head_size // 2
        frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        frequency = scale(frequency, *parse_rope_scaling(config.rope_scaling))
        angle = torch.arange(config.context, dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos(), angle.sin()  # (context, E/2)
        table = torch.stack([torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)])
        self.table: Tensor
        self.register_buffer("table", table.float(), persistent=False)  # (2, context, E)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rope":
        table = self.table
        super()._apply(fn, recurse)
        if not table.is_meta:  # follow the model to its device, but keep float32
            self.table = table.to(self.table.device)
        return self

    def forward(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions (T,) or (B, T) -> cosines and signed sines, each (T, 1, E) or (B, T, 1, E)."""
        cos, sin = self.table[:, positions].unsqueeze(-2)
        return cos, sin


def scale(frequency: Tensor, kind: str, numbers: list[float]) -> Tensor:
    """Frequencies (E/2,) in radians per position, slowed down by a factor for longer contexts:
    either all of them (linear), or those that turn less than LOW times in CONTEXT positions, with
    a smooth transition up to HIGH times (llama3)."""
    if kind == "none":
        return frequency
    if kind == "linear":
        return frequency / numbers[0]
    factor, low, high, context = numbers
    turns = frequency * context / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / factor


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate the pairs (x[j], x[j + E/2]) of each head by the angle of their position."""
    cos, sin = rope
    wide = x.float() if x.element_size() < 4 else x
    partner = wide.roll(x.shape[-1] // 2, -1)
    turned = torch.addcmul(wide * cos, partner, sin)  # (B, T, H, E)
    return turned.to(x.dtype) if wide is not x else turned


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kernel: str) -> Tensor:
    """Attention of q (B, H, T, E) over k, v (B, K, S, E) -> (B, H, T, E).

    Without a mask, position t sees 0..t (T = S). `mask`, broadcast to (B, H, T, S), is True where q
    may look, or a float that is added to the scores.
    "matmul" writes out the two products. Compiled on a CPU, at short T, it is faster than the fused
    kernel, whose backward pass is slow there (make bench-engine).
    """
    groups = q.shape[1] // k.shape[1]
    # Grouped queries have a fused CUDA kernel in the half-precision types alone. In float32 they
    # would fall back to one that stores all scores (B, H, T, S).
    fused = kernel == "sdpa" and q.element_size() == 2
    if groups > 1 and not fused:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if kernel == "sdpa":
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=groups > 1 and fused
        )
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (B, H, T, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores.where(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1).to(v.dtype) @ v


def attend_cached(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention of q (B, H, T, E) over keys and values k, v (B, K, W, E) of a cache
    -> (B, H, T, E). The mask is that of a Placement.

    The G = H / K queries that share a key and a value read them where they are, without a copy.
    Every case reaches a fused CUDA kernel, in every precision; with enable_gqa only causal
    attention in half precision would.
    """
    (B, H, T, E), K = q.shape, k.shape[1]
    if mask is not None:  # the queries of a group become rows of one head
        y = F.scaled_dot_product_attention(q.reshape(B, K, -1, E), k, v, attn_mask=mask)
    elif H == K:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:  # each group becomes a row of the batch; its heads look at the same k and v (stride 0)
        k, v = (t.flatten(0, 1)[:, None].expand(-1, H // K, -1, -1) for t in (k, v))
        y = F.scaled_dot_product_attention(q.reshape(B * K, -1, T, E), k, v, is_causal=True)
    return y.reshape(B, H, T, E)


@dataclass(frozen=True)
class Placement:
    """Where a cached pass puts the T new positions of each row, and what they see.

    slots   (B K T,) where their keys and values go, among all B K S slots of a cache
    window  W: they look among the first W slots of a row
    mask    added to the scores: zero where they may look, else -inf. (B, 1, G T, W): all T
            positions, once for each of the G queries that share a key; or (B, 1, 1, W) for one
            position. None: position t sees the slots 0..t, and W = T.
    rope    their rotary cosines and sines, (B, T, 1, E) each
    """

    slots: Tensor
    window: int
    mask: Tensor | None
    rope: tuple[Tensor, Tensor]

    def only(self, at: Tensor) -> "Placement":
        """The same for a query from just the position at index `at` (B, 1)."""
        index = at[:, :, None, None]
        cos, sin = (table.take_along_dim(index, 1) for table in self.rope)
        if self.mask is None:
            mask = torch.arange(self.window, device=at.device) <= index  # (B, 1, 1, W)
        else:
            mask = self.mask.take_along_dim(index, 2)
        return Placement(self.slots, self.window, mask, (cos, sin))


class LayerCache:
    """Keys and values of one attention layer, (B, K, S, E) each. Slot s of a row holds the row's
    position s.

    Rows advance by different lengths. The mask hides what lies beyond a row's certain tokens
    (padding, drafts) until it is overwritten.
    """

    def __init__(self, like: Tensor, rows: int, heads: int, slots: int, head_dim: int) -> None:
        self.k = like.new_zeros(rows, heads, slots, head_dim)
        self.v = torch.zeros_like(self.k)

    def extend(self, k: Tensor, v: Tensor, placement: "Placement") -> tuple[Tensor, Tensor]:
        """Store k, v (B, K, T, E); returns the keys and values in the placement's window,
        (B, K, W, E) each."""
        W = placement.window
        self.k.flatten(0, 2).index_copy_(0, placement.slots, k.reshape(-1, k.shape[3]))
        self.v.flatten(0, 2).index_copy_(0, placement.slots, v.reshape(-1, v.shape[3]))
        return self.k[:, :, :W], self.v[:, :, :W]

    def move(self, source: Tensor, target: Tensor) -> None:
        """Copy the slots `source` to the slots `target`, both numbered as in Placement.slots."""
        for each in (self.k, self.v):
            flat = each.flatten(0, 2)  # (B K S, E)
            flat.index_copy_(0, target, flat.index_select(0, source))

    def select_rows(self, rows: Tensor) -> None:
        """Keep only the rows with these indices."""
        self.k, self.v = self.k[rows], self.v[rows]


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_size
        self.heads, self.kv_heads = config.attn_heads, config.key_value_heads
        q_dim, kv_dim = self.head_dim * self.heads, self.head_dim * self.kv_heads
        self.wq = nn.Linear(config.dim, q_dim, bias=False)
        self.wk = nn.Linear(config.dim, kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, kv_dim, bias=False)
        self.wo = nn.Linear(q_dim, config.dim, bias=False)
        self.kernel = "sdpa"
        self.causal_bias: Tensor | None = None  # (context, context), see use_kernel
        self.wqkv = torch.empty(0)  # see pack

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (w(x).view(B, T, -1, self.head_dim) for w in (self.wq, self.wk, self.wv))
        q, k = rotate(q, rope), rotate(k, rope)  # (B, T, H, E), (B, T, K, E)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        mask = self.causal_bias[:T, :T] if self.causal_bias is not None else None
        y = attend(q, k, v, mask, self.kernel)  # (B, H, T, E)
        return self.wo(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, H E) -> (B, T, D)

    def extend(
        self, x: Tensor, cache: LayerCache, placement: Placement, at: Tensor | None
    ) -> Tensor:
        """As `forward`, for positions that follow those in the cache. Stores the keys and values of
        all T positions; with `at` (B, 1), answers only the position at that index -> (B, 1, D)."""
        (B, T, _), H, K = x.shape, self.heads, self.kv_heads
        own = H * self.head_dim  # rows of wqkv that are wq
        if at is None:
            qkv = F.linear(x, self.wqkv).view(B, T, H + 2 * K, -1)
            qk = rotate(qkv.narrow(2, 0, H + K), placement.rope).transpose(1, 2)  # (B, H + K, T, E)
            q, k = qk.narrow(1, 0, H), qk.narrow(1, H, K)
        else:
            qkv = F.linear(x, self.wqkv[own:]).view(B, T, 2 * K, -1)
            k = rotate(qkv.narrow(2, 0, K), placement.rope).transpose(1, 2)
            one, placement, T = x.take_along_dim(at[..., None], 1), placement.only(at), 1
            q = F.linear(one, self.wqkv[:own]).view(B, 1, H, -1)
            q = rotate(q, placement.rope).transpose(1, 2)
        v = qkv.narrow(2, qkv.shape[2] - K, K).transpose(1, 2)
        y = attend_cached(q, *cache.extend(k, v, placement), placement.mask)  # (B, H, T, E)
        return self.wo(y.transpose(1, 2).reshape(B, T, -1))  # (B, T, H E) -> (B, T, D)


def pack(group: nn.Module, name: str, parts: list[nn.Linear]) -> None:
    """Lay out the weights of `parts` as one matrix, `group.name`, so that one product replaces
    several. The weights become views of it, so that it follows what is trained or loaded."""
    sizes = [len(part.weight) for part in parts]
    packed: Tensor = getattr(group, name)
    if len(packed) == sum(sizes):  # packed before; a move or a new weight would have undone it
        rows = packed.split(sizes)
        if all(p.weight.data_ptr() == r.data_ptr() for p, r in zip(parts, rows, strict=True)):
            return
    setattr(group, name, torch.cat([part.weight.detach() for part in parts]))
    rows = getattr(group, name).split(sizes)
    for part, weight in zip(parts, rows, strict=True):
        part.weight.data = weight


def use_kernel(model: nn.Module, kernel: str, context: int, device: str) -> None:
    """Set the kernel of every attention layer of `model`. For "matmul" the causal mask is a stored
    matrix that is added to the scores: building or selecting it cost a fifth of each step."""
    bias = None
    if kernel == "matmul":
        bias = torch.full((context, context), -math.inf, device=device).triu(1)
    for module in model.modules():
        if isinstance(module, Attention):
            module.kernel, module.causal_bias = kernel, bias


def recompute_layers(layers: Iterable[nn.Module], every: int) -> None:
    """Have every `every`-th of the layers keep only its input for the backward pass, which computes
    the rest anew (activation checkpointing); 0: none of them."""
    blocks = [layer for layer in layers if isinstance(layer, Block)]
    for number, block in enumerate(blocks, 1):
        block.recompute = every > 0 and number % every == 0


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.ffn, bias=False)
        self.w2 = nn.Linear(config.ffn, config.dim, bias=False)
        self.w3 = nn.Linear(config.dim, config.ffn, bias=False)
        self.w13 = torch.empty(0)  # see pack

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))

    def extend(self, x: Tensor) -> Tensor:
        """As `forward`, with w1 and w3 as one product."""
        gate, up = F.linear(x, self.w13).chunk(2, -1)
        return self.w2(F.silu(gate) * up)


class Block(nn.Module):
    """One pre-norm transformer layer; x (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)
        self.recompute = False  # see recompute_layers

    def enter(self, x: Tensor, *more: Tensor) -> Tensor:
        """What the layer begins with; a subclass may read more than x."""
        return x

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor], *more: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            given = x, rope, *more
            found = checkpoint(self.run, *given, use_reentrant=False, preserve_rng_state=False)
            assert isinstance(found, Tensor)
            return found
        return self.run(x, rope, *more)

    def run(self, x: Tensor, rope: tuple[Tensor, Tensor], *more: Tensor) -> Tensor:
        x = self.enter(x, *more)
        x = x + self.attention(self.attention_norm(x), rope)
        return x + self.feed_forward(self.ffn_norm(x))

    def prepare(self) -> None:
        """Pack the weights for `extend`. Needed again after the weights have moved."""
        a, f = self.attention, self.feed_forward
        pack(a, "wqkv", [a.wq, a.wk, a.wv])
        pack(f, "w13", [f.w1, f.w3])

    def extend(
        self,
        x: Tensor,
        cache: LayerCache,
        placement: Placement,
        at: Tensor | None = None,
        *more: Tensor,
    ) -> Tensor:
        """As `forward`, for positions that follow those in the cache: x (B, T, D) -> (B, T, D), or
        (B, 1, D) for the position at index `at` alone."""
        x = self.enter(x, *more)
        y = self.attention.extend(self.attention_norm(x), cache, placement, at)
        x = (x if at is None else x.take_along_dim(at[..., None], 1)) + y
        return x + self.feed_forward.extend(self.ffn_norm(x))
