"""Exact-match accuracy on polynomial arithmetic (section 4.2, Figures 8, S15, S16)."""

from collections import Counter

from mtp.config import CorpusConfig
from mtp.data.corpus import Corpus
from mtp.data.sources import generator_options
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.model import MultiTokenTransformer
from synthetic import polynomials

MODULE = "synthetic.polynomials"
BATCH = 250


def task_of(corpus: Corpus) -> polynomials.Task:
    """The task that a corpus was made for. Raises BadInput if it is not one of polynomials."""
    source = CorpusConfig(**corpus.manifest["config"]).source
    module, options = generator_options(source)
    if module != MODULE:
        raise BadInput(f"the corpus is of source {source}; this evaluation needs python:{MODULE}")
    return polynomials.task(options)


def right_answers(
    model: MultiTokenTransformer, corpus: Corpus, m: int, count: int
) -> list[tuple[str, bool]]:
    """`count` test questions of m operations, and whether the model's greedy answer has every
    coefficient right. The test set depends on the ring, m and count alone; in a small ring it may
    contain a question more than once.

    Decoding uses all heads, which changes no token unless two are equal up to rounding. Raises
    BadInput if a question and its answer do not fit the model's context.
    """
    task, text = task_of(corpus), corpus.tokenizer
    problems = task.problems(m, count)
    problems.sort(key=lambda problem: len(problem[0]))  # so that batches have little padding
    found = []
    for start in range(0, len(problems), BATCH):
        questions, answers = zip(*problems[start : start + BATCH], strict=True)
        prompts = [[text.bos, *text.encode(question)] for question in questions]
        made = generate(model, prompts, task.ring.d).tokens
        right = [text.decode(t) == a for t, a in zip(made, answers, strict=True)]
        found += zip(questions, right, strict=True)
    return found


def commonest_answer(task: polynomials.Task, m: int, count: int) -> float:
    """Share of the test set that has its most frequent answer, which is what a constant answer
    gets."""
    answers = Counter(answer for _, answer in task.problems(m, count))
    return max(answers.values()) / answers.total()
