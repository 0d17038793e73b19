"""What a token says of its successor, and which tokens a model learns (sections 5.2 and L.2).

With x and y the next two tokens and p the text, the cross-entropies of a model's q are

    H(x) = -log q(x)    H(y) = -log q_Y(y)    H(y|x) = -log q(y|x)    H(x|y) = -log q(x|y)

on average over p, all given the tokens before. Their relative mutual information is (Appendix L.2)

    I = H(x) + H(y) - H(x,y) = H(y) - H(y|x)            since H(x,y) = H(x) + H(y|x)

and Lemma L.3 says H(x) = H(x|y) + I, hence H(x) + H(y) = H(x|y) + 2 I + H(y|x). Head 1 has H(x),
and one place later H(y|x). H(y) is head 2's loss (`of_heads`); or q_Y is head 1's own, summed over
all x (`exact`), which a model without a head 2 has too, and for which q(x|y) by Bayes' rule is a
distribution.

The lemma is about one loss. What a model learns from it is another question: section 5 argues that
looking ahead makes it learn tokens that say much about what follows. `Reference` gives each
held-out token its relevance, which is I of a single pair under an n-gram table, and the slope of a
model's loss on it, everything else that makes tokens hard taken out as far as the table knows it.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evals.probes.ngrams import Floats, Ids, Ngrams, largest_order
from mtp.data.batches import evaluation_batches
from mtp.data.corpus import Corpus
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import Tokenizer
from mtp.data.window import IGNORE
from mtp.decoding.passes import CachedModel
from mtp.decoding.sampling import GREEDY
from mtp.decoding.trees import Nodes, chain
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import Placement

ORDER = 5  # of the reference's tables
TENTHS = 10
ROWS = 32  # windows at once
PASTS = 8  # at once, each with V continuations
LARGEST = 1024  # V for which `exact` is within reach

# --------------------------------------------------------------------------------------------------
# Losses of models, and information


@torch.inference_mode()
def token_losses(
    model: MultiTokenTransformer, corpus: Corpus, tokens: int, heads: int = 1
) -> Floats:
    """Of the first held-out tokens, in nats: at [i - 1, s], head i's loss at token s (heads,
    tokens). nan where the token is no target, and for head i > 1 where head 1 of the same window
    has not seen token s - 1 (so that its context is head i's and the tokens between)."""
    context, weight = model.config.context, model.embedding.weight
    found = np.full((heads, tokens + ROWS * context + heads), np.nan)
    start = 0
    for window in evaluation_batches(corpus.validation, ROWS, context, heads, tokens):
        window = window.to(weight.device)
        targets = window.targets()  # (heads, B, T)
        latents = model.latents(window.inputs, heads, ahead=window.ahead)
        for i, (h, y) in enumerate(zip(latents, targets, strict=True), 1):
            log_p = model.logits(h, i).float().log_softmax(-1)
            nats = -log_p.gather(-1, y.where(y != IGNORE, 0)[..., None])[..., 0].double()
            nats = nats.masked_fill(y == IGNORE, math.nan)[:, : context - i + 1].cpu().numpy()
            for row, values in enumerate(nats):
                first = start + row * context + i
                known = ~np.isnan(values)
                found[i - 1, first : first + len(values)][known] = values[known]
        start += len(targets[0]) * context
    return found[:, :tokens]


@dataclass(frozen=True)
class Information:
    """Means over pairs of neighbours, in nats; `pairs` counted."""

    x: float
    y: float
    y_given_x: float
    x_given_y: float
    mutual: float
    pairs: int


def of_heads(losses: Floats) -> Information:
    """From `token_losses` of two heads (2, tokens). q_Y is head 2's, so that q(x|y) is not a
    distribution unless the heads agree."""
    one, two = losses
    return information(one[1:-1], one[2:], two[2:])


def information(x: Floats, y_given_x: Floats, y: Floats) -> Information:
    """From the losses of pairs, (N,) each; pairs that lack one (nan) are left out."""
    whole = ~np.isnan(x + y + y_given_x)
    x, y, y_given_x = x[whole], y[whole], y_given_x[whole]
    x_given_y = x + y_given_x - y  # Bayes' rule: q(x|y) = q(x) q(y|x) / q_Y(y)
    mean = [float(each.mean()) for each in (x, y, y_given_x, x_given_y, y - y_given_x)]
    return Information(mean[0], mean[1], mean[2], mean[3], mean[4], len(x))


def exact(model: MultiTokenTransformer, corpus: Corpus, places: int, past: int) -> Information:
    """From head 1 alone, at so many places spread over the held-out text, with `past` tokens before
    each. Raises ValueError for a vocabulary above LARGEST."""
    if model.config.vocab > LARGEST:
        raise ValueError(f"V={model.config.vocab}; the sum is over V, and then V^2 logits")
    split, eos = corpus.validation, corpus.tokenizer.eos
    size = past + 2
    starts = np.linspace(0, split.tokens - size, places).astype(int)
    windows = np.stack([split.read(start, start + size) for start in starts])
    windows = windows[(windows[:, past - 1 : -1] != eos).all(1)]  # x and y are of one document
    parts = list[NDArray[np.float64]]()
    for part in np.split(windows, range(PASTS, len(windows), PASTS)):
        text = torch.from_numpy(part).to(model.embedding.weight.device)
        first, second = two_steps(model, text[:, :past])
        x, y = text[:, past, None], text[:, past + 1, None]
        given = second.take_along_dim(x[..., None], 1)[:, 0].gather(1, y)
        marginal = (first[..., None] + second).logsumexp(1).gather(1, y)
        parts.append(-torch.cat([first.gather(1, x), given, marginal], 1).cpu().numpy())
    return information(*np.concatenate(parts).T)


@torch.inference_mode()
def two_steps(model: MultiTokenTransformer, pasts: Tensor) -> tuple[Tensor, Tensor]:
    """Head 1's log-probabilities after each past (S, C): of the next token (S, V), and of the one
    after each next token (S, V, V), float64. One pass over the pasts, and one in which each of V
    continuations sees its past and itself."""
    (S, C), V, weight = pasts.shape, model.config.vocab, model.embedding.weight
    cached = CachedModel(model, Nodes(chain(1), weight), GREEDY, S, C + V)
    slots = cached.slot[:C].expand(S, C)
    placement = Placement(cached.flat_slots(slots), C, None, model.rope(slots))
    end = cached.run_verifier(pasts, placement)[1][:, -1]
    sees = torch.eye(V, dtype=torch.bool, device=pasts.device)
    sees = torch.cat([sees.new_ones(V, C), sees], 1)
    mask = weight.new_zeros(V, C + V).masked_fill(~sees, -math.inf).expand(S, 1, V, C + V)
    placement = cached.placement(cached.slot[C:].expand(S, V), slots.new_full((S, V), C), mask)
    every = torch.arange(V, device=pasts.device).expand(S, V)
    after = cached.run_verifier(every, placement)[1]
    first, second = (model.logits(h).double().log_softmax(-1) for h in (end, after))
    return first, second


# --------------------------------------------------------------------------------------------------
# Relevance

CLASSES = ("end", "line break", "space", "digit", "word begins", "word goes on", "sign")


def class_of(token: bytes) -> str:
    """Of a token by its bytes; `end` has none."""
    text = token.decode(errors="replace")
    plain = text.strip()
    if "\n" in text or not plain:
        return "line break" if "\n" in text else "space" if text else "end"
    if plain[0].isdigit():
        return "digit"
    if plain[0].isalpha() or plain[0] == "_":
        return "word begins" if text[0].isspace() else "word goes on"
    return "sign"


def classes_of(tokenizer: Tokenizer, vocab: int) -> Ids:
    """The number in CLASSES of each token (V,)."""
    read = bytes_of_tokens(tokenizer)
    return np.array([CLASSES.index(class_of(read(token))) for token in range(vocab)])


class Reference:
    """The first held-out tokens, as n-gram tables of the training text see them.

    places     (M,) of the tokens that count, in the held-out text: those whose successor is of the
               same document
    documents  (M,) 0, 1, .., of each
    relevance  (M,) nats: how much better the tables predict the successor if they know the token,
               -log P(successor | before the token) + log P(successor | and the token)
    rest       (M,) relevance less what follows from the controls: the token's own loss, its square,
               the unigram loss, and the token's class
    """

    def __init__(self, train: Ids, held_out: Ids, tokenizer: Tokenizer, vocab: int) -> None:
        order = largest_order(vocab, ORDER)
        one, two, unigram = (
            -np.log(Ngrams(train, k, vocab, skip).probabilities(held_out))
            for k, skip in ((order, 0), (order, 1), (1, 0))
        )
        inside = ~np.isin(held_out, (tokenizer.bos, tokenizer.eos))
        inside[:1] = inside[-1:] = False  # no target; no successor
        self.places = np.flatnonzero(inside)
        at = self.places
        self.documents = np.cumsum(held_out == tokenizer.eos)[at]
        self.relevance: Floats = (two - one)[at + 1]
        kinds = classes_of(tokenizer, vocab)[held_out[at]]
        controls = [one[at], one[at] ** 2, unigram[at], *(kinds[None] == np.unique(kinds)[:, None])]
        left, size, _ = np.linalg.svd(np.stack(controls, 1).astype(float), full_matrices=False)
        self.base = left[:, size > 1e-9 * size[0]]  # the classes add up to an intercept
        self.rest = self.without_controls(self.relevance)

    def without_controls(self, values: Floats) -> Floats:
        """What of the values (M,) does not follow from the controls."""
        return values - self.base @ (self.base.T @ values)

    @property
    def denominators(self) -> Floats:
        """Of the slope, by document (D,)."""
        return np.bincount(self.documents, self.rest**2).astype(float)

    def numerators(self, losses: Floats) -> Floats:
        """Of the slope of losses (tokens,) on relevance with the same controls, by document (D,).
        The slope is the sum of these over that of the denominators (Frisch, Waugh and Lovell), and
        since it is linear in the losses, so is the slope of a difference of two models'."""
        own = self.rest * self.without_controls(losses[self.places])
        return np.bincount(self.documents, own).astype(float)

    def slope(self, losses: Floats) -> float:
        """In nats of loss per nat of relevance."""
        return float(self.numerators(losses).sum() / self.denominators.sum())

    def by_tenth(self, losses: Floats) -> tuple[Floats, Floats]:
        """The tokens in TENTHS by their relevance beyond the controls: its mean, and that of the
        losses, whose dependence on the controls is taken out, (10,) each."""
        own = losses[self.places]
        level = self.without_controls(own) + own.mean()
        edges = np.quantile(self.rest, np.linspace(0, 1, TENTHS + 1)[1:-1])
        tenth = np.searchsorted(edges, self.rest)
        count = np.maximum(np.bincount(tenth, minlength=TENTHS), 1)
        middle, mean = (np.bincount(tenth, values, TENTHS) / count for values in (self.rest, level))
        return middle, mean


@functools.lru_cache(maxsize=4)
def reference(corpus: Corpus, vocab: int, tokens: int, budget: int) -> Reference:
    """Of the first held-out `tokens`, from so many training tokens; as many as there are."""
    train, own = corpus.train, corpus.validation
    return Reference(
        train.read(0, min(budget, train.tokens)), own.read(0, min(tokens, own.tokens)),
        corpus.tokenizer, vocab,
    )  # fmt: skip
