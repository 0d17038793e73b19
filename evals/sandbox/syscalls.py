"""Which system calls a program may make: a filter that the kernel applies (seccomp, mode 2).

The namespaces of evals/sandbox/isolation.py do not part everything. Keyrings belong to a user.
AF_VSOCK sockets reach the host of a virtual machine, and a port that a program has used stays in
use for the next. memfd, SysV IPC and inotify hold memory that no limit counts. Each call beyond
what programs need may lead to a hole in the kernel. So a program may make the calls below; any
other fails with ENOSYS, as on a kernel that does not know it. The filter needs no rights, works
behind all kinds of walls, and holds for all that a program starts.

It is a program for the kernel's classic BPF, which sees a call's number, architecture and
arguments:

    another architecture              kill the process
    clone with new namespaces         EPERM
    sockets, but of Unix              EAFNOSUPPORT
    fcntl, prctl, ioctl, madvise,     an error, but for what Python and libc ask for: others reach
    getsockopt, setsockopt              other files and modules, count what all do, or take memory
    shared mappings beyond 16 MiB     ENOMEM
    RLIMIT_CORE, set or read          EPERM
    a number of CALLS                 allow
    any other number                  ENOSYS

`clone3` keeps its flags in memory, where a filter cannot read them. It is left out, and libc uses
`clone` instead.

Standard library only, as evals/sandbox/judge.py is.
"""

import errno
import os
import re
import struct
from collections.abc import Iterator
from functools import cache

from evals.sandbox.processes import SHARED

# Each call with its number on x86_64 and on aarch64; -: it has none there.
CALLS = """
    # files
    read 0 63; write 1 64; close 3 57; lseek 8 62; readv 19 65; writev 20 66; pread64 17 67;
    pwrite64 18 68; preadv 295 69; pwritev 296 70; pwritev2 328 287;
    sendfile 40 71; splice 275 76; copy_file_range 326 285; open 2 -; openat 257 56; creat 85 -;
    access 21 -; faccessat 269 48; faccessat2 439 439; stat 4 -; fstat 5 80; lstat 6 -;
    newfstatat 262 79; statx 332 291; statfs 137 43; fstatfs 138 44; readlink 89 -;
    readlinkat 267 78; dup 32 23; dup2 33 -; dup3 292 24; flock 73 32;
    fsync 74 82; fdatasync 75 83; truncate 76 45; ftruncate 77 46; fallocate 285 47;
    close_range 436 436; getdents 78 -; getdents64 217 61; getcwd 79 17;
    chdir 80 49; fchdir 81 50; rename 82 -; renameat 264 38; renameat2 316 276; mkdir 83 -;
    mkdirat 258 34; rmdir 84 -; link 86 -; linkat 265 37; unlink 87 -; unlinkat 263 35;
    symlink 88 -; symlinkat 266 36; mknod 133 -; mknodat 259 33; chmod 90 -; fchmod 91 52;
    fchmodat 268 53; fchmodat2 452 452; chown 92 -; fchown 93 55; lchown 94 -; fchownat 260 54;
    umask 95 166; utime 132 -; utimes 235 -; utimensat 280 88; futimesat 261 -; getxattr 191 8;
    lgetxattr 192 9; fgetxattr 193 10; listxattr 194 11; llistxattr 195 12; flistxattr 196 13;
    # waiting
    pipe 22 -; pipe2 293 59; poll 7 -; ppoll 271 73; select 23 -; pselect6 270 72;
    epoll_create 213 -; epoll_create1 291 20; epoll_ctl 233 21; epoll_wait 232 -;
    epoll_pwait 281 22; epoll_pwait2 441 441; eventfd 284 -; eventfd2 290 19; signalfd 282 -;
    signalfd4 289 74; timerfd_create 283 85; timerfd_settime 286 86; timerfd_gettime 287 87;
    # memory
    mprotect 10 226; munmap 11 215; mremap 25 216; msync 26 227;
    brk 12 214; membarrier 324 283;
    # processes, signals and time
    fork 57 -; vfork 58 -; execve 59 221; execveat 322 281; exit 60 93; exit_group 231 94;
    wait4 61 260; waitid 247 95; kill 62 129; tkill 200 130; tgkill 234 131; rt_sigaction 13 134;
    rt_sigprocmask 14 135; rt_sigreturn 15 139; rt_sigpending 127 136; rt_sigtimedwait 128 137;
    rt_sigqueueinfo 129 138; rt_tgsigqueueinfo 297 240; rt_sigsuspend 130 133;
    sigaltstack 131 132; pause 34 -; restart_syscall 219 128; alarm 37 -; setitimer 38 103;
    getitimer 36 102; timer_create 222 107; timer_settime 223 110; timer_gettime 224 108;
    timer_getoverrun 225 109; timer_delete 226 111; getpid 39 172; getppid 110 173;
    gettid 186 178; getuid 102 174; geteuid 107 175; getgid 104 176; getegid 108 177;
    getresuid 118 148; getresgid 120 150; getgroups 115 158; setpgid 109 154; getpgid 121 155;
    getpgrp 111 -; setsid 112 157; getsid 124 156; set_tid_address 218 96; set_robust_list 273 99;
    get_robust_list 274 100; rseq 334 293; futex 202 98; futex_waitv 449 449; arch_prctl 158 -;
    getcpu 309 168; sched_yield 24 124; sched_getaffinity 204 123;
    sched_setaffinity 203 122; sched_getparam 143 121; sched_getscheduler 145 120;
    sched_get_priority_max 146 125; sched_get_priority_min 147 126; getpriority 140 141;
    setpriority 141 140; getrlimit 97 163; getrusage 98 165;
    times 100 153; sysinfo 99 179; uname 63 160; time 201 -; gettimeofday 96 169;
    clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115; nanosleep 35 101;
    getrandom 318 278;
    # sockets
    bind 49 200; connect 42 203; listen 50 201; accept 43 202; accept4 288 242;
    getsockname 51 204; getpeername 52 205; sendto 44 206; recvfrom 45 207; sendmsg 46 211;
    recvmsg 47 212; sendmmsg 307 269; recvmmsg 299 243; shutdown 48 210;
"""
CHECKED = """
    clone 56 220; fcntl 72 25; getsockopt 55 209; ioctl 16 29; madvise 28 233; mmap 9 222;
    prctl 157 167; prlimit64 302 261; setrlimit 160 164; setsockopt 54 208; socket 41 198;
    socketpair 53 199
"""
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*
AF_UNIX = 1
NAMESPACES = 0x7E02_0000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_PIDFD = 0x1000  # whose file's number tells how many there have been
# F_DUPFD, F_{GET,SET}{FD,FL}, F_{GETLK,SETLK,SETLKW}, F_OFD_{GETLK,SETLK,SETLKW},
# F_DUPFD_CLOEXEC, F_GETPIPE_SZ. Others leave marks on files that all may read, tell of others'
# accesses, keep others from opening a file, or take pages of the real user's.
FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032)
# FIONREAD, FIONBIO, FIOCLEX, FIONCLEX, FICLONE (for copies), and of terminals: TCGETS, TCGETS2,
# TIOCGWINSZ, TIOCGPGRP, TIOCOUTQ. Others ask file systems, or have the kernel load modules.
IOCTL = (0x541B, 0x5421, 0x5451, 0x5450, 0x40049409, 0x5401, 0x802C542A, 0x5413, 0x540F, 0x5411)
SOL_SOCKET = 1
# SO_{REUSEADDR,BROADCAST,KEEPALIVE,OOBINLINE,LINGER,REUSEPORT,PASSCRED,RCVLOWAT,RCVTIMEO,SNDTIMEO}.
# Others make a socket's buffers larger, or give descriptors of processes.
SETSOCKOPT = (2, 6, 9, 10, 13, 15, 16, 18, 20, 21)
# And SO_{TYPE,ERROR,SNDBUF,RCVBUF,PEERCRED,SNDLOWAT,ACCEPTCONN,PROTOCOL,DOMAIN}. Others tell how
# many sockets and namespaces of the machine's there have been.
GETSOCKOPT = (*SETSOCKOPT, 3, 4, 7, 8, 17, 19, 30, 38, 39)
# MADV_{NORMAL,SEQUENTIAL,WILLNEED,DONTNEED,FREE,DONTFORK,DOFORK,HUGEPAGE,NOHUGEPAGE,DONTDUMP,
# DODUMP,WIPEONFORK,KEEPONFORK,GUARD_INSTALL,GUARD_REMOVE}. Others move pages that all share out of
# memory, or together.
MADVISE = (0, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 102, 103)
MADV_RANDOM = 1  # done without: it would let a program see which pages of a file are in memory
RLIMIT_CORE = 4  # with 0 instead of 1, a crash would start the machine's program for cores
MAP_SHARED = 1  # and larger than this; its pages stay when it is unmapped, where none can see them
# PR_{SET,GET}_PDEATHSIG, {GET,SET}_DUMPABLE, {SET,GET}_NAME, {SET,GET}_NO_NEW_PRIVS,
# {SET,GET}_CHILD_SUBREAPER, {SET,GET}_TIMERSLACK. Others take memory of the kernel's, or hide what
# a mapping is.
PRCTL = (1, 2, 3, 4, 15, 16, 38, 39, 36, 37, 29, 30)

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, (16, 24, 32, 40)  # offsets of what a filter reads
LOAD, RETURN = 0x20, 0x06
IF_EQUAL, IF_GREATER, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x25, 0x35, 0x45
ALLOW, KILL, FAIL = 0x7FFF_0000, 0x8000_0000, 0x0005_0000

Instruction = tuple[int, int, int, int]  # what to do, steps to skip if true, if false; a number


def numbers(table: str, machine: str) -> dict[str, int]:
    """The numbers of a table's calls on a machine, by name."""
    column = list(ARCHITECTURES).index(machine)
    found = re.findall(r"(\w+) (\d+|-) (\d+|-)", table)
    return {name: int(n[column]) for name, *n in found if n[column] != "-"}


@cache
def program(machine: str = "") -> bytes:
    """The filter for a machine (`uname -m`; this one unless told) as the kernel takes it:
    8 bytes for each instruction. Empty for a machine whose numbers are not known here."""
    machine = machine or os.uname().machine
    if machine not in ARCHITECTURES:
        return b""
    return b"".join(struct.pack("=HBBI", *each) for each in _instructions(machine))


def _instructions(machine: str) -> Iterator[Instruction]:
    yield LOAD, 0, 0, ARCHITECTURE
    yield IF_EQUAL, 1, 0, ARCHITECTURES[machine]
    yield RETURN, 0, 0, KILL
    yield LOAD, 0, 0, NUMBER
    checked = numbers(CHECKED, machine)
    for name, argument, values, found, other in (
        ("socket", 0, (AF_UNIX,), ALLOW, FAIL | errno.EAFNOSUPPORT),
        ("socketpair", 0, (AF_UNIX,), ALLOW, FAIL | errno.EAFNOSUPPORT),
        ("prctl", 0, PRCTL, ALLOW, FAIL | errno.EPERM),
        ("fcntl", 1, FCNTL, ALLOW, FAIL | errno.EPERM),
        ("ioctl", 1, IOCTL, ALLOW, FAIL | errno.ENOTTY),
        ("madvise", 2, (MADV_RANDOM,), FAIL | 0, None),
        ("madvise", 2, MADVISE, ALLOW, FAIL | errno.EINVAL),
        ("getsockopt", 1, (SOL_SOCKET,), None, FAIL | errno.EOPNOTSUPP),
        ("getsockopt", 2, GETSOCKOPT, ALLOW, FAIL | errno.ENOPROTOOPT),
        ("setsockopt", 1, (SOL_SOCKET,), None, FAIL | errno.EOPNOTSUPP),
        ("setsockopt", 2, SETSOCKOPT, ALLOW, FAIL | errno.ENOPROTOOPT),
        ("setrlimit", 0, (RLIMIT_CORE,), FAIL | errno.EPERM, ALLOW),
        ("prlimit64", 1, (RLIMIT_CORE,), FAIL | errno.EPERM, ALLOW),
    ):
        yield from _check(checked[name], ARGUMENTS[argument], values, found, other)
    yield IF_EQUAL, 0, 4, checked["clone"]
    yield LOAD, 0, 0, ARGUMENTS[0]
    yield IF_ANY_BIT, 0, 1, NAMESPACES | CLONE_PIDFD
    yield RETURN, 0, 0, FAIL | errno.EPERM
    yield RETURN, 0, 0, ALLOW
    yield IF_EQUAL, 0, 8, checked["mmap"]
    yield LOAD, 0, 0, ARGUMENTS[3]
    yield IF_ANY_BIT, 0, 5, MAP_SHARED
    yield LOAD, 0, 0, ARGUMENTS[1] + 4  # the upper half of its length
    yield IF_EQUAL, 0, 2, 0
    yield LOAD, 0, 0, ARGUMENTS[1]
    yield IF_GREATER, 0, 1, SHARED
    yield RETURN, 0, 0, FAIL | errno.ENOMEM
    yield RETURN, 0, 0, ALLOW
    ranges = [*_ranges(sorted(numbers(CALLS, machine).values()))]
    yield IF_AT_LEAST, 1, 0, ranges[0][0]
    yield RETURN, 0, 0, FAIL | errno.ENOSYS
    yield from _search(ranges)


def _search(ranges: list[tuple[int, int]]) -> list[Instruction]:
    """Allow the numbers in ranges, given one that is not below the first. A tree, because the
    kernel tries the filter on each number whenever a program installs it."""
    if len(ranges) == 1:
        (_, high), *_ = ranges
        fail = RETURN, 0, 0, FAIL | errno.ENOSYS
        return [(IF_GREATER, 1, 0, high), (RETURN, 0, 0, ALLOW), fail]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return [(IF_AT_LEAST, len(below), 0, ranges[middle][0]), *below, *above]


def _check(
    number: int, argument: int, values: tuple[int, ...], found: int | None, other: int | None
) -> Iterator[Instruction]:
    """For a call: what to return if an argument is one of some values, and if not; with None, the
    checks below go on. Begins and ends with the number loaded."""
    count = len(values)
    yield IF_EQUAL, 0, 3 + count, number
    yield LOAD, 0, 0, argument
    for left, value in zip(range(count)[::-1], values, strict=True):
        if other is None:
            yield IF_EQUAL, left, 0 if left else 1, value
        else:
            yield IF_EQUAL, left + 1, 0, value
    for returned in (found, None) if other is None else (other, found):
        yield (LOAD, 0, 0, NUMBER) if returned is None else (RETURN, 0, 0, returned)


def _ranges(values: list[int]) -> Iterator[tuple[int, int]]:
    """The runs of consecutive numbers in a sorted list: their first and last."""
    low = high = values[0]
    for value in values[1:]:
        if value > high + 1:
            yield low, high
            low = value
        high = value
    yield low, high
