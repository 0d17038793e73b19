"""Evaluate trained or imported models on benchmarks.

    python -m evals --checkpoint runs/mine --benchmarks humaneval,microcode --out results/mine

With several checkpoints, differences to the first are reported too. The same command continues an
interrupted evaluation. OUT/results.csv has one row per number; rows of other benchmarks, variants
and checkpoints stay in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.benchmarks.names import NAMES
from evals.harness.candidates import Candidate, Measured, Options
from evals.harness.problems import add_source, source_of
from evals.harness.verdicts import LEAST, Judging
from evals.sandbox.runner import Limits
from mtp.command_line import add_device, add_out, device_of, new_parser, out_of
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.files import must_be_writable, write_atomically
from mtp.hardware import device_name
from mtp.locks import locked
from mtp.records import commit, versions

if TYPE_CHECKING:
    import pandas as pd

FIELDS = [field.name for field in dataclasses.fields(Measured)]
COLUMNS = [*FIELDS, "precision", "device", "versions", "commit"]
NUMBERS = {"value": float, "low": float, "high": float, "count": int}
WHOSE = ["benchmark", "variant", "checkpoint"]


def parser(module: str) -> argparse.ArgumentParser:
    made = new_parser(module, __doc__)
    say = made.add_argument
    say("--checkpoint", type=Path, nargs="+", required=True, help="runs, or files in RUN/kept")
    say("--benchmarks", required=True, help=f"of {', '.join(NAMES)}; with commas between")
    add_source(made)
    add_out(made, "evaluate")
    say("--variant", action="append", default=[], metavar="NAME=VARIANT", help="mbpp=austin, ..")
    say("--samples", type=int, help="answers to each problem (default: the protocol's)")
    say("--temperatures", help="with commas between; 0 is greedy (default: the benchmark's)")
    say("--max-new", type=int, help="tokens of an answer; at most half of the model's context")
    say("--limit", type=int, help="the first problems only")
    say("--batch", type=int, default=32, help="answers drawn or problems scored at once; 32")
    drafting = (
        "heads that draft, or all of a model with fewer; 1: none (default: all, or 1 if faster)"
    )
    say("--k", type=int, help=drafting)
    say("--seed", type=int, default=0)
    add_device(made)
    usual = Limits()
    times = f"{usual.wall / usual.cpu:g}"
    limit = f"of CPU time for a program ({usual.cpu}), {times} times that of wall clock"
    say("--time-limit", type=int, metavar="SECONDS", help=limit)
    memory = f"memory of a program, from {LEAST} on ({usual.memory >> 20})"
    say("--memory", type=int, metavar="MB", help=memory)
    say("--workers", type=int, help="programs that run at a time (one for each core)")
    say("--allow-unsandboxed", action="store_true", help="run programs without bubblewrap")
    return made


def evaluate(args: argparse.Namespace) -> pd.DataFrame:
    """Measure, write OUT/results.csv and print the table. Returns all rows of OUT."""
    import pandas as pd

    for name in args.benchmarks.split(","):  # before the packages of benchmarks are imported
        choose("benchmark", name, NAMES)
    options = Options(
        out=out_of(args),
        source=source_of(args),
        samples=args.samples,
        temperatures=temperatures(args.temperatures),
        max_new=args.max_new,
        limit=args.limit,
        batch=args.batch,
        k=args.k,
        seed=args.seed,
        judging=Judging.of(args.time_limit, args.memory, args.workers, args.allow_unsandboxed),
    )
    device, precision = device_of(args)
    candidates = [Candidate(folder, device, precision) for folder in args.checkpoint]
    names = [candidate.name for candidate in candidates]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"two checkpoints are called {twice[0]}; rename a folder")
    most = max(candidate.config.n for candidate in candidates)
    if args.k and args.k > most:
        raise BadInput(f"--k is {args.k}; it must be from 1 to {most}, the most heads there are")
    from evals.benchmarks.registry import chosen

    wanted = chosen(args.benchmarks, args.variant)
    # Missing files are reported now, not after hours of drawing.
    data = [benchmark.data(protocol, options) for benchmark, protocol in wanted]
    found, rows = list[Measured](), pd.DataFrame(columns=COLUMNS)
    unasked = list[str]()
    for (benchmark, protocol), problems in zip(wanted, data, strict=True):
        new = benchmark.measure(candidates, problems, protocol, options)
        if none := report_skipped(new, candidates):
            unasked.append(none)
            continue
        found += new
        # Written now: a later benchmark may fail.
        rows = write(options.out / "results.csv", found, precision, device)
    if found:
        print(table(rows[measured(rows, found)]))
    if unasked:
        raise BadInput("; ".join(unasked))
    return rows


def report_skipped(found: Sequence[Measured], candidates: list[Candidate]) -> str:
    """Say how many problems do not fit a model's context and so count as unsolved. If none fits,
    return a line that says so: a model that was never asked has no score."""
    contexts = {candidate.name: candidate.config.context for candidate in candidates}
    for row in found:
        if row.metric != "skipped" or not row.value:
            continue
        skipped, context = round(row.value * row.count), contexts.get(row.checkpoint)
        whose = f"{row.checkpoint}'s context of {context} tokens"
        if skipped == row.count:
            return f"none of the {row.count} problems of {row.benchmark} fits {whose}; no rows"
        print(
            f"warning: {skipped} of {row.count} problems of {row.benchmark} do not fit {whose} and "
            "count as unsolved",
            file=sys.stderr,
        )
    return ""


def temperatures(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f"--temperatures {text!r} are not numbers with commas between") from None


def write(
    file: Path, found: Sequence[Measured], precision: str = "float32", device: str = ""
) -> pd.DataFrame:
    """Write the numbers into a file as rows with their origin. They replace rows of the same
    benchmarks, variants and checkpoints. Returns all rows of the file."""
    import pandas as pd

    origin = {"precision": precision, "device": device_name(device)}
    origin |= {"versions": versions(), "commit": commit()}
    rows = pd.DataFrame([dataclasses.asdict(row) | origin for row in found], columns=COLUMNS)
    must_be_writable(file)
    with locked(file.with_name(f".{file.name}.lock")):  # another evaluation may write it too
        before = read(file)
        kept = before[~measured(before, found)]
        text = io.StringIO()
        for part, header in ((kept, True), (rows, False)):
            part.to_csv(text, index=False, lineterminator="\n", header=header)
        write_atomically(file, text.getvalue().encode())
        return read(file)


def read(file: Path) -> pd.DataFrame:
    """The rows of a file, none if it does not exist; every number as it was written."""
    import pandas as pd

    kinds = {name: str for name in COLUMNS} | NUMBERS
    empty = {name: [""] for name in NUMBERS}
    try:
        rows = pd.read_csv(file, dtype=kinds, keep_default_na=False, na_values=empty)
    except FileNotFoundError:
        return pd.DataFrame(columns=COLUMNS)
    except (OSError, ValueError, OverflowError):
        rows = pd.DataFrame()
    if list(rows.columns) != COLUMNS:
        raise BadInput(f"{file} is not a table of results; choose another --out or move it away")
    return rows


def measured(rows: pd.DataFrame, found: Sequence[Measured]) -> pd.Series:
    """Which rows belong to a benchmark, variant and checkpoint that was just measured."""
    import pandas as pd

    now = {(row.benchmark, row.variant, row.checkpoint) for row in found}
    return pd.Series(
        [key in now for key in zip(*(rows[n] for n in WHOSE), strict=True)], rows.index, bool
    )


def table(rows: pd.DataFrame) -> str:
    """The measured numbers with their intervals, a line each; ROUGE as F1 only, and where a
    temperature was chosen, no number of a single one."""
    import pandas as pd

    def cell(row: pd.Series) -> str:
        if pd.isna(row.low):
            return f"{row.value:.4g}"
        return f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"

    keep = ["benchmark", "variant", "checkpoint", "metric", "temperature", "count"]
    rows = rows[~rows.metric.str.contains(" precision, | recall, ")]
    chosen = rows.temperature.isin(["oracle", "cross-validated"])
    whose = [*WHOSE, "metric"]
    has_choice = chosen.groupby([rows[name] for name in whose]).transform("any")
    rows = rows[chosen | ~has_choice]
    shown = rows[keep].assign(**{"value [90% interval]": rows.apply(cell, axis=1)})
    return shown.to_string(index=False)


@exit_cleanly
def main() -> None:
    evaluate(parser("evals").parse_args())


if __name__ == "__main__":
    main()
