"""Run a study's jobs here or on a cluster, through submitit.

    debug   one after the other in this process
    local   processes on this machine, side by side where cores or one GPU's memory allow it
    slurm   an array job; a job that is preempted or out of time saves, requeues itself and goes on

submitit submits; its own requeueing is not used. It judges every signal in a job under ten minutes
a time-out, gives up after a few of them, and asks sacct, which a cluster without accounting lacks.
Jobs are followed through their run's status.json, and squeue.
"""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import submitit
from submitit.core.utils import FailedJobError

from mtp import parallel
from mtp.config import TrainConfig, from_dict, override, to_json
from mtp.errors import BadInput, choose
from mtp.progress import write_status
from mtp.train import Interrupted

LAUNCHERS = ("local", "debug", "slurm")
WARNINGS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
MOST_REQUEUES = 1000


@dataclass(frozen=True)
class SlurmOptions:
    """What a Slurm job asks for. From slurm.toml in the working folder, then --slurm field=value.

    warn_seconds: how long before the time limit the job is told to save and requeue.
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
    try:
        values = tomllib.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    return override(from_dict(SlurmOptions, values, f"{file}: "), assignments)


# --------------------------------------------------------------------------------------------------
# inside a job


@dataclass(frozen=True)
class Job:
    """Train one run and evaluate it; what submitit pickles. Paths are absolute."""

    study: str
    scale: str
    config: str  # JSON
    folder: str
    data: str
    threads: int = 0
    gpu: str = ""  # the one to use, as CUDA_VISIBLE_DEVICES names it; "": what the launcher gives

    def __call__(self) -> None:
        # Heavy imports wait: a signal that arrives before the handlers are set is fatal.
        for signum in WARNINGS:
            signal.signal(signum, _leave)
        if self.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = self.gpu
        from experiments.jobs import work

        try:
            join_ranks()
            work(self)
        except Interrupted as stopped:
            print(f"{stopped}; the same command goes on", file=sys.stderr)
            go_again(stopped.signum)


def _leave(signum: int, frame: object) -> NoReturn:
    raise Interrupted(signum)


def join_ranks() -> None:
    """Export torch.distributed's variables where Slurm started several tasks."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SUBMITIT_EXECUTOR" in os.environ:
        # Every rank sees the node's GPUs and takes the one of its LOCAL_RANK (mtp/parallel.py).
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def go_again(signum: int) -> NoReturn:
    """Leave this job; under Slurm have it start again from what was saved.

    A job that is warned (time limit, preemption) still runs and requeues itself. One that Slurm has
    already requeued or cancelled only leaves: a requeue would bring a cancelled job back to life.
    SystemExit, because submitit would record an Exception as the job's result.
    """
    for warning in WARNINGS:  # the requeue itself sends SIGTERM
        signal.signal(warning, signal.SIG_IGN)
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        sys.exit(128 + signum)
    if os.environ.get("SLURM_PROCID", "0") != "0":
        time.sleep(3600)  # the first rank speaks for all, and Slurm ends the others with it
    array, member = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{member}" if array else os.environ["SLURM_JOB_ID"]
    state = subprocess.check_output(
        ["squeue", "-h", "-j", job, "-o", "%T"], text=True, timeout=120
    ).strip()
    if state in ("RUNNING", "SIGNALING"):
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_REQUEUES:
            raise RuntimeError(f"job {job} was requeued {MOST_REQUEUES} times and is not done")
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=120)
    sys.exit(128 + signum)


# --------------------------------------------------------------------------------------------------
# in front of the jobs


def check_launcher(launcher: str) -> None:
    """BadInput for an unknown launcher, or Slurm's where there is no Slurm."""
    choose("launcher", launcher, LAUNCHERS)
    if launcher == "slurm":
        for tool in ("sbatch", "srun", "squeue"):
            if shutil.which(tool) is None:
                raise BadInput(f"{tool} is not here; the slurm launcher needs a cluster's node")


class Launch:
    """Submits the jobs of a study of `planned` runs, and follows them."""

    def __init__(
        self, launcher: str, jobs: list[Job], logs: Path, slurm: SlurmOptions, planned: int
    ) -> None:
        check_launcher(launcher)
        self.launcher, self.slurm = launcher, slurm
        self.waiting = list(jobs)
        self.logs = logs / time.strftime("%Y%m%d-%H%M%S")  # fresh: process ids repeat
        self.processes: dict[str, Any] = {}
        self.gpus: dict[str, str] = {}  # folder -> the GPU of its process
        if launcher == "slurm":
            self.slots, threads = slurm.parallel, slurm.cpus
        else:
            self.slots, threads = slots(jobs, planned) if launcher == "local" else (1, 0)
        self.waiting = [dataclasses.replace(job, threads=threads) for job in self.waiting]
        if launcher == "slurm":
            self._submit_array()

    def step(self) -> bool:
        """Start what may start, reap what is done; False once nothing is left."""
        if self.launcher == "debug":
            if self.waiting:
                self._run_here(self.waiting.pop(0))
            return bool(self.waiting)
        if self.launcher == "local":
            done = [folder for folder, job in self.processes.items() if job.done()]
            for folder in done:
                _note_the_dead(Path(folder), self.processes.pop(folder))
            while self.waiting and len(self.processes) < self.slots:
                self._start_process(self.waiting.pop(0))
            return bool(self.processes)
        try:
            known = queued()
        except BadInput as error:  # a controller that restarts takes no job with it
            print(f"{error}; asking again", file=sys.stderr)
            return True
        for folder, job_id in list(self.processes.items()):
            if known.get(job_id) not in ACTIVE_STATES:
                _note_the_dead(Path(folder), None)
                del self.processes[folder]
        return bool(self.processes)

    def stop(self) -> None:
        """Ask local processes to save and leave, and wait for them; Slurm's jobs go on alone."""
        self.waiting = []
        if self.launcher != "local":
            return
        for job in self.processes.values():
            job._process.send_signal(signal.SIGTERM)  # submitit's cancel() would kill after 1 s
        while any(not job.done() for job in self.processes.values()):
            time.sleep(0.1)

    def _run_here(self, job: Job) -> None:
        executor = submitit.DebugExecutor(folder=self.logs)
        before = {signum: signal.getsignal(signum) for signum in WARNINGS}
        executor.submit(job).exception()  # told by status.json; .result() would start a debugger
        for signum, handler in before.items():
            signal.signal(signum, handler)

    def _start_process(self, job: Job) -> None:
        executor = submitit.LocalExecutor(folder=self.logs)
        executor.update_parameters(timeout_min=60 * 24 * 365, stderr_to_stdout=True)
        if gpus := visible_gpus():
            taken = [self.gpus[folder] for folder in self.processes]
            self.gpus[job.folder] = min(gpus, key=taken.count)
            job = dataclasses.replace(job, gpu=self.gpus[job.folder])
        # The terminal's Ctrl-C reaches submitit's controllers too, which kill a task within a
        # second of it. They start with it ignored: stop() asks the tasks to save instead.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.processes[job.folder] = executor.submit(job)
        finally:
            signal.signal(signal.SIGINT, before)

    def _submit_array(self) -> None:
        s = self.slurm
        executor = submitit.SlurmExecutor(folder=self.logs)
        options: dict[str, Any] = {
            "job_name": self.waiting[0].study,
            "time": max(5, round(60 * s.hours)),
            "nodes": s.nodes,
            "ntasks_per_node": max(1, s.gpus),
            "cpus_per_task": s.cpus,
            "mem": f"{s.memory_gb}GB",
            "signal_delay_s": s.warn_seconds,
            "array_parallelism": s.parallel,
            "stderr_to_stdout": True,
            "additional_parameters": {"requeue": True},
        }
        if s.gpus:
            options["gpus_per_node"] = s.gpus
        if s.partition:
            options["partition"] = s.partition
        if s.account:
            options["account"] = s.account
        executor.update_parameters(**options)
        try:
            quiet = contextlib.redirect_stderr(io.StringIO())  # the error has it all again
            with quiet, submitit.helpers.clean_env():
                jobs = executor.submit_array(self.waiting)
        except FailedJobError as error:
            said = str(error).replace("sbatch: error: ", "").splitlines()
            raise BadInput(f"sbatch refused the jobs: {'; '.join(said)}") from None
        for mine, job in zip(self.waiting, jobs, strict=True):
            self.processes[mine.folder] = job.job_id
            (Path(mine.folder) / "slurm-job").write_text(job.job_id)
        self.waiting = []


ACTIVE_STATES = (
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "REQUEUED", "REQUEUE_HOLD",
    "REQUEUE_FED", "RESIZING", "SUSPENDED", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT",
)  # fmt: skip


def queued() -> dict[str, str]:
    """Slurm's state of each of my jobs it still knows, by id; needs no accounting."""
    command = ["squeue", "-h", "-r", "--me", "-t", "all", "-o", "%i|%T"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise BadInput("squeue is not here; the slurm launcher needs a cluster's node") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = " ".join(str(error.stderr or error).split())
        raise BadInput(f"squeue does not answer: {said}") from None
    return dict(line.split("|", 1) for line in done.stdout.splitlines())


def is_queued(folder: Path) -> bool:
    """Whether an earlier launch's Slurm job for this run is still active."""
    try:
        job = (folder / "slurm-job").read_text()
        return queued().get(job) in ACTIVE_STATES
    except (OSError, BadInput):
        return False


def is_held(folder: Path) -> bool:
    """Whether a process works in the run's folder: it holds .job, or .lock (mtp.train).

    A job takes .job first and keeps it, so that .lock is never tried in front of a job's own try.
    """
    for name in (".job", ".lock"):
        with contextlib.suppress(OSError), (folder / name).open("r") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
    return False


def _note_the_dead(folder: Path, job: Any) -> None:
    """A job that ended without telling its end (killed, out of memory) becomes a failed run, unless
    it ended because another process has the run."""
    if is_held(folder):
        return
    try:
        status = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        status = {"state": "running"}
    if status.get("state") == "running":
        log = f"; see {job.paths.stdout}" if job is not None else ""
        status |= {"state": "failed", "error": f"the process died without a word{log}"}
        write_status(folder, **{k: v for k, v in status.items() if k not in ("pid", "time")})


def slots(jobs: list[Job], planned: int) -> tuple[int, int]:
    """(runs side by side, threads each) on this machine, for a study of `planned` runs.

    On a CPU one thread per run where there are as many runs as cores: matrices this small do not
    feed two (make bench-engine). Threads follow the plan, not what is left of it, so that a run
    that goes on keeps its sums. Memory limits the runs side by side; on GPUs to four each, too:
    beyond that they only take turns.
    """
    configs = [from_dict(TrainConfig, json.loads(job.config)) for job in jobs]
    largest = max(map(run_bytes, configs), default=1.0)
    gpus, cores = visible_gpus(), parallel.cores()
    if not gpus:
        fitting = max(1, min(planned, cores, int(0.9 * free_memory() // largest)))
        return min(fitting, max(1, len(jobs))), max(1, cores // min(planned, cores))
    import torch

    free, _ = torch.cuda.mem_get_info()
    fitting = max(1, min(4, int(0.9 * free // largest)))
    return fitting * len(gpus), max(1, cores // (fitting * len(gpus)))


def free_memory() -> float:
    """Bytes of main memory that are free or could be freed; unlimited where it cannot be told."""
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
        return 1024.0 * int(line.split()[1])
    return float("inf")


def run_bytes(config: TrainConfig) -> float:
    """A cautious estimate of a run's memory: 18 bytes per weight (bf16, float32 master, two
    moments, gradients), every layer's activations, and 2 GB for logits and the device itself."""
    from mtp.model import parameter_counts

    m = config.model
    tokens = (config.micro or config.batch) * m.context
    layers = m.layers + m.extra_layers
    activations = tokens * (layers * (16 * m.dim + 3 * m.ffn) + 4 * m.n * m.dim) * 2.0
    return 18.0 * parameter_counts(m)["total"] + activations + 2e9


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]


def make_job(study: str, scale: str, config: TrainConfig, folder: Path, data: Path) -> Job:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error.strerror}") from None
    return Job(study, scale, to_json(config), str(folder.resolve()), str(data.resolve()))


def follow(launch: Launch) -> Iterator[None]:
    """Drive a launch until it is done, yielding now and then."""
    while launch.step():
        yield
        if launch.launcher != "debug":
            time.sleep(0.3 if launch.launcher == "local" else 2.0)
    yield
