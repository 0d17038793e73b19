"""The measurements behind the rules of mtp/parallel.py and of experiments.launch.slots.

Engines: one n=1 optimizer step (Trainer.train_step on random tokens) in every precision, attention
kernel and compilation worth comparing, timed in turn on all threads, at the cpu-scale shape and at
contexts of 1024 with the same tokens per step. What choose_engine picks is marked, and held
against the fastest.

Threads: one run on all threads against one single-thread run per core side by side, in tokens/s of
all together, in turns.
"""

import dataclasses
import itertools
import json
import os
import statistics
import sys
import time

import torch

from benchmarks import common
from benchmarks.train import trainer
from experiments.sweep_n import base, with_model
from mtp.config import TrainConfig, from_dict, override, to_json
from mtp.errors import exit_cleanly
from mtp.parallel import choose_engine

Case = tuple[str, str, str]  # precision, attention, compile

# All compiled; eager without autocast and matmul together, which pays for both.
CASES: list[Case] = [
    ("float32", "sdpa", "off"),
    ("float32", "matmul", "off"),
    ("autocast", "sdpa", "off"),
    ("bf16", "sdpa", "off"),
    ("bf16", "matmul", "off"),
    *((p, a, "on") for p in ("float32", "autocast", "bf16") for a in ("sdpa", "matmul")),
]


def shapes(quick: bool) -> dict[str, TrainConfig]:
    if quick:
        return {"smoke": base("smoke")}
    small = base("cpu")
    long = dataclasses.replace(with_model(small, context=1024), batch=2)
    return {"cpu scale": small, "context 1024": long}


def words(case: Case) -> str:
    precision, attention, compile_ = case
    return f"{precision}, {attention}, {'compiled' if compile_ == 'on' else 'eager'}"


def engines(
    report: common.Report, name: str, config: TrainConfig, cases: list[Case], seconds: float
) -> None:
    """tokens/s of every case at one shape; the chosen one against the fastest."""
    print(f"\n{name}: batch {config.batch} x {config.model.context}", flush=True)
    start, steps = time.monotonic(), {}
    for precision, attention, compile_ in cases:
        changes = [f"precision={precision}", f"attention={attention}", f"compile={compile_}"]
        step = trainer(override(config, changes)).train_step
        steps[words((precision, attention, compile_))] = step
        for _ in range(3):  # the first compiles
            step()
    print(f"compiled and warm after {time.monotonic() - start:.0f} s", flush=True)
    times = common.interleave(steps, seconds, warm=0)
    for case in steps:
        typical = common.median(times, case)
        report.add(f"{name}, {case}", "ms", 1e3 * typical, "ms")
        tokens = config.batch * config.model.context
        report.add(f"{name}, {case}", "tokens/s", tokens / typical, "tokens/s")
    engine = choose_engine(config)
    chosen = words((engine.precision, engine.attention, "on" if engine.compile else "off"))
    fastest = min(steps, key=lambda case: common.median(times, case))
    print(f"fastest: {fastest}; choose_engine picks {chosen}: {engine.reason}")
    if chosen in steps:
        slower = common.ratio(times, chosen, fastest)
        report.ratio(name, "step time of the chosen engine over the fastest's", slower, "<= 1.05")


# --------------------------------------------------------------------------------------------------
# one run on all threads, or one per core


def worker(threads: int, config: TrainConfig) -> None:
    """Get ready, then for each line of seconds on stdin: train that long, print tokens/s."""
    torch.set_num_threads(threads)
    step = trainer(config).train_step
    for _ in range(3):
        step()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < float(line):
            step()
            done += 1
        seconds = time.perf_counter() - start
        print(json.dumps(done * config.batch * config.model.context / seconds), flush=True)


def threads(report: common.Report, config: TrainConfig, seconds: float, rounds: int) -> None:
    """Tokens/s of all runs together, for one run on all cores and for one run per core."""
    cores = len(os.sched_getaffinity(0))
    layouts = {f"1 run x {cores} threads": [cores], f"{cores} runs x 1 thread": [1] * cores}
    speeds: dict[str, list[float]] = {name: [] for name in layouts}
    text = to_json(config)
    # all at once: their compilations share the cores
    started = {
        name: [common.start("benchmarks.engine", "--worker", n, text) for n in layout]
        for name, layout in layouts.items()
    }
    try:
        for processes in started.values():
            for process in processes:
                common.answer(process)
        for _ in range(rounds):
            for name, processes in started.items():
                for process in processes:
                    assert process.stdin
                    print(seconds, file=process.stdin, flush=True)
                speeds[name].append(sum(common.answer(process) for process in processes))
    finally:
        for process in itertools.chain(*started.values()):
            process.kill()
            process.communicate()
    print()
    for name, found in speeds.items():
        report.add(name, "tokens/s", statistics.median(found), "tokens/s")
    one, many = speeds.values()
    gain = statistics.median(b / a for a, b in zip(one, many, strict=True))
    report.ratio("cpu scale", f"tokens/s of {cores} runs x 1 thread over 1 run", gain, ">= 1")


@exit_cleanly
def main() -> None:
    parser = common.parser(__doc__, seconds=90)
    parser.add_argument("--worker", nargs=2, help="used by the benchmark itself")
    args = parser.parse_args()
    if args.worker:
        values = json.loads(args.worker[1])
        return worker(int(args.worker[0]), from_dict(TrainConfig, values))
    # every case is a variant of the same compiled layer
    torch._dynamo.config.recompile_limit = 64  # pyright: ignore[reportPrivateImportUsage]
    report = common.Report("engine", args.out)
    made = shapes(args.quick)
    for name, config in made.items():
        cases = [case for case in CASES if case[2] == "off" or not args.quick]
        engines(report, name, config, cases, args.seconds / 3)
    if common.DEVICE == "cpu":
        config = next(iter(made.values()))
        engine = choose_engine(config)
        changes = [f"precision={engine.precision}", f"attention={engine.attention}"]
        changes.append(f"compile={'off' if args.quick else 'on'}")
        threads(report, override(config, changes), args.seconds / 18, rounds=3)
    report.table({"ms": ",.1f", "tokens/s": ",.0f"})
    report.finish()


if __name__ == "__main__":
    main()
