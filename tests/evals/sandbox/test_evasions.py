"""Programs that try to hide their memory from the watch, to take back the sign that they have
started, or to blind what looks at them."""

import errno
import os
import subprocess
from typing import Any

import pytest

from evals.sandbox import memory, processes, syscalls, watch
from evals.sandbox.runner import FunctionJob, Limits, Result, ScriptJob, run_all
from tests.evals.sandbox.helpers import need
from tests.evals.sandbox.test_syscalls import outcome

END = "\ndef f(x): return x + 1\n"
LIBC = """
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
"""
# Each holds more than 150 MiB for seconds, and hides it.
HIDDEN = {
    "first threads that have ended": LIBC + """
def hold():
    time.sleep(0.3)
    data = b"x" * (180 << 20)
    time.sleep(60)
for _ in range(2):
    if not os.fork():
        threading.Thread(target=hold).start()
        libc.syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit, of this thread
time.sleep(3)
""",
    "shared memory of which one page is mapped": LIBC + """
for _ in range(20):
    at = libc.mmap(None, 16 << 20, 3, 0x21, -1, 0)
    ctypes.memset(at, 1, 16 << 20)
    libc.munmap(at + 4096, (16 << 20) - 4096)
time.sleep(3)
""",
    "many mappings": LIBC + """
for i in range(20_000):
    libc.mmap(None, 4096, 1 + i % 2 * 2, 0x22, -1, 0)
data = b"x" * (250 << 20)
time.sleep(3)
""",
    "many mappings of several processes": LIBC + """
for i in range(6000):
    libc.mmap(None, 4096, 1 + i % 2 * 2, 0x22, -1, 0)
for _ in range(8):
    if not os.fork(): time.sleep(60)
time.sleep(3)
""",
    "children with a name that looks like memory given back": LIBC + """
for _ in range(20):
    if not os.fork():
        libc.prctl(15, b"\\rRssAnon:-99999")
        os._exit(0)
data = b"x" * (250 << 20)
time.sleep(3)
""",
}  # fmt: skip


# Each process is gone before it can be looked at, and leaves its memory to the next: x86_64's code
# for hop(n), which makes n children, one after the other, in the same memory, and leaves.
HOPS = """
import ctypes, mmap, os, signal, time
code = bytes.fromhex(
    "41544989fc49ffcc7425b838000000bf1101000031f631d24531d24531c00f0585c074e178e4b83c00000031ff0f05"
    "415cc3"
)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
page = mmap.mmap(-1, 4096, flags=0x22, prot=7)
page.write(code)
hop = ctypes.CFUNCTYPE(None, ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
if not os.fork():
    data = mmap.mmap(-1, 200 << 20, flags=0x22)
    for at in range(0, 200 << 20, 4 << 20):
        data[at : at + (4 << 20)] = b"x" * (4 << 20)
        hop(4)
    while True: hop(20)
time.sleep(60)
"""
# Processes that come and go as quickly, which are honest.
QUICK = {
    "forks": """
import os, time
data, end = b"x" * (100 << 20), time.monotonic() + 1
while time.monotonic() < end:
    if not os.fork(): os._exit(0)
    os.wait()
""",
    "forks of which nobody waits": """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.monotonic() + 1
while time.monotonic() < end:
    try: child = os.fork()
    except OSError: continue
    if not child: os._exit(0)
""",
    "commands that are not there": """
import os, time
end = time.monotonic() + 1
while time.monotonic() < end:
    try: os.posix_spawn("/nothing", ["nothing"], {})
    except OSError: pass
""",
    "workers of one task each": """
import multiprocessing, time
end = time.monotonic() + 1
with multiprocessing.Pool(16, maxtasksperchild=1) as pool:
    while time.monotonic() < end: pool.map(abs, range(32), chunksize=1)
""",
}


def verdict(program: str, **limits: Any) -> Result:
    need()
    job = FunctionJob(program + END, "assert f(1) == 2", ("f",))
    (result,) = run_all([job], 1, Limits(**limits))
    return result


@pytest.mark.parametrize("program", HIDDEN.values(), ids=HIDDEN)
def test_hidden_memory_counts(program: str) -> None:
    assert verdict(program, memory=150 << 20).verdict == "out of memory"


def test_memory_that_goes_from_process_to_process_counts() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the code is of x86_64")
    assert verdict(HOPS, memory=120 << 20).verdict == "out of memory"


def test_honest_processes_come_and_go() -> None:
    need()
    jobs = [FunctionJob(program + END, "assert f(1) == 2", ("f",)) for program in QUICK.values()]
    results = dict(zip(QUICK, run_all(jobs, 4, Limits(memory=150 << 20)), strict=True))
    assert {name: result for name, result in results.items() if not result.passed} == {}


def test_what_comes_and_goes_unseen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no look were quick enough."""

    def blind(*_: object) -> memory.Account:
        found = memory.Account()
        found.missed.add(1)
        return found

    monkeypatch.setattr(watch, "sweep", blind)
    monkeypatch.setattr(watch, "BLIND", 20)
    result = verdict(QUICK["forks of which nobody waits"].replace("+ 1", "+ 4"))
    assert result.verdict == "out of memory" and "too fast" in result.reason


def test_a_process_that_got_the_number_of_another_is_not_killed() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        now = processes.tree()
        later = now._replace(started={child.pid: now.started[child.pid] + 1})
        processes.kill([child.pid], later)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.1)
        processes.kill([child.pid], now)
        assert child.wait() == -9


@pytest.mark.parametrize("name", [rb"\rRssAnon:x", rb"\rNSpid:", rb"\r", rb") R 1 1"])
def test_a_name_blinds_nobody(name: bytes) -> None:
    program = LIBC + f'libc.prctl(15, b"{name.decode()}")\ntime.sleep(0.6)\n'
    assert verdict(program).passed


def test_a_path_blinds_nobody() -> None:
    program = r"""
import mmap, os, time
os.makedirs("/tmp/x\r/dev")
f = open("/tmp/x\r/dev/zero (deleted)", "w+b")
f.truncate(4096)
m = mmap.mmap(f.fileno(), 4096)
time.sleep(0.6)
"""
    assert verdict(program).passed


def test_anonymous_shared_memory_is_there_within_bounds() -> None:
    assert verdict("import mmap\nm = mmap.mmap(-1, 16 << 20)\nm[-1] = 1\n").passed
    large = verdict("import mmap\nm = mmap.mmap(-1, (16 << 20) + 1)\n")
    assert large.verdict == "failed" and "Cannot allocate memory" in large.reason


@pytest.mark.parametrize("machine", syscalls.ARCHITECTURES)
def test_the_filter_looks_at_shared_mappings_and_core_limits(machine: str) -> None:
    checked = syscalls.numbers(syscalls.CHECKED, machine)
    length, flags = syscalls.ARGUMENTS[1], syscalls.ARGUMENTS[3]
    for low, high, kind, allowed in (
        (processes.SHARED, 0, 1, True), (processes.SHARED + 1, 0, 1, False),
        (1, 1, 1, False), (1 << 31, 0, 3, False), (1 << 31, 5, 0x22, True), (4096, 0, 0x21, True),
    ):  # fmt: skip
        found = outcome(
            machine, checked["mmap"], given={length: low, length + 4: high, flags: kind}
        )
        expected = syscalls.ALLOW if allowed else syscalls.FAIL | errno.ENOMEM
        assert found == expected, (low, high, kind)
    for name, argument in (("setrlimit", 0), ("prlimit64", 1)):
        for limit in range(16):
            found = outcome(machine, checked[name], given={syscalls.ARGUMENTS[argument]: limit})
            refused = syscalls.FAIL | errno.EPERM
            assert found == (refused if limit == 4 else syscalls.ALLOW), (name, limit)


def test_a_core_limit_stays_so_that_no_crash_starts_a_program() -> None:
    program = """
import os, resource
raised = False
try: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (OSError, ValueError): raised = True
assert raised
"""
    assert verdict(program).passed


def test_a_program_cannot_take_back_the_sign_that_it_has_started() -> None:
    need()
    steal = """
import os
for name in os.listdir("/proc/self/fd"):
    try: os.read(os.open(f"/proc/self/fd/{name}", os.O_RDONLY | os.O_NONBLOCK), 1)
    except OSError: pass
print(sorted(os.listdir("/proc/self/fd"))[:4])
"""
    own = "['0', '1', '2', '3']\n"  # 3 is the folder that it lists
    results = list(run_all([ScriptJob(steal, (("", own),))] * 30, 2))
    assert {result.verdict for result in results} == {"passed"}


def test_files_of_others_cannot_be_leased() -> None:
    program = """
import fcntl, os
refused = False
with open("/tmp/own", "w") as file:
    try: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except PermissionError: refused = True
assert refused
"""
    assert verdict(program).passed


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        ("import enum\nclass C(str, enum.Enum): RED = 'red'\ndef f(): return C.RED", "'red'"),
        ("class S(str):\n def __str__(self): return 'no'\ndef f(): return S('yes')", "'yes'"),
        ("class I(int):\n def __int__(self): return 0\ndef f(): return I(7)", "7"),
        ("class F(float):\n def __float__(self): return 0.\ndef f(): return F(.5)", "0.5"),
        ("class C(complex):\n def __complex__(self): return 0j\ndef f(): return C(1, -0.)", "1-0j"),
        ("class L(list):\n def __iter__(self): return iter(())\ndef f(): return L([1])", "[1]"),
        ("class T(tuple):\n def __iter__(self): return iter(())\ndef f(): return T((1,))", "(1,)"),
        ("class S(set):\n def __iter__(self): return iter(())\ndef f(): return S({1})", "{1}"),
        ("class B(bytes):\n def __iter__(self): return iter(())\ndef f(): return B(b'a')", "b'a'"),
        ("class D(dict):\n def keys(self): return ()\ndef f(): return D(a=1)", "{'a': 1}"),
        ("\ufeffdef f(): return 1", "1"),
    ],
)
def test_subclasses_are_what_their_base_says(program: str, tests: str) -> None:
    need()
    (result,) = run_all([FunctionJob(program, f"assert f() == {tests}", ("f",))], 1)
    assert result.passed, result
