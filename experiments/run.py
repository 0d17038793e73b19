"""Run a study: train and evaluate what is missing, collect the rows, draw the figure."""

import argparse
import dataclasses
import sys
from pathlib import Path

from experiments import results
from experiments.launch.base import Job, make_job
from experiments.launch.launchers import check_launcher, launch
from experiments.launch.slurm import slurm_options
from experiments.plot import plot
from experiments.provenance import precision_of
from experiments.status import is_trained, state_of
from experiments.study import Study, collect, missing_evaluations, run_folder, run_name
from experiments.watch import watch
from mtp.config import TrainConfig
from mtp.data.corpus import build
from mtp.data.sources import SOURCES
from mtp.data.tokenizer import names_a_path
from mtp.errors import BadInput
from mtp.hardware import default_device
from mtp.training.engine import auto_precision
from mtp.training.run import check_config, saved_tokenizer


def run(study: Study, label: str, configs: list[TrainConfig], args: argparse.Namespace) -> None:
    """Train and evaluate what is missing, collect the rows, draw the figure."""
    check_launcher(args.launcher)
    slurm = slurm_options(args.slurm)
    file = args.results / study.name / f"{label}.csv"
    if file.exists():
        results.read(file)  # refused before hours of work, not after them
    if not all(config.data.source for config in configs):
        raise BadInput(
            f"scale {args.scale} leaves the corpus to you; name one with "
            f"--set data.source=SOURCE, SOURCE one of: {', '.join(SOURCES)}"
        )
    todo, failed, unfinished, elsewhere = [], [], [], []
    for config in configs:
        folder = run_folder(config, args.runs)
        check_config(folder, config)
        state, text = state_of(study, folder)
        if state == "active":
            elsewhere.append(folder.name)
        elif state == "failed" and not args.retry:
            failed.append(f"{folder.name}: {text}")
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
        if names_a_path(config.data.tokenizer):
            kept = kept or saved_tokenizer(run_folder(config, args.runs))
        own[config.data] = kept
    for data, tokenizer in own.items():
        build(data, args.data, saved_tokenizer=tokenizer)
    device = default_device()
    if args.launcher == "slurm":  # the jobs' device, which this machine need not have
        device = "cuda" if slurm.gpus else "cpu"
    precision = study_precision(configs, args.runs, device)
    names = {run_name(config) for config in configs}
    for part in bases_first(todo):
        jobs = list[Job]()
        for config in part:
            name, start = run_name(config), config.init
            if start in names and not is_trained(args.runs / start):
                unfinished.append(f"{name}: waits for {start}, which it begins with")
            else:
                jobs.append(made[name])
        if not jobs:
            continue
        logs = args.runs / "logs" / study.name
        jobs = [dataclasses.replace(job, precision=precision) for job in jobs]
        launched = launch(args.launcher, jobs, logs, slurm, len(configs))
        at_once = f"{launched.slots} at a time"
        print(f"{len(jobs)} to run by {args.launcher}, {at_once}; logs: {launched.logs}")
        watch(launched, [Path(job.folder) for job in jobs], study)
        for folder in (Path(job.folder) for job in jobs):
            state, text = state_of(study, folder)
            if state != "finished":
                (failed if state == "failed" else unfinished).append(f"{folder.name}: {text}")
    folders = [run_folder(config, args.runs) for config in configs]
    if file.exists() or any(not missing_evaluations(study, folder) for folder in folders):
        collect(study, label, configs, args.runs, args.results)
        plot(study, file, args.results)
    for line in failed + unfinished:
        print(line, file=sys.stderr)
    if failed:  # first, since others may wait for them
        raise BadInput(f"{len(failed)} runs failed; run again with --retry once the cause is gone")
    if unfinished:
        raise BadInput(f"{len(unfinished)} runs are not finished; the same command continues")


def study_precision(configs: list[TrainConfig], runs: Path, device: str) -> str:
    """The precision of a study's runs that leave it to their `device`: that of its runs so far,
    else what suits the device. It is decided once, and not by each run under the load of the
    others. "" if the device is a GPU that only the jobs can see; its capability decides there."""
    left_open = [config for config in configs if config.precision == "auto"]
    for config in left_open:
        if precision := precision_of(run_folder(config, runs), device):
            return precision
    seen = device == "cpu" or default_device() == device
    return auto_precision(device)[0] if left_open and seen else ""


def bases_first(configs: list[TrainConfig]) -> list[list[TrainConfig]]:
    """The configs in two parts: those of the second start from runs of the first (`init`)."""
    names = {run_name(config) for config in configs}
    later = [config for config in configs if config.init in names]
    return [[config for config in configs if config not in later], later]
