"""python -m experiments list | plan | run | status | plot STUDY [--scale S] [--launcher L]

list     the studies and the artefacts of the paper they reproduce
plan     a study's runs with parameters, tokens, FLOPs and hours, before anything starts
run      train and evaluate what is missing, then write results/STUDY/SCALE.csv and its figure
status   how far each run is, and why failed ones failed
plot     redraw the figure from the committed rows; without STUDY, every figure
"""

import argparse
import math
import signal
import sys
import time
from pathlib import Path
from typing import Literal

import pandas as pd
from tqdm import tqdm

from experiments import results
from experiments.study import (
    SCALES,
    STUDIES,
    Study,
    collect,
    find,
    missing_evaluations,
    plan,
    run_folder,
    run_name,
    scale_label,
    size_name,
)
from mtp.config import TrainConfig
from mtp.errors import BadInput, exit_cleanly

ROOT = Path("results")


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("list", "plan", "run", "status", "plot"))
    parser.add_argument("study", nargs="?", help=", ".join(STUDIES))
    parser.add_argument("--scale", default="cpu", help=", ".join(SCALES) + " (default: cpu)")
    parser.add_argument("--launcher", default="local", help="local, debug, slurm (default: local)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", dest="overrides",
        help="change a field of every run, e.g. --set model.dim=256; such rows get their own file",
    )  # fmt: skip
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="FIELD=VALUE",
        help="partition, account, hours, nodes, gpus, cpus, memory_gb, ...; also from slurm.toml",
    )  # fmt: skip
    parser.add_argument("--retry", action="store_true", help="run failed runs again")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where runs are kept")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are kept")
    parser.add_argument("--results", type=Path, default=ROOT, help="where rows and figures go")
    args = parser.parse_args()
    if args.command == "list":
        list_studies()
    elif args.study is None:
        if args.command != "plot":
            raise BadInput(f"{args.command} needs a study; choose one of: {', '.join(STUDIES)}")
        plot_all(args.results)
    else:
        study = find(args.study)
        configs = plan(study, args.scale, args.overrides)
        label = scale_label(args.scale, args.overrides)
        if args.command == "plan":
            show_plan(study, label, configs, args.data)
        elif args.command == "status":
            show_status(study, configs, args.runs)
        elif args.command == "plot":
            plot(study, args.results / study.name / f"{label}.csv", args.results)
        else:
            run(study, label, configs, args)


def list_studies() -> None:
    for name in STUDIES:
        study = find(name)
        print(f"{name:26} {study.artefact}: {study.question}")


def corpus_tokens(config: TrainConfig, data: Path) -> float:
    """Tokens of a pass over a config's corpus; nan where it is not built yet."""
    from mtp.batches import epoch_tokens
    from mtp.corpus import built

    corpus = built(config.data, data)
    return epoch_tokens(corpus.train, config.model.context) if corpus else float("nan")


def show_plan(study: Study, label: str, configs: list[TrainConfig], data: Path) -> None:
    """One line per run; the totals at the end."""
    from mtp.model import flops_per_token, parameter_counts
    from mtp.parallel import expected_flops

    print(f"{study.name} at scale {label}: {study.artefact}")
    header = f"{'run':40} {'size':>7} {'parameters':>12} {'tokens':>8} {'FLOPs':>8} {'hours':>7}"
    print(header)
    rate, device = expected_flops()
    total, unknown = 0.0, 0
    for config in configs:
        tokens = config.tokens or config.epochs * corpus_tokens(config, data)
        flops = tokens * flops_per_token(config.model)
        counted = not math.isnan(flops)
        total, unknown = total + (flops if counted else 0.0), unknown + (not counted)
        parameters = parameter_counts(config.model)["total"]
        budget = f"{tokens:8.2g} {flops:8.1e} {flops / rate / 3600:7.2g}"
        if not counted:
            budget = f"{config.epochs:.3g} passes over a corpus that is not built yet"
        name = run_folder(config, Path()).name
        print(f"{name:40} {size_name(config):>7} {parameters:12,} {budget}")
    print(
        f"{len(configs)} runs, {total:.2e} FLOPs, about {total / rate / 3600:.2g} hours of "
        f"training at {rate:.1e} FLOP/s ({device}); evaluation comes on top"
        + (f"; {unknown} runs are not counted" if unknown else "")
    )


def show_status(study: Study, configs: list[TrainConfig], runs: Path) -> None:
    for config in configs:
        folder = run_folder(config, runs)
        print(f"{folder.name:40} {state_of(study, folder)[1]}")


State = Literal["new", "active", "stopped", "trained", "finished", "failed"]


def state_of(study: Study, folder: Path) -> tuple[State, str]:
    """A run's state, and the same in words.

    new: never started. active: at work, or queued by Slurm. stopped: interrupted or killed, goes on
    when run again. trained: some evaluation is missing.
    """
    from experiments.jobs import read_status
    from experiments.launch import is_held, is_queued

    status = read_status(folder)
    told = status.get("state")
    at = f", step {status['step']}/{status['steps']}" if "steps" in status else ""
    todo = missing_evaluations(study, folder)
    if told == "finished" and not todo:
        return "finished", "finished"
    if is_held(folder):
        return "active", f"running{at}"
    if told != "failed" and is_queued(folder):
        return "active", f"queued{at}"
    if told == "failed":
        return "failed", f"FAILED at step {status.get('step')}: {status.get('error')}"
    if told == "finished":
        return "trained", f"trained, to be evaluated: {', '.join(todo)}"
    if told is None:
        return "new", "not started"
    return "stopped", f"{'killed; will go on' if told == 'running' else told}{at}"


# --------------------------------------------------------------------------------------------------
# run


def run(study: Study, label: str, configs: list[TrainConfig], args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, collect the rows, draw the figure."""
    from experiments.launch import (
        Job,
        Launch,
        check_launcher,
        make_job,
        slurm_options,
    )
    from mtp.corpus import build
    from mtp.sources import SOURCES
    from mtp.tokenizer import by_path
    from mtp.train import own_tokenizer

    check_launcher(args.launcher)
    slurm = slurm_options(args.slurm)
    file = args.results / study.name / f"{label}.csv"
    if file.exists():
        results.read(file)  # told before hours of work, not after them
    if not all(config.data.source for config in configs):
        raise BadInput(
            f"scale {args.scale} leaves the corpus to you; name one with "
            f"--set data.source=SOURCE, SOURCE one of: {', '.join(SOURCES)}"
        )
    todo, failed, unfinished, elsewhere = [], [], [], []
    for config in configs:
        folder = run_folder(config, args.runs)
        state, said = state_of(study, folder)
        if state == "active":
            elsewhere.append(folder.name)
        elif state == "failed" and not args.retry:
            failed.append(f"{folder.name}: {said}")
        elif state != "finished":
            if state == "failed":
                (folder / "status.json").unlink()  # it gets another try
            todo.append(config)
    left = len(todo) + len(failed) + len(elsewhere)
    print(f"{study.name} at scale {label}: {len(configs)} runs, {len(configs) - left} finished")
    for name in elsewhere:
        print(f"{name}: already under way in another process or job; left alone")
    made = {
        run_name(c): make_job(study.name, args.scale, c, run_folder(c, args.runs), args.data)
        for c in todo
    }
    own = {}  # corpus -> what one of its runs keeps of the tokenizer, which may be gone by now
    for config in todo:
        kept = own.get(config.data)
        if by_path(config.data.tokenizer):
            kept = kept or own_tokenizer(run_folder(config, args.runs))
        own[config.data] = kept
    for data, tokenizer in own.items():
        build(data, args.data, own=tokenizer)
    names = {run_name(config) for config in configs}
    for part in starts_first(todo):
        jobs = list[Job]()
        for config in part:
            name, start = run_name(config), config.init
            if start in names and not is_trained(args.runs / start):
                unfinished.append(f"{name}: waits for {start}, which it begins with")
            else:
                jobs.append(made[name])
        if not jobs:
            continue
        launch = Launch(args.launcher, jobs, args.runs / "logs" / study.name, slurm, len(configs))
        print(
            f"{len(jobs)} to run by {args.launcher}, {launch.slots} at a time; logs: {launch.logs}"
        )
        watch(launch, [Path(job.folder) for job in jobs], study)
        for folder in (Path(job.folder) for job in jobs):
            state, said = state_of(study, folder)
            if state != "finished":
                (failed if state == "failed" else unfinished).append(f"{folder.name}: {said}")
    folders = [run_folder(config, args.runs) for config in configs]
    if file.exists() or any(not missing_evaluations(study, folder) for folder in folders):
        collect(study, label, configs, args.runs, args.results)
        plot(study, file, args.results)
    for line in failed + unfinished:
        print(line, file=sys.stderr)
    if failed:  # first, since others may wait for them
        raise BadInput(f"{len(failed)} runs failed; run again with --retry once the cause is gone")
    if unfinished:
        raise BadInput(f"{len(unfinished)} runs are not finished; the same command goes on")


def starts_first(configs: list[TrainConfig]) -> list[list[TrainConfig]]:
    """The configs in two parts: the second begins with runs of the first (`init`)."""
    names = {run_name(config) for config in configs}
    later = [config for config in configs if config.init in names]
    return [[config for config in configs if config not in later], later]


def is_trained(folder: Path) -> bool:
    from experiments.jobs import read_status

    return read_status(folder).get("state") == "finished"


def watch(launch: "Launch", folders: list[Path], study: Study) -> None:  # noqa: F821  # type: ignore
    """A bar over all runs' steps, or a plain line every half minute where there is no terminal."""
    from experiments.jobs import read_status
    from experiments.launch import follow

    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=len(folders), unit="run", disable=not terminal,
        bar_format="{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    told = time.monotonic()
    # Between two looks, not wherever it strikes: raised inside a destructor it would be lost.
    # In-process jobs have no such pause.
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if launch.launcher != "debug":
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        for _ in follow(launch):
            if pressed:
                raise KeyboardInterrupt
            shares, active = [], []
            for folder in folders:
                status = read_status(folder)
                steps = float(str(status.get("steps") or 1))
                share = float(str(status.get("step", 0))) / steps
                over = is_over(study, folder, status)
                shares.append(1.0 if over else 0.9 * share)  # the rest is evaluation
                if not over and status.get("state") in ("running", "finished"):
                    active.append(f"{folder.name.rsplit('-', 1)[0]} {100 * share:.0f}%")
            bar.update(sum(shares) - bar.n)
            bar.set_postfix_str(", ".join(active))
            if not terminal and time.monotonic() - told > 30:
                told = time.monotonic()
                print(f"{sum(shares):.2f}/{len(folders)} runs; {', '.join(active)}", flush=True)
        if pressed:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, before)  # pressed again, it leaves at once
        bar.close()
        left = "Slurm's jobs go on alone" if launch.launcher == "slurm" else "saving"
        print(f"\n{left}; the same command goes on", file=sys.stderr)
        launch.stop()
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    bar.close()


def is_over(study: Study, folder: Path, status: dict[str, object]) -> bool:
    """Whether a run needs no more work, by its files alone."""
    if status.get("state") == "finished":
        return not missing_evaluations(study, folder)
    return status.get("state") == "failed"


# --------------------------------------------------------------------------------------------------
# plot


def plot(study: Study, file: Path, root: Path) -> None:
    """Draw a results file and print its summary."""
    from experiments.figures import save

    rows = results.read(file)
    svg, _ = save(study.figure(rows, results.paper(root)), file.with_suffix(""))
    table, index = list(study.table), ["head", "n", "unit"]
    index += [column for column in ("size", "data") if varies(rows, column, index)]
    print(f"ours ({file.stem} scale):\n{results.table(rows, index, table)}")
    reported, index = study.paper(results.paper(root)).astype({"n": int}), ["head", "n", "unit"]
    if reported.metric.isin(table).any():  # else in the figure alone
        print(f"\nthe paper's {study.artefact}:\n{results.table(reported, index, table)}")
    print(f"\nrows: {file}\nfigure: {svg}")


def varies(rows: pd.DataFrame, column: str, index: list[str]) -> bool:
    """Whether rows of one group differ in a column: then no mean may be taken over it."""
    return bool((rows.groupby(index)[column].nunique() > 1).any())


def plot_all(root: Path) -> None:
    for name in STUDIES:
        for file in sorted((root / name).glob("*.csv")):
            plot(find(name), file, root)
    draw_evaluations(root)


def draw_evaluations(root: Path) -> None:
    """The figures of rows that `make evaluate` and `make evaluate-released` have written."""
    from evals.__main__ import read
    from experiments import evaluate, evaluate_released
    from experiments.figures import save

    for file in sorted(root.glob("*/results.csv")):
        if len(evaluate.shown(rows := read(file))):
            save(evaluate.figure(rows), file.with_suffix(""))
    for file in sorted((root / "evaluate-released").glob("*.csv")):
        save(evaluate_released.figure(read(file), results.paper(root)), file.with_suffix(""))


if __name__ == "__main__":
    main()
