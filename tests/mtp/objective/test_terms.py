"""The terms of the objective against slow references in float64, written from their formulas."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mtp.config import ModelConfig, TrainConfig
from mtp.data.window import Window
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model import memory
from mtp.model.model import MultiTokenTransformer, initial_weight
from mtp.model.sizes import auxiliary_counts, averaged_count, term_flops_per_token
from mtp.model.transformer import use_kernel
from mtp.objective.cross_entropy import SCHEMES, Emphasis, plain
from mtp.objective.objective import Objective
from mtp.objective.terms import pieces
from mtp.objective.terms.collapse import collapse
from mtp.objective.terms.terms import TERMS
from mtp.objective_config import ObjectiveConfig

EOS, VOCAB, T = 1, 19, 12
MODEL = {"dim": 16, "layers": 5, "attn_heads": 2, "vocab": VOCAB, "context": T}
AVERAGE = {"embedding": 0.5, "embedding_target": "average"}
CASES: dict[str, dict[str, Any]] = {
    "order": {"order": 0.3},
    "order, near": {"order": 0.3, "order_window": 3},
    "bag": {"bag": 0.2},
    "bag, near": {"bag": 0.2, "bag_window": 2},
    "latent": {"latent": 0.7},
    "latent, 3 steps": {"latent": 0.7, "latent_steps": 3},
    "embedding": {"embedding": 0.5},
    "embedding, infonce": {"embedding": 0.5, "embedding_steps": 2, "embedding_loss": "infonce"},
    "average": AVERAGE,
    "average, infonce": AVERAGE | {"embedding_steps": 2, "embedding_loss": "infonce"},
    "all": {"order": 0.1, "bag": 0.02, "latent": 0.3, "latent_steps": 2, "embedding": 1.5},
}


def config_of(head: str = "parallel", scheme: str = "fused", n: int = 3, **own: Any) -> TrainConfig:
    model = ModelConfig(head=head, n=n, **MODEL)  # type: ignore[arg-type]
    return TrainConfig(model=model, tokens=1e4, scheme=scheme, objective=ObjectiveConfig(**own))  # type: ignore[arg-type]


def built(config: TrainConfig) -> tuple[MultiTokenTransformer, Objective]:
    """A model with its terms attached, all weights drawn as training draws them, in float64."""
    objective = Objective(config, "cpu")
    model = MultiTokenTransformer.on_meta(config.model)
    model.auxiliary.update(objective.terms.by_name)
    model.materialise()
    for name, p in model.named_parameters():
        p.data.copy_(initial_weight(config.model, name, p.shape, seed=0))
    return model.double(), objective


def window_of(rows: int = 4, n: int = 3, seed: int = 1) -> Window:
    """Documents of about 6 tokens; of one in five positions the token is no target."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCAB, (rows, T + n), generator=g)
    tokens[torch.rand(rows, T + n, generator=g) < 0.12] = EOS
    return Window(tokens, torch.rand(rows, T + n, generator=g) > 0.2, n, EOS)


def step(model: MultiTokenTransformer, objective: Objective, window: Window, micro: int) -> Tensor:
    """Take the gradients of a step; returns the terms' losses."""
    parts = objective.derive(window, micro)
    counts = objective.counts(parts)
    counts = counts.where(counts > 0, 1)
    objective.begin_step(0.0)
    for part in parts:
        objective.backward(model, part, counts)
    return objective.terms.losses.clone()


def gradients(model: MultiTokenTransformer) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
    }


# --------------------------------------------------------------------------------------------------
# the formulas, position by position


def in_document(window: Window, b: int, t: int, s: int) -> bool:
    """Whether position s > t is in the document of t."""
    return s < window.tokens.shape[1] and EOS not in window.tokens[b, t:s].tolist()


def target(window: Window, b: int, t: int, s: int) -> bool:
    return in_document(window, b, t, s) and bool(window.valid[b, s])


def reference_order(
    h: Tensor, model: MultiTokenTransformer, window: Window, config: ObjectiveConfig
) -> Tensor:
    W, found = config.order_window or T, []
    logits = h @ model.auxiliary.order.unembedding.weight.T  # type: ignore[operator,union-attr]
    for b in range(len(h)):
        for t in range(T):
            y = torch.full((VOCAB,), -torch.inf, dtype=h.dtype)
            for d in range(W, 0, -1):
                if target(window, b, t, t + d):
                    y[window.tokens[b, t + d]] = W - d
            if y.isfinite().any():
                found.append(-(y.softmax(0) * logits[b, t].log_softmax(0)).sum())
    return torch.stack(found).mean()


def reference_bag(
    h: Tensor, model: MultiTokenTransformer, window: Window, config: ObjectiveConfig
) -> Tensor:
    chances = (h @ model.auxiliary.bag.unembedding.weight.T).sigmoid()  # type: ignore[operator,union-attr]
    found = []
    for b in range(len(h)):
        for t in range(T):
            ahead = [s for s in range(t + 2, t + config.bag_window + 1) if target(window, b, t, s)]
            words = set(window.tokens[b, ahead].tolist())
            p = chances[b, t]
            terms = [p[v].log() if v in words else (1 - p[v]).log() for v in range(VOCAB)]
            if words:
                found.append(-torch.stack(terms).sum())
    return torch.stack(found).mean()


def reference_latent(
    h: Tensor, model: MultiTokenTransformer, window: Window, config: ObjectiveConfig
) -> Tensor:
    own: Any = model.auxiliary.latent
    U, found = model.unembedding(1).detach(), []
    for b in range(len(h)):
        for t in range(T):
            predicted = h[b, t]
            for s in range(t + 1, min(t + config.latent_steps, T - 1) + 1):
                x = torch.cat([predicted, model.embedding.weight[window.tokens[b, s]]])
                x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt() * own.norm.weight
                x = F.gelu(own.second.weight @ F.gelu(own.first.weight @ x))
                predicted = predicted + own.third.weight @ x
                goal = h[b, s].detach()
                far = (predicted - goal).abs()
                smooth = torch.where(far < 1, far**2 / 2, far - 0.5).mean()
                p, q = (U @ goal).softmax(0), (U @ predicted).softmax(0)
                if in_document(window, b, t, s):
                    found.append(smooth + (p * (p / q).log()).sum())
    return torch.stack(found).mean()


def reference_embedding(
    h: Tensor, model: MultiTokenTransformer, window: Window, config: ObjectiveConfig
) -> Tensor:
    if config.embedding_target == "average":
        return reference_average(h, model, window, config)
    E, found = model.embedding.weight.detach(), []
    maps: Any = model.auxiliary.embedding.maps.weight.unflatten(0, (-1, 16))  # type: ignore[operator,union-attr]
    for b in range(len(h)):
        for i in range(1, config.embedding_steps + 1):
            keys = [s for s in range(T) if target(window, b, s, s + i)]
            for t in keys:
                v = maps[i - 1] @ h[b, t]
                token = window.tokens[b, t + i]

                def cos(x: Tensor, v: Tensor = v) -> Tensor:
                    return v @ E[x] / (v.norm() * E[x].norm())

                if config.embedding_loss == "cosine":
                    found.append(1 - cos(token))
                    continue
                others = window.tokens[b, [s + i for s in keys if window.tokens[b, s + i] != token]]
                scores = torch.stack([cos(token), *(cos(x) for x in others)]) / 0.1
                found.append(-scores.log_softmax(0)[0])
    return torch.stack(found).mean()


def whole_copy(model: MultiTokenTransformer) -> MultiTokenTransformer:
    """A model like this one, with the weights of its averaged copy where the copy has some."""
    average: Any = model.auxiliary.embedding.average  # type: ignore[union-attr]
    whole = MultiTokenTransformer(model.config).double()
    found = whole.load_state_dict(average.state_dict(), strict=False)
    assert not found.unexpected_keys
    return whole.requires_grad_(False)


def reference_average(
    h: Tensor, model: MultiTokenTransformer, window: Window, config: ObjectiveConfig
) -> Tensor:
    copy, found = whole_copy(model), []
    a = copy.normed(copy.latents(window.inputs, ahead=window.ahead)[0])  # (B, T, D)
    maps: Any = model.auxiliary.embedding.maps.weight.unflatten(0, (-1, 16))  # type: ignore[operator,union-attr]
    for b in range(len(h)):
        for i in range(1, config.embedding_steps + 1):
            keys = [s for s in range(T - i) if in_document(window, b, s, s + i)]
            for t in keys:
                v = maps[i - 1] @ h[b, t]
                cos = {s: v @ a[b, s + i] / (v.norm() * a[b, s + i].norm()) for s in keys}
                if config.embedding_loss == "cosine":
                    found.append(1 - cos[t])
                else:
                    total = torch.stack([(c / 0.1).exp() for c in cos.values()]).sum()
                    found.append(total.log() - cos[t] / 0.1)
    return torch.stack(found).mean()


REFERENCES = {
    "order": reference_order,
    "bag": reference_bag,
    "latent": reference_latent,
    "embedding": reference_embedding,
}


# --------------------------------------------------------------------------------------------------
# losses and gradients


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("head", tuple(HEADS))
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_equal_the_reference(case: str, head: str, scheme: str) -> None:
    """Also that parts add up to the batch."""
    own, window = CASES[case], window_of(rows=2)
    model, objective = built(config_of(head, scheme, **own))
    got = step(model, objective, window, micro=1)

    expected, alone = built(config_of(head, "plain", **own))
    alone.terms.by_name = {}  # the heads
    step(expected, alone, window, micro=2)
    h = expected.normed(expected.latents(window.inputs)[0])
    weights = objective.config.terms
    losses = [REFERENCES[name](h, expected, window, objective.config) for name in weights]
    torch.stack([w * x for w, x in zip(weights.values(), losses, strict=True)]).sum().backward()
    torch.testing.assert_close(got, torch.stack(losses).detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(gradients(model), gradients(expected), rtol=1e-7, atol=1e-10)
    assert all(p.grad is None for copy in model.copies().values() for p in copy.parameters())


@pytest.mark.parametrize("case", CASES)
def test_pieces_of_any_size_give_the_same(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for numbers in (1, 7 * VOCAB, 2**24):
        monkeypatch.setattr(memory, "CHUNK_LOGITS", numbers)
        model, objective = built(config_of(**CASES[case]))
        found.append((step(model, objective, window_of(), 4), gradients(model)))
    for losses, grads in found[1:]:
        torch.testing.assert_close(losses, found[0][0])
        torch.testing.assert_close(grads, found[0][1])


def test_sequences_of_an_emphasis_add_up() -> None:
    """As a scheme may take them, one at a time."""
    window, found = window_of(), []
    for first, stop in ((0, 4), (0, 1), (1, 4)):
        model, objective = built(config_of(**CASES["all"]))
        part = objective.derive(window, 4)[0]
        counts = objective.counts([part])
        terms = objective.terms.loss(model, window, counts[3:])
        emphasis = Emphasis(factors=torch.ones(3, 4, T), terms=terms).rows(first, stop)
        rows = slice(first, stop)
        plain(model, window.inputs[rows], part.targets[:, rows], counts[:3], emphasis)
        found.append((objective.terms.losses, gradients(model)))
    torch.testing.assert_close(found[1][0] + found[2][0], found[0][0])
    summed = {name: g + found[2][1][name] for name, g in found[1][1].items()}
    torch.testing.assert_close(summed, found[0][1])


@pytest.mark.parametrize("case", CASES)
def test_a_window_without_targets_gives_zero(case: str) -> None:
    window = window_of()
    window = Window(torch.full_like(window.tokens, EOS), torch.zeros_like(window.valid), 3, EOS)
    model, objective = built(config_of(**CASES[case]))
    assert not step(model, objective, window, 4).any()
    assert not any(g.any() for g in gradients(model).values())


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_terms_do_not_depend_on_n_where_the_window_ends_alike(case: str, n: int) -> None:
    """The draws of a term's weights neither."""
    found = {}
    for heads in (n, 3):
        model, objective = built(config_of("replicated", n=heads, **CASES[case]))
        window = window_of()
        tokens, valid = window.tokens[:, : T + heads].clone(), window.valid[:, : T + heads].clone()
        tokens[:, T], valid[:, T + 1 :] = EOS, False
        found[heads] = step(model, objective, Window(tokens, valid, heads, EOS), 4)
    torch.testing.assert_close(found[n], found[3])


def test_the_next_token_alone_makes_order_a_cross_entropy() -> None:
    model, objective = built(config_of(order=1.0, order_window=1, n=1))
    model.auxiliary.order.unembedding.weight.data.copy_(model.unembedding(1))  # type: ignore[union-attr,operator]
    window = window_of(n=1)
    part = objective.derive(window, 4)[0]
    loss = objective.backward(model, part, objective.counts([part]))
    torch.testing.assert_close(objective.terms.losses, loss)


def test_the_latents_that_are_targets_get_no_gradient() -> None:
    """With U, E and the trunk's latents fixed, a later position pulls at no earlier one."""
    model, objective = built(config_of(latent=1.0))
    term = objective.terms.by_name["latent"]
    window = window_of(rows=1)
    window = Window(torch.full_like(window.tokens, 2), window.valid, 3, EOS)
    h = torch.randn(1, T, 16, dtype=torch.float64, requires_grad=True)
    term(h, model, window, torch.tensor(1)).backward()
    assert h.grad is not None and h.grad[0, :-1].any(-1).all() and not h.grad[0, -1].any()
    assert model.unembedding(1).grad is None
    assert model.embedding.weight.grad is not None


# --------------------------------------------------------------------------------------------------
# sizes and costs


@pytest.mark.parametrize(
    ("case", "head"),
    [(case, "parallel") for case in CASES]
    + [("average", head) for head in HEADS if head != "parallel"],
)
def test_flops_and_parameters_are_those_of_the_modules(
    case: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torch counts no product that is written into a tensor
    monkeypatch.setattr(pieces, "set_product_", lambda total, a, b: total.copy_(a @ b))
    monkeypatch.setattr(pieces, "add_product_", lambda total, a, b: total.add_(a @ b))
    config = config_of(head, **CASES[case])
    counted = []
    for terms in (True, False):
        model, objective = built(config)
        if not terms:
            objective.terms.by_name = {}
        use_kernel(model, "matmul", T, "cpu")  # whose products the counter sees
        with FlopCounterMode(display=False) as counter:
            step(model, objective, window_of(), 4)
        counted.append(counter.get_total_flops() / (4 * T))
    expected = term_flops_per_token(config.model, config.objective)
    if config.objective.averages:  # the counter sees whole squares of scores
        path = config.model.n if head == "anticausal" else int(HEADS[head].is_layer)
        expected += 2 * (config.model.trunk_layers + path) * T * config.model.dim
    assert counted[0] - counted[1] == pytest.approx(expected, rel=0.02)
    model, objective = built(config)
    found: dict[str, dict[bool, int]] = {}
    for name, term in objective.terms.by_name.items():
        found[name] = {True: 0, False: 0}
        for p in term.parameters():
            found[name][p.requires_grad] += p.numel()
    trained = {name: sizes[True] for name, sizes in found.items()}
    assert trained == auxiliary_counts(config.model, config.objective)
    copied = sum(sizes[False] for sizes in found.values())
    assert copied == averaged_count(config.model, config.objective)
    assert (copied > 0) == ("average" in case)


def test_the_table_has_a_weight_for_each_term() -> None:
    everything = ObjectiveConfig(**dict.fromkeys(TERMS, 1.0))  # type: ignore[arg-type]
    assert list(everything.terms) == list(TERMS)
    assert not ObjectiveConfig().terms


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"order": -0.1}, "objective.order is -0.1; a weight must be 0"),
        ({"latent": math.nan}, "objective.latent is nan; a weight must be 0"),
        ({"bag": math.inf}, "objective.bag is inf; a weight must be 0"),
        ({"order_window": -1}, "objective.order_window is -1; it must be at least 0"),
        ({"bag_window": 1}, "objective.bag_window is 1; it must be at least 2"),
        ({"latent_steps": 0}, "objective.latent_steps is 0; it must be at least 1"),
        ({"embedding_steps": 0}, "objective.embedding_steps is 0; it must be at least 1"),
        (AVERAGE | {"embedding_decay": 1.5}, "objective.embedding_decay is 1.5; it must be from 0"),
        (AVERAGE | {"embedding_decay": math.nan}, "objective.embedding_decay is nan; it must be"),
        ({"embedding_target": "average"}, "objective.embedding_target is set, but objective.embed"),
        ({"embedding_decay": 0.9}, "objective.embedding_decay is set, but objective.embedding is"),
        (
            {"embedding": 1.0, "embedding_decay": 0.9},
            "objective.embedding_decay is set, but objective.embedding_target is tokens; only",
        ),
        (
            AVERAGE | {"embedding_steps": T},
            "objective.embedding_steps is 12; it must be less than the context 12",
        ),
        (
            {"latent": 1.0, "latent_steps": T},
            "objective.latent_steps is 12; it must be less than the context 12",
        ),
    ],
)
def test_nonsense_is_refused_in_a_line(own: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        config_of(**own)


# --------------------------------------------------------------------------------------------------
# collapse


def test_the_effective_rank_by_hand() -> None:
    assert collapse(torch.eye(5))["effective_rank"] == pytest.approx(5)
    line = torch.arange(1.0, 8)[:, None] * torch.tensor([1.0, 2, 3])
    assert collapse(line)["effective_rank"] == pytest.approx(1, abs=1e-4)
    alike = collapse(torch.ones(7, 3))
    assert alike == pytest.approx({"effective_rank": 1, "variance": 0}, abs=1e-4)
    assert collapse(torch.zeros(7, 3))["effective_rank"] == pytest.approx(1)
    assert collapse(torch.zeros(0, 3)) == {"effective_rank": 0, "variance": 0}
    two = collapse(torch.tensor([[3.0, 0], [0, 1.0]]))  # shares 3/4 and 1/4
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert two["effective_rank"] == pytest.approx(math.exp(entropy))
    assert two["variance"] == pytest.approx((1.5**2 + 0.5**2) / 2)


@pytest.mark.parametrize(
    "case",
    ["latent, 3 steps", "embedding", "embedding, infonce", "average", "average, infonce"],
)
def test_terms_of_vectors_say_whether_they_collapse(case: str) -> None:
    config = config_of(**CASES[case])
    model, objective = built(config)
    step(model, objective, window_of(), 4)
    (name,) = config.objective.terms
    found = objective.logged()["collapse"][name]
    seen = objective.terms.by_name[name].seen
    assert seen is not None
    vectors = seen[0][seen[1]].double()
    shares = torch.linalg.svdvals(vectors) / torch.linalg.svdvals(vectors).sum()
    rank = torch.special.entr(shares).sum().exp()
    assert found["effective_rank"] == pytest.approx(float(rank), rel=1e-3)
    assert found["variance"] == pytest.approx(float(vectors.var(0, correction=0).mean()), rel=1e-3)
