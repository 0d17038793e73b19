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
        cos, sin = angle.cos(), angle.sin()  # (context, E/2)
        table = torch.stack([torch.cat([cos, cos], 1), torch.cat([-sin, sin], 1)])
        self.table: Tensor
        self.register_buffer("table", table.float(), persistent=False)  # (2, context, E)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Rope":
        table = self.table
        super()._apply(fn, recurse)
        if not table.is_meta:  # follow the model to its device, not to its type
            self.table = table.to(self.table.device)
        return self

    def forward(self, positions: Tensor) -> Tensor:
        """positions (T,) or (B, T) -> (2, T, 1, E) or (2, B, T, 1, E)."""
        return self.table[:, positions].unsqueeze(-2)


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the pairs (x[j], x[j + E/2]) of each head by the angle of their position."""
    wide = x.to(rope.dtype) if x.dtype != torch.float64 else x
    other = wide.roll(x.shape[-1] // 2, -1)  # each one's partner
    return torch.addcmul(wide * rope[0], other, rope[1].to(wide.dtype)).to(x.dtype)  # (B, T, H, E)


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
    """Keys and values of one attention layer, and where a forward pass writes and looks.

    Slot s of a row holds its position s. Rows advance by different lengths: what lies beyond a
    row's certain tokens (padding, drafts) is hidden by the mask until it is overwritten.
    """

    def __init__(self, k: Tensor, v: Tensor, slots: Tensor, mask: Tensor) -> None:
        self.k, self.v = k, v  # (B, S, K, E)
        self.slots = slots  # (B T) of all B S slots, those of the new positions
        self.mask = mask  # (B, 1, T, W): zero where they may look among the first W slots, or -inf

    def write(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k, v (B, T, K, E); the keys and values to look at (B, W, K, E)."""
        self.k.flatten(0, 1).index_copy_(0, self.slots, k.flatten(0, 1))
        self.v.flatten(0, 1).index_copy_(0, self.slots, v.flatten(0, 1))
        window = self.mask.shape[-1]
        return self.k.narrow(1, 0, window), self.v.narrow(1, 0, window)


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
        self, x: Tensor, rope: Tensor, cache: LayerCache | None = None, at: Tensor | None = None
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D). With `at` (B, 1), keys and values go to the cache for all T
        positions, and only the one at that index is answered -> (B, 1, D)."""

        B, T, _ = x.shape
        k = rotate(self.wk(x).view(B, T, -1, self.head_dim), rope)  # (B, T, K, E)
        v = self.wv(x).view(B, T, -1, self.head_dim)
        mask = None
        if cache is not None:
            k, v = cache.write(k, v)
            mask = cache.mask
            if at is not None:
                x, T = x.take_along_dim(at[..., None], 1), 1  # (B, 1, D)
                mask = mask.take_along_dim(at[:, None, :, None], 2)  # (B, 1, 1, W)
                rope = rope.take_along_dim(at[None, :, :, None, None], 2)
        elif self.causal_bias is not None:
            mask = self.causal_bias[:T, :T]
        q = rotate(self.wq(x).view(B, T, -1, self.head_dim), rope)  # (B, T, H, E)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        y = attend(q, k, v, mask, self.kernel)  # (B, H, T, E)
        return self.wo(y.transpose(1, 2).reshape(B, T, -1))


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
    """One pre-norm transformer layer; x (B, T, D) -> (B, T, D), or (B, 1, D) `at` one index."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config)

    def forward(
        self, x: Tensor, rope: Tensor, cache: LayerCache | None = None, at: Tensor | None = None
    ) -> Tensor:
        attended = self.attention(self.attention_norm(x), rope, cache, at)
        x = (x if at is None else x.take_along_dim(at[..., None], 1)) + attended
        return x + self.feed_forward(self.ffn_norm(x))
