"""Losses of heads that learn from head 1's distribution instead of from the text.

With s the distribution of head i at t, and p that of head 1 at t + i - 1, for the same token:

    kl   sum p log(p / s)
    tv   1 - sum min(p, s): how often speculative sampling (Leviathan et al. 2023) rejects a token
         that was drawn from s

p gets no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.data.window import IGNORE


def shifted(x: Tensor, i: int) -> Tensor:
    """What head 1 has, (B, T, D), at the position from which it predicts the token that head i
    predicts: i - 1 later. The last i - 1 positions are 0, and count nowhere."""
    later = x[:, i - 1 :].detach()  # none if i > T
    return F.pad(later, (0, 0, 0, x.shape[1] - later.shape[1]))


def teacher_loss(
    logits: Tensor,
    teacher: Tensor,
    targets: Tensor,
    count: Tensor,
    factors: Tensor | None,
    kind: str,
) -> Tensor:
    """The sum over positions of how far s, from logits (.., V), is from p, from `teacher` (.., V),
    times factors (..) where targets (..) count, divided by `count`."""
    each = _distance(_log_softmax(logits), _log_softmax(teacher), kind)
    return (each * _scale(targets, factors)).sum() / count


def teacher_gradient(
    logits: Tensor,
    teacher: Tensor,
    targets: Tensor,
    count: Tensor,
    weight: Tensor | float,
    factors: Tensor | None,
    kind: str,
) -> tuple[Tensor, Tensor]:
    """`teacher_loss` of logits (N, V) and teacher (N, V), and its gradient (N, V) times `weight`,
    in the type of the logits, without autograd."""
    log_s, log_p, scale = _log_softmax(logits), _log_softmax(teacher), _scale(targets, factors)
    loss = (_distance(log_s, log_p, kind) * scale).sum() / count
    s, p = log_s.exp_(), log_p.exp_()
    if kind == "kl":
        gradient = s - p
    else:
        # s where more of it makes the minimum larger, half of it where s = p, as autograd has it
        below = p.sub_(s).sign_().add_(1).mul_(s).div_(2)
        gradient = s * below.sum(1, keepdim=True) - below
    scale = scale[:, None] / count.to(s.dtype)
    return loss, (gradient * (scale * weight)).to(logits.dtype)


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.log_softmax(-1, torch.promote_types(logits.dtype, torch.float32))


def _distance(log_s: Tensor, log_p: Tensor, kind: str) -> Tensor:
    """Of each position, from log s and log p (.., V)."""
    if kind == "kl":
        return (log_p.exp() * (log_p - log_s)).sum(-1)
    return 1 - torch.minimum(log_p.exp(), log_s.exp()).sum(-1)


def _scale(targets: Tensor, factors: Tensor | None) -> Tensor:
    valid = targets != IGNORE
    return valid if factors is None else valid * factors
