"""What Slurm knows of jobs, asked with squeue and scontrol; accounting is not needed."""

import functools
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from mtp.errors import BadInput
from mtp.files import write_atomically

ACTIVE_STATES = (
    "PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SIGNALING", "REQUEUED", "REQUEUE_HOLD",
    "REQUEUE_FED", "RESIZING", "SUSPENDED", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT",
)  # fmt: skip
MAX_ARRAY_SIZE = 1001  # Slurm's default


def check_installed() -> None:
    """BadInput on a machine without Slurm's commands."""
    for tool in ("sbatch", "srun", "squeue"):
        if shutil.which(tool) is None:
            raise BadInput(f"{tool} is not here; the slurm launcher needs a cluster's node")


class Seen(NamedTuple):
    """What Slurm says of a job: its state, and why it waits (%r; "None" if it does not)."""

    state: str
    reason: str = ""

    @property
    def active(self) -> bool:
        return self.state in ACTIVE_STATES


def queued() -> dict[str, Seen]:
    """Each of my jobs that Slurm still knows, by id."""
    command = ["squeue", "-h", "-r", "--me", "-t", "all", "-o", "%i|%T|%r"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    except FileNotFoundError:
        raise BadInput("squeue is not here; the slurm launcher needs a cluster's node") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        message = " ".join(str(error.stderr or error).split())
        raise BadInput(f"squeue does not answer: {message}") from None
    lines = (line.split("|", 2) for line in done.stdout.splitlines())
    return {job: Seen(*rest) for job, *rest in lines}


def waits(ids: Iterable[str], known: Mapping[str, Seen]) -> str | None:
    """Why a run, of these jobs, waits; None if one of them is at work or none is queued. The second
    job of a run waits for the first, which is not its reason."""
    active = [known[job] for job in ids if job in known and known[job].active]
    if not active or any(seen.state != "PENDING" for seen in active):
        return None
    return active[0].reason


def pending(reasons: Iterable[str | None]) -> str:
    """The runs that wait, by reason.

    >>> pending(["Resources", "PartitionConfig", None, "Resources"])
    '2 pending: Resources, 1 pending: PartitionConfig'
    """
    counts = Counter(reason for reason in reasons if reason is not None)
    return ", ".join(
        f"{count} pending" + (f": {reason}" if reason not in ("", "None") else "")
        for reason, count in counts.most_common()
    )


def was_preempted(job: str, state: str) -> bool:
    """Whether a job has ended because another took its place.

    Where preemption cancels jobs (PreemptMode=CANCEL), Slurm gives them the state PREEMPTED; if a
    job leaves by itself in its GraceTime it may have another state, and a PreemptTime. A job
    without either was cancelled by its user or an administrator, or is no longer known: Slurm
    forgets a job MinJobAge (300 s by default) after its end.
    """
    if state == "PREEMPTED":
        return True
    try:
        command = ["scontrol", "show", "job", job]
        text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    except (OSError, subprocess.SubprocessError):
        return False
    return bool(re.search(r"JobState=PREEMPTED\b|\bPreemptTime=\d", text))


def max_array_size() -> int:
    """How many members an array may have on this cluster."""
    try:
        command = ["scontrol", "show", "config"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    except (OSError, subprocess.SubprocessError):
        return MAX_ARRAY_SIZE
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", text, re.MULTILINE)
    return max(1, int(found[1])) if found else MAX_ARRAY_SIZE


# --------------------------------------------------------------------------------------------------
# RUN/slurm-job: the ids of a run's jobs, one in a line


def write_job_ids(folder: Path, ids: list[str]) -> None:
    write_atomically(folder / "slurm-job", "\n".join(ids).encode())


def read_job_ids(folder: Path) -> list[str]:
    file = folder / "slurm-job"
    return file.read_text().split() if file.exists() else []


class Queue:
    """What Slurm knows of the jobs of earlier launches, asked at most once."""

    def has(self, folder: Path) -> bool:
        """Whether a Slurm job for this run is still active. On a machine without Slurm, none is.
        Raises BadInput if Slurm does not answer: a job may be active then."""
        ids = read_job_ids(folder)
        return any(self._known[job].active for job in ids if job in self._known)

    def waits(self, folder: Path) -> str | None:
        """Why this run's job has not started; None if it has, or if there is none."""
        ids = read_job_ids(folder)
        return waits(ids, self._known) if ids else None

    @functools.cached_property
    def _known(self) -> dict[str, Seen]:
        return queued() if shutil.which("squeue") else {}
