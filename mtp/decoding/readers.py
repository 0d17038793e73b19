"""Drafts of heads that read the tokens between: x[t+1] .. x[t+i-1] for head i.

At the last certain position t, x[t+1] is the newest token and the ones after it are drafts. So the
heads draft one after the other, each fed with the best drafts of those before it:

    head 2 reads x[t+1]  ->  its draft of x[t+2]  ->  head 3 reads it  ->  its draft of x[t+3] ..

With a tree, the candidates of head 3 are those that follow the best one of head 2, whichever of
them the tree puts them behind.

Heads that are layers have key-value caches. What head i stored at the last i - 2 positions depends
on drafts, some of which turned out wrong. So each pass runs the heads anew from k - 2 positions
before its block on. They begin with the latents of the trunk and of the verifier's heads, which are
kept by slot, as the tokens are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtp.decoding.passes import CachedModel
from mtp.decoding.sampling import Sampling
from mtp.decoding.trees import Nodes
from mtp.head_types import HEADS
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Placement


def cached_model(
    model: MultiTokenTransformer, nodes: Nodes, sampling: Sampling, rows: int, slots: int
) -> CachedModel:
    """A model with its caches, whatever its heads read."""
    kind = Readers if heads.reach(model.config, nodes.k) else CachedModel
    return kind(model, nodes, sampling, rows, slots)


class Readers(CachedModel):
    """A model whose heads read tokens, with what they read at each slot of a row.

    text     (B, S + 3 k) certain tokens, then drafts, then anything
    latents  (B, S, D) of each head that the drafting ones read, 0 for the trunk
    """

    def __init__(
        self, model: MultiTokenTransformer, nodes: Nodes, sampling: Sampling, rows: int, slots: int
    ) -> None:
        super().__init__(model, nodes, sampling, rows, slots)
        self.k, self.config, like = nodes.k, model.config, model.embedding.weight
        self.drafting = [i for i in self.order if i not in self.verifier_heads]
        known = {heads.parent(self.config, i) for i in self.drafting}.union(range(2, self.k + 1))
        known = known.difference(self.drafting)
        self.latents = {i: like.new_zeros(rows, slots, self.config.dim) for i in known}
        self.text = torch.zeros(rows, slots + 3 * self.k, dtype=torch.long, device=like.device)
        self.step = torch.arange(3 * self.k, device=like.device)
        # Heads whose drafts another one is fed with.
        self.feeding = {j for i in self.drafting for j in heads.reads(self.config, i) if j > 1}
        self.read_by_another = {heads.parent(self.config, i) for i in self.drafting}

    def select_rows(self, index: Tensor) -> None:
        super().select_rows(index)
        self.text = self.text[index]
        self.latents = {i: kept[index] for i, kept in self.latents.items()}

    def draft_at_prompts(
        self, found: dict[int, Tensor], tokens: Tensor, placement: Placement, last: Tensor
    ) -> Tensor:
        """No drafts yet, since they depend on the newest token, of which each row has its own.
        Stores what the heads will read, and the keys and values of their layers; those that depend
        on more than the prompts are stored anew by `draft_fed`."""
        P, T = tokens.shape
        slots = self.slot[:T].expand(P, T)
        self.text[:, :T] = tokens
        self.store(found, slots)
        if HEADS[self.config.head].is_layer:
            found = dict(found)
            for i in self.drafting:
                found[i] = self.run(i, found, slots, placement)
        return last.new_zeros(P, self.k - 1, self.nodes.width)

    def draft_after_prompts(self, drafts: Tensor, last: Tensor, newest: Tensor) -> Tensor:
        return self.draft_fed(last, last, newest)

    def draft_along(
        self,
        found: dict[int, Tensor],
        placement: Placement,
        slots: Tensor,
        at: Tensor,
        after: Tensor,
    ) -> Tensor:
        self.store(found, slots)
        start = slots[:, :1]
        return self.draft_fed(start, start + at, after)

    def store(self, found: dict[int, Tensor], slots: Tensor) -> None:
        """Keep the latents found at slots (B, T)."""
        for i, kept in self.latents.items():
            kept.scatter_(1, slots[..., None].expand_as(found[i]), found[i])

    def draft_fed(self, start: Tensor, end: Tensor, after: Tensor) -> Tensor:
        """The best candidates of heads 2..k, (B, k - 1, width), at slot `end` (B, 1), the last
        certain one in the caches. `after` (B, any) are the tokens after slot `start` (B, 1), where
        the pass began; those up to `end` are certain, and the one after it is the newest."""
        k = self.k
        # All that may be read is written, so that a pass can be repeated.
        after = F.pad(after, (0, 3 * k - after.shape[1]))  # (B, 3 k)
        self.text.scatter_(1, start + 1 + self.step, after)

        begin = (start - (k - 2)).clamp(min=0)
        slots = begin + self.step[: 2 * k - 2]  # (B, R), up to k - 1 after `start`
        found = {
            i: kept.take_along_dim(slots[..., None], 1)  # (B, R, D)
            for i, kept in self.latents.items()
        }
        placement = self.causal_placement(slots)
        at = end - begin  # (B, 1)
        last: dict[int, Tensor] = {}  # (B, 1, D) at `end`
        made: dict[int, Tensor] = {}  # (B, 1, width)
        for i in range(2, k + 1):
            for j in heads.order(self.config, i):
                if j not in self.drafting or j in found or j in last:
                    continue
                if j in self.read_by_another:
                    found[j] = self.run(j, found, slots, placement)
                else:
                    last[j] = self.run(j, found, slots, placement, at)
            if i not in last:
                last[i] = found[i].take_along_dim(at[..., None], 1)
            if i in self.feeding:
                made[i] = self.candidates({i: last[i]})
                self.text.scatter_(1, end + i, made[i][:, 0, :1])
        if rest := [i for i in range(2, k + 1) if i not in made]:
            together = self.candidates({i: last[i] for i in rest})
            made |= dict(zip(rest, together.split(1, 1), strict=True))
        return torch.cat([made[i] for i in range(2, k + 1)], 1)

    def run(
        self,
        i: int,
        found: dict[int, Tensor],
        slots: Tensor,
        placement: Placement,
        at: Tensor | None = None,
    ) -> Tensor:
        """The latent of head i at `slots` (B, T), or at index `at` (B, 1) of them alone."""
        read = [
            self.model.embedding(self.text.gather(1, slots + j))  # (B, T, D)
            for j in heads.reads(self.config, i)
        ]
        return self.run_head(i, found, placement, at, read)
