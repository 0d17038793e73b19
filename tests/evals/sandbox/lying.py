"""Programs that answer wrongly and try to be judged as passed."""

from tests.evals.sandbox.asked import CRASHED, FAILED, TAMPERED, TIMED_OUT, WRONG, Table


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


LYING: Table = {
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
}
