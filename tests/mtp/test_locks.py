"""Locks exclude each other, on one machine and on network file systems."""

import errno
import fcntl
import os
import threading
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from mtp import locks
from mtp.errors import BadInput
from mtp.locks import is_locked, locked


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants a lock does not pause between attempts."""
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: None)


@pytest.mark.usefixtures("impatient")
def test_a_lock_is_held_by_one_and_freed_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    assert not is_locked(file)  # there is no such file
    for _ in range(2):
        with locked(file, "busy"):
            assert is_locked(file)
            with pytest.raises(BadInput, match="busy"), locked(file, "busy"):
                pytest.fail("two hold the lock")
            assert is_locked(file)
        assert not is_locked(file)
    with pytest.raises(RuntimeError), locked(file):
        raise RuntimeError
    assert not is_locked(file)


def hold_until_killed(file: Path) -> None:
    with locked(file):
        file.with_name("held").touch()
        threading.Event().wait()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, processes: ForkServerContext) -> None:
    file = tmp_path / ".lock"
    holder = processes.Process(target=hold_until_killed, args=(file,))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
    assert is_locked(file)
    holder.kill()
    holder.join()
    assert not is_locked(file)


@pytest.mark.usefixtures("impatient")
def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    file, order = tmp_path / ".lock", list[str]()
    waits = threading.Event()

    def waiting() -> None:
        order.append("waits")
        waits.set()

    def second() -> None:
        with locked(file, waiting=waiting):
            order.append("has it")

    thread = threading.Thread(target=second)
    with locked(file):
        thread.start()
        assert waits.wait(10)
        order.append("frees it")
    thread.join()
    assert order == ["waits", "frees it", "has it"]


def test_a_file_system_without_locks_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    message = r"\.lock cannot be locked: No locks available"
    with pytest.raises(BadInput, match=message), locked(tmp_path / ".lock", "busy"):
        pytest.fail("locked")
    assert not is_locked(tmp_path / ".lock")


# --------------------------------------------------------------------------------------------------
# network file systems


def hold_on_nfs(file: Path) -> None:
    """There, flock locks the file's bytes for the process, and wants a file opened for writing if
    the lock is exclusive: it is lockf."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locks.fcntl, "flock", fcntl.lockf)
        hold_until_killed(file)


@pytest.mark.usefixtures("impatient")
def test_on_nfs_a_lock_is_seen_and_kept(
    tmp_path: Path, processes: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks.fcntl, "flock", fcntl.lockf)
    file = tmp_path / ".lock"
    with file.open("w"), file.open("r") as reader, pytest.raises(OSError, match="Bad file descr"):
        fcntl.flock(reader, fcntl.LOCK_EX)  # what a probe must not ask for
    holder = processes.Process(target=hold_on_nfs, args=(file,))
    holder.start()
    while not (tmp_path / "held").exists():
        assert holder.is_alive()
    assert is_locked(file)
    with pytest.raises(BadInput, match="busy"), locked(file, "busy"):
        pytest.fail("two hold the lock")
    holder.kill()
    holder.join()
    assert not is_locked(file)
    with locked(file, "busy"):
        pass


@pytest.mark.parametrize("number", locks.MISSING)
def test_lustre_without_the_option_flock_is_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    message = (
        rf"\.lock cannot be locked: {os.strerror(number)}; Lustre needs the mount option flock"
    )
    with pytest.raises(BadInput, match=message), locked(tmp_path / ".lock", "busy"):
        pytest.fail("locked")


class Machines:
    """Machines that share a folder, whose locks do not reach each other."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        (folder / "bin").mkdir()
        patch.setenv("PATH", str(folder / "bin"))
        patch.setattr(locks.fcntl, "flock", lambda *_: None)
        patch.setattr(locks, "MOUNTS", folder / "mounts")
        self.mount("rw,localflock")

    def mount(self, options: str) -> None:
        lines = ["22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw"]
        point = str(self.folder).replace(" ", r"\040")
        lines.append(f"30 22 0:40 / {point} rw,noatime shared:9 - lustre mgs@tcp:/fs {options}")
        (self.folder / "mounts").write_text("\n".join(lines))

    def on(self, host: str, job: str = "") -> None:
        """Go on as a process on this machine, in this job of Slurm's."""
        self.patch.setattr(locks.platform, "node", lambda: host)
        self.patch.setenv("SLURM_JOB_ID", job)

    def squeue(self, script: str) -> None:
        file = self.folder / "bin" / "squeue"
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)


@pytest.fixture
def machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machines:
    folder = tmp_path / "a mount"
    folder.mkdir()
    return Machines(folder, monkeypatch)


@pytest.mark.parametrize("options", ["rw,localflock", "rw,nolock,addr=1", "local_lock=flock,rw"])
def test_a_file_names_the_holder_where_locks_stay_on_one_machine(
    options: str, machines: Machines
) -> None:
    machines.mount(options)
    file = machines.folder / ".lock"
    machines.on("a")
    with locked(file, "busy"):
        assert not is_locked(file)  # on its own machine, the lock itself would tell
        machines.on("b")
        assert is_locked(file)
        message = rf"^busy: process {os.getpid()} on a; if that has ended, delete .*\.lock\.holder$"
        with pytest.raises(BadInput, match=message), locked(file, "busy"):
            pytest.fail("two hold the lock")
    assert not is_locked(file)
    with locked(file, "busy"):
        pass
    assert not file.with_name(".lock.holder").exists()


@pytest.mark.parametrize("options", ["rw,flock", "rw", "vers=4.2,local_lock=none,rw"])
def test_no_holder_is_named_where_locks_reach_others(options: str, machines: Machines) -> None:
    machines.mount(options)
    with locked(machines.folder / ".lock"):
        assert not (machines.folder / ".lock.holder").exists()


def test_slurm_says_whether_a_holder_has_ended(machines: Machines) -> None:
    file = machines.folder / ".lock"
    machines.on("a", "7")
    killed = locked(file, "busy")
    killed.__enter__()  # and never left
    machines.on("b", "7")  # the same job, requeued
    assert not is_locked(file)
    machines.on("b", "8")
    for script in ("echo RUNNING", "exit 1", "echo down >&2; exit 1"):
        machines.squeue(script)
        assert is_locked(file)
        with pytest.raises(BadInput, match="on a, Slurm job 7;"), locked(file, "busy"):
            pytest.fail("two hold the lock")
    for script in ("exit 0", "echo 'error: Invalid job id specified' >&2; exit 1"):
        machines.squeue(script)
        assert not is_locked(file)
    with locked(file, "busy"):
        assert '"8"' in file.with_name(".lock.holder").read_text()


def test_a_holder_on_another_machine_is_waited_for(
    machines: Machines, capsys: pytest.CaptureFixture[str]
) -> None:
    file, order = machines.folder / ".lock", list[str]()
    machines.on("a")
    first = locked(file)
    first.__enter__()
    machines.on("b")

    def sleep(seconds: float) -> None:
        order.append("sleeps")
        if len(order) == 4:
            first.__exit__(None, None, None)

    machines.patch.setattr(locks.time, "sleep", sleep)
    with locked(file, waiting=lambda: order.append("waits")):
        assert order == ["waits", "sleeps", "sleeps", "sleeps"]
    assert capsys.readouterr().err.count(f"waiting for {file}, held by process") == 1
