"""Weights, schedules and controls of the objective, against references in float64."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.config import MAX_HEADS, ModelConfig, TrainConfig
from mtp.data.window import IGNORE, Window
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from mtp.objective.balance import BOUND, DECAY, Balance
from mtp.objective.cross_entropy import SCHEMES, score
from mtp.objective.measure import norms_and_cosines, products
from mtp.objective.objective import Objective, effective_n
from mtp.objective_config import ObjectiveConfig, base_weights, scheduled

EOS, VOCAB, N = 1, 19, 3
MODEL = {"dim": 16, "layers": 5, "attn_heads": 2, "vocab": VOCAB, "context": 12}
ALONE = [head for head in HEADS if HEADS[head].first_is_alone(N)]


def model_of(head: str, n: int = N) -> MultiTokenTransformer:
    torch.manual_seed(0)
    return MultiTokenTransformer(ModelConfig(head=head, n=n, **MODEL)).double()  # type: ignore[arg-type]


def window_of(rows: int = 4, n: int = N) -> Window:
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCAB, (rows, 12 + n), generator=g)
    return Window(tokens, torch.rand(rows, 12 + n, generator=g) > 0.1, n, EOS)


def config_of(head: str = "parallel", n: int = N, scheme: str = "fused", **own: Any) -> TrainConfig:
    model = ModelConfig(head=head, n=n, **MODEL)  # type: ignore[arg-type]
    objective = ObjectiveConfig(**own)
    return TrainConfig(model=model, tokens=1e4, scheme=scheme, objective=objective)  # type: ignore[arg-type]


def trigger(tokens: Tensor) -> Tensor:
    """Token weights: targets that are even count three times, multiples of 5 not at all."""
    return torch.where(tokens % 5 == 0, 0.0, torch.where(tokens % 2 == 0, 3.0, 1.0))


def nats(model: MultiTokenTransformer, window: Window) -> Tensor:
    """-log p of x[t+i] for each head and position, (n, B, T), with all gradients."""
    logits = torch.stack(model(window.inputs, ahead=window.ahead)).log_softmax(-1)
    ahead = [window.tokens[:, i : i + 12] for i in range(1, window.n + 1)]
    return -logits.gather(-1, torch.stack(ahead)[..., None])[..., 0]


def step(model: MultiTokenTransformer, objective: Objective, window: Window, micro: int) -> Tensor:
    parts = objective.derive(window, micro)
    counts = objective.counts(parts)
    counts = counts.where(counts > 0, 1)
    return torch.stack([objective.backward(model, part, counts) for part in parts]).sum(0)


def gradients(model: MultiTokenTransformer) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize("micro", [2, 4])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", tuple(HEADS))
def test_weighted_gradients_equal_the_reference(head: str, scheme: str, micro: int) -> None:
    own = {"weights": "1,0.5,0.125", "token_weights": f"{__name__}:trigger"}
    objective = Objective(config_of(head, N, scheme, **own), "cpu")
    objective.begin_step(0.0)
    objective.weights = objective.weights.double()
    window, expected, model = window_of(), model_of(head), model_of(head)
    counted = (window.targets() != IGNORE) * torch.stack(
        [trigger(window.tokens[:, i : i + 12]) for i in range(1, N + 1)]
    )
    losses = (nats(expected, window) * counted).flatten(1).sum(1) / counted.flatten(1).sum(1)
    (losses * torch.tensor([1, 0.5, 0.125])).sum().backward()
    got = step(model, objective, window, micro)
    torch.testing.assert_close(got, losses.detach(), rtol=1e-7, atol=0)
    torch.testing.assert_close(gradients(model), gradients(expected), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("head", tuple(HEADS))
def test_scores_on_held_out_text_equal_the_reference(head: str) -> None:
    window, model = window_of(), model_of(head)
    sums, counted = score(model, window), window.targets() != IGNORE
    expected = (nats(model, window) * counted).flatten(1).sum(1)
    torch.testing.assert_close(sums[0], expected.detach(), rtol=1e-5, atol=0)
    assert sums[1].tolist() == counted.flatten(1).sum(1).tolist()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", tuple(HEADS))
def test_equal_weights_change_no_bit(head: str, scheme: str) -> None:
    window, found = window_of(), []
    for schedule in ("constant", "ramp:0:0"):  # the second one multiplies by 1
        own = config_of(head, scheme=scheme, schedule=schedule)
        model, objective = model_of(head), Objective(own, "cpu")
        objective.begin_step(0.5)
        assert objective.unweighted == (schedule == "constant")
        found.append((step(model, objective, window, 4), gradients(model)))
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[0][1][name], g) for name, g in found[1][1].items())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", ALONE)
def test_detached_heads_change_only_weights_of_their_own(head: str, scheme: str) -> None:
    """What they share with head 1 gets the gradient of head 1's loss alone; their own weights get
    what they get without `detach`."""
    window, results = window_of(), {}
    for name, own in {
        "detached": {"detach": True}, "first": {"weights": "1,0,0"}, "whole": {}
    }.items():  # fmt: skip
        model, objective = model_of(head), Objective(config_of(head, N, scheme, **own), "cpu")
        objective.begin_step(0.0)
        objective.weights = objective.weights.double()
        results[name] = (step(model, objective, window, 4), gradients(model))
    torch.testing.assert_close(results["detached"][0], results["whole"][0])
    extra = {name for name, g in results["first"][1].items() if not g.any()}
    assert extra
    for name, g in results["detached"][1].items():
        assert g.any()
        want = results["whole" if name in extra else "first"][1][name]
        torch.testing.assert_close(g, want, rtol=1e-9, atol=1e-14, msg=name)


def test_detach_is_refused_where_head_1_reads_other_heads() -> None:
    with pytest.raises(BadInput, match="detach would cut head 1 off"):
        config_of("anticausal", detach=True)
    config_of("anticausal", n=1, detach=True)


def test_same_and_shuffled_targets() -> None:
    window = window_of()
    ahead = window.targets()
    same = Objective(config_of(targets="same"), "cpu").derive(window, 4)[0].targets
    assert torch.equal(same, ahead[:1].expand(N, -1, -1))
    parts = Objective(config_of(targets="shuffled", token_weights=f"{__name__}:trigger"), "cpu")
    for micro in (2, 4):  # of the execution nothing depends on it
        derived = parts.derive(window, micro)
        got = torch.cat([part.targets for part in derived], 1)
        assert torch.equal(got[0], ahead[0])
        assert torch.equal(got[1:], ahead[1:, [1, 0, 3, 2]])
        own = torch.cat([part.factors for part in derived if part.factors is not None], 1)
        valid = got != IGNORE
        assert torch.equal(own[valid], trigger(got[valid]))
    odd = parts.derive(window_of(6), 3)
    assert [part.targets.shape[1] for part in odd] == [3, 3]
    with pytest.raises(BadInput, match="batch is 3; choose an even number"):
        dataclasses.replace(config_of(targets="shuffled"), batch=3)


def test_heads_that_are_told_their_target_cannot_have_the_same_one() -> None:
    for head in HEADS:
        told = head in ("sequential", "sequential-shared", "inject")
        if told:
            with pytest.raises(
                BadInput, match=f"asks for x\\[t\\+1\\], which {head} heads are told"
            ):
                config_of(head, targets="same")
        else:
            config_of(head, targets="same")


def test_weights_by_hand() -> None:
    assert base_weights("equal", 3) == [1, 1, 1]
    assert base_weights("sum1", 4) == [0.25] * 4
    assert base_weights("geometric:0.5", 4) == [1, 0.5, 0.25, 0.125]
    assert base_weights("1,0.3,0", 3) == [1, 0.3, 0]


@pytest.mark.parametrize(
    ("schedule", "at"),
    [
        ("constant", {0: [1, 1, 1], 0.99: [1, 1, 1]}),
        ("ramp:0.2:0.4", {0: [1, 0, 0], 0.3: [1, 0.5, 0.5], 0.4: [1, 1, 1], 0.9: [1, 1, 1]}),
        ("ramp:0.5:0.5", {0.49: [1, 0, 0], 0.5: [1, 1, 1]}),
        ("decay:0.5:1:0.2", {0: [1, 1, 1], 0.5: [1, 1, 1], 0.75: [1, 0.6, 0.6]}),
        ("decay:0.9:0.9:0.3", {0.89: [1, 1, 1], 0.9: [1, 0.3, 0.3]}),
        ("forward", {0: [1, 0, 0], 0.34: [1, 1, 0], 0.67: [1, 1, 1], 0.999: [1, 1, 1]}),
        ("reverse", {0: [1, 1, 1], 0.34: [1, 1, 0], 0.67: [1, 0, 0], 0.999: [1, 0, 0]}),
    ],
)
def test_schedules_by_hand(schedule: str, at: dict[float, list[float]]) -> None:
    for share, expected in at.items():
        found = scheduled(ObjectiveConfig(schedule=schedule), 3, share)
        assert found == pytest.approx(expected)
        normed = scheduled(ObjectiveConfig(schedule=schedule, weights="sum1"), 3, share)
        assert sum(normed) == pytest.approx(1)
        assert normed == pytest.approx([w / sum(expected) for w in expected])


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"weights": "half"}, "it must be equal, sum1, geometric:R, or 3 numbers with commas"),
        ({"weights": "1,2"}, "objective.weights is '1,2'; it must be equal, sum1, geometric:R, or"),
        ({"weights": "1,-1,1"}, "or 3 numbers with commas, one for each head, of at least 0"),
        ({"weights": "0,1,1"}, "that of head 1 must be above 0"),
        ({"weights": "geometric:1e300"}, "which gives a weight of 1e+300"),
        ({"weights": "geometric:1e5"}, "a weight must be 0, or from 1e-30 to 1e+06"),
        ({"weights": "1,1e300,1"}, "which gives a weight of 1e+300"),
        ({"weights": "1e-300,0,0"}, "which gives a weight of 1e-300"),
        ({"schedule": "decay:0:1:1e300"}, "which gives a weight of 1e+300"),
        ({"order": 1e300}, "objective.order is 1e+300; a weight must be 0, or from"),
        ({"bag_window": 4}, "objective.bag_window is set, but objective.bag is 0"),
        ({"embedding_loss": "infonce"}, "but objective.embedding is 0"),
        ({"order": 1, "order_window": 10**23}, "it must be less than the context 12"),
        ({"bag": 1, "bag_window": 10**9}, "objective.bag_window is 1000000000; it must be less"),
        ({"loss": "kl", "balance": "uncertainty"}, "heads with objective.loss=kl have none"),
        ({"schedule": "constant:3"}, "constant takes no numbers"),
        ({"schedule": "forward:"}, "forward takes no numbers"),
        ({"detach": True, "balance": "cosine"}, "with objective.detach=true they do nothing"),
        ({"weights": "geometric"}, "it must be equal, sum1, geometric:R"),
        ({"weights": "geometric:nan"}, "geometric takes 1 number R of at least 0"),
        ({"schedule": "later"}, "objective.schedule 'later'"),
        ({"schedule": "ramp:0.4"}, "objective.schedule is 'ramp:0.4'; ramp:A:B takes 2 num"),
        ({"schedule": "ramp:0.4:0.2"}, "takes 2 numbers with 0 <= A <= B <= 1"),
        ({"schedule": "ramp:-1:2"}, "takes 2 numbers with 0 <= A <= B <= 1"),
        ({"schedule": "decay:0:2:-1"}, "decay:A:B:F takes 3 numbers with 0 <= A <= B <= 1 and F"),
        ({"measure_every": -1}, "objective.measure_every is -1"),
        ({"token_weights": "numpy"}, "it must be FILE.py:NAME or MODULE:NAME"),
    ],
)
def test_nonsense_is_refused_in_a_line(own: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as error:
        config_of(**own)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("ratio", ["1e7", "2", "1.1", "1e308"])
def test_a_power_of_many_heads_is_refused_before_it_overflows(ratio: str) -> None:
    with pytest.raises(BadInput, match=r"gives a weight of .*; a weight must be 0, or from"):
        base_weights(f"geometric:{ratio}", MAX_HEADS)


def test_the_effective_number_of_heads() -> None:
    assert effective_n(torch.tensor([1.0, 1, 1, 1])) == 4
    assert effective_n(torch.tensor([1.0, 0, 0, 0])) == 1
    assert effective_n(torch.tensor([1.0, 0.5])) == pytest.approx(1.8)


# --------------------------------------------------------------------------------------------------
# balance


@pytest.mark.parametrize("head", tuple(HEADS))
def test_gradients_at_the_latent_equal_the_reference(head: str) -> None:
    window, model = window_of(), model_of(head)
    targets = window.targets()
    counts = (targets != IGNORE).flatten(1).sum(1)
    found = sum(
        products(model, window.inputs[rows], targets[:, rows], counts, None, window.ahead[rows])
        for rows in (slice(0, 1), slice(1, 4))
    )
    assert isinstance(found, Tensor)
    norms, cosines = norms_and_cosines(found)
    assert all(p.grad is None for p in model.parameters())

    z, rope = model.run_trunk(window.inputs)
    z.retain_grad()
    found = []
    for i in range(N):
        z.grad = None
        h = model.head_latents(z, rope, N, text=window.tokens)[i]
        log_p = model.logits(h, i + 1).log_softmax(-1)
        valid = targets[i] != IGNORE
        picked = log_p[valid].gather(1, targets[i][valid][:, None])
        (-picked.sum() / counts[i]).backward(retain_graph=True)
        assert z.grad is not None
        found.append(z.grad.clone())
    expected = torch.stack([g.square().sum().sqrt() for g in found])
    torch.testing.assert_close(norms, expected)
    agreement = [float((g * found[0]).sum() / (e * expected[0])) for g, e in zip(found, expected)]  # noqa: B905
    assert cosines.tolist() == pytest.approx(agreement) and cosines[0] == pytest.approx(1)


def test_gradient_balance_gives_each_head_the_share_of_its_weight() -> None:
    balance = Balance(ObjectiveConfig(balance="gradient"), N, "cpu")
    weights = torch.tensor([1.0, 0.5, 0.5])
    assert torch.equal(balance.applied(weights), weights)  # nothing is measured yet
    norms = torch.tensor([2.0, 8.0, 0.5])
    for number in range(3):
        balance.add(number, norms, torch.ones(N))
    shares = balance.applied(weights) * norms
    torch.testing.assert_close(shares, 2.0 * weights)  # head 1 as without balance
    balance.add(3, torch.tensor([2.0, 80.0, 0.5]), torch.ones(N))
    one = 1 - DECAY**3
    running = (DECAY * one * 8 + (1 - DECAY) * 80) / (1 - DECAY**4)
    assert float(balance.applied(weights)[1]) == pytest.approx(0.5 * 2 / running)


def test_a_head_without_a_gradient_keeps_its_weight() -> None:
    """Until it is measured; what it has not been measured in does not count."""
    for kind in ("gradient", "cosine"):
        balance = Balance(ObjectiveConfig(balance=kind), N, "cpu")  # type: ignore[arg-type]
        balance.add(0, torch.tensor([2.0, 4.0, 0.0]), torch.tensor([1.0, 0.5, 0.0]))
        torch.testing.assert_close(balance.applied(torch.ones(N)), torch.tensor([1.0, 0.5, 1.0]))
        balance.add(1, torch.tensor([2.0, 4.0, 8.0]), torch.tensor([1.0, 0.5, 0.25]))
        torch.testing.assert_close(balance.applied(torch.ones(N)), torch.tensor([1.0, 0.5, 0.25]))


def test_weights_of_sum1_add_up_to_1_after_a_balance() -> None:
    objective = Objective(config_of(weights="sum1", balance="gradient"), "cpu")
    objective.balance.add(0, torch.tensor([2.0, 4.0, 8.0]), torch.ones(N))
    objective.begin_step(0.0)
    torch.testing.assert_close(objective.weights, torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_cosine_balance_mutes_heads_that_disagree() -> None:
    balance = Balance(ObjectiveConfig(balance="cosine"), N, "cpu")
    balance.add(0, torch.ones(N), torch.tensor([1.0, 0.25, -0.5]))
    torch.testing.assert_close(balance.applied(torch.ones(N)), torch.tensor([1.0, 0.25, 0.0]))


def test_uncertainty_follows_its_formula() -> None:
    """Kendall et al. 2018: the slope is that of sum exp(-s) L + s/2, and s ends at log 2L."""
    balance = Balance(ObjectiveConfig(balance="uncertainty"), N, "cpu")
    losses = torch.tensor([0.5, 1.0, 2.0])
    s = torch.zeros(N, requires_grad=True)
    (torch.exp(-s) * losses + s / 2).sum().backward()
    balance.end_step(losses)
    assert s.grad is not None
    torch.testing.assert_close(balance.log_variances, -0.01 * s.grad.clamp(-1, 1))
    for _ in range(3000):
        balance.end_step(losses)
    torch.testing.assert_close(balance.log_variances, (2 * losses).log(), rtol=0, atol=1e-3)
    weights = balance.applied(torch.ones(N))
    torch.testing.assert_close(weights, 1 / (2 * losses), rtol=1e-3, atol=0)


def test_a_head_whose_loss_or_gradient_vanishes_does_not_get_all_the_weight() -> None:
    balance = Balance(ObjectiveConfig(balance="gradient"), N, "cpu")
    balance.add(0, torch.tensor([1.0, 1e-8, 1e8]), torch.ones(N))
    torch.testing.assert_close(balance.applied(torch.ones(N)), torch.tensor([1, BOUND, 1 / BOUND]))
    balance = Balance(ObjectiveConfig(balance="uncertainty"), N, "cpu")
    balance.applied(torch.tensor([1.0, 1.0, 0.0]))
    for _ in range(2000):
        balance.end_step(torch.tensor([0.0, 1e-9, 3.0]))  # no targets; nothing left to learn; muted
    weights = balance.applied(torch.ones(N))
    torch.testing.assert_close(weights, torch.tensor([1, BOUND, 1]))


def test_a_balance_survives_json() -> None:
    balance = Balance(ObjectiveConfig(balance="gradient"), N, "cpu")
    balance.add(5, torch.tensor([1 / 3, math.pi, 0]), torch.tensor([1.0, 1 / 7, 0]))
    other = Balance(ObjectiveConfig(balance="gradient"), N, "cpu")
    other.load_state(balance.state())
    assert torch.equal(other.applied(torch.ones(N)), balance.applied(torch.ones(N)))
    assert other.state() == balance.state()
    assert other.logged() == balance.logged() and other.logged() == {}
