"""What the tests of APPS and CodeContests share: prompts as texts, and verdicts on answers."""

from typing import Any

from evals.harness.many_samples import Sampled
from evals.harness.problems import Problem
from evals.harness.prompts import prompts
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import ByteTokenizer
from tests.evals.sandbox.helpers import need

DEEP = "[" * 500 + "]" * 500  # which Python can read, but not everything can go through


def judged(benchmark: Sampled, problem: Problem, answers: list[str]) -> list[str]:
    need()
    asked = [(problem, answer) for answer in answers]
    return list(benchmark.check.verdicts(asked, benchmark.variants[0], False))


def shown(benchmark: Sampled, data: Any, protocol: Protocol) -> dict[str, str]:
    made = prompts(data, protocol, ByteTokenizer(), 4096)
    return {name: ByteTokenizer().decode(p.tokens) for name, p in made.items() if p}
