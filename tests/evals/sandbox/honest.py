"""Honest programs of many kinds. FUNCTIONS: name -> (program, tests that call its f). SCRIPTS: name
-> (program, what it reads, what it prints)."""

F = "def f({}): return {}"


def one(expression: str, imports: str = "", arguments: str = "x") -> str:
    """A function of one expression."""
    return f"{imports}\n{F.format(arguments, expression)}"


FUNCTIONS: dict[str, tuple[str, str]] = {
    # the standard library, its shared libraries among it
    "zlib": (one("zlib.decompress(zlib.compress(x))", "import zlib"), "assert f(b'aa') == b'aa'"),
    "gzip": (one("gzip.decompress(gzip.compress(x))", "import gzip"), "assert f(b'aa') == b'aa'"),
    "bz2": (one("bz2.decompress(bz2.compress(x))", "import bz2"), "assert f(b'aa') == b'aa'"),
    "lzma": (one("lzma.decompress(lzma.compress(x))", "import lzma"), "assert f(b'aa') == b'aa'"),
    "zipfile": (
        "import io, zipfile\n"
        "def f(x):\n"
        "    file = io.BytesIO()\n"
        "    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as z: z.writestr('a', x)\n"
        "    return zipfile.ZipFile(file).read('a')",
        "assert f('aa') == b'aa'",
    ),
    "ssl": (one("ssl.create_default_context().check_hostname", "import ssl", ""), "assert f()"),
    "sqlite3": (
        one("sqlite3.connect(':memory:').execute('select 1 + ?', (x,)).fetchone()",
            "import sqlite3"),
        "assert f(2) == (3,)",
    ),
    "hashlib": (one("hashlib.md5(x).hexdigest()[:4]", "import hashlib"), "assert f(b'') == 'd41d'"),
    "scrypt": (
        one("len(hashlib.scrypt(x, salt=b's', n=2, r=1, p=1))", "import hashlib"),
        "assert f(b'a') == 64",
    ),
    "secrets": (one("len(secrets.token_bytes(x))", "import secrets"), "assert f(8) == 8"),
    "uuid": (one("len(str(uuid.uuid4()))", "import uuid", ""), "assert f() == 36"),
    "urandom": (one("len(os.urandom(x))", "import os"), "assert f(9) == 9"),
    "json": (one("json.loads(json.dumps(x))", "import json"), "assert f({'a': [1]}) == {'a': [1]}"),
    "csv": (one("list(csv.reader([x]))", "import csv"), "assert f('a,b') == [['a', 'b']]"),
    "xml": (
        one("ElementTree.fromstring(x).text", "from xml.etree import ElementTree"),
        "assert f('<a>b</a>') == 'b'",
    ),
    "html": (one("html.escape(x)", "import html"), "assert f('<') == '&lt;'"),
    "urllib": (one("parse.quote(x)", "from urllib import parse"), "assert f('a b') == 'a%20b'"),
    "base64": (one("base64.b64encode(x)", "import base64"), "assert f(b'a') == b'YQ=='"),
    "struct": (one("struct.unpack('<I', x)[0]", "import struct"), "assert f(b'\\1\\0\\0\\0') == 1"),
    "ctypes": (one("ctypes.c_uint8(x).value", "import ctypes"), "assert f(257) == 1"),
    "array": (one("array.array('i', x).tolist()", "import array"), "assert f([1, 2]) == [1, 2]"),
    "decimal": (
        one("Decimal(x) / 3", "from decimal import Decimal, getcontext\ngetcontext().prec = 6"),
        "import decimal; assert f('1') == decimal.Decimal('0.333333')",
    ),
    "fractions": (
        one("sum(Fraction(1, i) for i in range(1, x))", "from fractions import Fraction"),
        "assert f(4).numerator == 11 and f(4).denominator == 6",
    ),
    "statistics": (one("statistics.median(x)", "import statistics"), "assert f([3, 1, 2]) == 2"),
    "random": (
        one("random.Random(0).sample(range(9), x)", "import random"),
        "import random; assert f(3) == random.Random(0).sample(range(9), 3)",
    ),
    "itertools": (
        one("[*itertools.permutations(x)]", "import itertools"),
        "assert f('ab') == [('a', 'b'), ('b', 'a')]",
    ),
    "heapq": (one("heapq.nsmallest(2, x)", "import heapq"), "assert f([3, 1, 2]) == [1, 2]"),
    "bisect": (one("bisect.bisect(x, 2)", "import bisect"), "assert f([1, 2, 3]) == 2"),
    "re": (one("re.findall(r'\\d+', x)", "import re"), "assert f('a1b22') == ['1', '22']"),
    "string": (
        one("string.Template('$a').substitute(a=x)", "import string"), "assert f(1) == '1'"
    ),
    "textwrap": (one("textwrap.fill(x, 3)", "import textwrap"), "assert f('aa bb') == 'aa\\nbb'"),
    "difflib": (
        one("difflib.get_close_matches(x, ['ape', 'axe'], 1)", "import difflib"),
        "assert f('aped') == ['ape']",
    ),
    "unicodedata": (
        one("unicodedata.normalize('NFD', x)", "import unicodedata"), "assert len(f('é')) == 2"
    ),
    "datetime": (
        one("(date(2024, 3, 1) - timedelta(x)).day", "from datetime import date, timedelta"),
        "assert f(1) == 29",
    ),
    "calendar": (one("calendar.isleap(x)", "import calendar"), "assert f(2000) and not f(1900)"),
    "zoneinfo": (
        one("datetime(2024, 7, 1, tzinfo=ZoneInfo(x)).utcoffset().seconds",
            "from datetime import datetime\nfrom zoneinfo import ZoneInfo"),
        "assert f('Europe/Berlin') == 7200",
    ),
    "locale": (one("locale.setlocale(locale.LC_ALL, '')", "import locale", ""), "assert f()"),
    "time": (one("time.strftime('%Y', time.gmtime(x))", "import time"), "assert f(0) == '1970'"),
    "typing": (
        "from typing import List, Optional\ndef f(x: List[int]) -> Optional[int]: return x[0]",
        "assert f([1]) == 1",
    ),
    "future annotations": (
        "from __future__ import annotations\ndef f(x: Later) -> Later: return x", "assert f(1) == 1"
    ),
    "enum": (
        "import enum\nclass Colour(enum.Enum): RED = 1\ndef f(x): return Colour(x).name",
        "assert f(1) == 'RED'",
    ),
    "abc": (
        "import abc\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def g(self): ...\n"
        "def f():\n    try: A()\n    except TypeError: return 'abstract'",
        "assert f() == 'abstract'",
    ),
    "ast": (one("eval(compile(ast.parse(x, mode='eval'), '', 'eval'))", "import ast"),
            "assert f('1 + 1') == 2"),
    "inspect": (one("str(inspect.signature(f))", "import inspect"), "assert f(1) == '(x)'"),
    "logging": ("import logging\nlogging.warning('a')\n" + one("x"), "assert f(1) == 1"),
    "warnings": ("import warnings\nwarnings.warn('a')\n" + one("x"), "assert f(1) == 1"),
    "traceback": (
        "import traceback\ndef f(x):\n    try: 1 / x\n"
        "    except ZeroDivisionError: return 'f(0)' not in traceback.format_exc()",
        "assert f(0)",
    ),
    "contextlib": (
        "from contextlib import suppress\ndef f(x):\n    with suppress(KeyError): return x['a']",
        "assert f({}) is None and f({'a': 1}) == 1",
    ),
    "graphlib": (
        one("[*graphlib.TopologicalSorter(x).static_order()]", "import graphlib"),
        "assert f({2: [1]}) == [1, 2]",
    ),
    "sys.getsizeof": (one("sys.getsizeof(x) > 0", "import sys"), "assert f([])"),
    "platform": (one("platform.python_version()[0]", "import platform", ""), "assert f() == '3'"),
    "help": (one("callable(help) and callable(exit)", "", ""), "assert f()"),
    "__file__": (one("__file__[-3:]", "", ""), "assert f() == '.py'"),
    # files
    "a temporary file": (
        "import tempfile\ndef f(x):\n    with tempfile.TemporaryFile() as file:\n"
        "        file.write(x); file.seek(0); return file.read()",
        "assert f(b'a') == b'a'",
    ),
    "a temporary folder": (
        "import os, tempfile\ndef f():\n    with tempfile.TemporaryDirectory() as folder:\n"
        "        os.mkdir(f'{folder}/a'); return os.listdir(folder)",
        "assert f() == ['a']",
    ),
    "shutil": (
        "import pathlib, shutil\ndef f():\n    pathlib.Path('a').write_text('x')\n"
        "    shutil.copy2('a', 'b'); return pathlib.Path('b').read_text()",
        "assert f() == 'x'",
    ),
    "mmap": (
        "import mmap\ndef f():\n    with mmap.mmap(-1, 10) as m:\n        m[:2] = b'ab'\n"
        "        return m[:2]",
        "assert f() == b'ab'",
    ),
    "/dev/null": (one("open('/dev/null').read()", "", ""), "assert f() == ''"),
    # processes and threads
    "subprocess": (
        "import subprocess, sys\ndef f(x):\n"
        "    command = [sys.executable, '-S', '-c', f'print({x})']\n"
        "    return subprocess.run(command, capture_output=True, text=True).stdout",
        "assert f(3) == '3\\n'",
    ),
    "a pool": (
        "import multiprocessing\ndef f(x):\n"
        "    with multiprocessing.Pool(2) as pool: return pool.map(abs, x)",
        "assert f([-1, 2]) == [1, 2]",
    ),
    "a pool of threads": (
        "from multiprocessing.pool import ThreadPool\ndef f(x):\n"
        "    with ThreadPool(4) as pool: return pool.map(abs, x)",
        "assert f([-1, 2]) == [1, 2]",
    ),
    "an executor of processes": (
        "from concurrent.futures import ProcessPoolExecutor\ndef f(x):\n"
        "    with ProcessPoolExecutor(2) as pool: return list(pool.map(abs, x))",
        "assert f([-1, 2]) == [1, 2]",
    ),
    "a lock and a queue": (
        "import multiprocessing as m\ndef work(q, lock):\n    with lock: q.put(1)\n"
        "def f():\n    q, lock = m.Queue(), m.Lock()\n"
        "    p = m.Process(target=work, args=(q, lock)); p.start()\n"
        "    found = q.get(); p.join(); return found",
        "assert f() == 1",
    ),
    "shared memory": (
        "from multiprocessing.shared_memory import SharedMemory\ndef f():\n"
        "    s = SharedMemory(create=True, size=4)\n    s.buf[0] = 7; found = s.buf[0]\n"
        "    s.close(); s.unlink(); return found",
        "assert f() == 7",
    ),
    "forty threads": (
        "import threading\ndef f(n):\n    b = threading.Barrier(n + 1)\n"
        "    for _ in range(n): threading.Thread(target=b.wait).start()\n    b.wait(); return n",
        "assert f(40) == 40",
    ),
    "the largest stack": (
        "import sys, threading\nsys.setrecursionlimit(10**6); threading.stack_size(2**30)\n"
        "def down(n): return n and 1 + down(n - 1)\n"
        "def f(n):\n    found = []\n"
        "    t = threading.Thread(target=lambda: found.append(down(n)))\n"
        "    t.start(); t.join(); return found[0]",
        "assert f(50_000) == 50_000",
    ),
    "asyncio": (
        "import asyncio\nasync def g(x):\n    await asyncio.sleep(0); return x\n"
        "async def main(x): return await asyncio.gather(g(x), g(x + 1))\n"
        "def f(x): return asyncio.run(main(x))",
        "assert f(1) == [1, 2]",
    ),
    "a signal": (
        "import signal\ndef f():\n    seen = []\n"
        "    signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))\n"
        "    signal.raise_signal(signal.SIGUSR1); return seen",
        "assert f() == [1]",
    ),
    "an alarm": (
        "import signal\ndef f():\n    def late(*_): raise TimeoutError\n"
        "    signal.signal(signal.SIGALRM, late)\n"
        "    try:\n        signal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "        while True: signal.pause()\n    except TimeoutError: return 'late'",
        "assert f() == 'late'",
    ),
    "a pair of sockets": (
        "import socket\ndef f(x):\n    a, b = socket.socketpair(); a.send(x); return b.recv(9)",
        "assert f(b'a') == b'a'",
    ),
    "select and pipes": (
        "import os, select\ndef f():\n    r, w = os.pipe(); os.write(w, b'a')\n"
        "    return select.select([r], [], [], 1)[0] == [r] and os.read(r, 9)",
        "assert f() == b'a'",
    ),
    # numbers
    "many digits": (one("str(3 ** x)", "", "x"), "assert len(f(20_000)) == 9543"),
    "digits of a power": (one("sum(map(int, str(2 ** x)))"), "assert f(15_000) == 20359"),
    "a factorial": (
        one("str(math.factorial(x))", "import math"), "assert len(f(2000)) == 5736"
    ),
    "a long number": (one("int(x) + 1"), "assert f('9' * 5000) == 10 ** 5000"),
    "a large answer": (one("list(range(x))"), "assert f(2_000_000)[-1] == 1_999_999"),
    "floats": (one("[x, -x, x * 1e308 * 10]"), "assert f(0.5) == [0.5, -0.5, float('inf')]"),
    "nan": (one("x - x"), "assert f(float('inf')) != f(float('inf'))"),
    # the language
    "walrus and match": (
        "def f(x):\n    match x:\n        case [a, *rest] if (n := len(rest)): return a, n\n"
        "        case {'k': v}: return v\n        case _: return None",
        "assert f([1, 2, 3]) == (1, 2) and f({'k': 4}) == 4 and f(0) is None",
    ),
    "exception groups": (
        "def f():\n    try: raise ExceptionGroup('g', [ValueError(1)])\n"
        "    except* ValueError as group: found = len(group.exceptions)\n    return found",
        "assert f() == 1",
    ),
    "metaclasses": (
        "class Meta(type):\n    def __len__(cls): return 3\n"
        "class A(metaclass=Meta): pass\ndef f(): return len(A)",
        "assert f() == 3",
    ),
    "descriptors": (
        "class D:\n    def __get__(self, o, k): return 5\nclass A: d = D()\ndef f(): return A().d",
        "assert f() == 5",
    ),
    "a cache": (
        "from functools import cache\n@cache\ndef f(n): return n if n < 2 else f(n-1) + f(n-2)",
        "assert f(80) == 23416728348467685",
    ),
    "exec and eval": (one("eval(x, {'y': 2})"), "assert f('y * 3') == 6"),
    "globals": ("n = 0\ndef f():\n    global n; n += 1; return n", "assert f() == 1 and f() == 2"),
    "generators": (
        "def g():\n    got = yield 1\n    yield got\n"
        "def f():\n    it = g(); return next(it), it.send(2)",
        "assert f() == (1, 2)",
    ),
    "a set of strings": (one("list(set(x))[0] in x"), "assert f(['a', 'b'])"),
    "print to a buffer": (
        "import io\ndef f(x):\n    out = io.StringIO(); print(x, file=out); return out.getvalue()",
        "assert f('a') == 'a\\n'",
    ),
}  # fmt: skip

SCRIPTS: dict[str, tuple[str, str, str]] = {
    # streams in other streams, as on programming sites
    "stdout wrapped": (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')\n"
        "print(input(), 'é')",
        "5\n",
        "5 é",
    ),
    "stdout detached": (
        "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-8')\n"
        "print(input())",
        "5\n",
        "5",
    ),
    "stdout by codecs": (
        "import codecs, sys\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.detach())\n"
        "print(input())",
        "5\n",
        "5",
    ),
    "stdout and stdin reconfigured": (
        "import sys\nsys.stdout.reconfigure(encoding='utf-8', line_buffering=True)\n"
        "sys.stdin.reconfigure(encoding='utf-8')\nprint(input())",
        "5 é\n",
        "5 é",
    ),
    "stdin wrapped": (
        "import io, sys\nsys.stdin = io.TextIOWrapper(sys.stdin.buffer, encoding='utf-8')\n"
        "sys.stderr = io.TextIOWrapper(sys.stderr.detach())\nprint(input())",
        "5\n",
        "5",
    ),
    "streams cannot seek": (
        "import sys\nprint(sys.stdin.seekable(), sys.stdout.seekable())", "5\n", "False False"
    ),
    "/dev/stdin": ("print(sum(map(int, open('/dev/stdin').read().split())))", "1 2", "3"),
    "/dev/stdout": ("open('/dev/stdout', 'w').write('a')", "", "a"),
    "/dev/stderr": ("open('/dev/stderr', 'w').write('a'); print(1)", "", "1"),
    "fileinput": ("import fileinput\nfor line in fileinput.input(): print(line.strip())", "a", "a"),
    "long numbers": ("print(int(input()) + 1)", "9" * 5000, "1" + "0" * 5000),
    "print a factorial": (
        "import math\nprint(len(str(math.factorial(2000))))", "", "5736"
    ),
    "os.read": ("import os\nprint(len(os.read(0, 99)))", "abc", "3"),
    "9 MB": ("print('a' * 9_000_000)", "", "a" * 9_000_000),
    "a class and main": (
        "import sys\nclass A:\n    def run(self): print(sys.stdin.readline().strip())\n"
        "def main(): A().run()\nif __name__ == '__main__': main()",
        "x", "x",
    ),
    "its own file": ("print(__file__)", "", "program.py"),
    "threads and a stack": (
        "import sys, threading\nsys.setrecursionlimit(1 << 20); threading.stack_size(1 << 29)\n"
        "def main(): print(input())\nt = threading.Thread(target=main); t.start(); t.join()",
        "x", "x",
    ),
    "help": ("print(callable(help))", "", "True"),
    "sys.exit(0)": ("import sys\nprint(1)\nsys.exit(0)", "", "1"),
    "write without a flush": ("import sys\nsys.stdout.write('1')", "", "1"),
    "multiprocessing": (
        "import multiprocessing as m\nif __name__ == '__main__': print(m.Pool(2).map(abs, [-1]))",
        "", "[1]",
    ),
}  # fmt: skip
