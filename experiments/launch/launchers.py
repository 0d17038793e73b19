"""The launchers by name.

debug   one job after the other in this process
local   processes on this machine, side by side
slurm   array jobs on a cluster
"""

from pathlib import Path

from experiments.launch import squeue
from experiments.launch.base import Job, Launcher
from experiments.launch.debug import Debug
from experiments.launch.local import Local
from experiments.launch.slurm import Slurm
from experiments.launch.slurm_options import SlurmOptions
from mtp.errors import choose

LAUNCHERS = ("local", "debug", "slurm")


def check_launcher(name: str) -> None:
    """Raise BadInput for an unknown launcher, or for Slurm's on a machine without Slurm."""
    choose("launcher", name, LAUNCHERS)
    if name == "slurm":
        squeue.check_installed()


def launch(name: str, jobs: list[Job], logs: Path, options: SlurmOptions, planned: int) -> Launcher:
    """Start the jobs of a study of `planned` runs."""
    check_launcher(name)
    if name == "slurm":
        return Slurm(jobs, logs, options)
    return Local(jobs, logs, planned) if name == "local" else Debug(jobs, logs)
