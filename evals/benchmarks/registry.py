"""The benchmarks by name.

There are two kinds: answers are drawn and each is right or wrong (evals/harness/many_samples.py),
or every problem is asked once and scored (evals/harness/one_answer.py). A new kind is a class with
the methods of Benchmark and a row here; the command line, the table and the rows need no change.
"""

import typing
from typing import Protocol as Interface

from evals.benchmarks.apps import APPS
from evals.benchmarks.choice import CHOICES
from evals.benchmarks.closed_book import CLOSED_BOOK
from evals.benchmarks.codecontests import CODECONTESTS
from evals.benchmarks.gsm8k import GSM8K
from evals.benchmarks.humaneval import HUMANEVAL
from evals.benchmarks.mbpp import MBPP
from evals.benchmarks.microcode import MICROCODE
from evals.benchmarks.summaries import SUMMARIES
from evals.harness.candidates import Candidate, Measured, Options
from evals.harness.problems import Dataset
from evals.harness.protocol import Protocol
from mtp.errors import BadInput, choose


class Benchmark(Interface):
    @property
    def name(self) -> str: ...

    def protocol(self, variant: str | None) -> Protocol:
        """The variant of this name, the first for None. Raises BadInput if there is none."""
        ...

    def data(self, protocol: Protocol, options: Options) -> Dataset:
        """The problems of a variant. Raises BadInput if they, or a sandbox for them, are
        missing."""
        ...

    def measure(
        self, candidates: list[Candidate], data: Dataset, protocol: Protocol, options: Options
    ) -> list[Measured]:
        """All numbers of all candidates; differences are to the first candidate."""
        ...


KNOWN: tuple[Benchmark, ...] = (
    HUMANEVAL,
    MBPP,
    APPS,
    CODECONTESTS,
    GSM8K,
    MICROCODE,
    *CHOICES,
    *CLOSED_BOOK,
    *SUMMARIES,
)
BENCHMARKS: typing.Mapping[str, Benchmark] = {benchmark.name: benchmark for benchmark in KNOWN}


def chosen(names: str, variants: list[str]) -> list[tuple[Benchmark, Protocol]]:
    """The benchmarks of "NAME,NAME" with variants of ["NAME=VARIANT"]. Raises BadInput for a name
    that is unknown or comes twice."""
    wanted = names.split(",")
    for name in wanted:
        choose("benchmark", name, BENCHMARKS)
        if wanted.count(name) > 1:
            raise BadInput(f"benchmark {name} comes twice")
    own = dict[str, str]()
    for text in variants:
        name, _, variant = text.partition("=")
        choose("benchmark of --variant", name, wanted)
        own[name] = variant
    return [(BENCHMARKS[name], BENCHMARKS[name].protocol(own.get(name))) for name in wanted]
