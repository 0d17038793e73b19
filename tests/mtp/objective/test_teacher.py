"""Heads that learn from head 1's distribution: against a reference in float64."""

import pytest
import torch
from torch import Tensor

from mtp.data.window import IGNORE
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from mtp.objective.cross_entropy import SCHEMES
from mtp.objective.objective import Objective
from mtp.objective.teacher import teacher_gradient, teacher_loss
from tests.mtp.objective.test_objective import (
    N,
    config_of,
    gradients,
    model_of,
    step,
    window_of,
)  # fmt: skip


def reference(model: MultiTokenTransformer, kind: str) -> list[Tensor]:
    """Position by position, from the formulas; head 1 has its cross-entropy."""
    window = window_of()
    targets, T = window.targets(), 12
    p = [logits.softmax(-1) for logits in model(window.inputs)]
    losses = []
    for i in range(1, N + 1):
        total, count = torch.zeros((), dtype=torch.float64), 0
        for b in range(4):
            for t in range(T):
                y = int(targets[i - 1, b, t])
                if y == IGNORE or (i > 1 and t + i - 1 >= T):
                    continue
                count += 1
                own = p[i - 1][b, t]
                if i == 1:
                    total = total - own[y].log()
                    continue
                teacher = p[0][b, t + i - 1].detach()  # also predicts x[t+i]
                if kind == "kl":
                    total = total + (teacher * (teacher / own).log()).sum()
                else:
                    total = total + 1 - torch.minimum(teacher, own).sum()
        losses.append(total / count)
    return losses


@pytest.mark.parametrize("kind", ["kl", "tv"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", tuple(HEADS))
def test_gradients_equal_the_reference(head: str, scheme: str, kind: str) -> None:
    expected, model = model_of(head), model_of(head)
    losses = reference(expected, kind)
    torch.stack(losses).sum().backward()
    objective = Objective(config_of(head, N, scheme, loss=kind), "cpu")
    got = step(model, objective, window_of(), 2)
    torch.testing.assert_close(got, torch.stack(losses).detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradients(model), gradients(expected), rtol=1e-7, atol=1e-11)


@pytest.mark.parametrize("kind", ["ce", "kl", "tv"])
@pytest.mark.parametrize("head", ["linear", "replicated", "inject"])
def test_more_heads_than_positions(head: str, kind: str) -> None:
    """All schemes agree; the heads beyond the window have no targets and the loss 0."""
    found, n = [], 14
    for scheme in SCHEMES:
        model = model_of(head, n)
        objective = Objective(config_of(head, n, scheme, loss=kind), "cpu")
        found.append((step(model, objective, window_of(4, n), 2), gradients(model)))
    for losses, grads in found:
        torch.testing.assert_close(losses, found[0][0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(grads, found[0][1], rtol=1e-7, atol=1e-11)
        assert kind == "ce" or (losses[12:] == 0).all()


def test_gradients_that_are_not_its_own_are_not_measured() -> None:
    with pytest.raises(BadInput, match="loss=tv is not what is measured"):
        config_of(loss="tv", measure_every=5)
    with pytest.raises(BadInput, match="balance=cosine weighs cross-entropies"):
        config_of(loss="tv", balance="cosine")


@pytest.mark.parametrize("targets", ["same", "shuffled"])
def test_other_targets_are_refused(targets: str) -> None:
    with pytest.raises(BadInput, match=f"objective.targets={targets} gives them another"):
        config_of(loss="kl", targets=targets)


def test_where_s_equals_p_fused_has_the_gradient_of_autograd() -> None:
    """A grown head begins so, where two tokens with the same past follow each other."""
    s = torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    p, own = s.detach()[:, [0, 1, 3, 2]], (torch.tensor([1]), torch.tensor(1))
    teacher_loss(s, p, *own, None, "tv").backward()
    _, gradient = teacher_gradient(s.detach(), p, *own, 1.0, None, "tv")
    assert s.grad is not None
    torch.testing.assert_close(gradient, s.grad, rtol=0, atol=1e-12)
