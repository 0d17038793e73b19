"""The paper's artefacts and what stands for each of them here: the table of docs/studies/README.md
as data, for the report (experiments/report.py).
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["rows", "harness", "planned", "configs", "open"]


@dataclass(frozen=True)
class Artefact:
    """A table, figure or section of the paper.

    state    "rows": rows are committed. "harness": it can be measured, but no study trains the
             models that it compares. "planned": configured and not run. "configs": it is settings,
             which the code has. "open": nothing measures it yet
    section  of the report: a study or an evaluation with rows
    page     under docs/, without .md
    command  that makes its rows
    note     what is missing
    """

    name: str
    state: State
    section: str = ""
    page: str = ""
    command: str = ""
    note: str = ""


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of checkpoints whose rows are in results/NAME/results.csv.

    paper  the artefacts in results/paper/reported.csv that it could be compared with
    """

    name: str
    artefact: str
    question: str
    command: str
    limits: str
    paper: tuple[str, ...]


def _study(name: str, study: str, note: str = "", scale: str = "") -> Artefact:
    state = "planned" if scale else "rows"
    command = f"make {study}" + f" SCALE={scale}" * bool(scale)
    return Artefact(name, state, study, f"studies/{study}", command, note)


def _planned(name: str, study: str, scale: str = "") -> Artefact:
    note = "with predictions; no rows yet"
    command = f"make {study}" + f" SCALE={scale}" * bool(scale)
    return Artefact(name, "planned", study, f"studies/{study}", command, note)


def _harness(name: str, section: str, note: str = "", command: str = "make evaluate") -> Artefact:
    return Artefact(name, "harness", section, f"studies/{section}", command, note)


PASS_AT_K = "bits per byte for pass@k"
BENCH = "studies/README"

ARTEFACTS = (
    _study("Table 1, 200B tokens: n = 1, 2, 4, 6, 8", "sweep-n", PASS_AT_K),
    _planned("Table 1, 313B bytes: n = 1, 8, 16, 32", "sweep-bytes"),
    Artefact("Table 1, 1T tokens: four epochs (section 3.5)", "open"),
    Artefact(
        "Tables 1, S2: the released 7B models", "harness", "", "studies/evaluate-released",
        "make evaluate-released", "the files are gated",
    ),
    Artefact(
        "Figure 2, S11: heads' forward and backward in sequence", "rows", "", BENCH,
        "make bench-schemes", "one shape",
    ),
    _harness("Figure 3, Table S7: scaling 0.3B to 13B", "evaluate", "no study of size"),
    _harness(
        "Figure 4: (n, n') on CodeContests", "finetuning", "pairs and judge; no models",
        "python -m evals.benchmarks.codecontests",
    ),
    _harness("Figure 5, S12: choices", "evaluate"),
    _harness("Figure 6, Tables S8 to S10: summaries", "finetuning", "a trial on SciTLDR"),
    _planned("Figure 7: induction", "synthetic-induction"),
    _planned("beyond the paper: attention heads that copy", "synthetic-induction-heads"),
    _planned("Figure S14: books among the stories", "synthetic-induction-books", "night"),
    _study("Figure 8: polynomial arithmetic", "synthetic-polynomials", "a smaller ring"),
    _planned("Figure S15: pause tokens", "synthetic-pauses"),
    _study("Figure S16: polynomials at 30M and 100M", "synthetic-polynomials", scale="paper"),
    _planned("Table S2: self-speculative decoding", "decoding"),
    _planned("Figure S10: throughput and latency by batch", "decoding"),
    _planned("Table S3: the same on bytes", "decoding-bytes"),
    _planned("Section 3.2: pretrained heads draft better than added ones", "grow-heads"),
    _study("Table S4: head types", "sweep-heads", "bits per byte for pass@k"),
    _study("Tables 1 and S4, controls: where the cost of n=4 comes from", "sweep-controls"),
    Artefact(
        "Table S5: training time against n=1", "rows", "", BENCH, "make bench-heads",
        "n = 2, 4, 8 at three small sizes, one device",
    ),
    _planned("Table S6: a trained model goes on with more heads", "grow-heads"),
    _harness(
        "Table S11: whitespace after the prompt", "evaluate",
        "two variants each of HumanEval and microcode",
    ),
    _harness("Table S12: the best temperatures", "evaluate", "chosen temperatures are in the rows"),
    _harness("Figure S13: GSM8K", "evaluate"),
    Artefact("Tables S13, S14: settings and sizes", "configs", "", "configuration"),
    _study("Section 5.1, L.3: choice points", "synthetic-choices"),
    _study("Section 5.2, L.2: information", "information"),
    Artefact("L.4: order of factorisation", "open"),
    Artefact(
        "Section 8: future work (choosing n, vocabulary, losses in embedding space)", "open"
    ),
)  # fmt: skip

# Minutes on two cores at the cpu scale. Rows do not record them.
MINUTES = {
    "sweep-n": "20 minutes (by its FLOPs; 44 beside other work)",
    "synthetic-induction": "17 minutes",
    "synthetic-induction-heads": "2 minutes after synthetic-induction",
    "sweep-controls": "14 minutes after sweep-n, about 23 alone",
    "sweep-heads": "11 minutes after sweep-n, about 22 alone",
    "information": "4 minutes after sweep-controls",
    "synthetic-polynomials": "22 minutes",
    "synthetic-choices": "19 minutes",
    "evaluate": "15 minutes, training left out",
}

EVALUATIONS = (
    Evaluated(
        "evaluate",
        "Figures 5, S12, S13; harness only",
        "is an n=4 model of 3.2M parameters better or worse on benchmarks than an n=1 model "
        "trained like it?",
        "make evaluate CHECKPOINT='RUN ..' BENCHMARKS=microcode,humaneval,..",
        "One seed for each n: the intervals are over problems, so they say that two models differ, "
        "not that n does. Problems that do not fit the context of 256 tokens count as unsolved. "
        "No reference line is drawn for constant answers.",
        ("Figure 5", "Figure S13"),
    ),
    Evaluated(
        "finetuning",
        "Figure 4, Tables S8 to S10; a trial",
        "is it better to finetune with the pretrained heads (n'=4) or with one (n'=1)?",
        "make evaluate CHECKPOINT='RUN ..' BENCHMARKS=scitldr OUT=results/mine/finetuning",
        "One pretrained model: the seeds cover the finetuning only. The start is a model of Python "
        "code, and no reference line says whether any of its English summaries is good. The arm "
        "that is pretrained and finetuned with n=1 is absent.",
        ("Figure 4", "Table S9 average / Figure 6"),
    ),
)
