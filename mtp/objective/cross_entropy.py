"""Multi-token cross-entropy, L_n of section 2: the sum over heads of each head's mean loss.

A target that is IGNORE (past the end of its document) does not count, and each head's loss is
divided by that head's number of valid targets. Three schemes give the same losses and gradients:

    plain       every head's logits in one graph; the definition
    sequential  the paper's Figure 2: one head's logits at a time, each with its own backward pass
    fused       logits in chunks inside one autograd function, one ordinary backward pass

Each scheme takes the model, tokens (B, T), targets (n, B, T), `counts` (n,), the valid targets per
head, an Emphasis, and the tokens after those (B, n), which heads may read. It adds the gradient of
the weighted sum of the losses to every parameter's .grad and returns the heads' losses (n,),
without their weights. If the tokens are a part of a batch, counts are those of the whole batch, so
that the accumulated gradients equal the gradient of the whole batch.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.data.window import IGNORE, Window
from mtp.model import heads
from mtp.model.memory import TAUGHT, chunk_rows
from mtp.model.model import MultiTokenTransformer
from mtp.objective.teacher import shifted, teacher_gradient, teacher_loss


@dataclass(frozen=True)
class Emphasis:
    """What counts how much.

    weights  (n,) of the heads' losses; None: 1 each
    factors  (n, B, T) of the targets' losses; None: 1 each. A head's loss is then divided by the
             sum of its valid targets' factors, which `counts` must be.
    detach   heads 2..n change only weights of their own
    loss     of heads 2..n: ce, kl or tv (mtp/objective/teacher.py)
    terms    the weighted sum () of further terms (mtp/objective/terms/), whose gradient is added,
             of the latents of head 1 after the final norm (B, T, D); None: there are none
    """

    weights: Tensor | None = None
    factors: Tensor | None = None
    detach: bool = False
    loss: str = "ce"
    terms: Callable[..., Tensor] | None = None

    def taught(self, i: int) -> bool:
        """Whether head i learns from head 1 instead of from the text."""
        return self.loss != "ce" and i > 1

    def weight(self, i: int) -> Tensor | float:
        """Of head i."""
        return 1.0 if self.weights is None else self.weights[i - 1]

    def factor(self, i: int) -> Tensor | None:
        """Of the targets of head i, (B, T)."""
        return None if self.factors is None else self.factors[i - 1]

    def rows(self, first: int, stop: int) -> "Emphasis":
        """The same for some sequences of the batch alone."""
        rows = slice(first, stop)
        factors = None if self.factors is None else self.factors[:, rows]
        terms = None if self.terms is None else functools.partial(self.terms, rows=rows)
        return dataclasses.replace(self, factors=factors, terms=terms)


EQUAL = Emphasis()


def sums_of_targets(targets: Tensor, factors: Tensor | None = None) -> Tensor:
    """Valid targets per head (n,), or the sum of their factors."""
    valid = targets != IGNORE
    return (valid if factors is None else factors * valid).flatten(1).sum(1)


def valid_counts(targets: Tensor, factors: Tensor | None = None) -> Tensor:
    """The same, where it is 0 as 1, so that a head without valid targets has loss 0."""
    found = sums_of_targets(targets, factors)
    return found.where(found > 0, 1)


def head_loss(
    logits: Tensor, targets: Tensor, count: Tensor, factors: Tensor | None = None
) -> Tensor:
    """Cross-entropy of logits (B, T, V) at targets (B, T), times factors (B, T), summed and divided
    by `count`."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)).flatten(0, 1)
    y = targets.flatten()
    if factors is None:
        return F.cross_entropy(logits, y, ignore_index=IGNORE, reduction="sum") / count
    nats = F.cross_entropy(logits, y, ignore_index=IGNORE, reduction="none")
    return (nats * factors.flatten()).sum() / count


def plain(
    model: MultiTokenTransformer,
    tokens: Tensor,
    targets: Tensor,
    counts: Tensor,
    emphasis: Emphasis = EQUAL,
    ahead: Tensor | None = None,
) -> Tensor:
    """All heads' logits in one graph: O(nV) memory."""
    cut = emphasis.detach
    losses, total = list[Tensor](), torch.zeros((), device=tokens.device)
    latents = model.latents(tokens, len(targets), cut, ahead)
    for i, h in enumerate(latents, 1):
        logits = model.logits(h, i, cut)
        losses.append(_loss(model, logits, latents[0], i, targets, counts, emphasis))
        total = total + emphasis.weight(i) * losses[-1]
        if i == 1 and emphasis.terms:
            total = total + emphasis.terms(model.normed(h))
    total.backward()
    return torch.stack(losses).detach()


# --------------------------------------------------------------------------------------------------
# The paper's Figure 2 (parallel heads) and Figure S11 (chains of heads)


def sequential(
    model: MultiTokenTransformer,
    tokens: Tensor,
    targets: Tensor,
    counts: Tensor,
    emphasis: Emphasis = EQUAL,
    ahead: Tensor | None = None,
) -> Tensor:
    """Forward and backward of one head after the other: O(V) memory.

    The trunk's latent is detached from its graph, and so are the embeddings that heads read. Each
    head's backward pass adds to the gradient of the detached latent, which then goes through the
    trunk in one backward pass. A head that other heads read is detached in the same way: it first
    collects the gradients of the heads above it, the farthest from the trunk first.
    """
    losses: dict[int, Tensor] = {}
    first = None  # of head 1, which teaches
    if emphasis.loss != "ce":
        with torch.no_grad():
            (first,) = model.latents(tokens, 1)
    z, rope = model.run_trunk(tokens)
    cut = emphasis.detach
    text = tokens if ahead is None else torch.cat([tokens, ahead], 1)
    looked_up = model.embedded(text, tokens.shape[1], len(targets), cut)
    embedded = None if looked_up is None else looked_up.detach().requires_grad_(not cut)

    def backward_through(h: Tensor, i: int) -> None:
        """Backpropagate the loss of head i and of every head above it, then through h's graph."""
        d = h.detach().requires_grad_()
        for child in heads.children(model.config, i):
            x = model.source(child, {i: d}, cut)
            backward_through(model.run_head(child, x, rope, embedded), child)
        if i > 0:
            logits = model.logits(d, i, cut)
            loss = _loss(model, logits, first, i, targets, counts, emphasis)
            (emphasis.weight(i) * loss).backward()  # frees this head's logits
            losses[i] = loss.detach()
        if i == 1 and emphasis.terms:
            emphasis.terms(model.normed(d)).backward()
        if h.requires_grad and d.grad is not None:
            h.backward(d.grad)

    backward_through(z, 0)
    if looked_up is not None and looked_up.requires_grad and embedded is not None:
        looked_up.backward(embedded.grad)
    return torch.stack([losses[i] for i in sorted(losses)])


def _loss(
    model: MultiTokenTransformer,
    logits: Tensor,
    first: Tensor | None,
    i: int,
    targets: Tensor,
    counts: Tensor,
    emphasis: Emphasis,
) -> Tensor:
    """The loss of head i from its logits (B, T, V); `first` (B, T, D) is the latent of head 1."""
    own = targets[i - 1], counts[i - 1], emphasis.factor(i)
    if not emphasis.taught(i) or first is None:
        return head_loss(logits, *own)
    with torch.no_grad():
        teacher = model.logits(shifted(first, i))
    return teacher_loss(logits, teacher, *own, emphasis.loss)


# --------------------------------------------------------------------------------------------------
# Fused: chunked linear cross-entropy


def fused(
    model: MultiTokenTransformer,
    tokens: Tensor,
    targets: Tensor,
    counts: Tensor,
    emphasis: Emphasis = EQUAL,
    ahead: Tensor | None = None,
) -> Tensor:
    """O(V) memory with one ordinary backward pass, so that FSDP and compile see nothing unusual."""
    cut = emphasis.detach
    latents = [
        model.normed(h, i, cut)
        for i, h in enumerate(model.latents(tokens, len(targets), cut, ahead), 1)
    ]
    matrices = [u.weight for u in model.unembeddings]
    loss, losses = ChunkedCrossEntropy.apply(
        targets, counts, emphasis, len(matrices), *matrices, *latents
    )  # pyright: ignore
    if emphasis.terms:
        loss = loss + emphasis.terms(latents[0])
    loss.backward()
    return losses


class ChunkedCrossEntropy(torch.autograd.Function):
    """The weighted sum of the losses, and the losses (n,), of n latents (B, T, D), with one shared
    or n separate unembeddings (V, D).

    The gradients are computed chunk by chunk in the forward pass, while the chunk's logits exist,
    and only scaled in the backward pass. All heads add to one gradient of the unembedding, which a
    separate call per head could not do.
    """

    @staticmethod
    def forward(
        ctx: Any,
        targets: Tensor,
        counts: Tensor,
        emphasis: Emphasis,
        own_matrices: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, Tensor]:
        matrices, latents = tensors[:own_matrices], tensors[own_matrices:]
        wanted: tuple[bool, ...] = ctx.needs_input_grad[4:]
        total = torch.float64 if matrices[0].dtype == torch.float64 else torch.float32
        losses = torch.zeros(len(latents), dtype=total, device=targets.device)
        dmatrices = [
            torch.zeros_like(u, dtype=total) if wants else None
            for u, wants in zip(matrices, wanted, strict=False)
        ]
        dlatents = [
            torch.empty_like(h) if wants else None
            for h, wants in zip(latents, wanted[own_matrices:], strict=True)
        ]
        rows = chunk_rows(matrices[0].shape[0], targets.device.type)
        for i, h in enumerate(latents):
            own = min(i, own_matrices - 1)  # the unembedding of head i + 1
            shares = own_matrices == 1 and emphasis.detach and i > 0  # it must not change it
            factors, y = emphasis.factor(i + 1), targets[i].flatten()
            taught = emphasis.taught(i + 1)
            teacher = shifted(latents[0], i + 1).flatten(0, 1) if taught else None
            size = max(1, rows // TAUGHT) if taught else rows
            for j, x in enumerate(h.flatten(0, 1).split(size)):
                part = slice(j * size, j * size + len(x))
                logits, weight = F.linear(x, matrices[own]), emphasis.weight(i + 1)
                f = None if factors is None else factors.flatten()[part]
                if teacher is None:
                    loss, d = cross_entropy_gradient(logits, y[part], counts[i], weight, f)
                else:
                    theirs = F.linear(teacher[part], matrices[0])
                    own_part = y[part], counts[i], weight, f
                    loss, d = teacher_gradient(logits, theirs, *own_part, emphasis.loss)
                losses[i] += loss
                if (dlatent := dlatents[i]) is not None:
                    set_product_(dlatent.view(-1, x.shape[1])[part], d, matrices[own])
                if not shares and (dmatrix := dmatrices[own]) is not None:
                    add_product_(dmatrix, d.T, x)
                del d  # before the next chunk's logits
        ctx.save_for_backward(*dmatrices, *dlatents)
        ctx.dtypes = [t.dtype for t in tensors]
        ctx.mark_non_differentiable(losses)
        weighted = losses if emphasis.weights is None else losses * emphasis.weights
        return weighted.sum(), losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        scaled = [None if d is None else d.mul_(grads[0]).to(t) for d, t in saved]
        return None, None, None, None, *scaled


def cross_entropy_gradient(
    logits: Tensor,
    targets: Tensor,
    count: Tensor,
    weight: Tensor | float = 1.0,
    factors: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits (N, V) at targets (N,), times factors (N,), summed and divided by
    `count`; and the gradient (N, V) of `weight` times that, in the type of the logits. Computed in
    float32 or wider."""
    valid = targets != IGNORE
    index = targets.where(valid, 0)[:, None]  # (N, 1)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    scale = valid[:, None] / count.to(dtype)
    if factors is not None:
        scale = scale * factors[:, None]
    log_p = F.log_softmax(logits, 1, dtype=dtype)
    loss = -(log_p.gather(1, index) * scale).sum()
    scale = scale * weight
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
def score(model: MultiTokenTransformer, window: Window) -> Tensor:
    """Sums per head on held-out text, (3, n) float64 on the CPU: nats, valid targets, and targets
    that have the highest logit, of the heads that the window's targets reach. A chunk of logits is
    alive at a time."""
    tokens, targets = window.inputs, window.targets()
    sums = torch.zeros(3, len(targets), dtype=torch.float64, device=tokens.device)
    rows = chunk_rows(model.config.vocab, tokens.device.type)
    for i, h in enumerate(model.latents(tokens, len(targets), ahead=window.ahead)):
        chunks = zip(h.flatten(0, 1).split(rows), targets[i].flatten().split(rows), strict=True)
        for x, y in chunks:
            logits = model.logits(x, i + 1).float()  # (N, V)
            valid = y != IGNORE
            nats = F.cross_entropy(logits, y, ignore_index=IGNORE, reduction="none")
            correct = (logits.argmax(-1) == y) & valid
            sums[:, i] += torch.stack([nats.double().sum(), valid.sum(), correct.sum()])
    return sums.cpu()
