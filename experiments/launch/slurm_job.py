"""Inside a Slurm job: its ranks, and how it is queued again."""

import os
import subprocess
import time

import submitit

MOST_REQUEUES = 1000


def is_job() -> bool:
    """Whether this process is a job that submitit started under Slurm."""
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def join_ranks() -> None:
    """Export torch.distributed's variables where Slurm started several tasks."""
    if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SUBMITIT_EXECUTOR" in os.environ:
        # Every rank sees the node's GPUs and takes the one of its LOCAL_RANK
        # (mtp/training/distributed.py).
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)


def requeue() -> None:
    """Have this job start again from what was saved. A job that Slurm has already requeued or
    cancelled is left alone: a requeue would bring a cancelled job back to life."""
    if os.environ.get("SLURM_PROCID", "0") != "0":
        time.sleep(3600)  # the first rank requeues, and Slurm ends the others with it
    array, member = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{member}" if array else os.environ["SLURM_JOB_ID"]
    ask = ["squeue", "-h", "-j", job, "-o", "%T"]
    state = subprocess.check_output(ask, text=True, timeout=120).strip()
    if state in ("RUNNING", "SIGNALING"):
        if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MOST_REQUEUES:
            raise RuntimeError(f"job {job} was requeued {MOST_REQUEUES} times and is not done")
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=120)
