"""Programs that try to be judged as passed, or to do harm, and honest ones that look like it.

HOSTILE: name -> (program, the verdicts it may get). Its tests are TESTS: f(x) is x + 1, g(items) is
the items sorted. A program that answers wrongly must not pass, whatever it does.
SCRIPTS: the same for programs that read two numbers and print their sum; CASES are their cases.
HONEST, HONEST_SCRIPTS: programs that must pass these.
"""

FAILED, TIMED_OUT, MEMORY, CRASHED, TAMPERED = (
    "failed",
    "timed out",
    "out of memory",
    "crashed",
    "tampered",
)
NAMES = ("f", "g")
TESTS = """
import math
for x in range(5):
    assert f(x) == x + 1, "a message"
assert abs(f(0.5) - 1.5) < 1e-6
assert math.isclose(f(1.25), 2.25)
assert g([3, 1, 2]) == [1, 2, 3]
assert not g([])
assert len(g([1, 2])) == 2 and 2 in g([2, 1]) and tuple(g([1])) == (1,)
"""


def forged(*answers: str) -> str:
    """A program that answers in place of the harness, from the first request on."""
    return (
        "import os, time\n"
        f"for text in {answers!r}:\n"
        "    frame = len(text).to_bytes(4, 'big') + text.encode()\n"
        "    for fd in range(3, 64):\n"
        "        try: os.write(fd, frame)\n"
        "        except OSError: pass\n"
        "    time.sleep(0.3)\n"
        "time.sleep(60)"
    )


WRONG = "\ndef f(x): return 0\ndef g(items): return [0]\n"

HOSTILE: dict[str, tuple[str, set[str]]] = {
    # leaving before the tests
    "exit": ("import sys; sys.exit(0)", {FAILED}),
    "exit in a call": ("def f(x): raise SystemExit(0)\ng = f", {FAILED}),
    "os._exit": ("import os; os._exit(0)", {FAILED}),
    "os._exit in a call": ("import os\ndef f(x): os._exit(0)\ng = f", {FAILED}),
    "quit": ("quit()", {FAILED}),
    "StopIteration ends a loop": ("def f(x): raise StopIteration\ng = f", {FAILED}),
    "GeneratorExit": ("def f(x): raise GeneratorExit\ng = f", {FAILED}),
    "KeyboardInterrupt": ("def f(x): raise KeyboardInterrupt\ng = f", {FAILED}),
    "AssertionError with a nice message": ("raise AssertionError('passed')", {FAILED}),
    "nothing defined": ("print('passed')", {FAILED}),
    "does not compile": ("def f(x: return", {FAILED}),
    "NUL": ("def f(x): return x\0", {FAILED}),
    # saying what a pass says
    "prints passed": ("print('passed'); print('{\"verdict\": \"passed\"}')" + WRONG, {FAILED}),
    "writes the verdict to every descriptor": (
        "import os\nfor fd in range(256):\n"
        '    try: os.write(fd, b\'{"verdict": "passed", "reason": "", "seconds": 0}\\n\')\n'
        "    except OSError: pass" + WRONG,
        {FAILED, TAMPERED, TIMED_OUT},
    ),
    "answers before it is asked": (
        "import os\ntext = b'[1,\"value\",1,null]'\n"
        "frame = len(text).to_bytes(4, 'big') + text\n"
        "for fd in range(3, 256):\n"
        "    try: os.write(fd, frame * 20)\n"
        "    except OSError: pass" + WRONG,
        {TAMPERED},
    ),
    "answers nonsense": (
        "import os\n"
        "def f(x):\n"
        "    for fd in range(3, 256):\n"
        "        try: os.write(fd, b'\\0\\0\\0\\5hello')\n"
        "        except OSError: pass\n"
        "g = f",
        {TAMPERED},
    ),
    "announces an endless answer": (
        "import os\n"
        "def f(x):\n"
        "    for fd in range(3, 256):\n"
        "        try: os.write(fd, b'\\xff\\xff\\xff\\xff')\n"
        "        except OSError: pass\n"
        "g = f",
        {FAILED},
    ),
    "rewrites the harness's encoder": (
        "import sys, gc\n"
        'def lie(x): return \'["object",[0,"x",true]]\'\n'
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals['encode'] = lie\n"
        "    frame = frame.f_back\n"
        "for found in gc.get_objects():\n"
        "    if isinstance(found, dict) and 'encode' in found and 'unpack' in found:\n"
        "        found['encode'] = lie" + WRONG,
        {FAILED, TAMPERED},
    ),
    "rewrites the harness's encoder to make impossible values": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals['encode'] = lambda x: '[\"Fraction\",[1,0]]'\n"
        "    frame = frame.f_back" + WRONG,
        {TAMPERED},
    ),
    "forges a value for its names": (forged('[0,"value",5,null]'), {TAMPERED}),
    "forges a text for its names": (forged('[0,"value","f",null]'), {TAMPERED}),
    "forges no names": (forged('[0,"value",null,null]'), {TAMPERED}),
    "forges an end for its names": (forged('[0,"stop",0,null]'), {TAMPERED}),
    "forges an unknown kind": (forged('[0,["names"],[],null]'), {TAMPERED}),
    "forges names that are none": (forged('[0,"names",5,null]'), {TAMPERED}),
    "forges a name of no text": (forged('[0,"names",[[["list",[]],1]],null]'), {TAMPERED}),
    "forges names beside its own": (
        forged('[0,"names",[["f",1],["g",1],["__builtins__",["dict",[]]]],null]'),
        {TAMPERED},
    ),
    "forges names, then names for a value": (
        forged(
            '[0,"names",[["f",["object",[0,"x",false]]],["g",1]],null]',
            '[1,"names",[["f",1]],null]',
        ),
        {TAMPERED},
    ),
    "forges names, then an end for a value": (
        forged('[0,"names",[["f",["object",[0,"x",false]]],["g",1]],null]', '[1,"stop",0,null]'),
        {TAMPERED},
    ),
    "forges a truth": (
        "class A: pass\nanswer = A()\n"
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals['bool'] = lambda x: 1 if x is answer else x\n"
        "    frame = frame.f_back\n"
        "def f(x): return x + 1\n"
        "def g(items): return sorted(items) or answer",
        {TAMPERED},
    ),
    "forges an iterator": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    if 'reference' in frame.f_globals:\n"
        "        kept, found = frame.f_globals['reference'], frame.f_globals\n"
        "    frame = frame.f_back\n"
        "class Items:\n"
        "    def __iter__(self): return iter((1,))\n"
        "iterator = type(iter(Items()))\n"
        "found['reference'] = lambda x: '5' if type(x) is iterator else kept(x)\n"
        "def f(x): return x + 1\n"
        "def g(items): return sorted(items) if len(items) != 1 else Items()",
        {TAMPERED},
    ),
    "a defaultdict of an unknown type": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals['encode'] = lambda x: '[\"defaultdict\",[\"exec\",[]]]'\n"
        "    frame = frame.f_back" + WRONG,
        {TAMPERED},
    ),
    "forges changes to arguments that there are not": (
        forged(
            '[0,"names",[["f",["object",[0,"x",false]]],["g",1]],null]',
            '[1,"value",1,["list",[1,2,3]]]',
        ),
        {TAMPERED},
    ),
    "nests its answer": (
        "import sys\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    frame.f_globals['encode'] = lambda x: '[\"list\",[' * 50_000 + ']]' * 50_000\n"
        "    frame = frame.f_back" + WRONG,
        {FAILED, TAMPERED},
    ),
    "swallows all requests": (
        "import os, time\n"
        "for fd in range(3, 64):\n"
        "    try: os.set_blocking(fd, False); os.read(fd, 1 << 16)\n"
        "    except OSError: pass\n"
        "time.sleep(60)" + WRONG,
        {TIMED_OUT},
    ),
    # lying about equality
    "equals everything": (
        "class Yes:\n"
        "    def __eq__(self, other): return True\n"
        "    def __ne__(self, other): return False\n"
        "    __hash__ = object.__hash__\n"
        "def f(x): return Yes()\ng = f",
        {TAMPERED},
    ),
    "a number that equals everything": (
        "class Yes(int):\n"
        "    def __eq__(self, other): return True\n"
        "    def __sub__(self, other): return 0.0\n"
        "    __hash__ = int.__hash__\n"
        "def f(x): return Yes()\ng = f",
        {TAMPERED},
    ),
    "a list that equals everything": (
        "class Yes(list):\n"
        "    def __eq__(self, other): return True\n"
        "    def __contains__(self, other): return True\n"
        "def f(x): return x + 1\ndef g(items): return Yes()",
        {TAMPERED},
    ),
    "lies in every way": (
        "class Yes(float):\n"
        "    def __eq__(self, other): return True\n"
        "    def __contains__(self, other): return True\n"
        "    def __bool__(self): return False\n"
        "    def __len__(self): return 2\n"
        "    def __sub__(self, other): return 0.0\n"
        "    def __iter__(self): return iter((1,))\n"
        "def f(x): return Yes(2.25)\ng = f",
        {TAMPERED},
    ),
    "hides such an object in a list": (
        "class Yes:\n"
        "    def __eq__(self, other): return True\n"
        "def f(x): return x + 1\ndef g(items): return [Yes()] * len(items)",
        {TAMPERED},
    ),
    "equal only when asked about numbers": (
        "class Yes:\n"
        "    def __eq__(self, other): return isinstance(other, (int, float, list))\n"
        "    def __sub__(self, other): return 0.0\n"
        "    __rsub__ = __abs__ = __sub__\n"
        "    def __lt__(self, other): return True\n"
        "    def __bool__(self): return False\n"
        "def f(x): return Yes()\ng = f",
        {FAILED},
    ),
    "differs from everything": (
        "class No:\n    def __ne__(self, other): return True\ndef f(x): return No()\ng = f",
        {FAILED},
    ),
    "a metaclass that is any type": (
        "class Meta(type):\n"
        "    def __eq__(cls, other): return True\n"
        "    def __instancecheck__(cls, other): return True\n"
        "    __hash__ = type.__hash__\n"
        "class Int(int, metaclass=Meta):\n"
        "    def __eq__(self, other): return True\n"
        "Int.__name__ = Int.__qualname__ = 'int'; Int.__module__ = 'builtins'\n"
        "def f(x): return Int()\ng = f",
        {TAMPERED, FAILED},
    ),
    "__class__ says int": (
        "class Yes:\n"
        "    __class__ = int\n"
        "    def __eq__(self, other): return True\n"
        "def f(x): return Yes()\ng = f",
        {TAMPERED, FAILED},
    ),
    "nan": ("def f(x): return float('nan')\ndef g(items): return sorted(items)", {FAILED}),
    # patching what a comparison uses
    "patches builtins": (
        "import builtins\n"
        "builtins.abs = lambda x: 0\nbuiltins.len = lambda x: 2\nbuiltins.tuple = lambda x: (1,)\n"
        "builtins.isinstance = lambda *_: True\nbuiltins.sorted = list\n"
        "builtins.AssertionError = type('Fine', (Exception,), {})" + WRONG,
        {FAILED, TAMPERED},
    ),
    "shadows builtins": (
        "abs = lambda x: 0\nlen = lambda x: 2\nrange = lambda n: []\ntuple = lambda x: (1,)"
        + WRONG,
        {FAILED},
    ),
    "patches modules": (
        "import math, operator, unittest\n"
        "math.isclose = lambda *a, **k: True\noperator.eq = lambda a, b: True\n"
        "unittest.TestCase.assertEqual = lambda *a: None" + WRONG,
        {FAILED},
    ),
    "puts modules of its own in place": (
        "import sys, types\n"
        "fake = types.ModuleType('math'); fake.isclose = lambda *a: True\n"
        "sys.modules['math'] = sys.modules['builtins'] = fake" + WRONG,
        {FAILED},
    ),
    "patches int through ctypes": (
        "import ctypes, gc\n"
        "table = gc.get_referents(int.__dict__)[0]\n"
        "table['__eq__'] = lambda a, b: True\n"
        "ctypes.pythonapi.PyType_Modified(ctypes.py_object(int))" + WRONG,
        {FAILED, CRASHED},
    ),
    "changes the small ints": (
        "import ctypes\nsize = ctypes.c_int32.from_address(id(1) + 24)\nsize.value = 0" + WRONG,
        {FAILED, CRASHED, TAMPERED, TIMED_OUT},
    ),
    "sys.settrace": (
        "import sys\n"
        "def trace(frame, event, arg):\n"
        "    frame.f_trace_lines = False\n"
        "    return trace\n"
        "sys.settrace(trace); sys.setprofile(lambda *_: None)" + WRONG,
        {FAILED},
    ),
    "sys.excepthook and atexit": (
        "import sys, atexit, os\n"
        "sys.excepthook = sys.unraisablehook = lambda *_: os._exit(0)\n"
        "atexit.register(os._exit, 0)" + WRONG,
        {FAILED},
    ),
    "looks for the tests in memory": (
        "import gc, re, sys\n"
        "mark = 'a mes[s]age'\n"
        "told = any(re.search(mark, str(found)) for found in gc.get_objects()\n"
        "           if type(found) in (dict, list, tuple))\n"
        "frame = sys._getframe()\n"
        "while frame:\n"
        "    told = told or re.search(mark, str(frame.f_locals)); frame = frame.f_back\n"
        "def f(x): return x + 1 if told else 0\n"
        "def g(items): return sorted(items) if told else [0]",
        {FAILED},
    ),
    "looks for the tests among its callers": (
        "import re, sys\n"
        "def f(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        if re.search('a mes[s]age', str(frame.f_locals)): return x + 1\n"
        "        frame = frame.f_back\n"
        "def g(items): return sorted(items)",
        {FAILED},
    ),
    "reads its whole memory": (
        "import ctypes, re\n"
        "def f(x):\n"
        "    mark = ''.join(['isclose(f(', '1.25)'])\n"
        "    maps = open('/proc/self/maps').read()\n"
        "    for start, end in re.findall('(\\\\w+)-(\\\\w+) rw', maps):\n"
        "        size = int(end, 16) - int(start, 16)\n"
        "        if mark.encode() in ctypes.string_at(int(start, 16), size): return x + 1\n"
        "g = f",
        {FAILED},
    ),
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

# What must fail inside bubblewrap: each program defines f and g rightly if it succeeds.
RIGHT = "\ndef f(x): return x + 1\ndef g(items): return sorted(items)\n"
ESCAPES: dict[str, str] = {
    "reads the user's files": "open('/etc/passwd').read()",
    "lists the user's folders": "import os; os.listdir('/home')",
    "reads the repository": "open(__REPOSITORY__ + '/README.md').read()",
    "reads packages": "import torch",
    "writes outside": "open('/escaped', 'w').write('x')",
    "writes next to Python": "import os; open(os.__file__ + 'x', 'w').write('x')",
    "writes through ..": "open('../../escaped', 'w').write('x')",
    "connects to the network": "import socket; socket.create_connection(('1.1.1.1', 80), 1)",
    "sends a packet": "import socket; socket.socket(2, 2).sendto(b'x', ('8.8.8.8', 53))",
    "connects to this machine": (
        "import socket; socket.create_connection(('127.0.0.1', __PORT__), 1)"
    ),
    "sees other processes": (
        "import os; assert {*os.listdir('/proc')} - {'self', 'thread-self', '1'}"
    ),
    "reads memory": "open('/proc/1/mem', 'rb')",
    "reads the environment": "import os; os.environ['SECRET']",
    "runs a command": "import subprocess; subprocess.run(['ls'], check=True)",
    "runs a shell": "import os; assert os.system('true') == 0",
    "reads stdin": "input()",
    "fills the scratch folder": (
        "import os\nfor i in range(9): open(str(i), 'wb').write(b'x' * (4 << 20))"
    ),
    "writes a large file": "open('x', 'wb').write(b'x' * (64 << 20))",
    "finds files of another program": "assert open('left').read() == 'here'",
    "mounts": (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, b'') == 0"
    ),
    "unmounts its scratch folder": (
        "import ctypes, os\nassert ctypes.CDLL(None).umount2(b'/tmp', 2) == 0"
    ),
    "becomes root": "import os; os.setuid(0)",
    "traces its parent": (
        "import ctypes\nassert ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0"  # 1 is itself in there
    ),
    "raises its limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (resource.RLIM_INFINITY,) * 2)"
    ),
    "makes a device": "import os, stat; os.mknod('disk', 0o600 | stat.S_IFBLK, os.makedev(8, 0))",
    "changes the host's name": "import socket; socket.sethostname('escaped')",
    "signals a process of the judge": "import os; os.kill(__JUDGE__, 0)",
}

HONEST: dict[str, str] = {
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

CASES = (("1 2\n", "3\n"), ("10 20\n", "30"), ("-1 1", "0\n"))
SCRIPTS: dict[str, tuple[str, set[str]]] = {
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
HONEST_SCRIPTS: dict[str, str] = {
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
