"""Parameters and training FLOPs of a config's model, by formula: no weights, no torch.

tests/mtp/model/test_model.py compares the formula with the modules, for every head type.
"""

from mtp.config import ModelConfig, TrainConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.objective_config import ObjectiveConfig

LARGEST = 2**61  # elements of a tensor: its bytes in float32 must fit 64 bits


def parameter_counts(config: ModelConfig) -> dict[str, int]:
    """Parameters by part: embedding, trunk, heads by module, norm, unembedding, total, and
    `non_embedding`, the total without embedding and unembedding (the names 1M to 1B of Table S14
    count it). Raises BadInput if a matrix would be larger than a tensor can be."""
    c = config
    matrices, gains = block(config)
    vocabulary = c.vocab * c.dim
    row = HEADS[c.head]
    unembeddings = 1 if row.shared_unembedding else c.n
    parts = {"embedding": vocabulary, "trunk": c.trunk_layers * (matrices + gains)}
    parts |= {f"head {i}": sum(head(config, i)) for i in range(1, row.modules(c.n) + 1)}
    parts |= {"norm": c.dim, "unembedding": unembeddings * vocabulary}
    parts["total"] = sum(parts.values())
    parts["non_embedding"] = parts["total"] - parts["embedding"] - parts["unembedding"]
    return parts


def flops_per_token(config: ModelConfig) -> float:
    """Training FLOPs per token, forward and backward: 6 per multiplied weight, and 6 T H E per
    causal attention layer. Weights that several heads share count for each of them. Each of the n
    predictions passes an unembedding; the embedding is a look-up."""
    c = config
    weights = c.trunk_layers * block(c)[0] + sum(head(c, i)[0] for i in range(1, c.n + 1))
    attention = c.trunk_layers + (c.n if HEADS[c.head].is_layer else 0)
    unembeddings = c.n * c.vocab * c.dim
    scores = attention * c.context * c.attn_heads * c.head_size
    return 6.0 * (weights + unembeddings + scores)


def auxiliary_counts(model: ModelConfig, objective: ObjectiveConfig) -> dict[str, int]:
    """Parameters of the objective's terms, which training adds to the model's own and trains."""
    V, D = model.vocab, model.dim
    found = {
        "order": V * D,
        "bag": V * D,
        "latent": 2 * D + 4 * D * D,
        "embedding": objective.embedding_steps * D * D,
    }
    return {term: found[term] for term in objective.terms}


def averaged_count(model: ModelConfig, objective: ObjectiveConfig) -> int:
    """Parameters of the averaged copy of embedding, trunk, head 1 and norm that a term has; 0 if
    none has one."""
    if not objective.averages:
        return 0
    row = HEADS[model.head]
    modules = {min(i, row.modules(model.n)) for i in _path(model)}
    own = sum(sum(head(model, i)) for i in modules)
    return model.trunk_layers * sum(block(model)) + own + model.vocab * model.dim + model.dim


def _path(model: ModelConfig) -> list[int]:
    """Head 1 and the heads that it reads through."""
    path = [1]
    while above := HEADS[model.head].parent(path[-1], model.n):
        path.append(above)
    return path


def term_flops_per_token(model: ModelConfig, objective: ObjectiveConfig) -> float:
    """Training FLOPs per token of the objective's terms, beside `flops_per_token`: 6 per weight in
    a product, less where a factor has no gradient."""
    V, D = model.vocab, model.dim
    steps = objective.embedding_steps
    found = {
        "order": 6 * V * D,
        "bag": 6 * V * D,
        # the maps; two unembeddings without gradient, and back to the predicted latent
        "latent": objective.latent_steps * (6 * 4 * D * D + 3 * 2 * V * D),
        "embedding": steps * 6 * D * D,
    }
    if objective.embedding_loss == "infonce":  # against all tokens of the sequence, and back
        found["embedding"] += steps * 2 * 2 * model.context * D
    if objective.averages:  # forward alone
        path = _path(model)
        layers = model.trunk_layers + (len(path) if HEADS[model.head].is_layer else 0)
        weights = model.trunk_layers * block(model)[0] + sum(head(model, i)[0] for i in path)
        scores = layers * model.context * model.attn_heads * model.head_size
        found["embedding"] += 2 * (weights + scores)
    return float(sum(found[term] for term in objective.terms))


def run_flops_per_token(config: TrainConfig) -> float:
    """Training FLOPs per token of a run, model and terms."""
    return flops_per_token(config.model) + term_flops_per_token(config.model, config.objective)


def block(config: ModelConfig) -> tuple[int, int]:
    """(weights in matrices, norm gains) of a transformer layer."""
    c = config
    if c.dim * max(c.vocab, c.ffn, c.attn_heads * c.head_size) > LARGEST:
        raise BadInput(
            f"model.dim={c.dim} with model.vocab={c.vocab} and model.hidden={c.hidden} makes "
            "weights larger than a tensor can be"
        )
    attention = 2 * c.dim * c.head_size * (c.attn_heads + c.key_value_heads)
    return attention + 3 * c.dim * c.ffn, 2 * c.dim


def head(config: ModelConfig, i: int) -> tuple[int, int]:
    """(weights in matrices, other parameters) of head i, counting from 1."""
    module, D = HEADS[config.head].module, config.dim
    matrices, gains = block(config)
    if module == "layer" or (module == "merging layer" and i == 1):
        return matrices, gains
    if module == "merging layer":
        return matrices + 2 * D**2, gains + 2 * D
    if module == "identity" or (module in ("linear", "residual", "injected") and i == 1):
        return 0, 0
    if module in ("linear", "residual"):
        return D**2, 0
    if module == "injected":
        return D**2, 1
    return _of_module(config, i)  # a head type from a user's file


def _of_module(config: ModelConfig, i: int) -> tuple[int, int]:
    """The same, counted on the head's module, built without memory."""
    import torch

    from mtp.model.heads import new_module

    with torch.device("meta"):
        module = new_module(config, i)
    sizes = [(p.dim() == 2, p.numel()) for p in module.parameters()]
    return sum(n for matrix, n in sizes if matrix), sum(n for matrix, n in sizes if not matrix)
