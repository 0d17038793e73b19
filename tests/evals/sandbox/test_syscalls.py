"""The filter of system calls: what it allows, by its number and its arguments, and in programs."""

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from evals.sandbox import isolation, syscalls
from evals.sandbox.runner import FunctionJob, run_all
from tests.evals.sandbox.helpers import need

HEADERS = Path("/usr/include")


def outcome(
    machine: str,
    number: int,
    argument: int = 0,
    architecture: int | None = None,
    given: dict[int, int] | None = None,
) -> int:
    """What the filter returns for a call: the kernel's BPF, step by step. given: words of arguments
    by their offset, instead of `argument`."""
    code = [each for each in struct.iter_unpack("=HBBI", syscalls.program(machine))]
    read = {syscalls.NUMBER: number} | dict.fromkeys(syscalls.ARGUMENTS, argument)
    read |= given or {}
    read[syscalls.ARCHITECTURE] = architecture or syscalls.ARCHITECTURES[machine]
    at = value = 0
    while True:
        what, yes, no, k = code[at]
        if what == syscalls.RETURN:
            return k
        if what == syscalls.LOAD:
            value, skip = read[k], 0
        else:
            true = {
                syscalls.IF_EQUAL: value == k,
                syscalls.IF_GREATER: value > k,
                syscalls.IF_AT_LEAST: value >= k,
                syscalls.IF_ANY_BIT: bool(value & k),
            }[what]
            skip = yes if true else no
        at += 1 + skip


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_the_filter_allows_the_calls_of_its_table_alone(machine: str) -> None:
    allowed = {*syscalls.numbers(syscalls.CALLS, machine).values()}
    checked = syscalls.numbers(syscalls.CHECKED, machine)
    for number in [*range(600), 1 << 30, (1 << 30) + 1, (1 << 32) - 1]:
        if number not in checked.values():
            expected = syscalls.ALLOW if number in allowed else syscalls.FAIL | errno.ENOSYS
            assert outcome(machine, number) == expected, number
    for name in ("socket", "socketpair"):
        for family in range(50):
            fails = syscalls.FAIL | errno.EAFNOSUPPORT
            expected = syscalls.ALLOW if family == 1 else fails
            assert outcome(machine, checked[name], family) == expected, family
    for bit in range(32):
        new = bit in (12, 17, 25, 26, 27, 28, 29, 30)  # CLONE_PIDFD, the namespaces
        expected = syscalls.FAIL | errno.EPERM if new else syscalls.ALLOW
        assert outcome(machine, checked["clone"], 1 << bit) == expected, bit
    assert outcome(machine, checked["clone"], 0x01200011) == syscalls.ALLOW  # a fork by glibc
    refused = syscalls.FAIL | errno.EPERM
    for name, value, expected in (
        ("fcntl", 1026, refused), ("fcntl", 1031, refused), ("fcntl", 2, syscalls.ALLOW),
        ("prctl", 78, refused), ("prctl", 15, syscalls.ALLOW), ("prctl", 22, refused),
        ("prctl", 0x53564D41, refused), ("madvise", 1, syscalls.FAIL),
    ):  # fmt: skip
        assert outcome(machine, checked[name], value) == expected, (name, value)
    assert outcome(machine, 0, architecture=0x40000003) == syscalls.KILL  # 32-bit x86


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_the_filter_allows_what_python_and_libc_ask_for_and_no_other(machine: str) -> None:
    """Each argument of the table, next to it, and with a bit of its upper half set."""
    checked = syscalls.numbers(syscalls.CHECKED, machine)
    for name, argument, values, error in (
        ("fcntl", 1, syscalls.FCNTL, errno.EPERM),
        ("ioctl", 1, syscalls.IOCTL, errno.ENOTTY),
        ("madvise", 2, syscalls.MADVISE, errno.EINVAL),
        ("getsockopt", 2, syscalls.GETSOCKOPT, errno.ENOPROTOOPT),
        ("setsockopt", 2, syscalls.SETSOCKOPT, errno.ENOPROTOOPT),
    ):
        asked = {*range(2, 130), *range(1020, 1050), *values, *(v ^ 1 << 30 for v in values)}
        for value in asked:
            given = {syscalls.ARGUMENTS[1]: 1, syscalls.ARGUMENTS[argument]: value}
            expected = syscalls.ALLOW if value in values else syscalls.FAIL | error
            assert outcome(machine, checked[name], given=given) == expected, (name, value)
    for name in ("getsockopt", "setsockopt"):
        for level in (0, 6, 41, 255, 263):
            given = {syscalls.ARGUMENTS[1]: level, syscalls.ARGUMENTS[2]: 2}
            expected = syscalls.FAIL | errno.EOPNOTSUPP
            assert outcome(machine, checked[name], given=given) == expected, (name, level)


@pytest.mark.parametrize(
    ("machine", "header", "pattern"),
    [
        ("x86_64", "x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+) (\d+)"),
        ("aarch64", "asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+) (\d+)"),
    ],
)
def test_numbers_are_those_of_the_kernels_headers(machine: str, header: str, pattern: str) -> None:
    if not (HEADERS / header).exists():
        pytest.skip(f"no {HEADERS / header}")
    known = {m[1]: int(m[2]) for m in re.finditer(pattern, (HEADERS / header).read_text())}
    known |= {"newfstatat": known.get("newfstatat", known.get("fstatat", -1))}
    found = syscalls.numbers(syscalls.CALLS + syscalls.CHECKED, machine)
    later = {"fchmodat2"}  # than some headers
    assert {n: k for n, k in found.items() if known.get(n) != k and n not in later} == {}


REFUSED = {  # calls that no namespace parts, or that need no rights; by their numbers on x86_64
    "add_key": 248, "request_key": 249, "keyctl": 250, "memfd_create": 319, "inotify_init": 253,
    "inotify_init1": 294, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240, "bpf": 321,
    "perf_event_open": 298, "userfaultfd": 323, "ptrace": 101, "unshare": 272, "setns": 308,
    "mount": 165, "open_by_handle_at": 304, "process_vm_readv": 310, "io_uring_setup": 425,
    "pidfd_getfd": 438, "clone3": 435, "fadvise64": 221, "mincore": 27, "syslog": 103, "sync": 162,
}  # fmt: skip


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_the_kernel_refuses_other_calls(walls: str) -> None:
    need(walls)
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are of x86_64")
    program = f"""
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(number):
    return libc.syscall(number, 0, 0, 0, 0, 0), ctypes.get_errno()
def refused():
    return [n for n in {list(REFUSED.values())} if call(n) != (-1, {errno.ENOSYS})]
def families():
    found = []
    for family in range(1, 46):
        try: socket.socket(family, socket.SOCK_STREAM, 0).close()
        except OSError as error: found += [family] if error.errno != {errno.EAFNOSUPPORT} else []
        else: found.append(family)
    return found
def namespaces():
    return libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), ctypes.get_errno()
"""
    tests = f"""
assert refused() == []
assert families() == [1]
assert namespaces() == (-1, {errno.EPERM})
"""
    job = FunctionJob(program, tests, ("refused", "families", "namespaces"))
    (result,) = run_all([job], 1, allow_unsandboxed=True, walls=walls)
    assert result.passed, result


# What marks a file that all programs read, counts what the machine has had, or reaches beyond the
# process: each must raise.
MARKS = """
import ctypes, fcntl, mmap, os, socket, struct
a, b = socket.socketpair()
file = os.open(os.__file__, os.O_RDONLY)
page = mmap.mmap(file, 4096, prot=mmap.PROT_READ)
ATTEMPTS = {
    "F_SET_RW_HINT": lambda: fcntl.fcntl(file, 1036, struct.pack("Q", 2)),
    "F_GET_RW_HINT": lambda: fcntl.fcntl(file, 1035, bytes(8)),
    "F_SETLEASE": lambda: fcntl.fcntl(file, 1024, 2),
    "F_SETDELEG": lambda: fcntl.fcntl(file, 1040, bytes(16)),
    "F_NOTIFY": lambda: fcntl.fcntl(os.open("/usr/lib", os.O_RDONLY), 1026, 1),
    "EXT4_IOC_PRECACHE_EXTENTS": lambda: fcntl.ioctl(file, 0x6612, 0),
    "EXT4_IOC_CLEAR_ES_CACHE": lambda: fcntl.ioctl(file, 0x6628, 0),
    "EXT4_IOC_GET_ES_CACHE": lambda: fcntl.ioctl(file, 0xC020662A, bytes(600)),
    "FS_IOC_FIEMAP": lambda: fcntl.ioctl(file, 0xC020660B, bytes(600)),
    "FS_IOC_GETFSUUID": lambda: fcntl.ioctl(file, 0x80111500, bytes(17)),
    "SIOCGIFBR": lambda: fcntl.ioctl(a, 0x8940, bytes(256)),
    "SIOCGSKNS": lambda: fcntl.ioctl(a, 0x894C, 0),
    "NS_GET_ID": lambda: fcntl.ioctl(os.open("/proc/self/ns/mnt", 0), 0x8008B70D, bytes(8)),
    "SO_COOKIE": lambda: a.getsockopt(1, 57, 8),
    "SO_NETNS_COOKIE": lambda: a.getsockopt(1, 71, 8),
    "SO_PEERPIDFD": lambda: a.getsockopt(1, 77, 4),
    "SO_PASSPIDFD": lambda: a.setsockopt(1, 76, 1),
    "SO_SNDBUF": lambda: a.setsockopt(1, 7, 1 << 20),
    "MADV_PAGEOUT": lambda: page.madvise(21),
    "MADV_COLD": lambda: page.madvise(20),
    "MADV_COLLAPSE": lambda: page.madvise(25),
}
def f():
    done = []
    for name, attempt in ATTEMPTS.items():
        try: attempt()
        except OSError as error:
            if error.errno in (2, 9, 14): done.append((name, str(error)))
        else: done.append(name)
    return done
"""
# What programs ask for with the same calls.
ASKED = """
import asyncio, fcntl, mmap, multiprocessing, os, select, socket, struct, tempfile
async def echo():
    async def serve(reader, writer):
        writer.write(await reader.readline()); await writer.drain(); writer.close()
    async with await asyncio.start_unix_server(serve, "/tmp/socket"):
        reader, writer = await asyncio.open_unix_connection("/tmp/socket")
        writer.write(b"line\\n")
        return await reader.readline()
def f():
    with tempfile.TemporaryFile() as file:
        fcntl.lockf(file, fcntl.LOCK_EX); fcntl.flock(file, fcntl.LOCK_UN)
        assert fcntl.fcntl(file, fcntl.F_GETFL) and not file.isatty()
        copy = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10)
        os.set_inheritable(copy, True); os.set_blocking(copy, False)
    r, w = os.pipe()
    os.write(w, b"abc")
    assert struct.unpack("i", fcntl.ioctl(r, 0x541B, bytes(4))) == (3,)
    a, b = socket.socketpair()
    a.settimeout(1); a.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    assert a.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert len(a.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)) == 12
    assert socket.socket(fileno=os.dup(a.fileno())).family == socket.AF_UNIX
    with mmap.mmap(-1, 1 << 20) as m:
        for advice in (mmap.MADV_RANDOM, mmap.MADV_HUGEPAGE, mmap.MADV_DONTNEED):
            try: m.madvise(advice)
            except OSError as error: assert advice == mmap.MADV_HUGEPAGE, error
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        assert pool.map(abs, [-1]) == [1]
    return asyncio.run(echo())
"""


@pytest.mark.parametrize("walls", isolation.KINDS)
def test_a_program_can_ask_for_what_python_does_and_leaves_no_marks(walls: str) -> None:
    need(walls)
    jobs = [
        FunctionJob(MARKS, "assert f() == [], f()", ("f",)),
        FunctionJob(ASKED, "assert f() == b'line\\n'", ("f",)),
    ]
    results = [*run_all(jobs, 2, allow_unsandboxed=True, walls=walls)]
    assert all(result.passed for result in results), results
