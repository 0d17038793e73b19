"""Processes on this machine, side by side where its cores or its GPUs' memory allow."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import submitit

from experiments.launch.base import Job, Launcher, note_death
from mtp import hardware
from mtp.config import TrainConfig
from mtp.model.memory import needed
from mtp.overrides import from_dict


class Local(Launcher):
    """`planned`: how many runs the study has in all; threads follow from it."""

    def __init__(self, jobs: list[Job], logs: Path, planned: int) -> None:
        super().__init__(jobs, logs)
        self.processes: dict[str, Any] = {}  # folder -> submitit's job
        self.gpus: dict[str, str] = {}  # folder -> the GPU of its process
        self.slots, threads = side_by_side(jobs, planned)
        self.with_threads(threads)

    def step(self) -> bool:
        for folder in [folder for folder, job in self.processes.items() if job.done()]:
            note_death(Path(folder), str(self.processes.pop(folder).paths.stdout))
        for job in self.take_ready(self.slots - len(self.processes)):
            self.start(job)
        return bool(self.processes or self.waiting)

    def is_under_way(self, run: str) -> bool:
        return run in self.processes or super().is_under_way(run)

    def stop(self) -> str:
        for job in self.processes.values():
            job._process.send_signal(signal.SIGTERM)  # submitit's cancel() would kill after 1 s
        while any(not job.done() for job in self.processes.values()):
            time.sleep(0.1)
        return super().stop()

    def start(self, job: Job) -> None:
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


def side_by_side(jobs: list[Job], planned: int) -> tuple[int, int]:
    """(runs side by side, threads each) on this machine, for a study of `planned` runs.

    On a CPU each run gets one thread if there are as many runs as cores: matrices this small do not
    keep two busy (make bench-engine). Threads follow the plan and not what is left of it, so that a
    run that continues adds its sums in the same order. Memory limits the runs side by side. A GPU
    gets at most four runs: beyond that they only take turns.
    """
    configs = [from_dict(TrainConfig, json.loads(job.config)) for job in jobs]
    gpus, cores = visible_gpus(), hardware.cores()
    device = "cuda" if gpus else "cpu"
    largest = max((run_bytes(config, device) for config in configs), default=1.0)
    if not gpus:
        fitting = max(1, min(planned, cores, int(0.9 * free_memory() // largest)))
        return min(fitting, max(1, len(jobs))), max(1, cores // min(planned, cores))
    free = min(map(free_on, gpus))
    fitting = max(1, min(4, int(0.9 * free // largest)))
    return fitting * len(gpus), max(1, cores // (fitting * len(gpus)))


def free_memory() -> float:
    """Bytes of main memory that are free or could be freed; infinite if unknown."""
    with contextlib.suppress(OSError, StopIteration):
        with open("/proc/meminfo") as file:
            line = next(line for line in file if line.startswith("MemAvailable"))
        return 1024.0 * int(line.split()[1])
    return float("inf")


def free_on(gpu: str) -> float:
    """Free bytes of a GPU, asked of the driver: torch would leave a context on it."""
    ask = ["nvidia-smi", "-i", gpu, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=True)
        return 2**20 * float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        import torch

        return float(torch.cuda.mem_get_info()[0])


def run_bytes(config: TrainConfig, device: str) -> float:
    """The memory that a run needs on this device, in whatever precision it will have."""
    return max(needed(config, precision, 1, device) for precision in ("float32", "bf16"))


def visible_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them."""
    if not hardware.has_gpu():
        return []
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (named.split(",") if named else [str(i) for i in range(count)])[:count]
