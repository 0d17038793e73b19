"""The launchers by name.

debug   one job after the other in this process
local   processes on this machine, side by side
slurm   array jobs on a cluster
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.launch import squeue
from experiments.launch.base import Job, Launcher
from experiments.launch.debug import Debug
from experiments.launch.local import Local
from experiments.launch.slurm import Slurm
from experiments.launch.slurm_options import SlurmOptions
from mtp.errors import BadInput, choose

LAUNCHERS = ("local", "debug", "slurm")


def check_choice(name: str, slurm: Sequence[str] = ()) -> None:
    """Raise BadInput for an unknown launcher, and for options of Slurm with another launcher, which
    would ignore them."""
    choose("launcher", name, LAUNCHERS)
    if slurm and name != "slurm":
        raise BadInput("--slurm needs --launcher slurm")


def check_launcher(name: str, slurm: Sequence[str] = ()) -> None:
    """The same, and BadInput for Slurm's launcher on a machine without Slurm."""
    check_choice(name, slurm)
    if name == "slurm":
        squeue.check_installed()


def launch(name: str, jobs: list[Job], logs: Path, options: SlurmOptions, planned: int) -> Launcher:
    """Start the jobs of a study of `planned` runs."""
    check_launcher(name)
    if name == "slurm":
        return Slurm(jobs, logs, options)
    return Local(jobs, logs, planned) if name == "local" else Debug(jobs, logs)
