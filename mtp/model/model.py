"""Trunk -> heads -> unembedding: a language model that predicts n tokens at each position.

    tokens (B, T) -> trunk z (B, T, D) -> latents h_1..h_n (B, T, D) -> logits of x[t+1]..x[t+n]

Parameter matching (section 2): n transformer heads take their n layers from the trunk, so that all
models of one size have the same number of parameters, whatever n is.

Initialisation: matrices are normal with standard deviation 1/sqrt(fan-in), so that every product
keeps the scale of its input. The two matrices of a layer that write to the residual stream are
divided by sqrt(2 layers), so that the variance of the stream grows by a constant factor at any
depth. The embedding has standard deviation 1 by default, the scale of the stream that it starts.
With this, 30 layers train without warm-up. The unembedding keeps the full 1/sqrt(D), which makes
the first loss ln V + 1/2. A tenth of it would give ln V, but the heads, which differ only in their
own layers, would then hardly come apart: at cpu scale, four of them stayed at the unigram loss for
200 steps.

Each weight is drawn by a generator of its own, seeded by the seed and the weight's name. So it
depends neither on the number of ranks nor on the model's other weights: models of one seed that
differ in n start with the same trunk, as far as it goes.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model import heads
from mtp.model.transformer import Block, LayerCache, Rope

AUXILIARY = "auxiliary."  # names of weights that only training needs, in checkpoints
SCALE = 0.1  # of a token's embedding that is added to a latent: at first, a small part of it


class MultiTokenTransformer(nn.Module):
    """The model: a trunk with `config.n` heads of type `config.head`. Head 1 predicts the next
    token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        shared = HEADS[config.head].shared_unembedding
        self.embedding = nn.Embedding(config.vocab, config.dim)
        self.rope = Rope(config)
        self.trunk = nn.ModuleList(Block(config) for _ in range(config.trunk_layers))
        self.heads = heads.head_modules(config)
        self.norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.unembeddings = nn.ModuleList(
            nn.Linear(config.dim, config.vocab, bias=False)
            for _ in range(1 if shared else config.n)
        )
        self.auxiliary = nn.ModuleDict()  # terms of the objective, which training attaches
        if not self.embedding.weight.is_meta:
            self.initialise(int(torch.randint(2**62, ())))

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw the weights as this file's docstring describes."""
        for name, weight in self.named_parameters():
            weight.copy_(initial_weight(self.config, name, weight.shape, seed))

    @classmethod
    def on_meta(cls, config: ModelConfig) -> "MultiTokenTransformer":
        """A model without memory for its weights: it takes no time and draws nothing."""
        with torch.device("meta"):
            return cls(config)

    def materialise(self, device: str = "cpu") -> "MultiTokenTransformer":
        """Give a model `on_meta` memory for weights, which will be loaded or drawn; returns it."""
        self.to_empty(device=device)
        for model in (self, *self.copies().values()):
            model.rope = Rope(self.config).to(device)  # its table is not a parameter
        return self

    @classmethod
    def uninitialised(cls, config: ModelConfig, device: str = "cpu") -> "MultiTokenTransformer":
        """A model whose weights will be loaded."""
        return cls.on_meta(config).materialise(device)

    def copies(self) -> dict[str, "MultiTokenTransformer"]:
        """The averaged copies of the model that terms of the objective have, by their names."""
        modules = self.auxiliary.named_modules(prefix=AUXILIARY.removesuffix("."))
        return {name: m for name, m in modules if isinstance(m, MultiTokenTransformer)}

    # ----------------------------------------------------------------------------------------------
    # forward, in pieces that the objective and the decoder share

    def run_trunk(self, tokens: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """tokens (B, T) -> z (B, T, D) and the rotary table for the heads."""
        if (T := tokens.shape[1]) > self.config.context:
            raise ValueError(f"{T} tokens exceed the context {self.config.context}")
        rope = self.rope(torch.arange(T, device=tokens.device))
        z = self.embedding(tokens)  # (B, T, D)
        for layer in self.trunk:
            z = layer(z, rope)
        return z, rope

    def latents(
        self,
        tokens: Tensor,
        k: int | None = None,
        detach: bool = False,
        ahead: Tensor | None = None,
    ) -> list[Tensor]:
        """Latents h_1..h_k, (B, T, D) each, of tokens (B, T); k defaults to all n heads. With
        `detach` those beyond head 1 give no gradient to the trunk, the embedding or head 1.

        Heads may read the tokens between a position and the one that they predict. `ahead`
        (B, any) are the tokens after the T; missing ones are token 0, and what such heads say at
        the last positions then means nothing.
        """
        z, rope = self.run_trunk(tokens)
        text = tokens if ahead is None else torch.cat([tokens, ahead], 1)
        return self.head_latents(z, rope, self.config.n if k is None else k, detach, text)

    def first_latent(self, tokens: Tensor) -> Tensor:
        """The latents of head 1 after the final norm, (B, T, D), of tokens (B, T)."""
        z, rope = self.run_trunk(tokens)
        return self.normed(self.head_latents(z, rope, 1)[0])

    def latents_of_leaf(
        self, tokens: Tensor, k: int, ahead: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """z (B, T, D), as a leaf of the graph, and the latents h_1..h_k that follow from it."""
        with torch.no_grad():
            z, rope = self.run_trunk(tokens)
        z.requires_grad_()
        text = tokens if ahead is None else torch.cat([tokens, ahead], 1)
        return z, self.head_latents(z, rope, k, text=text)

    def head_latents(
        self,
        z: Tensor,
        rope: tuple[Tensor, Tensor],
        k: int,
        detach: bool = False,
        text: Tensor | None = None,
    ) -> list[Tensor]:
        """As `latents`, from the trunk's z and rotary table. `text` is the tokens with those after
        them; heads that read no tokens do without."""
        found, embedded = {0: z}, self.embedded(text, z.shape[1], k, detach)
        for i in heads.order(self.config, k):
            found[i] = self.run_head(i, self.source(i, found, detach), rope, embedded)
        return [found[i] for i in range(1, k + 1)]

    def embedded(self, text: Tensor | None, T: int, k: int, detach: bool = False) -> Tensor | None:
        """The embeddings (B, T + reach, D) from which heads 1..k read tokens, of a text that begins
        with T positions; None if they read none."""
        if not (reach := heads.reach(self.config, k)):
            return None
        if text is None:
            raise ValueError(f"{self.config.head} heads read tokens; give `text`")
        text = text[:, : T + reach]
        text = nn.functional.pad(text, (0, T + reach - text.shape[1]))
        found = self.embedding(text)
        return found.detach() if detach else found  # only heads beyond the first read tokens

    def run_head(
        self, i: int, x: Tensor, rope: tuple[Tensor, Tensor], embedded: Tensor | None
    ) -> Tensor:
        """The latent of head i, (B, T, D), from what it reads: a latent x (B, T, D) and tokens.

        The layer of a head that reads x[t+j] has the rotary position t, not t + j. That shifts all
        positions at its depth alike, and attention only sees their differences.
        """
        read = list[Tensor]()
        if embedded is not None:
            T = x.shape[1]
            read = [embedded[:, j : j + T] for j in heads.reads(self.config, i)]
        try:
            h = self.head(i)(x, rope, *read)
        except (Exception, SystemExit) as error:
            called = ", ".join(("x", "rope", *("embedding" for _ in read)))
            what = f"head {i}, called as forward({called})"
            raise heads.broken(self.config, what, error) from error
        if fault := heads.wrong_latent(h, x):
            raise BadInput(f"model.head={self.config.head}: head {i} {fault}")
        return h

    def head(self, i: int) -> nn.Module:
        """The module of head i (1-based)."""
        return self.heads[heads.place(self.config, i)]

    def source(self, i: int, found: dict[int, Tensor], detach: bool) -> Tensor:
        """The latent that head i reads, among those found so far."""
        x = found[heads.parent(self.config, i)]
        return x.detach() if detach and i > 1 and heads.parent(self.config, i) < 2 else x

    def unembedding(self, i: int) -> Tensor:
        """The (V, D) matrix of head i (1-based)."""
        weight = self.unembeddings[i - 1 if len(self.unembeddings) > 1 else 0].weight
        assert isinstance(weight, Tensor)
        return weight

    def normed(self, latent: Tensor, i: int = 1, detach: bool = False) -> Tensor:
        """What the unembedding of head i multiplies, (..., D), from its latent (..., D). With
        `detach`, a head beyond the first gives no gradient to the norm that all of them share."""
        if not (detach and i > 1):
            return self.norm(latent)
        gain, eps = self.norm.weight.detach(), self.config.norm_eps
        return nn.functional.rms_norm(latent, gain.shape, gain, eps)

    def logits(self, latent: Tensor, i: int = 1, detach: bool = False) -> Tensor:
        """Logits (..., V) of head i from its latent (..., D). With `detach`, a head beyond the
        first changes nothing that it shares with head 1."""
        weight = self.unembedding(i)
        if detach and i > 1 and len(self.unembeddings) == 1:
            weight = weight.detach()
        return nn.functional.linear(self.normed(latent, i, detach), weight)

    def forward(
        self, tokens: Tensor, k: int | None = None, ahead: Tensor | None = None
    ) -> list[Tensor]:
        """Logits of x[t+1]..x[t+k], a list of (B, T, V). `ahead` as in `latents`."""
        return [self.logits(h, i) for i, h in enumerate(self.latents(tokens, k, ahead=ahead), 1)]

    # ----------------------------------------------------------------------------------------------
    # for decoding and reports

    def new_caches(self, rows: int, slots: int, k: int) -> list[LayerCache]:
        """Empty caches for the trunk's layers, then for the head layers that heads 1..k use. Heads
        without attention have none."""
        c = self.config
        own = max(heads.order(c, k)) if HEADS[c.head].is_layer else 0
        shape = rows, c.key_value_heads, slots, c.head_size
        return [LayerCache(self.embedding.weight, *shape) for _ in range(len(self.trunk) + own)]

    def parameter_counts(self) -> dict[str, int]:
        """Parameters by part: embedding, trunk, heads by module, norm, unembedding, total, and
        `non_embedding`, the total without embedding and unembedding (the names 1M to 1B of
        Table S14 count it)."""

        def count(module: nn.Module) -> int:
            return sum(p.numel() for p in module.parameters())

        parts = {"embedding": count(self.embedding), "trunk": count(self.trunk)}
        parts |= {f"head {i + 1}": count(block) for i, block in enumerate(self.heads)}
        parts |= {"norm": count(self.norm), "unembedding": count(self.unembeddings)}
        parts["total"] = sum(parts.values())
        parts["non_embedding"] = parts["total"] - parts["embedding"] - parts["unembedding"]
        return parts


def initial_weight(config: ModelConfig, name: str, shape: torch.Size, seed: int) -> Tensor:
    """The weight of this name and shape as training starts with it, in float32 on the CPU."""
    if name.endswith("scale"):
        return torch.full(shape, SCALE)
    if name.endswith("bias"):
        return torch.zeros(shape)  # of a user's own head; ours have none
    if len(shape) < 2:
        return torch.ones(shape)  # norm gains
    std = shape[1] ** -0.5
    if name.startswith("embedding"):
        std = config.embedding_std
    if name.endswith(("wo.weight", "w2.weight")):
        std /= math.sqrt(2 * (config.layers + config.extra_layers))
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return torch.empty(shape).normal_(0.0, std, generator=generator)
