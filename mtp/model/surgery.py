"""Growing and dropping heads: a model with more or fewer heads from the weights of another."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import DEFAULT, HEADS
from mtp.model import heads
from mtp.model.heads import layer_names
from mtp.model.loading import count_layers
from mtp.model.model import MultiTokenTransformer

NORM = "norm.weight"  # has the type and device of the whole model


def drop_heads(model: MultiTokenTransformer, n: int = 1) -> MultiTokenTransformer:
    """The model with heads 1..n alone (n' in section 3.6), with the weights that they use. For n=1
    it is an ordinary Llama, the next-token model.

    The trunk and the n heads remain. Anticausal heads keep all their layers, since head 1 reads
    through them.
    Raises BadInput if the model does not have n heads.
    """
    config = dropped_config(model.config, n)
    kept = MultiTokenTransformer.uninitialised(config).to(model.embedding.weight)
    kept.load_state_dict(_weights_of(model, n, heads.order(model.config, n)))
    return kept


def _weights_of(model: MultiTokenTransformer, n: int, path: list[int]) -> dict[str, Tensor]:
    weights = {}
    for name, value in model.state_dict().items():
        group, _, rest = name.partition(".")
        if group == "heads":
            index, _, rest = rest.partition(".")
            if (head := int(index) + 1) not in path:
                continue
            if head > n:  # head 1 reads through it (anticausal)
                name = f"trunk.{len(model.trunk) + path.index(head)}.{rest}"
        elif group == "unembeddings" and int(rest.partition(".")[0]) >= n:
            continue
        weights[name] = value
    return weights


def dropped_config(config: ModelConfig, n: int) -> ModelConfig:
    """The config of what `drop_heads` returns for a model of `config`; BadInput as there."""
    if not 1 <= n <= config.n:
        raise BadInput(f"{n} heads cannot be kept; the model has {config.n}")
    path = heads.order(config, n)  # the heads that heads 1..n read through
    own = {heads.place(config, i) for i in path} if HEADS[config.head].is_layer else ()
    layers = config.trunk_layers + len(own)
    return dataclasses.replace(config, n=n, layers=layers, extra_layers=0)


@torch.no_grad()
def grow_heads(
    model: MultiTokenTransformer, n: int, head: str = DEFAULT, matched: bool = False
) -> MultiTokenTransformer:
    """A model of n heads from a model of fewer, to continue training with (Table S6). The outputs
    of the existing heads stay the same, bit for bit.

    At first a new head gives the outputs of the last existing head; training on another token makes
    it different. (The paper does not say how new heads start.) A new head starts with

        linear       a copy of the last W_i, or the identity after head 1; so mlp and inject
        replicated   a copy of the last U_i
        parallel     a copy of the last head's layer
        causal       such a copy with wo and w2 zero, so that it passes on the latent that it reads
        sequential   such a copy with M = [1 ; 0], which passes on the normed latent: that has the
                     same outputs up to norm_eps. If all heads from 2 on share one layer, a new one
                     beside head 2 has no weights to start with, and says what that layer says
        anticausal   nothing new: the trunk's last layers, which head 1 reads through, become heads

    Such a layer is added to the model ("+3 layers" for n=4). With `matched` the number of
    layers stays the same ("+0"): for each new head the trunk loses its last layer, which changes
    the outputs of every head. Raises BadInput if the model has heads of another type, has n heads
    already, or has too few layers.
    """
    c, grown = model.config, grown_config(model.config, n, head, matched)
    weights: dict[str, Tensor] = dict(model.state_dict())
    if c.n == 1 and c.head != head:  # rename the layers as the new type does
        if not HEADS[c.head].is_layer and weights_of_layer(weights, "heads.0"):
            raise BadInput(f"the model's {c.head} head has weights that {head} heads cannot take")
        c = _as_type(c, head)
        renamed = {}
        for old, now in zip(layer_names(model.config), layer_names(c), strict=True):
            for name in weights_of_layer(weights, old):
                renamed[now + name.removeprefix(old)] = weights.pop(name)
        weights |= renamed
        if HEADS[head].grown_from == "module":
            weights |= _weights_that_pass_on(grown, 1, weights[NORM])
    trunk, last = grown.trunk_layers, f"heads.{c.n - 1}"
    for i in range(c.n, n):  # head i + 1
        start = HEADS[head].grown_from
        if start == "unembedding":
            weights[f"unembeddings.{i}.weight"] = weights[f"unembeddings.{c.n - 1}.weight"]
        elif start == "module":
            beside = heads.parent(grown, i + 1) == heads.parent(grown, c.n)  # reads the same latent
            copied = weights_of_layer(weights, last) if beside else {}
            new = {f"heads.{i}" + name.removeprefix(last): w for name, w in copied.items()}
            weights |= new or _weights_that_pass_on(grown, i + 1, weights[NORM])
        elif heads.place(grown, i + 1) == i:  # else a layer that is there already
            source = f"trunk.{trunk + n - 1 - i}" if start == "trunk" else last
            for name, weight in weights_of_layer(weights, source).items():
                silent = start == "silent head" and name.endswith(("wo.weight", "w2.weight"))
                new = f"heads.{i}" + name.removeprefix(source)
                weights[new] = torch.zeros_like(weight) if silent else weight
            if start == "silent head" and heads.reads(grown, i + 1):
                own = _weights_that_pass_on(grown, i + 1, weights[NORM])
                weights |= {name: w for name, w in own.items() if not count_layers([name])}
    grown_model = MultiTokenTransformer.uninitialised(grown).to(model.embedding.weight)
    grown_model.load_state_dict({name: weights[name] for name in grown_model.state_dict()})
    return grown_model


def grown_config(c: ModelConfig, n: int, head: str, matched: bool = False) -> ModelConfig:
    """The config of what `grow_heads` returns for a model of config `c`; BadInput as there."""
    HEADS[head]  # refused if it is not there
    if n < c.n:
        raise BadInput(f"n is {n}, fewer than the model's {c.n} heads; `drop` makes fewer of them")
    if c.n > 1 and c.head != head:
        raise BadInput(f"the model has {c.n} {c.head} heads; drop them before growing {head} ones")
    if n <= c.n:
        raise BadInput(f"n is {n}; the model has {c.n} heads already")
    if matched and not HEADS[head].grows_layers:
        raise BadInput(f"{head} heads add no layers, so there is nothing to match")
    row = HEADS[head]
    added = row.layers(n) - row.layers(c.n) if row.grows_layers and not matched else 0
    c = _as_type(c, head) if c.n == 1 else c
    return dataclasses.replace(c, n=n, extra_layers=c.extra_layers + added)


def _as_type(c: ModelConfig, head: str) -> ModelConfig:
    """The config of a one-head model as another head type; extra layers become ordinary ones."""
    return dataclasses.replace(c, head=head, layers=c.layers + c.extra_layers, extra_layers=0)


def weights_of_layer(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The weights of the layer with this name."""
    return {key: w for key, w in weights.items() if key.startswith(f"{name}.")}


def _weights_that_pass_on(config: ModelConfig, i: int, like: Tensor) -> dict[str, Tensor]:
    """The weights of head i with which its module returns its input unchanged, of the type and on
    the device of `like`."""
    module = heads.new_module(config, i)
    if not any(True for _ in module.parameters()):
        return {}
    if not isinstance(pass_on := getattr(module, "pass_on", None), Callable):
        raise BadInput(f"{config.head} heads cannot be grown: their module has no pass_on()")
    try:
        pass_on()
    except (Exception, SystemExit) as error:
        raise heads.broken(config, "pass_on()", error) from error
    return {f"heads.{i - 1}.{name}": w.to(like) for name, w in module.state_dict().items()}
