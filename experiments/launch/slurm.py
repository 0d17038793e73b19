"""A study's runs as array jobs of Slurm.

A job that is preempted or out of time saves, requeues itself and continues. Where preemption
cancels jobs instead, the launcher submits them again while it follows them. So it does with runs
that begin with others, once these have come far enough. Runs that several
processes train get two jobs: one trains, and one of a single process evaluates after it.
"""

import contextlib
import dataclasses
import io
import sys
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError

from experiments.launch.base import Job, Launcher, note_death
from experiments.launch.needs import configs_of, evaluation_memory_gb, memory_gb, warning_seconds
from experiments.launch.slurm_options import SlurmOptions, of_one_process, sbatch_options
from experiments.launch.squeue import (
    Queue,
    Seen,
    max_array_size,
    pending,
    queued,
    waits,
    was_preempted,
    write_job_ids,
)
from mtp.errors import BadInput
from mtp.training.failures import first_failure
from mtp.training.progress import is_trained, read_status

SUBMITITS_OWN = ("partition", "account", "qos", "constraint", "gres", "exclude")


class Slurm(Launcher):
    pause = 15.0  # a look is a squeue of all my jobs

    def __init__(self, jobs: list[Job], logs: Path, options: SlurmOptions) -> None:
        super().__init__(jobs, logs)
        self.options = options
        self.job_ids: dict[str, list[str]] = {}  # folder -> Slurm's ids, the last to run last
        self.slots = options.parallel
        self.with_threads(options.cpus)
        self.jobs = {job.folder: job for job in self.waiting}
        self.submit(self.take_ready(len(jobs)))

    def step(self) -> bool:
        try:
            known = queued()
        except BadInput as error:  # a controller that restarts takes no job with it
            print(f"{error}; asking again", file=sys.stderr)
            return True
        self.pending = pending(waits(ids, known) for ids in self.job_ids.values())
        again = list[Job]()
        for folder, ids in list(self.job_ids.items()):
            seen = {job: known.get(job, Seen("")) for job in ids}
            if any(one.active for one in seen.values()):
                continue
            states = {job: one.state for job, one in seen.items()}
            del self.job_ids[folder]
            if self._is_to_continue(Path(folder), states):
                again.append(self.jobs[folder])
            else:
                job, state = next(iter(states.items()))
                note_death(Path(folder), str(self._log(job)), state)
        if again:
            print(f"{len(again)} preempted, submitted again", file=sys.stderr)
            self._submit_more(again)
        if ready := self.take_ready(len(self.waiting)):  # they may wait for those above
            self._submit_more(ready)
        return bool(self.job_ids or self.waiting)

    def _submit_more(self, jobs: list[Job]) -> None:
        try:
            self.submit(jobs)
        except BadInput as error:
            print(f"{error}; the same command continues them", file=sys.stderr)

    def is_under_way(self, run: str) -> bool:
        return run in self.job_ids or super().is_under_way(run) or Queue().has(Path(run))

    def _is_to_continue(self, folder: Path, states: dict[str, str]) -> bool:
        """Whether a run, whose jobs have ended, was preempted before it was done."""
        if first_failure(folder) or read_status(folder).get("state") == "failed":
            return False
        return any(
            state != "COMPLETED" and was_preempted(job, state) for job, state in states.items()
        )

    def _log(self, job: str) -> Path:
        return self.logs / f"{job}_0_log.out"

    def stop(self) -> str:
        later = f"; not submitted, since they wait for others: {len(self.waiting)}"
        return "Slurm's jobs continue by themselves" + later * bool(self.waiting)

    # ----------------------------------------------------------------------------------------------
    # submitting

    def submit(self, jobs: list[Job]) -> None:
        """Submit these jobs as `arrays_of` has them, beside those that are submitted; what is
        trained is evaluated after it."""
        room = max(1, self.options.parallel - len(self.job_ids))
        arrays, parallel = arrays_of(jobs, dataclasses.replace(self.options, parallel=room))
        for part, what in arrays:
            ids = [[job] for job in self._submit_array(part, what, parallel)]
            if what == "train":
                array = ids[0][0].partition("_")[0]
                later = self._submit_array(part, "evaluate", parallel, after=array)
                ids = [[*first, second] for first, second in zip(ids, later, strict=True)]
            for job, own in zip(part, ids, strict=True):
                self.job_ids[job.folder] = own
                write_job_ids(Path(job.folder), own)

    def _submit_array(
        self, jobs: list[Job], part: str, parallel: int, after: str = ""
    ) -> list[str]:
        """Submit an array that does a part of these jobs' work; returns Slurm's ids. `after`: each
        member starts once its fellow in that array has succeeded."""
        executor = submitit.SlurmExecutor(folder=self.logs)
        executor.update_parameters(**parameters(jobs, part, self.options, parallel, after))
        try:
            quiet = contextlib.redirect_stderr(io.StringIO())  # the error repeats all of it
            with quiet, submitit.helpers.clean_env():
                given = executor.submit_array([dataclasses.replace(j, part=part) for j in jobs])
        except FailedJobError as error:
            lines = str(error).replace("sbatch: error: ", "").splitlines()
            raise BadInput(f"sbatch refused the jobs: {'; '.join(lines)}") from None
        return [job.job_id for job in given]


def arrays_of(jobs: list[Job], options: SlurmOptions) -> tuple[list[tuple[list[Job], str]], int]:
    """Arrays of these jobs, as large as the cluster allows and as equal as can be, each with the
    part of the work that it does; and how many jobs of each run at a time. Arrays run side by side
    and share `parallel`; each runs at least one job."""
    alone = options.world == 1
    trained = [job for job in jobs if not alone and is_trained(Path(job.folder))]
    new = [job for job in jobs if job not in trained]
    arrays = [(part, "both" if alone else "train") for part in equal_parts(new)]
    arrays += [(part, "evaluate") for part in equal_parts(trained)]
    return arrays, max(1, options.parallel // max(1, len(arrays)))


def equal_parts(jobs: list[Job]) -> list[list[Job]]:
    """The jobs in as few parts of nearly equal size as Slurm's MaxArraySize allows."""
    if not jobs:
        return []
    count = -(-len(jobs) // max_array_size())
    size = -(-len(jobs) // count)
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def parameters(
    jobs: list[Job], part: str, options: SlurmOptions, parallel: int, after: str = ""
) -> dict[str, Any]:
    """submitit's parameters for an array that does a part of these jobs' work."""
    configs = configs_of([job.config for job in jobs])
    gpu = bool(options.gpus)
    need = [] if part == "evaluate" else [
        memory_gb(configs, options.nodes, options.tasks_per_node, gpu)
    ]  # fmt: skip
    need += [] if part == "train" else [evaluation_memory_gb(configs, gpu)]
    warning = options.warn_seconds or warning_seconds(
        [] if part == "evaluate" else configs,
        [] if part == "evaluate" else [Path(job.folder) for job in jobs],
        options.world,
        60.0 * options.minutes,
    )
    if part == "evaluate":
        options = of_one_process(options)
    wanted: dict[str, Any] = {
        "job_name": jobs[0].study + ("-evaluation" if part == "evaluate" else ""),
        "time": options.minutes,
        "nodes": options.nodes,
        "ntasks_per_node": options.tasks_per_node,
        "cpus_per_task": options.cpus,
        "mem": f"{options.memory_gb or max(need)}GB",
        "signal_delay_s": warning,
        "array_parallelism": parallel,
        "stderr_to_stdout": True,
        # srun does not take over --cpus-per-task from sbatch since Slurm 22.05. A process that
        # fails alone would leave the others waiting for it in a collective call.
        "srun_args": [f"--cpus-per-task={options.cpus}", "--kill-on-bad-exit=1"],
    }
    additional: dict[str, str | bool] = {"requeue": True} | options.extra
    if after:
        additional |= {"dependency": f"aftercorr:{after}", "kill-on-invalid-dep": "yes"}
    additional |= sbatch_options(options, ["reservation"])
    wanted |= sbatch_options(options, SUBMITITS_OWN)
    wanted["additional_parameters"] = additional
    if options.gpus and "gpu" not in options.gres:
        wanted["gpus_per_node"] = options.gpus
    if options.setup:
        wanted["setup"] = list(options.setup)
    return wanted
