"""A job, and what all launchers share.

submitit submits the jobs; they are followed through their run's status.json. submitit's own
requeueing is not used: it takes every signal in a job under ten minutes for a time-out, gives up
after a few of them, and asks sacct, which a cluster without accounting lacks.
"""

import abc
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from experiments.launch import slurm_job
from mtp.checkpoint import any_saved
from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.locks import is_locked
from mtp.overrides import to_json
from mtp.training.budgets import has_begun, stable
from mtp.training.failures import first_failure, mark_failed
from mtp.training.progress import is_trained, read_status
from mtp.training.signals import Interrupted

WARNINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Job:
    """Train one run and evaluate it; this is what submitit pickles. Paths are absolute.

    part       train | evaluate | both
    precision  for a config that leaves it to the device; "": the job decides
    gpu        the one to use, as CUDA_VISIBLE_DEVICES names it; "": what the launcher gives
    start      the folder of the run whose weights it begins with (`init`); it needs them
    shorter    the folder of the run that it continues once that has come far enough; it can do
               without (mtp/training/branch.py)
    """

    study: str
    scale: str
    config: str  # JSON
    folder: str
    data: str
    threads: int = 0
    precision: str = ""
    gpu: str = ""
    part: str = "both"
    start: str = ""
    shorter: str = ""

    def __call__(self) -> None:
        # Heavy imports wait: a signal that arrives before the handlers are set is fatal.
        for signum in WARNINGS:
            signal.signal(signum, _leave)
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        from experiments.jobs import work

        try:
            slurm_job.join_ranks()
            work(
                self.study, self.scale, self.config, Path(self.folder), Path(self.data),
                self.threads, self.precision, self.part,
            )  # fmt: skip
        except Interrupted as stopped:
            print(f"{stopped}; the same command continues", file=sys.stderr)
            leave(stopped.signum, Path(self.folder))


def _leave(signum: int, frame: object) -> NoReturn:
    raise Interrupted(signum)


def leave(signum: int, folder: Path) -> NoReturn:
    """End a job that has saved; under Slurm, after it has been queued again, unless the signal came
    because another rank has failed. By SystemExit, because submitit would record an Exception as
    the job's result."""
    for warning in WARNINGS:  # the requeue itself sends SIGTERM
        signal.signal(warning, signal.SIG_IGN)
    if slurm_job.is_job() and not first_failure(folder):
        slurm_job.requeue()
    sys.exit(128 + signum)


def make_job(study: str, scale: str, config: TrainConfig, folder: Path, data: Path) -> Job:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create {folder}: {error.strerror}") from None
    return planned_job(study, scale, config, folder, data)


def planned_job(study: str, scale: str, config: TrainConfig, folder: Path, data: Path) -> Job:
    """The same without making the folder."""
    return Job(study, scale, to_json(config), str(folder.resolve()), str(data.resolve()))


# --------------------------------------------------------------------------------------------------


def readiness(job: Job, under_way: Callable[[str], bool]) -> Literal["ready", "waits", "never"]:
    """Whether a job may start, as far as the runs that it begins with have come. `under_way`: if a
    run, by its folder, is at work or will be."""
    if job.start and not is_trained(Path(job.start)):
        return "waits" if under_way(job.start) else "never"
    waits = bool(job.shorter) and not has_begun(Path(job.folder))
    waits = waits and not any_saved(stable(Path(job.shorter)))
    return "waits" if waits and under_way(job.shorter) else "ready"


class Launcher(abc.ABC):
    """Submits jobs and follows them.

    logs     a fresh folder for this launch's logs, since process ids repeat
    waiting  the jobs that have not started
    slots    how many jobs run at a time
    pending  those that wait, and for what, in words; "" if none does
    """

    pause = 0.3  # seconds between two steps of `follow`
    in_process = False  # jobs run in this process, where Ctrl-C reaches them
    slots = 1
    pending = ""

    def __init__(self, jobs: list[Job], logs: Path) -> None:
        self.waiting = list(jobs)
        self.logs = logs / time.strftime("%Y%m%d-%H%M%S")

    def is_under_way(self, run: str) -> bool:
        """Whether a run, by its folder, waits here or is at work here or elsewhere."""
        return any(job.folder == run for job in self.waiting) or is_held(Path(run))

    def take_ready(self, most: int) -> list[Job]:
        """Take the first of the waiting jobs that may start, `most` at most. Those that never will
        are dropped."""
        if most < 1:
            return []
        states = {job.folder: readiness(job, self.is_under_way) for job in self.waiting}
        ready = [job for job in self.waiting if states[job.folder] == "ready"][:most]
        left = [job for job in self.waiting if states[job.folder] != "never"]
        self.waiting = [job for job in left if job not in ready]
        return ready

    @abc.abstractmethod
    def step(self) -> bool:
        """Start what may start, and note what has ended. False once nothing is left."""

    def stop(self) -> str:
        """After Ctrl-C: ask running jobs to save and leave, and wait for them. Returns a line for
        the user."""
        self.waiting = []
        return "saved"

    def with_threads(self, threads: int) -> None:
        self.waiting = [dataclasses.replace(job, threads=threads) for job in self.waiting]


def follow(launch: Launcher) -> Iterator[None]:
    """Drive a launch until it is done, yielding now and then."""
    while launch.step():
        yield
        time.sleep(launch.pause)
    yield


def is_held(folder: Path) -> bool:
    """Whether a process works in the run's folder: it holds .job, or .lock (mtp.train).

    A job takes .job first and keeps it.
    """
    return any(is_locked(folder / name) for name in (".job", ".lock"))


def note_death(folder: Path, log: str = "", state: str = "") -> None:
    """Mark the run of a job that ended without a message (killed, out of memory) as failed, unless
    the job ended because another process has the run. A reason in its error.txt goes first.

    state  how Slurm says that the job ended
    """
    if is_held(folder) or (read_status(folder) or {"state": "running"})["state"] != "running":
        return
    how = f" (Slurm's state: {state})" if state not in ("", "COMPLETED") else ""
    see = f"; see {log}" if log else ""
    mark_failed(folder, f"the process died without a message{how}{see}")
