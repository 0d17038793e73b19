"""How long this process may still run: the time limit of the Slurm job around it."""

import functools
import os
import re
import subprocess
import time

from mtp.training.rank import is_first_rank


def seconds_left() -> float | None:
    """Seconds until this job's time limit, negative past it. None outside Slurm, without a limit,
    if Slurm does not answer, and on other ranks than the first if Slurm has to be asked."""
    deadline = _deadline()
    return None if deadline is None else deadline - time.monotonic()


def margin(save_seconds: float, step_seconds: float) -> float:
    """A run must begin to save when fewer seconds than this are left: time for a save twice as long
    as the last, and for the steps until the run looks again."""
    return 2 * save_seconds + 3 * step_seconds + 30


@functools.cache
def _deadline() -> float | None:
    """When the job ends, in time.monotonic's seconds. Newer versions of Slurm say it in the
    environment, which srun passes on; otherwise squeue is asked, once."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return None
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return time.monotonic() + int(end) - time.time()
    if not is_first_rank():
        return None
    try:
        command = ["squeue", "-h", "-j", job, "-o", "%L"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    left = parse_time(done.stdout.strip())
    return None if left is None else time.monotonic() + left


def parse_time(text: str) -> float | None:
    """Seconds of Slurm's [[D-]HH:]MM:SS; None for another text, such as UNLIMITED.

    >>> parse_time("1-02:00:30")
    93630.0
    """
    found = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)", text)
    if not found:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
