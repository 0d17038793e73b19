"""Locks on files: between the processes of one machine, and between machines that share a folder.

`flock` does the work; the system frees it however a process ends. On NFS it reaches every machine,
on Lustre too if it is mounted with the option `flock`. Some mounts keep locks to one machine
(Lustre's `localflock`, NFS's `nolock` and `local_lock`). There, and only there, a second file
names who holds the lock: FILE.holder, which only one process can create.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mtp.errors import BadInput
from mtp.files import parse_json

HELD = (errno.EAGAIN, errno.EACCES)  # what the system says of another's lock; the latter on NFS
MISSING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without locks
MOUNTS = Path("/proc/self/mountinfo")
ONE_MACHINE = re.compile(r"\b(localflock|nolock|local_lock=(flock|all))\b")


@contextlib.contextmanager
def locked(
    file: Path, busy: str | None = None, waiting: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock `file` until the block ends, or the process does.

    If another process holds it, raises BadInput with the message `busy`; without a message, calls
    `waiting` and then waits. Raises BadInput as well if the file system has no locks.
    """
    with file.open("a") as stream:  # to be written to: NFS refuses an exclusive lock otherwise
        if not _take(stream, file):
            if busy is not None:
                raise BadInput(busy)
            if waiting is not None:
                waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        with contextlib.nullcontext() if _reaches_others(file) else _named(file, busy, waiting):
            yield


def is_locked(file: Path) -> bool:
    """Whether another process holds the lock `file`. Asks for a shared lock: a file opened for
    reading can get one on NFS as well, and several processes can ask at once."""
    try:
        stream = file.open("r")
    except OSError:  # nobody holds a file that does not exist
        return False
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in HELD:
                return True
    holder = None if _reaches_others(file) else Holder.of(file)
    return holder is not None and holder.works()


def _take(stream: IO[str], file: Path) -> bool:
    """Take the lock if it is free. Tries for a moment, since `is_locked` holds it for an instant
    while it looks."""
    for patience in (0.05, 0.1, 0.2, 0.4, 0.0):
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in HELD:
                hint = "; Lustre needs the mount option flock" if error.errno in MISSING else ""
                message = f"{file} cannot be locked: {error.strerror}{hint}"
                raise BadInput(message) from None
            time.sleep(patience)
    return False


# --------------------------------------------------------------------------------------------------
# mounts whose locks stay on one machine


def _reaches_others(file: Path) -> bool:
    """Whether a lock on `file` keeps out processes on other machines, as far as the mount says."""
    try:
        lines = MOUNTS.read_text().splitlines()
    except OSError:  # not Linux
        return True
    there, longest, options = str(file.resolve()), "", ""
    for line in lines:  # ID PARENT DEVICE ROOT POINT OPTIONS ... - TYPE SOURCE OPTIONS
        fields = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), fields[4])
        inside = (there + "/").startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(longest):  # a later mount on a point hides the earlier
            longest, options = point, f"{fields[5]} {fields[-1]}"
    return not ONE_MACHINE.search(options)


@dataclass(frozen=True)
class Holder:
    """The process that FILE.holder names. job: Slurm's id of its job, "" outside Slurm."""

    host: str
    pid: int
    job: str

    @staticmethod
    def me() -> "Holder":
        return Holder(platform.node(), os.getpid(), os.environ.get("SLURM_JOB_ID", ""))

    @staticmethod
    def of(file: Path) -> "Holder | None":
        """The holder of the lock `file`; None if no process is named."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            values = parse_json(_holder_file(file).read_bytes())
            return Holder(str(values["host"]), int(values["pid"]), str(values["job"]))
        return None

    def works(self) -> bool:
        """Whether it may still be at work on another machine. On this one, the lock itself tells.
        Slurm says whether a job has ended; nobody says so of a process outside Slurm."""
        mine = Holder.me()
        if self.host == mine.host or (self.job and self.job == mine.job):  # requeued to this node
            return False
        return not (self.job and _has_ended(self.job))

    def __str__(self) -> str:
        where = f"process {self.pid} on {self.host}"
        return f"{where}, Slurm job {self.job}" if self.job else where


@contextlib.contextmanager
def _named(
    file: Path, busy: str | None, waiting: Callable[[], None] | None, pause: float = 2.0
) -> Iterator[None]:
    """Name this process as the holder of `file`, whose lock it has on this machine. Waits or raises
    as `locked` does, and says which file to delete if the holder has been killed."""
    there, waits = _holder_file(file), False
    while not _create(there, json.dumps(vars(Holder.me()))):
        holder = Holder.of(file)
        if holder and not holder.works():
            there.unlink(missing_ok=True)
            continue
        who = f"{holder or 'another process'}; if that has ended, delete {there}"
        if busy is not None:
            raise BadInput(f"{busy}: {who}")
        if not waits:
            waits = True
            print(f"waiting for {file}, held by {who}", file=sys.stderr)
            if waiting is not None:
                waiting()
        time.sleep(pause)
    try:
        yield
    finally:
        there.unlink(missing_ok=True)


def _create(file: Path, content: str) -> bool:
    """Create a file with its content in one step; False if it exists."""
    half = file.with_name(f".{file.name}.{platform.node()}.{os.getpid()}")
    half.write_text(content)
    try:
        os.link(half, file)
        return True
    except FileExistsError:
        return False
    finally:
        half.unlink()


def _holder_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.holder")


def _has_ended(job: str) -> bool:
    """Whether Slurm says that a job has ended; it lists jobs that have not, and knows no others."""
    try:
        command = ["squeue", "-h", "-j", job, "-o", "%T"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return not done.stdout.strip() and (not done.returncode or "Invalid job id" in done.stderr)
