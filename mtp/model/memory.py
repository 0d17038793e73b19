"""How much memory a training run needs on each device, by formula: no weights, no torch.

tests/mtp/training/test_memory.py compares the sum with what torch allocates in a step.
"""

import dataclasses

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.sizes import auxiliary_counts, averaged_count, block, parameter_counts

CHUNK_LOGITS = 2**24  # logits that the `fused` scheme has at a time
TAUGHT = 3  # of a head that learns from head 1, whose logits are there too, 1 in so many of them
GPU_ROWS = 2048  # on a GPU at least so many positions' logits
KEPT = {"residual": 1, "injected": 1, "merging layer": 2}  # by a module, in vectors of a position
CUDA_BYTES = 1.5e9  # of a GPU's driver, its libraries and gaps between allocations


def chunk_rows(vocab: int, device: str) -> int:
    """How many positions' logits are alive at a time. On a GPU a multiple of 128, as its matrix
    units want; products of fewer rows than GPU_ROWS leave much of it idle."""
    rows = max(1, CHUNK_LOGITS // vocab)
    return rows if device == "cpu" else max(GPU_ROWS, rows - rows % 128)


def training_bytes(
    config: TrainConfig, precision: str, world: int, device: str = "cuda", whole: bool = False
) -> dict[str, float]:
    """Bytes on each of `world` devices by part, at the peak of a step.

    precision  float32 | bf16 | autocast
    whole      gradients stay whole between accumulation steps (sharded runs)

        weights      in the compute type and, if that is bf16, in float32, also of an averaged copy;
                     of a sharded run the shards, and what is gathered at a time
        gradients    in float32, and those of the compute type that are not added to them yet
        moments      AdamW's two
        activations  that the backward pass needs, of the sequences of a forward pass
        logits       of a chunk, with the gradient of the unembeddings; or a layer that is
                     recomputed, if that takes more
        buffers      the batch and the rotary table
    """
    m = config.model
    size = 4 if precision == "float32" else 2  # bytes of a number in the compute type
    counts = parameter_counts(m)
    own = auxiliary_counts(m, config.objective)
    total, one_layer = counts["total"] + sum(own.values()), sum(block(m))
    copy = averaged_count(m, config.objective)
    row = HEADS[m.head]
    layers = m.trunk_layers + row.layers(m.n)
    sequences = max(1, config.batch // world)
    tokens = (config.micro or sequences) * m.context

    # of a layer, for each token: the stream and its norm twice, q, k, v, what attention gives, and
    # four of the SwiGLU; on a CPU also what RMSNorm computes on the way, in float32
    q, kv = m.attn_heads * m.head_size, m.key_value_heads * m.head_size
    norm = (8 if size == 2 else 4) * m.dim if device == "cpu" else 0
    layer = tokens * (size * (4 * m.dim + 2 * q + 2 * kv + 4 * m.ffn) + 2 * norm)
    alive, heads = m.trunk_layers + (m.n if row.is_layer else 0), m.n
    if config.scheme == "sequential" and not row.reads_heads(m.n):  # one head at a time
        alive, heads = min(layers, m.trunk_layers + 1), 1
    recomputed = alive // config.recompute if config.recompute else 0
    activations = (alive - recomputed) * layer + recomputed * tokens * size * m.dim
    # the trunk's z; for each head its latent, the norm of it, and its gradient
    activations += tokens * (size * m.dim * (1 + 3 * heads) + heads * norm)
    # what heads beyond the first keep on the way to their latent, and the tokens that they read
    own = min(heads, m.n - 1) * KEPT.get(row.module, 0) + any(map(row.reads, range(1, m.n + 1)))
    activations += tokens * size * m.dim * own

    positions = min(chunk_rows(m.vocab, device), tokens)
    if config.scheme != "fused":
        positions = tokens * (m.n if config.scheme == "plain" else 1)
    logits = positions * m.vocab * (8.0 if size == 4 else 10.0)
    if config.objective.loss != "ce" and m.n > 1:  # both distributions, their logarithms and sums
        taught = positions
        if config.scheme == "fused":
            taught = min(chunk_rows(m.vocab, device) // TAUGHT, tokens)
        logits = max(logits, taught * m.vocab * (28.0 if size == 4 else 26.0))
    piece, kept, matrices = term_numbers(config, tokens, device)
    activations += size * kept
    logits = max(logits, layer if recomputed or copy else 0, 4 * piece)
    logits += (4 if size == 4 else 6) * (counts["unembedding"] + matrices)

    if world == 1:
        shards, gathered = 1, 0.0
        weights = (total + copy) * (4.0 if size == 4 else 6.0)
        gradients = 4.0 * total
        if precision == "bf16":  # the last ones come when activations are gone
            gradients += max(0.0, 2 * total - activations - logits)
    else:
        shards = config.shard or world
        rest = total - layers * one_layer  # gathered from the first use to the last
        gathered = size * (rest + 3 * one_layer)  # one in use, one on its way, in two copies
        gathered += size * counts["embedding"] if copy else 0  # that of the copy
        weights = 4.0 * (total + copy) / shards + gathered
        gradients = 4.0 * total / shards + 4.0 * (total if whole else rest + one_layer)
    return {
        "weights": weights,
        "gradients": gradients,
        "moments": 8.0 * total / shards,
        "activations": float(activations),
        "logits": logits,
        "buffers": 8.0 * ((2 + m.n) * sequences * m.context + m.context * m.head_size),
    }


def term_numbers(config: TrainConfig, tokens: int, device: str) -> tuple[int, int, int]:
    """Numbers of the objective's terms: those alive at a time at most, where a head's logits are
    at other times; those that each keeps for the backward pass, of the latents; and the gradients
    of matrices."""
    objective, d, vocab = config.objective, config.model.dim, config.model.vocab
    pieces = {"latent": 16 * objective.latent_steps, "embedding": 5 * objective.embedding_steps}
    most = max((pieces.get(term, 0) for term in objective.terms), default=0)
    piece = min(most * d * tokens, 5 * CHUNK_LOGITS)
    if objective.latent:
        piece += 5 * vocab * min(tokens, chunk_rows(vocab, device) // 4)
    if objective.averages:
        piece += d * tokens  # the targets
    # of the embedding: a piece's, the sum of pieces, and what it is added to
    shares = {"order": 1, "bag": 1, "latent": 3, "embedding": 0}
    matrices = sum(shares[term] for term in objective.terms) * vocab * d
    return piece, len(objective.terms) * d * tokens, matrices


def needed(
    config: TrainConfig, precision: str, world: int, device: str = "cuda", whole: bool = False
) -> float:
    """Bytes that a device must have for the run; `whole` as in `training_bytes`."""
    parts = training_bytes(config, precision, world, device, whole)
    return sum(parts.values()) + (0 if device == "cpu" else CUDA_BYTES)


def whole_gradients_fit(
    config: TrainConfig, precision: str, world: int, have: float, device: str
) -> bool:
    """Whether a sharded run may leave gradients whole between accumulation steps."""
    if world == 1 or not config.micro or config.micro * world >= config.batch:
        return False
    return needed(config, precision, world, device, whole=True) < 0.9 * have


def check_memory(config: TrainConfig, precision: str, world: int, have: float, device: str) -> None:
    """Raise BadInput if the run does not fit into `have` bytes of each device. The message names
    the largest part, and settings with which the run fits."""
    need = needed(config, precision, world, device)
    if need <= have:
        return
    parts = training_bytes(config, precision, world, device)
    largest = max(parts, key=lambda name: parts[name])
    helps = remedy(config, precision, world, have, device)
    where = f"each of {world} ranks" if world > 1 else "this run"
    raise BadInput(
        f"the model has {parameter_counts(config.model)['total']:,} parameters; {where} needs "
        f"about {need / 1e9:,.1f} GB, {parts[largest] / 1e9:,.1f} GB of it {largest}, and the "
        f"{device} has {have / 1e9:,.1f} GB; {helps}"
    )


def remedy(config: TrainConfig, precision: str, world: int, have: float, device: str) -> str:
    """The gentlest settings with which a run that does not fit would fit, in words."""

    def fits(changed: TrainConfig, ranks: int) -> bool:
        return needed(changed, precision, ranks, device) <= have

    rows = config.micro or max(1, config.batch // world)
    divisors = [r for r in range(rows, 0, -1) if config.batch % r == 0]
    for recompute in dict.fromkeys((config.recompute, 1)):
        for micro in divisors:
            changed = dataclasses.replace(config, micro=micro, recompute=recompute)
            if fits(changed, world):
                settings = [f"micro={micro}"] * (micro != rows)
                settings += [f"recompute={recompute}"] * (recompute != config.recompute)
                return f"with {' and '.join(settings)} it fits"
    smallest = dataclasses.replace(config, micro=1, recompute=1, shard=0)
    for ranks in (2**i for i in range(1, 14)):
        if ranks > world and config.batch % ranks == 0 and fits(smallest, ranks):
            return f"it fits on {ranks} devices, with micro=1 and recompute=1"
    return "no number of devices holds it: choose a smaller model or context"
