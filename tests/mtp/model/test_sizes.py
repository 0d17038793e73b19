"""Parameters and FLOPs: the paper's parameter matching, and the counts against torch's."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mtp.config import SIZES, size
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.model.transformer import Attention
from mtp.objective import cross_entropy
from tests.mtp.model.test_model import TYPES, config_of, some_tokens


@pytest.mark.parametrize("name", SIZES)
def test_each_size_has_the_parameters_it_is_named_for(name: str) -> None:
    counts = parameter_counts(size(name, vocab=32_000))
    named = float(name[:-1]) * {"M": 1e6, "B": 1e9}[name[-1]]
    synthetic = name in ("1M", "3M", "10M", "30M", "100M", "300M", "1B")
    assert counts["non_embedding" if synthetic else "total"] == pytest.approx(named, rel=0.1)


def test_the_counts_are_of_the_parameters_there_are() -> None:
    for head in HEADS:
        model = MultiTokenTransformer(config_of(head))
        counts = model.parameter_counts()
        assert counts == parameter_counts(config_of(head))
        assert counts["total"] == sum(p.numel() for p in model.parameters())
        parts = [v for k, v in counts.items() if k not in ("total", "non_embedding")]
        assert sum(parts) == counts["total"]
        assert len([k for k in counts if k.startswith("head ")]) == HEADS[head].modules(3)


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("head", [h for h in HEADS if HEADS[h].is_layer])
def test_transformer_heads_take_their_layers_from_the_trunk(head: str, n: int) -> None:
    base, matched = parameter_counts(config_of(head, 1)), parameter_counts(config_of(head, n))
    taken = HEADS[head].layers(n)
    merging = 2 * 16 * 16 + 2 * 16 if HEADS[head].reads(2) else 0  # on top: M and two norms
    assert matched["total"] == base["total"] + (taken - 1) * merging
    assert matched["head 1"] == matched[f"head {taken}"] - merging == base["head 1"]
    assert matched["trunk"] == (5 - taken) * base["head 1"]


@pytest.mark.parametrize("head", TYPES)
def test_three_more_layers_are_three_more_layers(head: str) -> None:
    base, more = (
        parameter_counts(config_of(head)),
        parameter_counts(config_of(head, extra_layers=3)),
    )
    layer = parameter_counts(config_of("parallel"))["head 1"]
    assert more["total"] - base["total"] == more["trunk"] - base["trunk"] == 3 * layer


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_linear_heads_add_maps_and_replicated_heads_add_unembeddings(n: int) -> None:
    base = parameter_counts(config_of("parallel", 1))["total"]
    d, v = 16, 19
    assert parameter_counts(config_of("linear", n))["total"] == base + (n - 1) * d * d
    assert parameter_counts(config_of("replicated", n))["total"] == base + (n - 1) * v * d


def test_grouped_queries_share_keys_and_values() -> None:
    full, grouped = (parameter_counts(config_of("parallel", kv_heads=k)) for k in (0, 1))
    saved = 2 * (16 * 16 - 16 * 4)  # wk and wv of a layer, 4 heads to 1
    assert full["total"] - grouped["total"] == 5 * saved


def flops_of_sum(total: Any, a: Any, b: Any, *_: Any, **__: Any) -> int:
    """Of total += a @ b, from the shapes."""
    return 2 * a[0] * a[1] * b[1]


@pytest.mark.parametrize(("kv_heads", "scheme"), [(0, "plain"), (2, "plain"), (0, "fused")])
@pytest.mark.parametrize("head", TYPES)
def test_flops_are_those_of_the_matrix_products(head: str, kv_heads: int, scheme: str) -> None:
    config = config_of(head, kv_heads=kv_heads)
    model = MultiTokenTransformer(config)
    for module in model.modules():
        if isinstance(module, Attention):
            module.kernel = "matmul"
    tokens = some_tokens()
    targets = some_tokens(rows=6).view(3, 2, 12)
    in_place = {torch.ops.aten.addmm_: flops_of_sum}  # else not counted
    with FlopCounterMode(display=False, custom_mapping=in_place) as counter:
        counts = cross_entropy.valid_counts(targets)
        cross_entropy.SCHEMES[scheme](model, tokens, targets, counts)
    # the counter sees whole squares of scores where causal attention needs half of each
    layers = config.trunk_layers + (config.n if HEADS[head].is_layer else 0)
    unneeded = 6 * layers * config.context * config.dim
    counted = counter.get_total_flops() / tokens.numel() - unneeded
    assert counted == pytest.approx(flops_per_token(config))
