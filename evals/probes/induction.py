"""Induction on invented names (section 4.1, Figures 7, S14).

Each character of a held-out story gets a random name of two tokens. A model that has read the name
once can predict its second token from its first one at every later mention:

    One day, Ka|rop met Flu|vel. Ka|rop was sad. ... Flu|vel helped Ka|rop.
             ^  ^       ^   ^    ^  ^ asked                ^ asked     ^ asked

The paper joins random tokens and notes that some never occur in training. We ask two kinds:

    held out  names of two tokens, formed like those of the training stories, that no story has; the
              model may know both tokens and their places, but not that they belong together
    any       two tokens drawn from the whole vocabulary, as in the paper; names whose tokens never
              occur in training are counted apart

Two guesses need no copying: the second token that is right most often, whatever came before, and
one of the names that the story has mentioned so far, drawn at random without a look at the first
token. The second guess is right in about half of the cases, so a model is said to copy where it is
well above that.

Tokens are those of the run's own tokenizer. A tokenizer whose tokens do not keep a space in their
text (Llama's) has no such names yet.
"""

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
import torch

from mtp.data.corpus import Corpus
from mtp.data.shards import Split
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import stories

SEED = stories.TEST_SEED
LEAST = 20  # held-out names of two tokens that a corpus must have
CHUNK = 4_000_000  # tokens


@dataclass(frozen=True)
class Question:
    """Predict tokens[at + 1] from those before; seen: the name's tokens occur in training; drawn:
    the share of the names mentioned before, this one among them, that have its second token."""

    tokens: list[int]
    at: int
    seen: bool
    drawn: float = 1.0


class Reply(NamedTuple):
    """Of head 1 to a question: whether its best token is right, and the loss of the right token in
    nats."""

    right: bool
    nats: float


@dataclass(frozen=True)
class Pieces:
    """Tokens that can begin a name (letters after a space, the first a capital) and end one;
    held_out: the pairs of them that are held-out names; occurring: the tokens of the training
    text."""

    first: list[int]
    second: list[int]
    held_out: list[tuple[int, int]]
    occurring: np.ndarray


@functools.lru_cache(2)
def pieces(corpus: Corpus) -> Pieces:
    text, V = corpus.tokenizer, corpus.tokenizer.vocab_size
    first, second = list[int](), list[int]()
    for token in range(V):
        piece = text.decode([token])
        letters = piece.removeprefix(" ")
        if letters.isascii() and letters.isalpha() and len(letters) <= 5:
            if letters != piece and letters[0].isupper():
                first.append(token)
            elif letters == piece and piece.islower():
                second.append(token)
    names = {tuple(text.encode(f" {name}")) for name in stories.held_out_names()}
    pairs = [name for name in itertools.product(first, second) if name in names]
    codes = np.array([a * V + b for a, b in pairs], int)
    counts, shown = np.zeros(V, int), np.zeros(len(pairs), bool)
    for chunk in chunks(corpus.train):
        counts += np.bincount(chunk, minlength=V)
        shown |= np.isin(codes, chunk[:-1].astype(int) * V + chunk[1:])
    occurring = counts > 0
    held_out = [
        (a, b)
        for (a, b), seen in zip(pairs, shown, strict=True)
        if not seen and occurring[a] and occurring[b]
    ]
    return Pieces(first, second, held_out, occurring)


def chunks(split: Split) -> Iterator[np.ndarray]:
    """The split's tokens, CHUNK at a time, each with the first token of the next."""
    for start in range(0, split.tokens, CHUNK):
        yield split.read(start, min(start + CHUNK + 1, split.tokens))


def has_held_out(corpus: Corpus) -> bool:
    """Whether enough held-out names consist of two tokens of the corpus, both of which occur in
    it."""
    return len(pieces(corpus).held_out) >= LEAST


def names_for(
    story: stories.Story, corpus: Corpus, rng: random.Random, held_out: bool
) -> list[tuple[int, int]]:
    """Names for a story's characters, of two tokens each; no two begin alike."""
    text, own = corpus.tokenizer, pieces(corpus)
    if held_out and not has_held_out(corpus):
        raise BadInput(
            f"the corpus of {text.name} gives two tokens to {len(own.held_out)} of the held-out "
            f"names, fewer than {LEAST}; choose another vocabulary or more stories"
        )
    elsewhere = set(text.encode(" ".join(story.parts))) if held_out else set[int]()
    names: list[tuple[int, int]] = []
    for _ in range(2000 if own.first and own.second else 0):
        if len(names) == len(story.names):
            return names
        a, b = (
            rng.choice(own.held_out)
            if held_out
            else (rng.choice(own.first), rng.choice(own.second))
        )
        taken = a in elsewhere or any(a == other for other, _ in names)
        if not taken and text.encode(text.decode([a, b])) == [a, b]:
            names.append((a, b))
    raise BadInput(
        f"the corpus of {text.name} has too few pieces for names of two tokens ({len(own.first)} "
        f"first ones, {len(own.second)} second ones); choose another vocabulary or more stories"
    )


def questions(
    corpus: Corpus, context: int, count: int = 100, held_out: bool = True
) -> list[Question]:
    """Every mention but the first of every character of `count` held-out stories, as far as the
    model's context reaches. They are the same for all models of one corpus."""
    text, found = corpus.tokenizer, []
    occurring = pieces(corpus).occurring
    for index in range(count):
        story = stories.story(SEED, index)
        names = names_for(story, corpus, random.Random(index), held_out)
        words = [text.decode(list(name)).strip() for name in names]
        tokens = [text.bos, *text.encode(story.text(words))][: context + 1]
        pairs = list(itertools.pairwise(tokens))
        places = {name: [at for at, pair in enumerate(pairs) if pair == name] for name in names}
        for name, mentions in places.items():
            seen = bool(occurring[list(name)].all())
            for at in mentions[1:]:
                before = [other for other, starts in places.items() if starts and starts[0] < at]
                alike = sum(other[1] == name[1] for other in before)
                found.append(Question(tokens, at, seen, alike / len(before)))
    return found


@torch.inference_mode()
def replies(model: MultiTokenTransformer, asked: list[Question]) -> list[Reply]:
    """Head 1's, question by question."""
    device, found = model.embedding.weight.device, []
    made: dict[int, tuple[list[int], list[float]]] = {}
    for question in asked:
        key = id(question.tokens)
        if key not in made:
            read = question.tokens[: model.config.context]
            logits = model(torch.tensor([read], device=device), 1)[0][0].float()  # (T, V)
            target = torch.tensor(question.tokens[1 : len(read) + 1], device=device)
            known = logits[: len(target)]  # of a text's last token, no target may be known
            nats = torch.nn.functional.cross_entropy(known, target, reduction="none")
            made[key] = logits.argmax(-1).tolist(), nats.tolist()
        best, nats = made[key]
        right = best[question.at] == question.tokens[question.at + 1]
        found.append(Reply(right, nats[question.at]))
    return found


class Floors(NamedTuple):
    """What guesses without copying have: shares that are right, and nats."""

    commonest: float  # the second token that is right most often
    drawn: float  # a name mentioned before, drawn evenly
    drawn_nats: float  # its loss


def floors(asked: list[Question]) -> Floors:
    """Raises ValueError without questions."""
    if not asked:
        raise ValueError("no questions, so no guess has a share of right answers")
    second = Counter(question.tokens[question.at + 1] for question in asked)
    return Floors(
        commonest=max(second.values()) / len(asked),
        drawn=fmean(question.drawn for question in asked),
        drawn_nats=fmean(-math.log(question.drawn) for question in asked),
    )


def by_ngrams(split: Split, asked: list[Question]) -> list[bool]:
    """The same for the statistics of the training text: the token that most often follows the last
    two, or the last one if those two never occurred."""
    last = np.unique([question.tokens[question.at] for question in asked])
    parts = []
    for start in range(0, max(0, split.tokens - 2), CHUNK):
        text = split.read(start, min(start + CHUNK + 2, split.tokens))
        kept = np.isin(text[1:-1], last)
        parts.append(np.stack([text[:-2][kept], text[1:-1][kept], text[2:][kept]]))
    before, here, after = np.concatenate(parts, 1)
    best: dict[tuple[int, int], int] = {}
    right = []
    for question in asked:
        one, two = question.tokens[question.at - 1 : question.at + 1]
        if (one, two) not in best:
            follows = here == two
            both = follows & (before == one)
            counts = np.bincount(after[both if both.any() else follows], minlength=1)
            best[one, two] = int(counts.argmax()) if counts.any() else -1
        right.append(best[one, two] == question.tokens[question.at + 1])
    return right
