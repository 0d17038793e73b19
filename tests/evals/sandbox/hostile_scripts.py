"""Scripts that print a wrong answer and try to be judged as passed, or that never end."""

from tests.evals.sandbox.asked import CRASHED, FAILED, MEMORY, TIMED_OUT, Table

SCRIPTS: Table = {
    "prints nothing": ("", {FAILED}),
    "prints another number": ("print(3)", {FAILED}),
    "prints too much": ("print(sum(map(int, input().split()))); print('passed')", {FAILED}),
    "prints all answers": ("print(3); print(30); print(0)", {FAILED}),
    "right, then exits with 1": ("print(sum(map(int, input().split()))); exit(1)", {FAILED}),
    "right, then an exception": ("print(sum(map(int, input().split()))); 1 / 0", {FAILED}),
    "right, then killed": (
        "import ctypes; print(sum(map(int, input().split())), flush=True); ctypes.string_at(0)",
        {CRASHED},
    ),
    "right, then sleeps": (
        "import time; print(sum(map(int, input().split())), flush=True); time.sleep(60)",
        {TIMED_OUT},
    ),
    "nearly right": ("print(sum(map(int, input().split())) + 1e-4)", {FAILED}),
    "not a number": ("print('nan')", {FAILED}),
    "infinite": ("print('inf')", {FAILED}),
    "all words in one": ("print('3,30,0')", {FAILED}),
    "right, then more words": ("print(sum(map(int, input().split())), end=' 3 30 0')", {FAILED}),
    "another number in Python alone": ("print('3' if input() == '1 2' else '3_0')", {FAILED}),
    "a flood": ("while True: print('x' * 10_000)", {FAILED}),
    "a flood of errors": (
        "import sys\nwhile True: sys.stderr.write('x' * 10_000)",
        {TIMED_OUT},
    ),
    "memory": ("print(len(bytearray(1 << 40)))", {MEMORY}),
    "waits for more": ("input(); input()", {FAILED}),
    "closes stdout": ("import os; os.close(1)", {FAILED}),
    "daemonises": (
        "import os, time\nif os.fork(): os._exit(0)\ntime.sleep(0.5); print(3, flush=True)",
        {FAILED, TIMED_OUT},
    ),
    "finds an earlier case": (
        "import os\n"
        "print(sum(map(int, input().split())) if not os.path.exists('3') else 0)\n"
        "if os.path.exists('3'): print(0)\n"
        "open('3', 'w'); exit(len(os.listdir()))",
        {FAILED},
    ),
    "a syntax error": ("print(", {FAILED}),
}
