"""Programs that use up time, memory or processes, or that end badly."""

from tests.evals.sandbox.asked import CRASHED, FAILED, MEMORY, TAMPERED, TIMED_OUT, WRONG, Table

HARMFUL: Table = {
    # time, memory, processes
    "endless loop": ("while True: pass", {TIMED_OUT}),
    "endless loop in a call": ("def f(x):\n    while True: pass\ng = f", {TIMED_OUT}),
    "sleeps": ("import time\ntime.sleep(60)" + WRONG, {TIMED_OUT}),
    "swallows every exception": (
        "import time\n"
        "def f(x):\n"
        "    while True:\n"
        "        try: time.sleep(50)\n"
        "        except BaseException: pass\n"
        "g = f",
        {TIMED_OUT},
    ),
    "ignores signals": (
        "import signal\n"
        "for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "while True: pass",
        {TIMED_OUT},
    ),
    "removes its limits": (
        "import resource\n"
        "for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS):\n"
        "    try: resource.setrlimit(what, (resource.RLIM_INFINITY,) * 2)\n"
        "    except (ValueError, OSError): pass\n"
        "while True: pass",
        {TIMED_OUT},
    ),
    "a thread that never ends": (
        "import threading\n"
        "def spin():\n"
        "    while True: pass\n"
        "for _ in range(4): threading.Thread(target=spin).start()\n"
        "while True: pass",
        {TIMED_OUT},
    ),
    "memory": ("x = bytearray(1 << 40)", {MEMORY}),
    "memory, bit by bit": ("x = []\nwhile True: x.append(bytearray(1 << 27))", {MEMORY, TIMED_OUT}),
    "memory in a call": ("def f(x): return [0] * (1 << 40)\ng = f", {MEMORY}),
    "an endless answer": (
        "def f(x):\n    while True: yield x\ng = lambda items: 'a' * (1 << 26)",
        {FAILED, TIMED_OUT},
    ),
    "a large answer": ("def f(x): return 'a' * (1 << 26)\ng = f", {FAILED, MEMORY}),
    "a number with a million digits": ("def f(x): return 10 ** 1_000_000\ng = f", {FAILED}),
    "a test that its answers keep busy": (
        "def f(x): return x + 1\n"
        "class Endless:\n"
        "    def __iter__(self): return self\n"
        "    def __next__(self): return 1\n"
        "def g(items): return sorted(items) if len(items) != 1 else Endless()",
        {TIMED_OUT, FAILED},
    ),
    "fork bomb": (
        "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass",
        {TIMED_OUT, TAMPERED, FAILED},
    ),
    "thread bomb": (
        "import threading, time\n"
        "while True: threading.Thread(target=time.sleep, args=(60,)).start()",
        {FAILED, MEMORY},
    ),
    "forks and lets the child answer": (
        "import os, time\nif os.fork(): time.sleep(60)" + WRONG,
        {FAILED},
    ),
    "both sides of a fork answer": ("import os\nos.fork()" + WRONG, {FAILED, TAMPERED, CRASHED}),
    "daemonises": (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(60)" + WRONG,
        {FAILED, TIMED_OUT},
    ),
    "recursion": (
        "import sys; sys.setrecursionlimit(10**9)\ndef f(x): return repr_of(x)\n"
        "def repr_of(x):\n    class A:\n        def __repr__(self): return repr(self)\n"
        "    return repr(A())\ng = f",
        {CRASHED, MEMORY, FAILED},
    ),
    # ending badly
    "segmentation fault": ("import ctypes; ctypes.string_at(0)", {CRASHED}),
    "aborts": ("import os; os.abort()", {CRASHED}),
    "kills itself": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)" + WRONG,
        {CRASHED, FAILED},
    ),
    "kills everyone": (
        "import os, signal\n"
        "for pid in (-1, 0, 1, os.getppid()):\n"
        "    try: os.kill(pid, signal.SIGKILL)\n"
        "    except OSError: pass" + WRONG,
        {CRASHED, FAILED, TAMPERED},
    ),
    "closes its descriptors": ("import os; os.closerange(0, 1000)" + WRONG, {FAILED, TIMED_OUT}),
    "closes its descriptors in a call": (
        "import os\ndef f(x): os.closerange(0, 1000)\ng = f",
        {FAILED},
    ),
    "floods its output": (
        "import os, sys\n"
        "for _ in range(2000): os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)\n"
        "print('z' * 10_000_000); print('passed', file=sys.stderr)" + WRONG,
        {FAILED},
    ),
}
