"""What programs may have of descriptors, processes and pages, and the name of their user."""

import os

import pytest

from evals.sandbox import inside
from evals.sandbox.runner import FunctionJob
from tests.evals.sandbox.helpers import judged

HUGE = """
import ctypes, mmap, re
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
def f():
    at = libc.mmap(None, ctypes.c_size_t(8 << 20), 3, 0x22, -1, ctypes.c_long(0))
    at = (at + (2 << 20) - 1) & -(2 << 20)
    libc.madvise(at, 4 << 20, mmap.MADV_HUGEPAGE)
    ctypes.memset(at, 1, 1)
    found = re.findall(r'AnonHugePages: +(\\d+)', open('/proc/self/smaps').read())
    return max(map(int, found))
"""


@pytest.mark.parametrize(
    ("program", "tests"),
    [
        (HUGE, "assert f() == 0"),
        ("import getpass\nf = getpass.getuser()", "assert f == 'user'"),
        (
            "from multiprocessing import Pool\n"
            "def f():\n    with Pool(60) as pool: return sum(pool.map(abs, range(60)))",
            "assert f() == 1770",
        ),
        ("f = len([open('/dev/null') for _ in range(200)])", "assert f == 200"),
    ],
    ids=["no huge pages", "user", "60 processes", "200 files"],
)
def test_what_programs_have(program: str, tests: str) -> None:
    result = judged(FunctionJob(program, tests, ("f",)))
    assert result.passed, result


@pytest.mark.parametrize(
    ("cores", "number", "seen"),
    [(range(8), 5, None), (range(32), 5, None), (range(100), 390, {*range(90, 100), *range(22)})],
)
def test_programs_see_few_cores(
    cores: range, number: int, seen: set[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a Pool of as many processes as there are cores does not fail on a large machine."""
    found: set[int] | None = None

    def give(_: int, mask: list[int]) -> None:
        nonlocal found
        found = {*mask}

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {*cores})
    monkeypatch.setattr(os, "sched_setaffinity", give)
    inside.see_fewer_cores(number)
    assert found == seen
