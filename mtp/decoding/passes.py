"""One cached forward pass: the prefill of the prompts, or a pass that verifies drafts and makes the
next ones. mtp/decoding/generate.py explains how these passes make up decoding."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtp.decoding.sampling import Sampling, choose_token
from mtp.decoding.trees import Nodes
from mtp.head_types import HEADS
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Block, Placement

WINDOW = 64  # attention looks at a multiple of this many slots, so that shapes rarely change


class CachedModel:
    """A model with its caches, for the passes of `stream` over B rows of `slots` slots each.

    The shapes of a pass (B, nodes, window) rarely change: after the prefill, B at least halves when
    it changes, and the window grows by WINDOW.
    """

    def __init__(
        self, model: MultiTokenTransformer, nodes: Nodes, sampling: Sampling, rows: int, slots: int
    ) -> None:
        self.model, self.nodes, self.sampling = model, nodes, sampling
        self.order = heads.order(model.config, nodes.k)
        self.verifier_heads = heads.order(model.config, 1)  # the heads that head 1's answer needs
        self.caches = model.new_caches(rows, slots, nodes.k)
        device = model.embedding.weight.device
        self.slot = torch.arange(slots, device=device)
        self.window = slots  # how many of them a pass looks at
        self.generator = torch.Generator(device).manual_seed(sampling.seed)
        with torch.inference_mode(False):
            for layer in (*model.trunk, *model.heads):
                if isinstance(layer, Block):
                    layer.prepare()

    def select_rows(self, index: Tensor) -> None:
        """Keep the rows with these indices, each as often as it is there."""
        for cache in self.caches:
            cache.select_rows(index)

    def prefill(self, tokens: Tensor, lengths: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Padded prompts (P, T), all different, and the prompt of each row (B,) -> the first new
        token of each row (B,), the first block (B, M). From here on there are B rows."""
        (P, T), last = tokens.shape, lengths[:, None] - 1  # (P, 1)
        slots = self.slot[:T].expand(P, T)
        # Slots are positions here, so causal attention needs no mask. Padding comes after a
        # prompt's tokens, which do not see it.
        placement = Placement(self.flat_slots(slots), T, None, self.model.rope(slots))
        found = self.run_verifier(tokens, placement)
        end = self.model.logits(found[1].take_along_dim(last[..., None], 1))  # (P, 1, V)
        drafts = self.draft_at_prompts(found, tokens, placement, last)
        if len(rows) > P:
            end, drafts, last = end[rows], drafts[rows], last[rows]
            self.select_rows(rows)
        newest = choose_token(end, self.sampling, self.uniform(last))  # (B, 1)
        drafts = self.draft_after_prompts(drafts, last, newest)
        return newest[:, 0], self.block(newest[:, 0], drafts)

    def verify(
        self, block: Tensor, fed: Tensor, uniform: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One forward pass over a block (B, M) that follows `fed` (B,) certain tokens. `uniform`
        comes from `self.uniform`.

        Returns (B, 1 + k): how many drafts were accepted, then the answers along the accepted path,
        beginning with the one after the newest token; the next block (B, M); and how many certain
        tokens the caches now hold (B,).
        """
        model, nodes, M, start = self.model, self.nodes, block.shape[1], fed[:, None]
        positions, slots = start + nodes.depth, start + self.slot[:M]  # (B, M)
        inside = positions < model.config.context  # tokens beyond the context are not needed
        seen = self.slot[: self.window]
        relative = (seen - start).clamp(-1, M) + 1  # (B, W) 0: certain, 1..M: a node, M + 1: empty
        mask = nodes.mask[:, relative].transpose(0, 1)[:, None]  # (B, 1, M, W)
        placement = self.placement(slots, positions.clamp(max=model.config.context - 1), mask)
        found = self.run_verifier(block, placement)
        # Head 1's answer after each node.
        answers = choose_token(model.logits(found[1]), self.sampling, uniform)  # (B, M)

        # A node is accepted if it and all its ancestors equal the answers at their parents.
        right = (block == answers[:, nodes.parent]) & inside | (nodes.depth == 0)  # (B, M)
        good = (right[:, None] | nodes.not_ancestors).all(-1)  # (B, M)
        end = (good * (nodes.depth + 1)).argmax(1)  # (B,) the deepest of them
        accepted, path = nodes.depth[end], nodes.path[end]  # (B,), (B, k)
        newest = answers.gather(1, end[:, None])[:, 0]  # (B,)

        # From here on only the accepted path counts: its keys and values move to the slots of
        # their positions.
        if not nodes.is_chain:
            self.move_slots(start + path, slots[:, : nodes.k])
            found = {i: h.take_along_dim(path[..., None], 1) for i, h in found.items()}
            slots = slots[:, : nodes.k]  # (B, k)
            placement = self.causal_placement(slots)
        after = answers.gather(1, path)  # (B, k)
        drafts = self.draft_along(found, placement, slots, accepted[:, None], after)
        # Finished rows continue; their positions must stay inside the cache.
        fed = (fed + accepted + 1).clamp(max=len(self.slot) - M)
        along = torch.cat([accepted[:, None], after], 1)
        return along, self.block(newest, drafts), fed

    def run_verifier(self, tokens: Tensor, placement: Placement) -> dict[int, Tensor]:
        """Latents of the trunk (key 0) and of the heads that head 1's answer needs."""
        z = self.model.embedding(tokens)  # (B, T, D)
        for layer, cache in zip(self.model.trunk, self.caches, strict=False):
            assert isinstance(layer, Block)
            z = layer.extend(z, cache, placement)
        found = {0: z}
        for i in self.verifier_heads:
            found[i] = self.run_head(i, found, placement)
        return found

    def run_head(
        self,
        i: int,
        found: dict[int, Tensor],
        placement: Placement,
        at: Tensor | None = None,
        read: Sequence[Tensor] = (),
    ) -> Tensor:
        """The latent of head i, (B, T, D), or (B, 1, D) at index `at` (B, 1) alone, from its
        parent's in `found` and the embeddings (B, T, D) of the tokens that it reads."""
        head, source = self.model.head(i), found[heads.parent(self.model.config, i)]
        given = source, *read
        if at is not None and not isinstance(head, Block):
            given = tuple(x.take_along_dim(at[..., None], 1) for x in given)
        try:
            if isinstance(head, Block):
                cache = self.caches[len(self.model.trunk) + i - 1]
                return head.extend(source, cache, placement, at, *read)
            return head(given[0], placement.rope, *given[1:])
        except (Exception, SystemExit) as error:
            raise heads.broken(self.model.config, f"head {i}", error) from error

    # The next three are different for heads that read tokens (mtp/decoding/readers.py).

    def draft_at_prompts(
        self, found: dict[int, Tensor], tokens: Tensor, placement: Placement, last: Tensor
    ) -> Tensor:
        """The drafts (P, k - 1, width) at indices `last` (P, 1) of padded prompts (P, T)."""
        return self.draft(found, placement, last)

    def draft_after_prompts(self, drafts: Tensor, last: Tensor, newest: Tensor) -> Tensor:
        """The drafts (B, k - 1, width) of all rows, when their newest tokens (B, 1) are known."""
        return drafts

    def draft_along(
        self,
        found: dict[int, Tensor],
        placement: Placement,
        slots: Tensor,
        at: Tensor,
        after: Tensor,
    ) -> Tensor:
        """The drafts (B, k - 1, width) at index `at` (B, 1) of an accepted path, which lies at
        `slots` (B, k); `after` (B, k) are the tokens after each of its places."""
        return self.draft(found, placement, at)

    def draft(self, found: dict[int, Tensor], placement: Placement, at: Tensor) -> Tensor:
        """The best `width` tokens of heads 2..k at index `at` (B, 1) -> (B, k - 1, width).

        A head that other heads read runs over all T positions; the others answer at `at` alone.
        """
        model, nodes, found = self.model, self.nodes, dict(found)
        last: dict[int, Tensor] = {}
        for i in self.order:
            if i not in found:
                if any(j in self.order for j in heads.children(model.config, i)):
                    found[i] = self.run_head(i, found, placement)
                else:
                    last[i] = self.run_head(i, found, placement, at)
        for i in range(2, nodes.k + 1):
            if i not in last:
                last[i] = found[i].take_along_dim(at[..., None], 1)  # (B, 1, D)
        if nodes.k == 1:
            return at.new_empty(len(at), 0, nodes.width)
        return self.candidates({i: last[i] for i in range(2, nodes.k + 1)})

    def candidates(self, last: dict[int, Tensor]) -> Tensor:
        """The best `width` tokens of heads, (B, heads, width), from their latents (B, 1, D)."""
        model, width = self.model, self.nodes.width
        if len(model.unembeddings) == 1:  # read the big matrix once, not once per head
            logits = model.logits(torch.cat(list(last.values()), 1))  # (B, heads, V)
        else:
            logits = torch.cat([model.logits(h, i) for i, h in last.items()], 1)
        return logits.topk(width).indices if width > 1 else logits.argmax(-1, True)

    def uniform(self, tokens: Tensor) -> Tensor | None:
        """The random numbers (B, M) for drawing a token after each of `tokens` (B, M); None if
        decoding is greedy."""
        if self.sampling.temperature == 0:
            return None
        kind = {"dtype": torch.float64, "device": tokens.device}
        return torch.rand(tokens.shape, generator=self.generator, **kind)

    def block(self, newest: Tensor, drafts: Tensor) -> Tensor:
        """The nodes' tokens (B, M), from the newest token (B,) and the heads' candidates."""
        return torch.cat([newest[:, None], drafts.flatten(1)], 1)[:, self.nodes.source]

    def placement(self, slots: Tensor, positions: Tensor, mask: Tensor) -> Placement:
        """The Placement of new tokens, from their slots and positions, (B, T) each, and what is
        added to their scores (B, 1, T, W)."""
        groups = self.model.config.attn_heads // self.model.config.key_value_heads
        mask = mask.repeat(1, 1, groups, 1) if groups > 1 else mask  # once, not in every layer
        return Placement(self.flat_slots(slots), mask.shape[-1], mask, self.model.rope(positions))

    def causal_placement(self, slots: Tensor) -> Placement:
        """The Placement of new tokens at slots (B, T), each of which sees all slots up to its own.
        Slots are positions here; what lies beyond the context is not needed."""
        seen = self.slot[: self.window]
        mask = torch.where(seen <= slots[..., None], 0.0, -torch.inf)[:, None]  # (B, 1, T, W)
        ahead = slots.clamp(max=self.model.config.context - 1)
        return self.placement(slots, ahead, mask.to(self.nodes.mask.dtype))

    def flat_slots(self, slots: Tensor) -> Tensor:
        """Slots (B, T) within rows -> slots (B K T,) among all B K S slots of a layer's cache."""
        B, K, S, _ = self.caches[0].k.shape
        first = torch.arange(B * K, device=slots.device).view(B, K, 1) * S
        return (first + slots[:, None]).flatten()

    def move_slots(self, source: Tensor, target: Tensor) -> None:
        """Copy the keys and values of the trunk and the verifier heads from slots `source` (B, k)
        to slots `target`."""
        own = len(self.verifier_heads) if HEADS[self.model.config.head].is_layer else 0
        source, target = self.flat_slots(source), self.flat_slots(target)
        for cache in self.caches[: len(self.model.trunk) + own]:
            cache.move(source, target)


@functools.cache
def compiled_verify() -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    """`CachedModel.verify` through torch.compile. It compiles when a model, tree or shape is new to
    this process; after too many of them, torch continues without compiling."""
    torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # pyright: ignore[reportPrivateImportUsage]
    return torch.compile(CachedModel.verify)
