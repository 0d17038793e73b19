"""Polynomial arithmetic (section 4.2, Figures 8, S15, S16): how likely right answers are, how many
are exact, and what guesses get that do not calculate.

One pass of head 1 over questions with their right answers gives both outcomes. The answer is exact
if the likeliest token is the right one at each digit; greedy decoding, which is right until it is
wrong, then writes the same.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus
from mtp.data.sources import generator_options
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import polynomials
from synthetic.polynomials import Array

MODULE = "synthetic.polynomials"
BATCH = 500
Problem = tuple[str, str]  # a question with its "=", and the answer


def task_of(corpus: Corpus) -> polynomials.Task:
    """The task that a corpus was made for. Raises BadInput if it is not one of polynomials."""
    source = CorpusConfig(**corpus.manifest["config"]).source
    module, options = generator_options(source)
    if module != MODULE:
        raise BadInput(f"the corpus is of source {source}; this evaluation needs python:{MODULE}")
    return polynomials.task(options)


@dataclass(frozen=True)
class Marks:
    """How `count` questions were answered: the share of exact answers, and the negative
    log-likelihood of the right ones in nats per digit, each given the digits before it. Both are
    nan if there is no question."""

    exact: float
    nats: float
    count: int


@torch.inference_mode()
def marks(model: MultiTokenTransformer, corpus: Corpus, problems: Sequence[Problem]) -> Marks:
    """The marks of head 1. Raises BadInput if a question and its answer do not fit the context."""
    text, device = corpus.tokenizer, model.embedding.weight.device
    by_length: dict[int, list[Problem]] = {}
    for problem in problems:
        by_length.setdefault(len(problem[0]), []).append(problem)
    right, nats = 0, 0.0
    for length, alike in by_length.items():  # so that nothing is padded
        if length + len(alike[0][1]) > model.config.context:
            raise BadInput(
                f"{alike[0][0]} and its answer do not fit the context of {model.config.context}"
            )
        for start in range(0, len(alike), BATCH):
            part = alike[start : start + BATCH]
            ids = torch.tensor([[text.bos, *text.encode(q + a)] for q, a in part], device=device)
            log_p = model(ids[:, :-1], 1)[0][:, length:].float().log_softmax(-1)  # (N, d, V)
            answers = ids[:, length + 1 :]  # (N, d)
            nats -= float(log_p.gather(-1, answers[..., None]).double().sum())
            right += int((log_p.argmax(-1) == answers).all(-1).sum())
    count = len(problems)
    digits = sum(len(answer) for _, answer in problems)
    if not count:
        return Marks(math.nan, math.nan, 0)
    return Marks(right / count, nats / digits, count)


def mean(found: Sequence[Marks]) -> Marks:
    """Their macro-average: each counts the same, however many questions it is of."""
    return Marks(
        sum(each.exact for each in found) / len(found),
        sum(each.nats for each in found) / len(found),
        sum(each.count for each in found),
    )


# --------------------------------------------------------------------------------------------------
# what guesses get


def commonest_answer(problems: Sequence[Problem]) -> float:
    """The share of problems that have their most frequent answer: no constant answer gets more."""
    answers = Counter(answer for _, answer in problems)
    return max(answers.values()) / answers.total()


def one_operand(task: polynomials.Task, sign: str, problems: Sequence[Problem]) -> Marks | None:
    """The best marks without calculating: of a guess that knows the ring and one operand, with the
    other one uniform, by whichever operand tells more. None for rings whose pairs are too many to
    list.

    The guess is the likeliest answer given that operand; its likelihood is the answer's share.
    """
    operands = task.operands(sign, 0)
    if not len(operands[0]):
        return None
    values = _number(task.ring.apply(sign, *operands), task.ring.p)
    kinds, found = task.ring.p**task.ring.d, list[Marks]()
    for i, operand in enumerate(operands):
        table = np.zeros((kinds, kinds))  # how often each answer comes, by operand
        np.add.at(table, (_number(operand, task.ring.p), values), 1)
        table /= table.sum(1, keepdims=True)
        given = _numbers(task, [_operands_of(q, sign)[i] for q, _ in problems])
        right = _numbers(task, [answer for _, answer in problems])
        exact = float((table[given].argmax(1) == right).mean())
        nats = float(-np.log(table[given, right]).mean()) / task.ring.d
        found.append(Marks(exact, nats, len(problems)))
    return max(found, key=lambda each: each.exact)


def _operands_of(question: str, sign: str) -> list[str]:
    """The operands of one operation: ["20", "61"] of "(20+61)..="."""
    return question[1 : question.index(")")].removeprefix("-").split(sign)


def _number(rows: Array, p: int) -> Array:
    """Elements (N, d) as the numbers (N,) whose digits they are in base p."""
    return rows @ p ** np.arange(rows.shape[1])


def _numbers(task: polynomials.Task, texts: Sequence[str]) -> Array:
    return _number(np.array([[int(digit) for digit in text] for text in texts]), task.ring.p)
