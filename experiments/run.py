"""Run a study: train and evaluate what is missing, collect the rows, draw the figure."""

import argparse
import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path

from experiments import index, results
from experiments.launch.base import Job, is_held, make_job, readiness
from experiments.launch.launchers import check_launcher, launch
from experiments.launch.slurm_options import SlurmOptions, slurm_options
from experiments.launch.squeue import Queue
from experiments.status import count_of, minutes, state_of
from experiments.study import (
    Study,
    collect,
    missing_evaluations,
    run_folder,
    run_name,
    run_names,
    study_place,
)
from mtp.config import TrainConfig
from mtp.data.sources import SOURCES, open_source
from mtp.errors import BadInput
from mtp.hardware import default_device, expected_flops
from mtp.model.sizes import run_flops_per_token
from mtp.training.budgets import own_tokens, shorter
from mtp.training.failures import clear_failure
from mtp.training.progress import is_trained, read_status, write_status


@dataclass
class Left:
    """The runs of a study that still need something, each failed or unfinished one in a line."""

    todo: list[TrainConfig] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)


def run(
    study: Study, label: str, changed: str, configs: list[TrainConfig], args: argparse.Namespace
) -> None:
    """Train and evaluate what is missing, collect the rows, draw the figure.

    args.study is what jobs find the study by: its name, or its file. changed: of the runs' fields.
    """
    slurm = slurm_options(args.slurm)
    check_launcher(args.launcher, args.slurm)
    file = args.results / study.name / f"{label}.csv"
    if file.exists():
        results.read(file)  # refused before hours of work, not after them
    if not all(config.data.source for config in configs):
        raise BadInput(
            f"scale {args.scale} leaves the corpus to you; name one with "
            f"--set data.source=SOURCE, SOURCE one of: {', '.join(SOURCES)}"
        )
    arms = {run_name(c): arm for c, arm in zip(configs, run_names(study, configs), strict=True)}
    left = look(study, configs, args)
    for source in {config.data.source for config in left.todo}:
        open_source(source, args.data)  # refuses an unknown or missing one
    announce(study, label, configs, left, here=args.launcher != "slurm")
    if left.todo:
        index.add(args.runs, study.name, label, arms)
        prepare(left.todo, args)
        train(study, configs, left, args, slurm)
    folders = [run_folder(config, args.runs) for config in configs]
    if file.exists() or any(not missing_evaluations(study, folder) for folder in folders):
        from experiments.plot import plot

        collect(study, label, configs, args.runs, args.results, changed)
        plot(study, file, args.results)
    finish(left, arms)


def look(study: Study, configs: list[TrainConfig], args: argparse.Namespace) -> Left:
    """What is left to do. A failed run gets another try if --retry asks for it."""
    from mtp.training.run import check_config

    left, queue = Left(), Queue()
    for config in configs:
        folder = run_folder(config, args.runs)
        check_config(folder, config)
        state, text = state_of(study, folder, queue)
        if state == "active":
            left.elsewhere.append(folder.name)
        elif state == "failed" and not args.retry:
            left.failed.append(f"{folder.name}: {text}")
        elif state != "finished":
            if state == "failed":
                forgive(folder)
            left.todo.append(config)
    return left


def forgive(folder: Path) -> None:
    """Forget that a run has failed. If it has been trained, only its evaluations are left to do."""
    if is_trained(folder):
        steps = read_status(folder)["steps"]
        write_status(folder, state="finished", step=steps, steps=steps)
    else:
        (folder / "status.json").unlink()
    clear_failure(folder)


def announce(study: Study, label: str, configs: list[TrainConfig], left: Left, here: bool) -> None:
    """The first line: how many runs, and about how long they will take if they run here; of a
    cluster's nodes this machine knows nothing (`plan` with --device and --gpus does)."""
    done = len(configs) - len(left.todo) - len(left.failed) - len(left.elsewhere)
    line = f"{study.name} at scale {label}: {count_of(len(configs))}, {done} finished"
    new = [config for config in left.todo if config.tokens]
    if here and new and len(new) == len(left.todo):
        device = expected_flops()[1]
        tokens = zip(configs, own_tokens(configs, lambda config: config.tokens), strict=True)
        seconds = sum(
            own * run_flops_per_token(c) / expected_flops(c.model.dim)[0]
            for c, own in tokens
            if c in new
        )
        if seconds > 30:
            line += f"; roughly {minutes(seconds)} of training on {device}, evaluation on top"
    print(line, flush=True)


def prepare(todo: list[TrainConfig], args: argparse.Namespace) -> None:
    """Build the corpora, so that jobs find them."""
    from mtp.data.corpus import build
    from mtp.data.tokenizer import names_a_path
    from mtp.training.run import saved_tokenizer

    own = {}  # corpus -> what one of its runs keeps of the tokenizer, which may be gone by now
    for config in todo:
        kept = own.get(config.data)
        if names_a_path(config.data.tokenizer):
            kept = kept or saved_tokenizer(run_folder(config, args.runs))
        own[config.data] = kept
    for data, tokenizer in own.items():
        build(data, args.data, saved_tokenizer=tokenizer)


def train(
    study: Study,
    configs: list[TrainConfig],
    left: Left,
    args: argparse.Namespace,
    slurm: SlurmOptions,
) -> None:
    """Launch the jobs of what is left and follow them to their ends, which `left` notes."""
    from experiments.watch import watch

    device = default_device()
    if args.launcher == "slurm":  # the jobs' device, which this machine need not have
        device = "cuda" if slurm.gpus else "cpu"
    precision = study_precision(configs, args.runs, device)
    where = study_place(args.study)
    made = {
        run_name(c): make_job(where, args.scale, c, run_folder(c, args.runs), args.data)
        for c in left.todo
    }
    begin = beginnings(configs, args.runs)
    jobs = [
        dataclasses.replace(made[run_name(c)], precision=precision, **begin[c]) for c in left.todo
    ]
    if jobs := startable(jobs, left):
        logs = args.runs / "logs" / study.name
        launched = launch(args.launcher, jobs, logs, slurm, len(configs))
        at_once = f"{launched.slots} at a time"
        print(f"{len(jobs)} to run by {args.launcher}, {at_once}; logs: {launched.logs}")
        watch(launched, [Path(job.folder) for job in jobs], study)
    queue = Queue()
    for job in jobs:
        state, text = state_of(study, Path(job.folder), queue)
        if state == "active":
            left.elsewhere.append(Path(job.folder).name)
        elif state == "failed":
            left.failed.append(f"{Path(job.folder).name}: {text}")
        elif state == "new" and job.start and not is_trained(Path(job.start)):
            left.unfinished.append(waits_for_start(job))
        elif state != "finished":
            left.unfinished.append(f"{Path(job.folder).name}: {text}")


def finish(left: Left, arms: dict[str, str]) -> None:
    """Say which runs are at work elsewhere. Raise BadInput if a run failed or is not finished."""
    for name in left.elsewhere:
        print(f"{name}, {arms[name]}: already under way in another process or job; left alone")
    if left.elsewhere:
        print("once they have ended, the same command collects their rows")
    for line in left.failed + left.unfinished:
        name, _, text = line.partition(": ")
        print(f"{name}, {arms[name]}: {text}", file=sys.stderr)
    if left.failed:  # first, since others may wait for them
        failed = count_of(len(left.failed))
        raise BadInput(f"{failed} failed; run again with --retry once the cause is gone")
    if left.unfinished:
        unfinished = count_of(len(left.unfinished))
        raise BadInput(f"{unfinished} not finished; the same command continues")


def study_precision(configs: list[TrainConfig], runs: Path, device: str) -> str:
    """The precision of a study's runs that leave it to their `device`: that of its runs so far,
    else what suits the device. It is decided once, and not by each run under the load of the
    others. "" if the device is a GPU that only the jobs can see; its capability decides there."""
    from experiments.provenance import precision_of
    from mtp.training.engine import auto_precision

    left_open = [config for config in configs if config.precision == "auto"]
    for config in left_open:
        if precision := precision_of(run_folder(config, runs), device):
            return precision
    seen = device == "cpu" or default_device() == device
    return auto_precision(device)[0] if left_open and seen else ""


def beginnings(configs: list[TrainConfig], runs: Path) -> dict[TrainConfig, dict[str, str]]:
    """For each run of a plan the folders of those that it begins with, as Job has them: whose
    weights it takes (`init`), and which shorter run it continues."""
    names = {run_name(config) for config in configs}
    found = dict[TrainConfig, dict[str, str]]()
    for config, less in zip(configs, shorter(configs), strict=True):
        own = {"start": runs / config.init if config.init in names else None}
        own |= {"shorter": run_folder(less, runs) if less else None}
        found[config] = {key: str(path.resolve()) for key, path in own.items() if path}
    return found


def startable(jobs: list[Job], left: Left) -> list[Job]:
    """The jobs that may start now or later; `left` notes those whose start will not be trained."""
    known = {job.folder for job in jobs}

    def is_under_way(run: str) -> bool:
        return run in known or is_held(Path(run))

    found = [job for job in jobs if readiness(job, is_under_way) != "never"]
    left.unfinished += [waits_for_start(job) for job in jobs if job not in found]
    return found


def waits_for_start(job: Job) -> str:
    start = Path(job.start).name
    return f"{Path(job.folder).name}: waits for {start}, which it begins with"
