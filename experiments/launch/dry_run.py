"""What the slurm launcher would ask of Slurm: the script of each kind of job. Nothing is submitted,
and Slurm need not be here."""

import shlex
import sys
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import _make_sbatch_string

from experiments.launch.base import Job
from experiments.launch.slurm import arrays_of, parameters
from experiments.launch.slurm_options import SlurmOptions

WORDS = {"both": "train and evaluate", "train": "train", "evaluate": "evaluate"}


def describe(jobs: list[Job], logs: Path, options: SlurmOptions) -> str:
    """For each kind of job: how many there are, what each asks for, and the script for sbatch."""
    arrays, parallel = arrays_of(jobs, options)
    kinds = list(dict.fromkeys(what for _, what in arrays))
    kinds += ["evaluate"] * ("train" in kinds and "evaluate" not in kinds)  # after the training
    found = list[str]()
    for kind in kinds:
        own = [part for part, what in arrays if what in (kind, "train")]
        wanted = parameters(own[0], kind, options, parallel, "JOB" * (kind == "evaluate"))
        count = sum(map(len, own))
        found.append(
            f"{count} job{'s' * (count > 1)} to {WORDS[kind]}: {asked(wanted, options)}\n"
            + script(wanted, len(own[0]), logs)
        )
    return "\n".join(found)


def asked(wanted: dict[str, Any], options: SlurmOptions) -> str:
    """E.g. "8 nodes, each with 8 GPUs, 8 processes of 8 cores and 48 GB; time limit 24 h"."""
    nodes, tasks, gpus = wanted["nodes"], wanted["ntasks_per_node"], wanted.get("gpus_per_node", 0)
    which = f"{gpus} GPU{'s' * (gpus > 1)}" if gpus else wanted.get("gres", "no GPU")
    return (
        f"{'1 node' if nodes == 1 else f'{nodes} nodes, each'} with {which}, "
        f"{tasks} process{'es' * (tasks > 1)} of {wanted['cpus_per_task']} cores and "
        f"{wanted['mem'].removesuffix('GB')} GB; time limit {options.hours:g} h"
    )


def script(wanted: dict[str, Any], count: int, logs: Path) -> str:
    """The script for an array of so many jobs, as submitit writes it."""
    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(logs))}"
    members = count if count > 1 else None
    return _make_sbatch_string(command=command, folder=logs, map_count=members, **wanted)
