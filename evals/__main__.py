"""Evaluate trained or imported models on benchmarks.

    python -m evals --checkpoint runs/mine --benchmarks humaneval,microcode --out results/mine
    python -m evals --samples samples.jsonl --benchmarks humaneval --out results/mine

With several checkpoints, differences to the first are reported too. The same command continues an
interrupted evaluation. A FILE of samples has lines of {"task_id": .., "completion": ..}, and may be
compressed (.gz). OUT/results.csv has one row per number; rows of other benchmarks, variants
and checkpoints stay in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.benchmarks.names import NAMES
from evals.harness.candidates import ROWS, Candidate, Measured, Options
from evals.harness.problems import add_source, source_of
from evals.harness.protocol import Protocol
from evals.harness.rows import measured, table, write
from evals.harness.rows import read as read_rows
from evals.harness.samples import count_or_file
from evals.harness.samples import read as read_samples
from evals.harness.verdicts import LEAST, Judging
from evals.sandbox.runner import Limits
from mtp.command_line import add_device, add_out, device_of, new_parser, out_of
from mtp.errors import BadInput, choose, exit_cleanly
from mtp.files import must_be_writable

if TYPE_CHECKING:
    import pandas as pd

    from evals.benchmarks.registry import Benchmark
    from evals.harness.many_samples import Sampled


def parser(module: str) -> argparse.ArgumentParser:
    made = new_parser(module, __doc__)
    say = made.add_argument
    say("--checkpoint", type=Path, nargs="+", help="runs, or files in RUN/kept")
    say("--benchmarks", required=True, help=f"of {', '.join(NAMES)}; with commas between")
    add_source(made)
    add_out(made, "evaluate")
    say("--variant", action="append", default=[], metavar="NAME=VARIANT", help="mbpp=austin, ..")
    samples = "answers to each problem (the protocol's), or a file with samples to be judged"
    say("--samples", type=count_or_file, metavar="N|FILE", help=samples)
    say("--temperatures", help="with commas between; 0 is greedy (default: the benchmark's)")
    say("--max-new", type=int, help="tokens of an answer; at most half of the model's context")
    say("--limit", type=int, help="the first problems only")
    say("--batch", type=int, help=f"answers drawn or problems scored at once (up to {ROWS})")
    drafting = (
        "heads that draft, or all of a model with fewer; 1: none (default: all, or 1 if faster)"
    )
    say("--k", type=int, help=drafting)
    say("--threads", type=int, help="of the processor for drawing (default: the fastest number)")
    say("--seed", type=int, default=0)
    export = "write the answers here: of one checkpoint, benchmark and temperature"
    say("--export-samples", type=Path, metavar="FILE", help=export)
    add_device(made)
    usual = Limits()
    times = f"{usual.wall / usual.cpu:g}"
    limit = f"of CPU time for a program ({usual.cpu}), {times} times that of wall clock"
    say("--time-limit", type=int, metavar="SECONDS", help=limit)
    memory = f"memory of a program, from {LEAST} on ({usual.memory >> 20})"
    say("--memory", type=int, metavar="MB", help=memory)
    say("--workers", type=int, help="programs that run at a time (one for each core)")
    packages = "that programs and tests may import, with commas between: numpy, .. (none)"
    say("--packages", metavar="NAMES", help=packages)
    where = "where tests run: outside the program's process, or inside, as in other harnesses"
    say("--tests", choices=("outside", "inside"), default="outside", help=where)
    say("--allow-unsandboxed", action="store_true", help="run programs without bubblewrap")
    return made


def evaluate(args: argparse.Namespace) -> pd.DataFrame:
    """Measure, write OUT/results.csv and print the table. Returns all rows of OUT. What takes long
    to import comes after all that can be refused without it."""
    args.benchmarks = ",".join(name.strip() for name in args.benchmarks.split(","))
    for name in args.benchmarks.split(","):
        choose("benchmark", name, NAMES)
    options = options_of(args)
    if isinstance(args.samples, Path):
        return judge_samples(args, options)
    if not args.checkpoint:
        raise BadInput("give --checkpoint, or --samples with a file of samples")
    candidates = [Candidate(folder) for folder in args.checkpoint]
    names = [candidate.name for candidate in candidates]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"two checkpoints are called {twice[0]}; rename a folder")
    most = max(candidate.config.n for candidate in candidates)
    if args.k and args.k > most:
        raise BadInput(f"--k is {args.k}; it must be from 1 to {most}, the most heads there are")
    from evals.benchmarks.registry import chosen

    wanted = chosen(args.benchmarks, args.variant)
    if options.export:
        must_be_exportable(options.export, wanted, candidates, options)
    must_fit(options.max_new, wanted, candidates)
    if ignored := unused(wanted, options):
        print(ignored, file=sys.stderr)
    device, precision = device_of(args)
    candidates = [candidate.on(device, precision) for candidate in candidates]
    # Missing files are reported now, not after hours of drawing.
    data = [benchmark.data(protocol, options) for benchmark, protocol in wanted]
    found, rows = list[Measured](), read_rows(options.out / "results.csv")
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


def options_of(args: argparse.Namespace) -> Options:
    return Options(
        out=out_of(args),
        source=source_of(args),
        samples=None if isinstance(args.samples, Path) else args.samples,
        temperatures=temperatures(args.temperatures),
        max_new=args.max_new,
        limit=args.limit,
        batch=args.batch,
        k=args.k,
        threads=args.threads,
        seed=args.seed,
        judging=Judging.of(
            args.time_limit,
            args.memory,
            args.workers,
            args.allow_unsandboxed,
            args.packages,
            args.tests,
        ),
        export=args.export_samples,
    )


def judge_samples(args: argparse.Namespace, options: Options) -> pd.DataFrame:
    """The rows of somebody's samples, instead of a model's answers."""
    file = args.samples
    drawing = ("checkpoint", "temperatures", "max_new", "k", "threads", "export_samples")
    if given := [name for name in drawing if getattr(args, name) is not None]:
        option = f"--{given[0].replace('_', '-')}"
        raise BadInput(f"{option} is for answers of a model; --samples {file} brings samples")
    if not file.is_file():
        raise BadInput(f"--samples {file} is neither a number of answers nor a file")
    from evals.benchmarks.registry import chosen

    wanted = chosen(args.benchmarks, args.variant)
    benchmark, protocol = sampled(*wanted[0])
    if len(wanted) > 1:
        raise BadInput(f"--samples {file} is of one benchmark; --benchmarks names {len(wanted)}")
    every = benchmark.data(protocol, dataclasses.replace(options, limit=None))
    samples = read_samples(file, benchmark.name, every, options.limit)
    data = dataclasses.replace(every, problems=every.problems[: options.limit])
    found = benchmark.of_samples(samples, data, protocol, options)
    rows = write(options.out / "results.csv", found, "", "cpu")
    print(table(rows[measured(rows, found)]))
    return rows


def sampled(benchmark: Benchmark, protocol: Protocol) -> tuple[Sampled, Protocol]:
    """A benchmark that has samples. Raises BadInput for one that asks each problem once."""
    from evals.benchmarks.registry import KNOWN
    from evals.harness.many_samples import Sampled

    choose(
        "benchmark with samples", benchmark.name, [b.name for b in KNOWN if isinstance(b, Sampled)]
    )
    assert isinstance(benchmark, Sampled)
    return benchmark, protocol


def must_fit(
    max_new: int | None,
    wanted: Sequence[tuple[Benchmark, Protocol]],
    candidates: Sequence[Candidate],
) -> None:
    """Raise BadInput if answers of so many tokens leave prompts less than half of a context."""
    shortest = min(candidates, key=lambda candidate: candidate.config.context)
    most = max(1, shortest.config.context // 2)
    draws = any(protocol.max_new for _, protocol in wanted)
    if max_new and draws and max_new > most:
        raise BadInput(
            f"--max-new is {max_new}; at most {most} with {shortest.name}'s context of "
            f"{shortest.config.context}"
        )


def unused(wanted: Sequence[tuple[Benchmark, Protocol]], options: Options) -> str:
    """A line that names the options that benchmarks which ask each problem once ignore; else ""."""
    from evals.harness.many_samples import Sampled

    given = {"--samples": options.samples, "--temperatures": options.temperatures}
    names = [name for name, value in given.items() if value is not None]
    once = [benchmark.name for benchmark, _ in wanted if not isinstance(benchmark, Sampled)]
    if not names or not once:
        return ""
    verb = "is" if len(names) == 1 else "are"
    ask = "it asks" if len(once) == 1 else "they ask"
    return f"{' and '.join(names)} {verb} ignored for {', '.join(once)}: {ask} each problem once"


def must_be_exportable(
    file: Path,
    wanted: Sequence[tuple[Benchmark, Protocol]],
    candidates: Sequence[Candidate],
    options: Options,
) -> None:
    """Raise BadInput unless the answers are of one kind, which a file of samples cannot tell
    apart."""
    kinds = [sampled(*each)[0] for each in wanted]
    grids = [options.temperatures or kind.temperatures for kind in kinds]
    for count, what in (
        (len(candidates), "checkpoints"),
        (len(kinds), "benchmarks"),
        (len(grids[0]), "temperatures"),
    ):
        if count > 1:
            raise BadInput(f"--export-samples is for one of each; there are {count} {what}")
    must_be_writable(file)


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


@exit_cleanly
def main() -> None:
    evaluate(parser("evals").parse_args())


if __name__ == "__main__":
    main()
