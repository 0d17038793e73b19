"""Multi-token cross-entropy, L_n of section 2: the sum over heads of each head's mean loss.

A target that is IGNORE (past the end of its document) does not count, and each head's loss is
divided by that head's number of valid targets. Three schemes give the same losses and gradients:

    plain       every head's logits in one graph; the definition
    sequential  the paper's Figure 2: one head's logits at a time, each with its own backward pass
    fused       logits in chunks inside one autograd function, one ordinary backward pass

Each scheme takes the model, tokens (B, T), targets (n, B, T) and `counts` (n,), the valid targets
per head. It adds the gradient of the summed loss to every parameter's .grad and returns the heads'
losses (n,). If the tokens are a part of a batch, counts are those of the whole batch, so that the
accumulated gradients equal the gradient of the whole batch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.data.batches import IGNORE
from mtp.model import heads
from mtp.model.memory import chunk_rows
from mtp.model.model import MultiTokenTransformer


def valid_counts(targets: Tensor) -> Tensor:
    """Valid targets per head (n,), at least 1, so that a head without valid targets has loss 0."""
    return (targets != IGNORE).flatten(1).sum(1).clamp(min=1)


def head_loss(logits: Tensor, targets: Tensor, count: Tensor) -> Tensor:
    """Cross-entropy of logits (B, T, V) at targets (B, T), summed and divided by `count`."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    total = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / count


def plain(model: MultiTokenTransformer, tokens: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """All heads' logits in one graph: O(nV) memory."""
    logits = model(tokens, k=len(targets))
    losses = torch.stack([head_loss(*each) for each in zip(logits, targets, counts, strict=True)])
    losses.sum().backward()
    return losses.detach()


# --------------------------------------------------------------------------------------------------
# The paper's Figure 2 (parallel heads) and Figure S11 (chains of heads)


def sequential(
    model: MultiTokenTransformer, tokens: Tensor, targets: Tensor, counts: Tensor
) -> Tensor:
    """Forward and backward of one head after the other: O(V) memory.

    The trunk's latent is detached from its graph. Each head's backward pass adds to the gradient of
    the detached latent, which then goes through the trunk in one backward pass. A head that other
    heads read is detached in the same way: it first collects the gradients of the heads above it,
    the farthest from the trunk first.
    """
    losses: dict[int, Tensor] = {}
    z, rope = model.run_trunk(tokens)

    def backward_through(h: Tensor, i: int) -> None:
        """Backpropagate the loss of head i and of every head above it, then through h's graph."""
        d = h.detach().requires_grad_()
        for child in heads.children(model.config, i):
            backward_through(model.heads[child - 1](d, rope), child)
        if i > 0:
            loss = head_loss(model.logits(d, i), targets[i - 1], counts[i - 1])
            loss.backward()  # frees this head's logits
            losses[i] = loss.detach()
        if h.requires_grad and d.grad is not None:
            h.backward(d.grad)

    backward_through(z, 0)
    return torch.stack([losses[i] for i in sorted(losses)])


# --------------------------------------------------------------------------------------------------
# Fused: chunked linear cross-entropy


def fused(model: MultiTokenTransformer, tokens: Tensor, targets: Tensor, counts: Tensor) -> Tensor:
    """O(V) memory with one ordinary backward pass, so that FSDP and compile see nothing unusual."""
    latents = [model.norm(h) for h in model.latents(tokens, k=len(targets))]
    weights = [u.weight for u in model.unembeddings]
    loss, losses = ChunkedCrossEntropy.apply(targets, counts, len(weights), *weights, *latents)  # pyright: ignore
    loss.backward()
    return losses


class ChunkedCrossEntropy(torch.autograd.Function):
    """The summed loss and the losses (n,) of n latents (B, T, D), with one shared or n separate
    unembeddings (V, D).

    The gradients are computed chunk by chunk in the forward pass, while the chunk's logits exist,
    and only scaled in the backward pass. All heads add to one weight gradient, which a separate
    call per head could not do.
    """

    @staticmethod
    def forward(
        ctx: Any, targets: Tensor, counts: Tensor, own_weights: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        weights, latents = tensors[:own_weights], tensors[own_weights:]
        need_grad = any(ctx.needs_input_grad)
        total = torch.float64 if weights[0].dtype == torch.float64 else torch.float32
        losses = torch.zeros(len(latents), dtype=total, device=targets.device)
        dweights = [torch.zeros_like(w, dtype=total) for w in weights] if need_grad else []
        dlatents = [torch.empty_like(h) for h in latents] if need_grad else []
        rows = chunk_rows(weights[0].shape[0], targets.device.type)
        for i, h in enumerate(latents):
            own = min(i, own_weights - 1)  # the unembedding of head i + 1
            chunks = zip(h.flatten(0, 1).split(rows), targets[i].flatten().split(rows), strict=True)
            for j, (x, y) in enumerate(chunks):
                loss, d = cross_entropy_gradient(F.linear(x, weights[own]), y, counts[i])
                losses[i] += loss
                if need_grad:
                    part = slice(j * rows, j * rows + len(x))
                    set_product_(dlatents[i].view(-1, x.shape[1])[part], d, weights[own])
                    add_product_(dweights[own], d.T, x)
                del d  # before the next chunk's logits
        ctx.save_for_backward(*dweights, *dlatents)
        ctx.dtypes = [t.dtype for t in tensors]
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            d.mul_(grads[0]).to(t) for d, t in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return None, None, None, *scaled


def cross_entropy_gradient(logits: Tensor, targets: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits (N, V) at targets (N,), summed and divided by `count`, and its
    gradient (N, V) in the type of the logits. Computed in float32 or wider."""
    valid = targets != IGNORE
    index = targets.where(valid, 0)[:, None]  # (N, 1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scale = valid[:, None] / count.to(dtype)
    log_p = F.log_softmax(logits, 1, dtype=dtype)
    loss = -(log_p.gather(1, index) * scale).sum()
    gradient = log_p.exp_().mul_(scale).scatter_add_(1, index, -scale)  # softmax - one-hot
    return loss, gradient.to(logits.dtype)


def set_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total = a @ b, with a copy under autocast, where the three types may differ."""
    if a.dtype == b.dtype == total.dtype:
        torch.mm(a, b, out=total)
    else:
        total.copy_(a @ b)


def add_product_(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, where low-precision products are summed in total's float32. Under autocast
    the three types may differ."""
    if a.dtype == b.dtype == total.dtype:
        total.addmm_(a, b)
    elif total.is_cuda and a.dtype == b.dtype:  # one kernel, which rounds no product to bf16
        torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else:
        total += a @ b


SCHEMES = {"plain": plain, "sequential": sequential, "fused": fused}


# --------------------------------------------------------------------------------------------------
# measuring


@torch.no_grad()
def score(model: MultiTokenTransformer, tokens: Tensor, targets: Tensor) -> Tensor:
    """Sums per head on held-out text, (3, n) float64 on the CPU: nats, valid targets, and targets
    that have the highest logit. A chunk of logits is alive at a time."""
    sums = torch.zeros(3, len(targets), dtype=torch.float64, device=tokens.device)
    rows = chunk_rows(model.config.vocab, tokens.device.type)
    for i, h in enumerate(model.latents(tokens, k=len(targets))):
        chunks = zip(h.flatten(0, 1).split(rows), targets[i].flatten().split(rows), strict=True)
        for x, y in chunks:
            logits = model.logits(x, i + 1).float()  # (N, V)
            valid = y != IGNORE
            nats = F.cross_entropy(logits, y, ignore_index=IGNORE, reduction="none")
            correct = (logits.argmax(-1) == y) & valid
            sums[:, i] += torch.stack([nats.double().sum(), valid.sum(), correct.sum()])
    return sums.cpu()
