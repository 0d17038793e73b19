"""Induction on invented names (section 4.1, Figures 7, S14).

Each character of a held-out story gets a random name of two tokens. A model that has read the name
once can tell its second token from its first one at every later mention:

    One day, Ka|rop met Flu|vel. Ka|rop was sad. ... Flu|vel helped Ka|rop.
             ^  ^       ^   ^    ^  ^ asked                ^ asked     ^ asked

The paper joins random tokens and notes that some never occur in training. We ask two kinds:

    known   pieces that begin and end names in the training text, 20 times at least, in pairs that
            it never shows; and no name begins with a token that its story has elsewhere
    any     pieces drawn from the whole vocabulary, as in the paper; those whose tokens never occur
            in training are counted apart

Pieces are single tokens of the run's own tokenizer. One that keeps no space in its tokens' text
(Llama's) has no such names yet.
"""

import functools
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from mtp.corpus import Corpus
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer
from mtp.shards import Split
from synthetic import stories

SEED = stories.TEST_SEED
LEAST = 20  # times that a known piece was seen in its place
CHUNK = 4_000_000  # tokens


@dataclass(frozen=True)
class Question:
    """Predict tokens[at + 1] from those before; seen: the name's tokens occur in training."""

    tokens: list[int]
    at: int
    seen: bool


@dataclass(frozen=True)
class Pieces:
    """Tokens that can begin a name (letters after a space, the first a capital) and end one, by
    what the training text shows of them; shown: pairs that stand there, first * V + second."""

    first: list[int]
    second: list[int]
    known_first: list[int]
    known_second: list[int]
    occurring: np.ndarray
    shown: set[int]


@functools.lru_cache(2)
def pieces(corpus: Corpus) -> Pieces:
    text, V = corpus.tokenizer, corpus.tokenizer.vocab_size
    begins, ends = np.zeros(V, bool), np.zeros(V, bool)
    for token in range(V):
        piece = text.decode([token])
        letters = piece.removeprefix(" ")
        if letters.isascii() and letters.isalpha() and len(letters) <= 5:
            begins[token] = letters != piece and letters[0].isupper()
            ends[token] = letters == piece and piece.islower()
    counts, firsts, seconds = (np.zeros(V, int) for _ in range(3))
    shown: set[int] = set()
    for chunk in chunks(corpus.train):
        counts += np.bincount(chunk, minlength=V)
        pair = begins[chunk[:-1]] & ends[chunk[1:]]
        first, second = chunk[:-1][pair], chunk[1:][pair]
        firsts += np.bincount(first, minlength=V)
        seconds += np.bincount(second, minlength=V)
        shown.update(np.unique(first * V + second).tolist())
    return Pieces(
        np.flatnonzero(begins).tolist(),
        np.flatnonzero(ends).tolist(),
        np.flatnonzero(firsts >= LEAST).tolist(),
        np.flatnonzero(seconds >= LEAST).tolist(),
        counts > 0,
        shown,
    )


def chunks(split: Split) -> Iterator[np.ndarray]:
    """The split's tokens, CHUNK at a time, each with the first token of the next."""
    for start in range(0, split.tokens, CHUNK):
        yield split.read(start, min(start + CHUNK + 1, split.tokens))


def names_for(
    story: stories.Story, corpus: Corpus, rng: random.Random, known: bool
) -> list[tuple[int, int]]:
    """Names for a story's characters, of two tokens each, none beginning as another one does."""
    text, own = corpus.tokenizer, pieces(corpus)
    first, second = (own.known_first, own.known_second) if known else (own.first, own.second)
    elsewhere = set(text.encode(" ".join(story.parts))) if known else set[int]()
    names: list[tuple[int, int]] = []
    for _ in range(2000 if first and second else 0):
        if len(names) == len(story.names):
            return names
        a, b = rng.choice(first), rng.choice(second)
        taken = a in elsewhere or any(a == other for other, _ in names)
        new = not known or a * text.vocab_size + b not in own.shown
        if new and not taken and text.encode(text.decode([a, b])) == [a, b]:
            names.append((a, b))
    raise BadInput(
        f"the corpus of {text.name} has too few pieces for names of two tokens ({len(first)} first "
        f"ones, {len(second)} second ones); choose another vocabulary or more stories"
    )


def questions(corpus: Corpus, context: int, count: int = 100, known: bool = True) -> list[Question]:
    """Every mention but the first of every character of `count` held-out stories, as far as the
    model's context reaches. The same for all models of one corpus."""
    text, found = corpus.tokenizer, []
    occurring = pieces(corpus).occurring
    for index in range(count):
        story = stories.story(SEED, index)
        names = names_for(story, corpus, random.Random(index), known)
        words = [text.decode(list(name)).strip() for name in names]
        tokens = [text.bos, *text.encode(story.text(words))][: context + 1]
        for name in names:
            mentions = [at for at, pair in enumerate(itertools.pairwise(tokens)) if pair == name]
            seen = bool(occurring[list(name)].all())
            found += [Question(tokens, at, seen) for at in mentions[1:]]
    return found


@torch.inference_mode()
def answers(model: MultiTokenTransformer, asked: list[Question]) -> list[bool]:
    """Whether head 1's best token is right, question by question."""
    device, right = model.embedding.weight.device, []
    made: dict[int, list[int]] = {}
    for question in asked:
        key = id(question.tokens)
        if key not in made:
            tokens = torch.tensor([question.tokens[: model.config.context]], device=device)
            made[key] = model(tokens, 1)[0][0].argmax(-1).tolist()  # (T,)
        right.append(made[key][question.at] == question.tokens[question.at + 1])
    return right


def by_ngrams(split: Split, asked: list[Question]) -> list[bool]:
    """The same for the training text's statistics: the token that most often follows the last two,
    or the last one where those two never came."""
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
