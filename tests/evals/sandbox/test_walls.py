"""What the walls part: programs from the user, from the machine, and from each other."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from evals.sandbox import isolation, processes
from evals.sandbox.clock import PATIENCE
from evals.sandbox.memory import Account
from evals.sandbox.runner import FunctionJob, Limits, Result, ScriptJob, run_all
from tests.evals.sandbox import suspicious
from tests.evals.sandbox.asked import NAMES, TESTS
from tests.evals.sandbox.helpers import ROOT, need

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
                most[0] = max(most[0], Account(found).held)

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


# Folders of packages in sight that are not empty.
SEEN = """
import os
seen = []
for root in ("/usr", "/lib", "/lib64", "/python", "/packages"):
    for folder, *_ in os.walk(root):
        if folder.endswith(("/site-packages", "/dist-packages")) and os.listdir(folder):
            seen.append(folder)
"""


def test_no_packages_are_in_sight() -> None:
    need()
    (result,) = run_all([FunctionJob(SEEN, "assert seen == []", ("seen",))], 1)
    assert result.passed, result


def made(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_of_the_systems_libraries_only_those_of_the_machine_are_shown(tmp_path: Path) -> None:
    debian = made(
        tmp_path / "debian", "x86_64-linux-gnu/libc.so.6", "ld.so.1", "locale/C.utf8/LC_CTYPE",
        "python3/dist-packages/yaml.py", "sdk/third_party/six.py",
    )  # fmt: skip
    found = isolation._libraries(debian)
    shown = {found[i + 2] for i, option in enumerate(found) if option == "--ro-bind"}
    assert shown == {f"{debian}/{name}" for name in ("x86_64-linux-gnu", "locale", "ld.so.1")}
    packages = ("python3.12/site-packages", "python3.13/site-packages", "python3/dist-packages")
    fedora = made(
        tmp_path / "fedora", "libc.so.6", "python3.12/os.py",
        *(f"{folder}/six.py" for folder in packages),
    )  # fmt: skip
    found = isolation._libraries(fedora)
    assert found[:3] == ["--ro-bind", f"{fedora}", f"{fedora}"]
    hidden = {found[i + 1] for i, option in enumerate(found) if option == "--tmpfs"}
    assert hidden == {f"{fedora}/{folder}" for folder in packages}


TIMERS = """
import ctypes
libc, n = ctypes.CDLL(None), 0
while n < 1000 and libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p())) == 0: n += 1
"""


def test_the_number_of_signals_and_timers_is_bounded() -> None:
    """The kernel counts those of a user together."""
    need()
    (result,) = run_all([FunctionJob(TIMERS, "assert 200 < n <= 256", ("n",))], 1)
    assert result.passed, result


# --------------------------------------------------------------------------------------------------
# an ordinary user

SYSTEM = "/usr/bin/python3"
SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
from evals.sandbox.runner import *
jobs = [FunctionJob(*job) for job in json.load(sys.stdin)]
print(json.dumps([[r.verdict, r.reason] for r in run_all(jobs, 2)]))
"""


@pytest.fixture(scope="module")
def copied() -> Iterator[Path]:
    """The sandbox where nobody can read it, if nobody can use it with the system's Python."""
    need()
    new = "import sys; sys.exit(sys.version_info < (3, 11))"
    able = shutil.which("setpriv") and os.geteuid() == 0 and Path(SYSTEM).exists()
    if not able or subprocess.run([SYSTEM, "-c", new], check=False).returncode:
        pytest.skip("needs root, setpriv and a system Python of 3.11 or later")
    folder = Path("/tmp") / f"walls-{os.getpid()}-{time.time_ns()}"
    try:
        for name in ("evals/sandbox", "mtp/errors.py", "evals/__init__.py", "mtp/__init__.py"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_nobody(
    folder: Path, jobs: Sequence[tuple[str, str, tuple[str, ...]]], first: str = ""
) -> None:
    """All of the jobs pass, as nobody, with the system's Python. first: code to run before."""
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    done = subprocess.run(
        [*user, SYSTEM, "-c", first + SCRIPT, str(folder)],
        input=json.dumps(jobs), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "programs written by a model need a sandbox" in done.stderr:
        pytest.skip(done.stderr.splitlines()[-1])
    results = json.loads(done.stdout or json.dumps(done.stderr[-500:]))
    wrong = [(job[0], r) for job, r in zip(jobs, results, strict=True) if r[0] != "passed"]
    assert wrong == []


def test_an_ordinary_user_has_the_same_walls(copied: Path) -> None:
    honest = list(suspicious.FUNCTIONS.values())
    notes = [note for note in NOTES.values() for _ in range(2)]
    imports = "import zlib, ssl, sqlite3, lzma, bz2, multiprocessing as m, zoneinfo\n"
    imports += "zoneinfo.ZoneInfo('Europe/Berlin'); m.Lock(); f = m.Pool(2).map(abs, [-1])"
    jobs = [(program, TESTS, NAMES) for program in honest]
    jobs += [(note, "assert not found", ("found",)) for note in notes]
    jobs += [(imports, "assert f == [1]", ("f",)), (TIMERS, "assert n <= 256", ("n",))]
    jobs += [(SEEN, "assert seen == []", ("seen",))]
    as_nobody(copied, jobs)


def test_descriptors_on_the_way_of_one_program_keep_no_other_from_starting(copied: Path) -> None:
    """They count against all processes of the user, the judge among them."""
    program = """
import os, socket, time
a, b = socket.socketpair()
try:
    for count in (128, 253): socket.send_fds(a, [b"x"], [0] * count)
except OSError: pass
time.sleep(0.5)
"""
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
    as_nobody(copied, [(program, "", ())] * 4, few)
