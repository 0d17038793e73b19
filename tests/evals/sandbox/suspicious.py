"""Honest programs and scripts that do what hostile ones do, and must pass."""

from tests.evals.sandbox.asked import RIGHT

FUNCTIONS: dict[str, str] = {
    "plain": RIGHT,
    "prints": "print('hello'); import sys; print('there', file=sys.stderr)" + RIGHT,
    "threads": (
        "import threading\n"
        "def f(x):\n"
        "    found = []\n"
        "    thread = threading.Thread(target=lambda: found.append(x + 1))\n"
        "    thread.start(); thread.join()\n"
        "    return found[0]\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def g(items):\n"
        "    with ThreadPoolExecutor(4) as pool: return sorted(pool.map(int, items))"
    ),
    "as many threads as a pool has": (
        "import threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "all_there = threading.Barrier(32)\n"
        "with ThreadPoolExecutor(32) as pool:\n"
        "    list(pool.map(lambda _: all_there.wait(5), range(32)))" + RIGHT
    ),
    "subclasses of built-in types": (
        "class Int(int): pass\nclass Float(float): pass\nclass Items(list): pass\n"
        "def f(x): return Float(x + 1) if x % 1 else Int(x + 1)\n"
        "def g(items): return Items(sorted(items))"
    ),
    "an IntEnum": (
        "from enum import IntEnum\n"
        "Number = IntEnum('Number', 'a b c d e f')\n"
        "def f(x): return Number(x + 1) if x in range(5) else x + 1\n"
        "def g(items): return sorted(items)"
    ),
    "deep recursion": (
        "import sys; sys.setrecursionlimit(100_000)\n"
        "def count(n): return 0 if n == 0 else 1 + count(n - 1)\n"
        "def f(x): return x + count(20_000) - 19_999\ndef g(items): return sorted(items)"
    ),
    "a large stack": (
        "import sys, threading\n"
        "sys.setrecursionlimit(10**6); threading.stack_size(128 << 20)\n"
        "def f(x):\n"
        "    found = []\n"
        "    thread = threading.Thread(target=lambda: found.append(x + 1))\n"
        "    thread.start(); thread.join()\n"
        "    return found[0]\n"
        "def g(items): return sorted(items)"
    ),
    "a script at its end": RIGHT + "if __name__ == '__main__': input('x? ')",
    "state between calls": (
        "calls = []\ndef f(x):\n    calls.append(x)\n    return x + len(calls[-1:])\n"
        "def g(items): return sorted(items)"
    ),
    "sorts in place": "def f(x): return x + 1\ndef g(items):\n    items.sort()\n    return items",
    "files in the scratch folder": (
        "import os\nassert os.listdir() == []\nopen('left', 'w').write('here')\n"
        "assert open('left').read() == 'here'" + RIGHT
    ),
    "imports": "import collections, json, random, decimal, datetime, hashlib, numbers, array"
    + RIGHT,
    "a dataclass inside": (
        "from dataclasses import dataclass\n"
        "@dataclass\nclass Box:\n    value: float\n"
        "def f(x): return Box(x + 1).value\ndef g(items): return sorted(items)"
    ),
    "pickles and copies": (
        "import pickle, copy\nclass A:\n    pass\n"
        "pickle.loads(pickle.dumps(A()))\ncopy.deepcopy(A())" + RIGHT
    ),
    "callable objects": (
        "from functools import partial, lru_cache\nimport operator\n"
        "f = lru_cache(None)(partial(operator.add, 1))\ng = sorted"
    ),
    "exceptions inside": (
        "def f(x):\n    try: raise ValueError(x)\n"
        "    except ValueError as e: return e.args[0] + 1\n"
        "def g(items): return sorted(items)"
    ),
    "catches its recursion": (
        "def down(): return down()\n"
        "def f(x):\n    try: down()\n    except RecursionError: return x + 1\n"
        "def g(items): return sorted(items)"
    ),
    "survives its own MemoryError": (
        "def f(x):\n    try: bytearray(1 << 40)\n    except MemoryError: return x + 1\n"
        "def g(items): return sorted(items)"
    ),
    "exits in a function that is not called": "def main(): exit(0)" + RIGHT,
    "a child process that ends": (
        "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)" + RIGHT
    ),
}

SCRIPTS: dict[str, str] = {
    "plain": "print(sum(map(int, input().split())))",
    "sys.stdin": "import sys\nfor line in sys.stdin: print(sum(map(int, line.split())))",
    "read all": "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
    "open(0)": "a, b = map(int, open(0).read().split()); print(a + b)",
    "buffer": "import sys\na, b = sys.stdin.buffer.readline().split()\n"
    "sys.stdout.buffer.write(b'%d' % (int(a) + int(b)))",
    "exit()": "print(sum(map(int, input().split()))); exit()",
    "main": "def main(): print(sum(map(int, input().split())))\nif __name__ == '__main__': main()",
    "prints to stderr": "import sys; print('debug', file=sys.stderr)\n"
    "print(sum(map(int, input().split())))",
    "spaces and blank lines": "print(); print(' ', sum(map(int, input().split())), ' '); print()",
    "a fraction": "print(f'{sum(map(int, input().split())):.3f}')",
    "a thread": "import threading\nthreading.stack_size(1 << 26)\n"
    "threading.Thread(target=lambda: print(sum(map(int, input().split())))).start()",
    "atexit": "import atexit\natexit.register(lambda: print(sum(map(int, input().split()))))",
    "no newline": "import sys; sys.stdout.write(str(sum(map(int, input().split()))))",
}
