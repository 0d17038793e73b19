"""All that speaks to Slurm: an array job for a study's runs, asked about with squeue.

A job that is preempted or out of time saves, requeues itself and continues.
"""

import contextlib
import functools
import io
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from experiments.launch.base import Job, Launcher, note_death
from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.overrides import from_dict, override

ACTIVE_STATES = (
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "REQUEUED", "REQUEUE_HOLD",
    "REQUEUE_FED", "RESIZING", "SUSPENDED", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT",
)  # fmt: skip


@dataclass(frozen=True)
class SlurmOptions:
    """What a Slurm job asks for. From slurm.toml in the working folder, then --slurm field=value.

    parallel      how many of the study's runs at a time
    warn_seconds  seconds before the time limit at which Slurm warns the job, so that it saves and
                  requeues
    """

    partition: str = ""
    account: str = ""
    hours: float = 24.0
    nodes: int = 1
    gpus: int = 1
    cpus: int = 8
    memory_gb: int = 64
    parallel: int = 64
    warn_seconds: int = 120


def slurm_options(assignments: list[str], file: Path = Path("slurm.toml")) -> SlurmOptions:
    """The options of the file, with "field=value" assignments applied."""
    try:
        values = tomllib.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    return override(from_dict(SlurmOptions, values, f"{file}: "), assignments)


def check_installed() -> None:
    """BadInput on a machine without Slurm's commands."""
    for tool in ("sbatch", "srun", "squeue"):
        if shutil.which(tool) is None:
            raise BadInput(f"{tool} is not here; the slurm launcher needs a cluster's node")


class Slurm(Launcher):
    pause = 15.0  # a look is a squeue of all my jobs

    def __init__(self, jobs: list[Job], logs: Path, options: SlurmOptions) -> None:
        super().__init__(jobs, logs)
        self.job_ids: dict[str, str] = {}  # folder -> Slurm's id
        self.slots = options.parallel
        self.with_threads(options.cpus)
        self.submit(options)

    def step(self) -> bool:
        try:
            known = queued()
        except BadInput as error:  # a controller that restarts takes no job with it
            print(f"{error}; asking again", file=sys.stderr)
            return True
        for folder, job_id in list(self.job_ids.items()):
            if known.get(job_id) not in ACTIVE_STATES:
                note_death(Path(folder))
                del self.job_ids[folder]
        return bool(self.job_ids)

    def stop(self) -> str:
        return "Slurm's jobs continue by themselves"

    def submit(self, options: SlurmOptions) -> None:
        executor = submitit.SlurmExecutor(folder=self.logs)
        executor.update_parameters(**parameters(self.waiting[0].study, options))
        try:
            quiet = contextlib.redirect_stderr(io.StringIO())  # the error repeats all of it
            with quiet, submitit.helpers.clean_env():
                jobs = executor.submit_array(self.waiting)
        except FailedJobError as error:
            lines = str(error).replace("sbatch: error: ", "").splitlines()
            raise BadInput(f"sbatch refused the jobs: {'; '.join(lines)}") from None
        for mine, job in zip(self.waiting, jobs, strict=True):
            self.job_ids[mine.folder] = job.job_id
            write_atomically(Path(mine.folder) / "slurm-job", job.job_id.encode())
        self.waiting = []


def parameters(name: str, options: SlurmOptions) -> dict[str, Any]:
    """submitit's parameters for an array job."""
    wanted: dict[str, Any] = {
        "job_name": name,
        "time": max(5, round(60 * options.hours)),
        "nodes": options.nodes,
        "ntasks_per_node": max(1, options.gpus),
        "cpus_per_task": options.cpus,
        "mem": f"{options.memory_gb}GB",
        "signal_delay_s": options.warn_seconds,
        "array_parallelism": options.parallel,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True},
    }
    if options.gpus:
        wanted["gpus_per_node"] = options.gpus
    if options.partition:
        wanted["partition"] = options.partition
    if options.account:
        wanted["account"] = options.account
    return wanted


# --------------------------------------------------------------------------------------------------
# what Slurm knows


def queued() -> dict[str, str]:
    """Slurm's state of each of my jobs it still knows, by id; needs no accounting."""
    command = ["squeue", "-h", "-r", "--me", "-t", "all", "-o", "%i|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise BadInput("squeue is not here; the slurm launcher needs a cluster's node") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        message = " ".join(str(error.stderr or error).split())
        raise BadInput(f"squeue does not answer: {message}") from None
    return dict(line.split("|", 1) for line in done.stdout.splitlines())


class Queue:
    """What Slurm knows of the jobs of earlier launches, asked at most once."""

    def has(self, folder: Path) -> bool:
        """Whether a Slurm job for this run is still active. On a machine without Slurm, none is.
        Raises BadInput if Slurm does not answer: a job may be active then."""
        file = folder / "slurm-job"
        return file.exists() and self._states.get(file.read_text()) in ACTIVE_STATES

    @functools.cached_property
    def _states(self) -> dict[str, str]:
        return queued() if shutil.which("squeue") else {}
