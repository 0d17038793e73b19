"""The three schemes against a reference written from the formula, in float64."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.config import ModelConfig
from mtp.data.window import IGNORE
from mtp.head_types import HEADS
from mtp.model import memory
from mtp.model.model import MultiTokenTransformer
from mtp.objective import cross_entropy

TINY = {"dim": 16, "layers": 5, "attn_heads": 2, "vocab": 19, "context": 12}


def tiny(head: str, n: int = 3, seed: int = 0) -> MultiTokenTransformer:
    torch.manual_seed(seed)
    return MultiTokenTransformer(ModelConfig(head=head, n=n, **TINY)).double()  # type: ignore[arg-type]


def example(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Random tokens and targets (n, B, T), a third of them ignored, more for the later heads."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(19, (2, 12), generator=g)
    targets = torch.randint(19, (n, 2, 12), generator=g)
    keep = torch.rand(n, 2, 12, generator=g) > torch.linspace(0.2, 0.5, n)[:, None, None]
    return tokens, targets.where(keep, IGNORE)


def rms_norm(x: Tensor, norm: Any) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight


def following(model: MultiTokenTransformer, text: Tensor, i: int) -> Tensor:
    """E x[t+i] for the first 12 positions t of a text; beyond its end x is 0."""
    text = torch.cat([text, torch.zeros(len(text), 12, dtype=torch.long)], 1)
    return model.embedding.weight[text[:, i : i + 12]]


def reference(
    model: MultiTokenTransformer, tokens: Tensor, targets: Tensor, ahead: Tensor | None = None
) -> list[Tensor]:
    """Section 2's formula, position by position, each head type written out in full."""
    c, rope = model.config, model.rope(torch.arange(tokens.shape[1]))
    text = tokens if ahead is None else torch.cat([tokens, ahead], 1)
    z = model.embedding(tokens)
    for layer in model.trunk:
        z = layer(z, rope)
    own: Any = list(model.heads)
    f = [lambda x, b=block: b(x, rope) for block in own]
    if c.head == "causal":
        latents = [f[0](z)]
        for head in f[1:]:
            latents.append(head(latents[-1]))
    elif c.head == "anticausal":
        latents = [f[-1](z)]
        for head in f[-2::-1]:
            latents.insert(0, head(latents[0]))
    elif c.head == "linear":
        latents = [z, *(z @ block.linear.weight.T for block in own[1:])]
    elif c.head == "mlp":
        maps = [z @ block.linear.weight.T for block in own[1:]]
        latents = [z, *(z + x * torch.sigmoid(x) for x in maps)]
    elif c.head == "inject":
        newest = following(model, text, 1)
        latents = [z, *((z + b.scale * newest) @ b.linear.weight.T for b in own[1:])]
    elif c.head in ("sequential", "sequential-shared"):
        latents = [f[0](z)]
        for i in range(2, c.n + 1):
            b = own[1] if c.head == "sequential-shared" else own[i - 1]
            D, M = c.dim, b.merge.weight
            x = rms_norm(latents[-1], b.latent_norm) @ M[:, :D].T
            x = x + rms_norm(following(model, text, i - 1), b.token_norm) @ M[:, D:].T
            x = x + b.attention(rms_norm(x, b.attention_norm), rope)
            latents.append(x + b.feed_forward(rms_norm(x, b.ffn_norm)))
    else:
        latents = [head(z) for head in f]
    losses = []
    for i, h in enumerate(latents):
        unembedding = model.unembeddings[i if c.head == "replicated" else 0].weight
        logits = rms_norm(h, model.norm) @ unembedding.T  # type: ignore[operator]
        total, count = torch.zeros((), dtype=torch.float64), 0
        for b in range(tokens.shape[0]):
            for t in range(tokens.shape[1]):
                y = int(targets[i, b, t])
                if y != IGNORE:
                    probabilities = logits[b, t].exp() / logits[b, t].exp().sum()
                    total, count = total - probabilities[y].log(), count + 1
        losses.append(total / max(count, 1))
    return losses


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("scheme", cross_entropy.SCHEMES)
@pytest.mark.parametrize("head", tuple(HEADS))
def test_loss_and_every_gradient_equal_the_reference(head: str, scheme: str, n: int) -> None:
    tokens, targets = example(n)
    ahead = torch.randint(1, 19, (2, n - 1), generator=torch.Generator().manual_seed(2))
    expected = tiny(head, n)
    losses = reference(expected, tokens, targets, ahead)
    torch.stack(losses).sum().backward()
    model, counts = tiny(head, n), cross_entropy.valid_counts(targets)
    run = cross_entropy.SCHEMES[scheme]
    got = run(model, tokens, targets, counts, cross_entropy.EQUAL, ahead)
    torch.testing.assert_close(got, torch.stack(losses).detach(), rtol=1e-10, atol=1e-12)
    for (name, p), q in zip(model.named_parameters(), expected.parameters(), strict=True):
        assert p.grad is not None and q.grad is not None, name
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-12, msg=name)


@pytest.mark.parametrize("head", [head for head in HEADS if HEADS[head].reads(2)])
def test_tokens_that_are_missing_are_token_0(head: str) -> None:
    tokens, targets = example(3)
    model = tiny(head)
    counts = cross_entropy.valid_counts(targets)
    for ahead in (None, tokens[:, :1], torch.zeros(2, 7, dtype=torch.long)):
        got = cross_entropy.plain(model, tokens, targets, counts, cross_entropy.EQUAL, ahead)
        want = torch.stack(reference(model, tokens, targets, ahead)).detach()
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scheme", cross_entropy.SCHEMES)
def test_parts_with_the_whole_batch_counts_add_up_to_the_batch(scheme: str) -> None:
    tokens, targets = example(3)
    whole, parts = tiny("parallel"), tiny("parallel")
    counts = cross_entropy.valid_counts(targets)
    at_once = cross_entropy.SCHEMES[scheme](whole, tokens, targets, counts)
    summed = sum(
        cross_entropy.SCHEMES[scheme](parts, tokens[b : b + 1], targets[:, b : b + 1], counts)
        for b in range(2)
    )
    torch.testing.assert_close(summed, at_once)
    for p, q in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("scheme", cross_entropy.SCHEMES)
def test_a_head_without_valid_targets_has_loss_zero_and_finite_gradients(scheme: str) -> None:
    tokens, targets = example(3)
    targets[2] = IGNORE
    model = tiny("parallel")
    got = cross_entropy.SCHEMES[scheme](model, tokens, targets, cross_entropy.valid_counts(targets))
    assert got[2] == 0 and torch.isfinite(got).all()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


def test_fused_is_the_same_for_any_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, targets = example(3)
    gradients = []
    for rows in (1, 7, 24, 1000):
        monkeypatch.setattr(memory, "CHUNK_LOGITS", rows * TINY["vocab"])
        model = tiny("replicated")
        cross_entropy.fused(model, tokens, targets, cross_entropy.valid_counts(targets))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    for g in gradients[1:]:
        torch.testing.assert_close(g, gradients[0])


def test_the_first_loss_is_that_of_unit_logits_and_thirty_layers_keep_their_scale() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=64, layers=30, attn_heads=4, vocab=500, context=64, n=4)
    model = MultiTokenTransformer(config)
    tokens = torch.randint(500, (4, 64))
    targets = torch.randint(500, (4, 4, 64))
    losses = cross_entropy.plain(model, tokens, targets, cross_entropy.valid_counts(targets))
    torch.testing.assert_close(losses, torch.full((4,), math.log(500) + 0.5), rtol=0.05, atol=0)
    scale = [float(h.detach().std()) for h in model.latents(tokens)]
    assert all(0.8 < s < 3 for s in scale), scale
