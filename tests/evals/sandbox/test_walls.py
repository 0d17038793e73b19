"""What the walls part: programs from the user, from the machine, and from each other."""

import errno
import json
import os
import re
import shutil
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from evals.sandbox import isolation, processes, syscalls
from evals.sandbox.clock import PATIENCE
from evals.sandbox.runner import FunctionJob, Limits, Result, ScriptJob, run_all
from tests.evals.sandbox import suspicious
from tests.evals.sandbox.asked import NAMES, TESTS
from tests.evals.sandbox.helpers import ROOT, need

HEADERS = Path("/usr/include")

# --------------------------------------------------------------------------------------------------
# system calls


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
        ("setsockopt", 7, refused), ("setsockopt", 8, refused), ("setsockopt", 2, syscalls.ALLOW),
    ):  # fmt: skip
        assert outcome(machine, checked[name], value) == expected, (name, value)
    assert outcome(machine, 0, architecture=0x40000003) == syscalls.KILL  # 32-bit x86


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


# --------------------------------------------------------------------------------------------------
# notes from one program to the next

# Each writes a note where the next may find it, and tells whether it has found one.
NOTES = {
    "a file where packages would be": (
        "import os, sys\nfound = False\n"
        "for folder in ('/python/lib/python%d.%d/site-packages' % sys.version_info[:2],\n"
        "               '/usr/lib/python3/dist-packages', '/packages', '/usr', '/python'):\n"
        "    found |= os.path.exists(folder + '/note')\n"
        "    try: open(folder + '/note', 'w').close()\n"
        "    except OSError: pass"
    ),
    "a login number": (
        "import ctypes, os\nfound = False\n"
        "ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "try: open('/proc/self/loginuid', 'w').write('7'); found = True\n"
        "except OSError: pass"
    ),
    "a file": "import os\nfound = os.path.exists('/tmp/note')\nopen('/tmp/note', 'w').close()",
    "a file in /dev/shm": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "found = False\n"
        "try: SharedMemory('note', create=True, size=1)\n"
        "except FileExistsError: found = True"
    ),
    "an abstract socket": (
        "import os, socket\n"
        "server = socket.socket(socket.AF_UNIX)\n"
        "found = False\n"
        "try: server.bind(b'\\0note'); server.listen()\n"
        "except OSError: found = True\n"
        "else:\n"
        "    if not os.fork(): __import__('time').sleep(60)"
    ),
    "the times of a device": (
        "import os\n"
        "found = os.stat('/dev/null').st_mtime == 77\n"
        "try: os.utime('/dev/null', (77, 77))\n"
        "except OSError: pass"
    ),
    "a key": (
        "import ctypes\n"
        "libc = ctypes.CDLL(None)\n"
        "rings = -3, -4, -5\n"
        "found = any(libc.syscall(250, 10, ring, b'user', b'note', 0) > 0 for ring in rings)\n"
        "for ring in rings: libc.syscall(248, b'user', b'note', b'x', 1, ring)"
    ),
}


def test_a_program_leaves_no_note_for_the_next() -> None:
    need()
    jobs = []
    for note in NOTES.values():
        jobs += 2 * [FunctionJob(note, "assert not found", ("found",))]
    results = dict(zip([n for n in NOTES for _ in range(2)], run_all(jobs, 1), strict=True))
    assert {name: r for name, r in results.items() if not r.passed} == {}


def test_each_program_is_a_user_of_its_own() -> None:
    """For root by number; others have a user namespace, in which the number stays."""
    need()
    if os.geteuid():
        pytest.skip("not root")
    job = FunctionJob("import os\nuid = os.getuid()", "raise ValueError(uid)", ("uid",))
    assert len({result.reason for result in run_all([job] * 4, 2)}) == 4


# --------------------------------------------------------------------------------------------------
# memory, files and time


def held(job: FunctionJob, limits: Limits) -> tuple[Result, int]:
    """The verdict, and the most bytes that programs held at a look, ten times a second."""
    over, most = threading.Event(), [0]

    def look() -> None:
        while not over.wait(0.1):
            now = processes.tree()
            for judge in now.children.get(os.getpid(), ()):
                found = processes.programs(judge, "bubblewrap", now)
                most[0] = max(most[0], processes.memory(found))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        (result,) = run_all([job], 1, limits)
    finally:
        over.set()
        thread.join()
    return result, most[0]


GROW = """
import os, time
def grow():
    for _ in range(3):
        if not os.fork():
            data = []
            for _ in range(40): data.append(b'x' * (4 << 20)); time.sleep(0.02)
            time.sleep(60)
"""


def test_a_programs_name_does_not_blind_the_watch() -> None:
    need()
    program = (
        "import ctypes, time\n"
        "ctypes.CDLL(None).prctl(15, b'\\xff\\xfe', 0, 0, 0)\n"
        "time.sleep(0.5)\nx = b'x' * (300 << 20)\ntime.sleep(1)\nf = 1"
    )
    jobs = [FunctionJob(program, "assert f == 1", ("f",))] * 2
    limits = Limits(memory=180 << 20)
    assert [r.verdict for r in run_all(jobs, 1, limits)] == ["out of memory"] * 2


def test_memory_that_is_shared_and_not_mapped_counts() -> None:
    need()
    program = (
        "import mmap, time\nmaps = [mmap.mmap(-1, 16 << 20) for _ in range(12)]\n"
        "for m in maps:\n"
        "    m[:] = b'x' * (16 << 20)\n"
        "    m.madvise(mmap.MADV_DONTNEED, 0, 16 << 20)\n"
        "time.sleep({})\nf = 1"
    )
    job = FunctionJob(program.format(1), "assert f == 1", ("f",))
    small, large = (next(run_all([job], 1, Limits(memory=m << 20))) for m in (125, 300))
    assert (small.verdict, large.verdict) == ("out of memory", "passed")


def test_pages_that_a_fork_shares_count_once() -> None:
    need()
    program = (
        "import os, time\nx = b'x' * (100 << 20)\n"
        "for _ in range(4):\n    if not os.fork(): time.sleep(60)\n"
        "time.sleep(1)\nf = 1"
    )
    job = FunctionJob(program, "assert f == 1", ("f",))
    (result,) = run_all([job], 1, Limits(memory=200 << 20))
    if os.geteuid() == 0:  # an ordinary user may not look at the processes of another namespace
        assert result.passed, result


def test_its_own_children_stretch_a_programs_time_no_further_than_said() -> None:
    need()
    program = (
        "import os, time\nfor _ in range(8):\n    if not os.fork():\n        while True: pass\n"
        "time.sleep(60)"
    )
    (result,) = run_all([FunctionJob(program, "", ())], 1, Limits(cpu=3, wall=1.0))
    assert result.verdict == "timed out" and result.seconds < PATIENCE + 2


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        # an answer on which the judge works for long: a set of integers with one hash
        (GROW + "def f(x):\n    grow()\n    return {i * (2**61 - 1) for i in range(4000)}",
         "for _ in range(50): f(1)"),
        # an argument that it does not read
        (GROW + "import signal\nf = 1\ngrow()\n"
         "class F:\n    def __call__(self, x): return x\nf = F()\n"
         "import threading\nthreading.Thread(target=lambda: None).start()",
         "f('x' * (30 << 20))\nwhile f(1): pass"),
    ],
    ids=["busy", "blocked"],
)  # fmt: skip
def test_memory_is_bounded_whatever_the_judge_does(program: str, tests: str) -> None:
    need()
    limits = Limits(cpu=3, wall=4.0, memory=100 << 20)
    result, most = held(FunctionJob(program, tests, ("f",)), limits)
    assert result.verdict == "out of memory", result
    assert most < 400 << 20, most >> 20


def test_the_number_of_files_is_bounded() -> None:
    need()
    program = """
def f(folder):
    try:
        for i in range(10_000): open(f'{folder}/{i}', 'w').close()
    except OSError as error: return i
"""
    tests = "for folder in ('/tmp', '/dev/shm'): assert 1000 < f(folder) < 5000"
    (result,) = run_all([FunctionJob(program, tests, ("f",))], 1)
    assert result.passed, result


def test_a_script_of_many_long_cases_is_judged() -> None:
    need()
    cases = tuple(("x" * (2 << 20) + "\n", "2097153") for _ in range(4))
    program = "import sys\nprint(len(sys.stdin.read()))"
    (result,) = run_all([ScriptJob(program, cases)], 1)
    assert result.passed, result


def test_time_stands_still_while_a_program_waits_for_a_core() -> None:
    """With as many busy programs beside it as would take most of the cores."""
    need()
    spin = "import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass\n"
    jobs = [FunctionJob(f"{spin}f = 1", "assert f == 1", ("f",))] * 4
    workers = 4 * len(os.sched_getaffinity(0)) // 2
    results = list(run_all(jobs, workers, Limits(cpu=3, wall=0.9)))
    assert [r.verdict for r in results] == ["passed"] * 4, results
    (asleep,) = run_all([FunctionJob("import time\ntime.sleep(3)", "", ())], 1, Limits(wall=0.5))
    assert asleep.verdict == "timed out" and asleep.seconds < 2


def test_a_reference_tells_how_long_a_program_may_take() -> None:
    need()
    spin = "import time\nend = time.process_time() + 1.2\nwhile time.process_time() < end: pass\n"
    verdicts = []
    for reference in (spin + "f = 1", ""):
        job = FunctionJob(spin + "f = 1", "assert f == 1", ("f",), reference=reference)
        verdicts += [result.verdict for result in run_all([job], 1, Limits(cpu=1, wall=3.0))]
    assert verdicts == ["passed", "timed out"]


# --------------------------------------------------------------------------------------------------
# an ordinary user

SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from evals.sandbox.runner import *
jobs = [FunctionJob(*job) for job in json.load(sys.stdin)]
print(json.dumps([[r.verdict, r.reason] for r in run_all(jobs, 2)]))
"""


def test_an_ordinary_user_has_the_same_walls(tmp_path: Path) -> None:
    """As nobody, with the system's Python."""
    need()
    python = "/usr/bin/python3"
    new = "import sys; sys.exit(sys.version_info < (3, 11))"
    able = shutil.which("setpriv") and os.geteuid() == 0 and Path(python).exists()
    if not able or subprocess.run([python, "-c", new], check=False).returncode:
        pytest.skip("needs root, setpriv and a system Python of 3.11 or later")
    folder = Path("/tmp") / f"walls-{os.getpid()}-{time.time_ns()}"
    try:
        for name in ("evals/sandbox", "mtp/errors.py", "evals/__init__.py", "mtp/__init__.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        honest = list(suspicious.FUNCTIONS.values())
        notes = [note for note in NOTES.values() for _ in range(2)]
        imports = "import zlib, ssl, sqlite3, lzma, bz2, multiprocessing as m, zoneinfo\n"
        imports += "zoneinfo.ZoneInfo('Europe/Berlin'); m.Lock(); f = m.Pool(2).map(abs, [-1])"
        jobs = [(program, TESTS, NAMES) for program in honest]
        jobs += [(note, "assert not found", ("found",)) for note in notes]
        jobs += [(imports, "assert f == [1]", ("f",))]
        user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        done = subprocess.run(
            [*user, python, "-c", SCRIPT, str(folder)],
            input=json.dumps(jobs), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if "programs written by a model need a sandbox" in done.stderr:
            pytest.skip(done.stderr.splitlines()[-1])
        results = json.loads(done.stdout or f'"{done.stderr[-500:]}"')
        wrong = [(job[0], r) for job, r in zip(jobs, results, strict=True) if r[0] != "passed"]
        assert wrong == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)
