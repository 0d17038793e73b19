"""CodeContests (Li et al. 2022): 165 contest problems; programs read stdin and write to stdout.

    python -m evals.benchmarks.codecontests --pairs pairs.jsonl --train train.jsonl

writes the training set's Python 3 solutions as prompts and completions, for finetuning with
`data.source=pairs:pairs.jsonl` (the paper's section 3.6). A prompt says whether its program is
right; `--incorrect` writes wrong ones too, as in the paper. The test asks for right ones. The
prompt is AlphaCode's for Python, without rating and tags, which are unknown at test time. The paper
does not give its own.

An answer is right if it passes all private and generated tests; the public tests are in the
problem's text. Output is compared by the rules of ScriptJob (evals/sandbox/runner.py). A case may
take the contest's time limit, or 10 seconds, the default of the authors' tester, if that is more.

From Appendix F: 1000 samples for each problem, temperatures .5 to .9. top_p is our choice.
"""

import math
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks.replies import MARKERS, without_markers
from evals.harness.many_samples import Sampled, by_tests
from evals.harness.problems import Dataset, Problem, Source, field, records, write_pairs
from evals.harness.protocol import Protocol
from evals.sandbox.runner import ScriptJob
from mtp.command_line import new_parser
from mtp.data.hub import rows as hub_rows
from mtp.errors import BadInput, exit_cleanly

HUB = "deepmind/code_contests"
TEMPERATURES = (0.5, 0.6, 0.7, 0.8, 0.9)
HIDDEN = ("private_tests", "generated_tests")
PYTHON3 = 3  # of UNKNOWN_LANGUAGE, PYTHON (2), CPP, PYTHON3, JAVA
SECONDS = 10
HEADER = "# LANGUAGE IS python3\n"
PROTOCOL = Protocol(
    benchmark="codecontests",
    variant="correct",
    template=HEADER + "# {verdict} SOLUTION\n{problem}\n",
    stops=("\n" + HEADER, *MARKERS),
    post="cut at the first stop",
    max_new=768,
    samples=1000,
    top_p=0.95,
)


def load(source: Source) -> Dataset:
    return dataset(*source.read("test.jsonl", "", (HUB, "default", "test")))


def dataset(records: Iterable[Mapping[str, Any]], origin: str) -> Dataset:
    """The problems, without those that have no hidden test or that read and write files."""
    made = [problem(number, record, origin) for number, record in enumerate(records)]
    judged = [p for p in made if p.about["cases"] and not p.about["files"]]
    if left := len(made) - len(judged):
        origin += f", {left} problems without hidden tests or with files left out"
    return Dataset(tuple(judged), (), origin)


def problem(number: int, record: Mapping[str, Any], origin: str) -> Problem:
    where = f"{origin}: problem {number}"
    cases = [case for name in HIDDEN for case in columns(record, name, "input", "output", where)]
    if not all(isinstance(text, str) for case in cases for text in case):
        raise BadInput(f"{where} has a test that is not a text")
    about = {
        "cases": tuple(cases),
        "files": any(record.get(name) for name in ("input_file", "output_file")),
        "cpu": max(SECONDS, math.ceil(time_limit(record, where))),
    }
    return Problem(f"codecontests/{number}", fields(record, where), about)


def time_limit(record: Mapping[str, Any], where: str) -> float:
    """In seconds; 0 if there is none."""
    limit = record.get("time_limit") or {}
    parts = (
        [limit.get(name) or 0 for name in ("seconds", "nanos")] if isinstance(limit, dict) else []
    )
    if not parts or not all(isinstance(part, int) and 0 <= part < 10**9 for part in parts):
        shown = reprlib.repr(limit)  # which may be long, and deep
        raise BadInput(f"{where} has a time_limit that is not of seconds and nanos: {shown}")
    return parts[0] + parts[1] / 1e9


def fields(record: Mapping[str, Any], origin: str, verdict: str = "CORRECT") -> dict[str, str]:
    """The problem's text as comments, like the header."""
    lines = field(record, "description", origin).strip().splitlines()
    commented = "\n".join(f"# {line}".rstrip() for line in lines)
    return {"verdict": verdict, "problem": commented}


def columns(
    record: Mapping[str, Any], name: str, first: str, second: str, origin: str
) -> list[tuple[Any, Any]]:
    """The pairs in a field of two lists."""
    lists = field(record, name, origin, dict)
    a, b = field(lists, first, origin, list), field(lists, second, origin, list)
    if len(a) != len(b):
        raise BadInput(f"{origin}: {name} has {len(a)} {first} and {len(b)} {second}")
    return list(zip(a, b, strict=True))


def job(problem: Problem, answer: str, protocol: Protocol) -> ScriptJob:
    return ScriptJob(answer, problem.about["cases"], problem.about["cpu"])


# --------------------------------------------------------------------------------------------------
# the training set: gigabytes, so one record at a time


def from_file(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield from records(file, lines)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise BadInput(f"{file} cannot be read: {reason}") from None


def pairs(
    records: Iterable[Mapping[str, Any]], origin: str, incorrect: bool
) -> Iterator[dict[str, str]]:
    """Prompts and completions, problem by problem."""
    kinds = {"CORRECT": "solutions"} | ({"INCORRECT": "incorrect_solutions"} if incorrect else {})
    for number, record in enumerate(records):
        where = f"{origin}: problem {number}"
        for verdict, name in kinds.items():
            prompt = PROTOCOL.template.format_map(fields(record, where, verdict))
            for language, program in columns(record, name, "language", "solution", where):
                if not isinstance(program, str):
                    raise BadInput(f"{where} has a solution that is not a text")
                if language == PYTHON3 and program.strip():
                    yield {"prompt": prompt, "completion": program.replace("\r\n", "\n")}


CODECONTESTS = Sampled(
    "codecontests", (PROTOCOL,), TEMPERATURES, load, by_tests(without_markers(job))
)


@exit_cleanly
def main() -> None:
    """Write the training set's Python 3 solutions as prompts and completions."""
    parser = new_parser("evals.benchmarks.codecontests", __doc__)
    say = parser.add_argument
    say("--pairs", type=Path, required=True, metavar="FILE", help="the file to write")
    say("--train", type=Path, metavar="FILE", help="the training set's JSON lines (default: hub)")
    say("--incorrect", action="store_true", help="wrong solutions too, marked as wrong")
    args = parser.parse_args()
    origin = str(args.train or HUB)
    hub = hub_rows(HUB, "default", split="train", streaming=True, instead="--train FILE")
    found = from_file(args.train) if args.train else hub
    count = write_pairs(args.pairs, pairs(found, origin, args.incorrect))
    print(f"{args.pairs}: {count} pairs")


if __name__ == "__main__":
    main()
