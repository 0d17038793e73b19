"""Multiple choice by log-likelihood (section 3.7, Figures 5, S12).

    "The man turned on the faucet therefore"  " the toilet filled with water."     ln p = -31.2
                                              " water flowed from the spout."      ln p = -18.0  <-

A model's answer is the choice that it finds most likely after the prompt: by the sum of ln p, by
the sum divided by the choice's characters, or by its bytes (acc, acc_norm and acc_bytes of
lm-evaluation-harness). The paper only names the benchmarks. It does not say which prompts, how many
shots and which of these sums it uses. The first Llama paper, of the same laboratory, divides by
characters, so this is the most likely.

The prompts are those of lm-evaluation-harness 0.4.13, except that COPA's choices follow one space
instead of two; the variant `two-spaces` is the harness's. MMLU is averaged over questions, not over
subjects.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

from evals.benchmarks import choice_data
from evals.harness.counter import Counter
from evals.harness.likelihood import likelihoods, request
from evals.harness.one_answer import Scored, Scores, Work
from evals.harness.problems import Problem
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import Tokenizer

POST = "the likeliest choice: by the sum of ln p, by that over characters, by that over bytes"
METRICS = ("accuracy", "accuracy per character", "accuracy per byte")
SOLVED = " {answer}\n\n"
MMLU = (
    "The following are multiple choice questions (with answers) about {subject}.\n\n"
    "{shots}{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:"
)


def protocol(
    benchmark: str, template: str, variant: str = "0-shot", shots: int = 0, solved: str = SOLVED
) -> Protocol:
    return Protocol(benchmark, variant, shots, template, solved, post=POST)


PROTOCOLS = (
    protocol("arc-challenge", "Question: {question}\nAnswer:"),
    protocol("arc-easy", "Question: {question}\nAnswer:"),
    protocol("copa", "{premise} {connector}"),
    protocol("copa", "{premise} {connector}", "two-spaces", solved="  {answer}\n\n"),
    protocol("hellaswag", "{context}"),
    protocol("mmlu", MMLU, "5-shot", 5),
    protocol("mmlu", MMLU),
    protocol("piqa", "Question: {goal}\nAnswer:"),
    protocol("siqa", "Q: {context} {question}\nA:"),
)


def continuations(problem: Problem, protocol: Protocol) -> list[str]:
    """What is scored after the prompt: each choice, in the place where a solved example has its
    answer."""
    lead, _, _ = protocol.solved.partition("{answer}")
    return [lead + choice for choice in problem.about["choices"]]


def longest(problem: Problem, protocol: Protocol, text: Tokenizer) -> int:
    """Tokens of the longest choice."""
    return max(len(text.encode(each)) for each in continuations(problem, protocol))


def score(work: Work) -> dict[str, Scores]:
    """Whether the right choice is taken, by each sum. ln p that the journal already has is not
    computed again; batches follow from the prompts alone, so what is added later is the same."""
    work.journal.check("ln p of a problem's choices", lambda record: is_kept(record, work.problems))
    have = {record["problem"]: record["nats"] for record in work.journal.records}
    order = sorted(work.asked, key=lambda name: (-len(work.asked[name].tokens), name))
    with Counter(work.protocol.benchmark, len(order)) as counter:
        counter.skip(len(have))
        for start in range(0, len(order), work.batch):
            names = order[start : start + work.batch]
            new = [name for name in names if name not in have]
            if not new:
                continue
            choices = {name: continuations(work.problems[name], work.protocol) for name in names}
            asked = [(work.asked[name].text, each) for name in names for each in choices[name]]
            pairs = [request(work.text, prompt, each) for prompt, each in asked]
            scored = iter(likelihoods(work.model, pairs))
            found = {name: [next(scored).nats for _ in choices[name]] for name in names}
            have |= {name: found[name] for name in new}
            work.journal.add(*({"problem": name, "nats": found[name]} for name in new))
            counter.add(len(new))
    return {name: right(work.problems[name], have[name]) for name in order}


def is_kept(record: Mapping[str, Any], problems: Mapping[str, Problem]) -> bool:
    """Whether a record has a number for each choice of one of the problems."""
    name, nats = record.get("problem"), record.get("nats")
    if not isinstance(name, str) or name not in problems or not isinstance(nats, list):
        return False
    numbers = [each for each in nats if type(each) in (int, float) and math.isfinite(each)]
    return len(numbers) == len(nats) == len(problems[name].about["choices"])


def right(problem: Problem, nats: list[float]) -> Scores:
    """Whether the most likely choice, by each sum, is the right one."""
    choices = problem.about["choices"]
    lengths = (
        [1] * len(choices),
        [max(1, len(choice)) for choice in choices],
        [max(1, len(choice.encode())) for choice in choices],
    )
    taken = (max(range(len(nats)), key=lambda i: nats[i] / own[i]) for own in lengths)
    gold = problem.about["gold"]
    return {name: float(i == gold) for name, i in zip(METRICS, taken, strict=True)}


def chance(problem: Problem) -> float:
    return 1 / len(problem.about["choices"])


CHOICES = tuple(
    Scored(
        name,
        tuple(each for each in PROTOCOLS if each.benchmark == name),
        functools.partial(choice_data.load, name),
        score,
        METRICS,
        longest,
        chance,
    )
    for name in dict.fromkeys(each.benchmark for each in PROTOCOLS)
)
