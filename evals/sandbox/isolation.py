"""The walls around programs: bubblewrap, or what is left without it.

bubblewrap   own namespaces of users, processes, network, IPC and host name; of files the Python
             that runs it, the system's libraries and time zones, read-only, the devices that only
             give zeros or chance, and an empty scratch folder and /dev/shm in memory; of /proc its
             own processes. All of it dies with whoever started it.
namespaces   own processes, network and IPC, but all files of the user
limits       nothing but resource limits: it can do what the user can

Within these each program gets a process, a filter of system calls (evals/sandbox/syscalls.py) and,
but for the last kind, namespaces of its own (evals/sandbox/inside.py). Standard library only, as
evals/sandbox/judge.py is.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from mtp.errors import BadInput

KINDS = ("bubblewrap", "namespaces", "limits")
SCRATCH = "/tmp"  # the folder of a program in bubblewrap
PACKAGES = "/packages"  # where a program in bubblewrap finds what it may import
SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64")
ZONES = "/usr/share/zoneinfo"
DEVICES = ("null", "zero", "full", "random", "urandom")


class Walls(NamedTuple):
    """command: goes before the program's own; python: the interpreter, as the program sees it;
    packages: what it may import beside the standard library, from the folders of `path`."""

    kind: str
    command: tuple[str, ...]
    python: str
    packages: tuple[str, ...] = ()
    path: tuple[str, ...] = ()


def candidates(packages: tuple[str, ...] = ()) -> Iterator[Walls]:
    """The walls that may work here, the best first."""
    if tool := shutil.which("bwrap"):
        yield _bubblewrap(tool, ["--proc", "/proc"], packages)
        yield _bubblewrap(tool, _folder("/proc"), packages)  # in containers that hide parts of it
    for kind in KINDS[1:]:
        yield Walls(kind, (), _python(), packages, path_of(packages))


def path_of(packages: Iterable[str]) -> tuple[str, ...]:
    """The folders that hold these packages. Raises BadInput if one is not installed."""
    return tuple(dict.fromkeys(str(Path(_package(name)).parent) for name in packages))


def _package(name: str) -> str:
    """The folder of a package. Raises BadInput if it is not installed, or not a folder."""
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise BadInput(f"programs cannot have the package {name!r}: it is not installed here")
    return next(iter(folders))


def command(walls: Walls, bootstrap: str) -> list[str]:
    """Python without site-packages, the current folder and the user's settings."""
    return [*walls.command, walls.python, "-s", "-S", "-P", "-c", bootstrap]


def environment(walls: Walls) -> dict[str, str]:
    """The whole environment of a program. It has one malloc arena, since each new one would take 64
    MB of RLIMIT_AS, a fixed hash seed, so that no verdict depends on the order of a set, and
    integers of any length, as when the benchmarks were made."""
    own = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": SCRATCH, "MALLOC_ARENA_MAX": "1"}
    own |= {"USER": "user", "LOGNAME": "user"}  # of no account: programs ask these first
    own |= {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    own |= {"PYTHONINTMAXSTRDIGITS": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    bare = walls.kind != "bubblewrap"
    return own | {
        "LD_LIBRARY_PATH": str(Path(_python()).parents[1] / "lib") if bare else "/python/lib"
    }


def _python() -> str:
    """The interpreter behind a virtual environment's link, whose folder has the library."""
    return os.path.realpath(sys.executable)


def _folder(path: str) -> list[str]:
    """A folder that every user may read; bwrap would take away the rights of what is mounted
    below."""
    return ["--perms", "0755", "--dir", path]


def _libraries(folder: Path) -> list[str]:
    """A folder of the system's libraries. Debian has those of a machine in a folder below, and
    besides it anything, packages among it; other systems have them all in this one."""
    machines = [each.parent for each in folder.glob("*-linux-gnu*/libc.so.6")]
    if not machines:
        return _without_packages(folder, str(folder))
    found = _folder(str(folder))
    for each in (*machines, folder / "locale"):
        if each.is_dir():
            found += ["--ro-bind", str(each), str(each)]
    for each in folder.iterdir():  # the loader, say
        if each.is_symlink() and ".so" in each.name:
            found += ["--symlink", os.readlink(each), str(each)]
        elif each.is_file() and not each.is_symlink():
            found += ["--ro-bind", str(each), str(each)]
    return found


def _without_packages(source: Path, target: str) -> list[str]:
    """A folder of libraries, or of Python's own, with the packages in it hidden, so that they
    cannot even be read."""
    found = ["--ro-bind", str(source), target]
    for pattern in ("", "python*/"):
        for name in ("site-packages", "dist-packages"):
            for each in source.glob(f"{pattern}{name}"):
                hidden = f"{target}/{each.relative_to(source)}"
                found += ["--tmpfs", hidden, "--remount-ro", hidden]
    return found


def _bubblewrap(tool: str, proc: list[str], allowed: tuple[str, ...]) -> Walls:
    """proc: options for the folder /proc. The kernel lets a user namespace mount a program's own
    only where another is in sight.

    A user namespace, except for root, who needs none. The capabilities are for making each
    program's own namespaces and, of root, for making it another user and killing it; programs have
    none."""
    spaces = [
        "--unshare-ipc",
        "--unshare-net",
        "--unshare-pid",
        "--unshare-uts",
        "--cap-drop",
        "ALL",
    ]
    rights = ["CAP_SYS_ADMIN"]
    if os.geteuid() == 0:
        rights += ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"]
    else:
        spaces.append("--unshare-user")
    for right in rights:
        spaces += ["--cap-add", right]
    files = [*_folder("/python"), *_folder("/python/bin"), *_folder("/usr"), *_folder("/usr/share")]
    for folder in SYSTEM:
        if os.path.islink(folder):
            files += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            files += _libraries(Path(folder))
    if os.path.isdir(ZONES):
        files += ["--ro-bind", ZONES, ZONES]
    python = Path(_python())
    shared = {os.path.realpath(folder) for folder in SYSTEM}
    for name in dict.fromkeys(("lib", sys.platlibdir)):
        source, target = python.parents[1] / name, f"/python/{name}"
        if os.path.realpath(source) in shared:  # the system's Python: its libraries are there
            own = f"python{sys.version_info.major}.{sys.version_info.minor}"
            if (source / own).is_dir():
                files += [*_folder(target), *_without_packages(source / own, f"{target}/{own}")]
        elif source.is_dir():
            files += _without_packages(source, target)
    inside = f"/python/bin/{python.name}"
    files += ["--ro-bind", str(python), inside, *_folder("/dev"), *_folder("/dev/shm")]
    for device in (f"/dev/{name}" for name in DEVICES if os.path.exists(f"/dev/{name}")):
        files += ["--dev-bind", device, device]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        files += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    files += ["--symlink", "/proc/self/fd", "/dev/fd", *proc]
    files += _folder(PACKAGES)
    for folder in map(Path, map(_package, allowed)):
        for part in (folder, folder.with_name(f"{folder.name}.libs")):  # shared libraries of wheels
            if part.is_dir():
                files += ["--ro-bind", str(part), f"{PACKAGES}/{part.name}"]
    files += [*_folder(SCRATCH), "--remount-ro", "/"]
    ends = ["--die-with-parent", "--new-session"]
    command = (tool, *spaces, *ends, *files, "--")
    return Walls("bubblewrap", command, inside, allowed, (PACKAGES,) if allowed else ())
