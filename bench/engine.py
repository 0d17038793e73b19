"""The measurements behind the rules of mtp/training/engine.py and of
experiments.launch.local.side_by_side.

Engines: one n=1 optimizer step (Trainer.train_step on random tokens) by precision, attention kernel
and compilation. The cases are timed in turn on all threads, at the shape of bench/shapes.py and
with contexts of 1024, in the precision that choose_engine picks. Its choice is compared with the
fastest case. The first step of a compiled case, with nothing cached, says after how much training
the compilation pays off.

Threads: one run on all threads against a single-thread run for each core side by side, in turn, in
tokens/s of all runs together.
"""

import dataclasses
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch._inductor.utils import fresh_cache

from bench import common
from bench.shapes import bench_config
from bench.train import trainer
from experiments.bases import base, with_model
from mtp.command_line import out_of
from mtp.config import TrainConfig
from mtp.errors import exit_cleanly
from mtp.hardware import cores
from mtp.overrides import from_dict, override, to_json
from mtp.training.engine import Engine, choose_engine

Case = tuple[str, str, str]  # precision, attention, compile

# Every precision is compiled. Autocast is not timed eager, where it casts at every use.
CASES: list[Case] = [
    *((p, a, "off") for p in ("float32", "bf16") for a in ("sdpa", "matmul")),
    *((p, a, "on") for p in ("float32", "autocast", "bf16") for a in ("sdpa", "matmul")),
]


def shapes(quick: bool) -> dict[str, TrainConfig]:
    if quick:
        return {"smoke": base("smoke")}
    small = bench_config()
    long = dataclasses.replace(with_model(small, context=1024), batch=2)
    return {"cpu scale": small, "context 1024": long}


def words(case: Case) -> str:
    precision, attention, compile_ = case
    return f"{precision}, {attention}, {'compiled' if compile_ == 'on' else 'eager'}"


def with_engine(config: TrainConfig, case: Case) -> TrainConfig:
    precision, attention, compile_ = case
    changes = [f"precision={precision}", f"attention={attention}", f"compile={compile_}"]
    return override(config, changes)


def engines(
    report: common.Report,
    name: str,
    config: TrainConfig,
    chosen: Engine,
    cases: list[Case],
    seconds: float,
) -> None:
    """tokens/s of every case at one shape, and the choice against the fastest."""
    tokens = config.batch * config.model.context
    print(f"\n{name}: batch {config.batch} x {config.model.context}", flush=True)
    steps = {}
    for case in cases:
        step = steps[words(case)] = trainer(with_engine(config, case)).train_step
        start = time.perf_counter()
        step()
        first = time.perf_counter() - start
        report.add(f"{name}, {words(case)}", "first step, s", first, "s")
    times = common.interleave(steps, seconds, warm=2)
    for case in steps:
        typical = common.median(times, case)
        report.add(f"{name}, {case}", "ms", 1e3 * typical, "ms")
        report.add(f"{name}, {case}", "tokens/s", tokens / typical, "tokens/s")

    print(chosen.reason)
    on = chosen.compile and cases[-1][2] == "on"
    pick = words((chosen.precision, chosen.attention, "on" if on else "off"))
    fastest = min(steps, key=lambda case: common.median(times, case))
    slower = common.ratio(times, pick, fastest)
    report.ratio(name, f"step time of the choice ({pick}) over {fastest}", slower, "<= 1.05")
    eager = words((chosen.precision, chosen.attention, "off"))
    if pick != eager:
        gain = common.ratio(times, eager, pick)
        report.ratio(name, "tokens/s, compiled over eager", gain)
        found = {(r["case"], r["metric"]): r["value"] for r in report.rows}
        if gain > 1:
            spent = found[f"{name}, {pick}", "first step, s"] / (1 - 1 / gain)
            report.add(name, "eager seconds that repay a compilation", spent, "s")
            print(f"{name}: a compilation is repaid after {spent:.0f} s of eager work", flush=True)


# --------------------------------------------------------------------------------------------------
# one run on all threads, or one per core


def worker(threads: int, config: TrainConfig) -> None:
    """Get ready. Then, for each line of seconds on stdin, train that long and print tokens/s."""
    torch.set_num_threads(threads)
    serve(trainer(config).train_step, config.batch * config.model.context)


def serve(step: Callable[[], object], tokens: int) -> None:
    """Take steps of this many tokens, as `worker` describes."""
    for _ in range(3):
        step()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        start, done = time.perf_counter(), 0
        while not done or time.perf_counter() - start < float(line):
            step()
            done += 1
        print(json.dumps(done * tokens / (time.perf_counter() - start)), flush=True)


Command = tuple[object, ...]  # a module and its arguments


def in_turns(
    layouts: dict[str, list[Command]], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Tokens/s of all processes of each layout together, in each round. All processes start at
    once, so that they compile side by side. Then one layout works at a time."""
    speeds: dict[str, list[float]] = {name: [] for name in layouts}
    started = {
        name: [common.start(str(module), *arguments) for module, *arguments in commands]
        for name, commands in layouts.items()
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
    return speeds


def threads(report: common.Report, config: TrainConfig, seconds: float, rounds: int) -> None:
    """Tokens/s of all runs together: one run on all cores, and a run for each core."""
    count, text = cores(), to_json(config)
    command = ("bench.engine", "--worker")
    layouts: dict[str, list[Command]] = {
        f"1 run x {count} threads": [(*command, count, text)],
        f"{count} runs x 1 thread": [(*command, 1, text)] * count,
    }
    speeds = in_turns(layouts, seconds, rounds)
    print()
    for name, found in speeds.items():
        report.add(name, "tokens/s", statistics.median(found), "tokens/s")
    one, many = speeds.values()
    gain = statistics.median(b / a for a, b in zip(one, many, strict=True))
    report.ratio("cpu scale", f"tokens/s of {count} runs x 1 thread over 1 run", gain, ">= 1")


@exit_cleanly
def main() -> None:
    parser = common.parser("engine", __doc__, seconds=90)
    common.add_worker(parser, "--worker")
    args = parser.parse_args()
    if args.worker:
        values = json.loads(args.worker[1])
        return worker(int(args.worker[0]), from_dict(TrainConfig, values))
    # every case is a variant of the same compiled layer
    torch._dynamo.config.recompile_limit = 64  # pyright: ignore[reportPrivateImportUsage]
    report = common.Report("engine", out_of(args))
    configs = shapes(args.quick)
    cases = [case for case in CASES if case[2] == "off" or not args.quick]
    with fresh_cache():  # compilations are measured too
        for name, config in configs.items():
            chosen = choose_engine(config)
            if name == "context 1024":
                cases = [case for case in cases if case[0] == chosen.precision]
            engines(report, name, config, chosen, cases, args.seconds / 3)
        if common.DEVICE == "cpu":
            config = next(iter(configs.values()))
            chosen = choose_engine(config)
            case = (chosen.precision, chosen.attention, cases[-1][2])
            threads(report, with_engine(config, case), args.seconds / 18, rounds=3)
    report.table({"first step, s": ".1f", "ms": ",.1f", "tokens/s": ",.0f"})
    report.finish()


if __name__ == "__main__":
    main()
