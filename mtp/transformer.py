"""A Llama block and its key-value cache; nothing about heads.

RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
Shapes: B rows, T positions, D = dim, H attention heads, K key-value heads, E = D / H, S slots of a
cache.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtp.config import ModelConfig


class Rope(nn.Module):
    """Rotary positions: cosines and sines by position, float32 whatever the weights' type."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        half = config.dim // config.attn_heads // 2
        frequency = config.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = torch.arange(config.context, dtype=torch.float64)[:, None] * frequency
        self.table: Tensor
        table = torch.stack([angle.cos(), angle.sin()]).float()  # (2, context, E/2)
        self.register_buffer("table", table, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rope":
        table = self.table
        super()._apply(fn, recurse)
        if not table.is_meta:  # follow the model to its device, not to its type
            self.table = table.to(self.table.device)
        return self

    def forward(self, positions: Tensor) -> Tensor:
        """positions (T,) or (B, T) -> (2, T, E/2) or (2, B, 1, T, E/2)."""
        table = self.table[:, positions]
        return table if positions.dim() == 1 else table[:, :, None]


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the pairs (x[j], x[j + E/2]) of each head by the angle of their position."""
    cos, sin = rope[0], rope[1]
    a, b = x.to(torch.promote_types(x.dtype, rope.dtype)).chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)  # (B, H, T, E)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kernel: str) -> Tensor:
    """Attention of q (B, H, T, E) over k, v (B, K, S, E) -> (B, H, T, E).

    Without a mask, position t sees 0..t (T = S). `mask`, broadcast to (B, H, T, S), is True where q
    may look, or a float that is added to the scores.
    "matmul" spells the two products out: compiled on a CPU at short T it beats the fused kernel,
    whose backward is slow there (make bench-engine).
    """
    if kernel == "sdpa":
        gqa = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=gqa
        )
    if (groups := q.shape[1] // k.shape[1]) > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
    scores = (q / math.sqrt(q.shape[-1])) @ k.transpose(-2, -1)  # (B, H, T, S)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    scores = scores.where(mask, -math.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(dim=-1).to(v.dtype) @ v


class LayerCache:
    """Keys and values of one attention layer: slot s of a row holds its position s.

    Rows advance by different lengths. What lies beyond a row's length (rejected drafts, padding) is
    hidden by the mask until it is overwritten.
    """

    def __init__(self, k: Tensor, v: Tensor) -> None:
        self.k, self.v = k, v  # (B, K, S, E)

    def write(self, k: Tensor, v: Tensor, positions: Tensor) -> None:
        """Store k, v (B, K, T, E) at `positions` (B, T)."""
        slots = positions[:, None, :, None].expand_as(k)
        self.k.scatter_(2, slots, k)
        self.v.scatter_(2, slots, v)


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.dim // config.attn_heads
        kv_dim = self.head_dim * config.key_value_heads
        self.wq = nn.Linear(config.dim, config.dim, bias=False)
        self.wk = nn.Linear(config.dim, kv_dim, bias=False)
        self.wv = nn.Linear(config.dim, kv_dim, bias=False)
        self.wo = nn.Linear(config.dim, config.dim, bias=False)
        self.kernel = "sdpa"
        self.causal_bias: Tensor | None = None  # (context, context), see use_kernel

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        cache: LayerCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        B, T, D = x.shape
        q, k, v = (
            w(x).view(B, T, -1, self.head_dim).transpose(1, 2)  # (B, H or K, T, E)
            for w in (self.wq, self.wk, self.wv)
        )
        q, k = rotate(q, rope), rotate(k, rope)
        if cache is not None and mask is not None and positions is not None:
            cache.write(k, v, positions)
            slots = mask.shape[-1]  # only the slots in use so far
            k, v = cache.k[:, :, :slots], cache.v[:, :, :slots]
        elif mask is None and self.causal_bias is not None:
            mask = self.causal_bias[:T, :T]
        y = attend(q, k, v, mask, self.kernel)
        return self.wo(y.transpose(1, 2).reshape(B, T, D))


def use_kernel(model: nn.Module, kernel: str, context: int, device: str) -> None:
    """Have every attention layer of `model` use a kernel. "matmul" gets the causal mask as one
    stored matrix that is added: building or selecting it in every step cost a fifth of it."""
    bias = None
    if kernel == "matmul":
        bias = torch.full((context, context), -math.inf, device=device).triu(1)
    for module in model.modules():
        if isinstance(module, Attention):
            module.kernel, module.causal_bias = kernel, bias


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.w1 = nn.Linear(config.dim, config.ffn, bias=False)
        self.w2 = nn.Linear(config.ffn, config.dim, bias=False)
        self.w3 = nn.Linear(config.dim, config.ffn, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    """One pre-norm transformer layer; x (B, T, D) -> (B, T, D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        cache: LayerCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope, cache, positions, mask)
        return x + self.feed_forward(self.ffn_norm(x))
