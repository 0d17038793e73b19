"""A judge: a process that takes jobs from evals/sandbox/runner.py, one at a time, and reports on
them.

It starts one sandbox (evals/sandbox/isolation.py), in which evals/sandbox/inside.py forks programs.
For each job it has a program started. Then it either runs the tests itself, where a name of the
program's is a proxy that asks the program and gets plain data back (evals/sandbox/values.py), or it
writes to the program's stdin and compares the output. So tests, expected results and comparisons
are in a process that the program cannot reach. After a program that has tampered, the judge puts up
new walls.

Tests that do not end, because of the answers they got, end the judge by SIGALRM. The judge leaves
when the supervisor does. Programs end with the judge, because the keeper sees its sockets close.

It uses only the standard library, since it is started without site-packages.
"""

import itertools
import json
import marshal
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from evals.sandbox import inside, isolation, values
from evals.sandbox.values import Verdict

START = 10.0  # seconds that a program may take to start, on a machine that is busy
GRACE = 3.0  # seconds of its own that a test may take beyond a program's limit
POLL = 0.25  # seconds between looks at the memory of all of a program's processes
KEEPER = 64 << 20  # bytes that the walls' own processes may have of it
ROOM = 2 << 30  # bytes of memory for the tests, some of which make large inputs
TESTS = "<tests>"
JUDGE = 2  # a change of verdicts makes old ones stale
# What each request may be answered with, beside "error".
KINDS = {"run": ("names",), "next": ("value", "stop")}


class Gone(BaseException):
    """The supervisor is gone."""


class Broken(Exception):
    """The walls do not work, which is no program's verdict."""


class Sandbox:
    """The process inside the walls that forks programs (evals/sandbox/inside.py). scratch: the
    folder for their files; None in bubblewrap, which has its own."""

    def __init__(self, walls: isolation.Walls, scratch: str | None) -> None:
        self.walls, self.scratch = walls, scratch
        ours, theirs = socket.socketpair()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            isolation.command(walls, inside.BOOTSTRAP),
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=isolation.environment(walls),
        )
        theirs.close()
        self.control = ours
        source = Path(inside.__file__).read_text()
        code = compile(source, "<inside>", "exec", dont_inherit=True)
        with suppress(BrokenPipeError):  # `broken` will tell
            ours.sendall(framed(marshal.dumps(walls.kind)) + framed(marshal.dumps(code)))

    def broken(self, reason: str) -> NoReturn:
        """Raise Broken with the last message of the walls."""
        assert self.process.stderr
        self.process.kill()
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        raise Broken(f"{self.walls.kind} does not work here: {lines[-1] if lines else reason}")

    def wait(self, fds: list[int], seconds: float, writable: tuple[int, ...] = ()) -> set[int]:
        """Those that are ready within so many seconds. Raises Gone if the supervisor is gone, which
        sends nothing while a job is under way."""
        readable, written, _ = select.select([0, *fds], writable, [], max(0, seconds))
        if 0 in readable:
            raise Gone
        return {*readable, *written}

    def memory(self) -> int:
        """Bytes that its processes hold. It does not see what no process maps: files in memory, and
        shared memory without a process."""
        parents = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
        held, tree = 0, [self.process.pid]
        for one in tree:
            tree += [pid for pid, parent in parents.items() if parent == one]
            with suppress(OSError), open(f"/proc/{one}/status") as file:
                lines = [line.split() for line in file if line.startswith(("RssAnon", "RssShmem"))]
                held += sum(int(size) << 10 for _, size, _ in lines)
        return held

    def again(self) -> "Sandbox":
        """A new sandbox in its place."""
        self.close()
        return Sandbox(self.walls, self.scratch)

    def close(self) -> None:
        self.control.close()  # the keeper leaves, and so does bwrap
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Program:
    """A program that has started. `job` and `limits` are as evals/sandbox/runner.py sends them."""

    def __init__(self, sandbox: Sandbox, job: dict, limits: dict) -> None:
        self.sandbox, self.limits, self.count = sandbox, limits, 0
        self.final: Verdict | None = None
        self.folder = tempfile.mkdtemp(dir=sandbox.scratch) if sandbox.scratch else None
        into, self.into = os.pipe()
        self.out, out = os.pipe()
        self.errors, errors = os.pipe()
        self.status, status = socket.socketpair()
        with suppress(BrokenPipeError):  # `broken` will tell
            socket.send_fds(sandbox.control, [b"x"], [into, out, errors, status.fileno()])
        status.close()
        for fd in (into, out, errors):
            os.close(fd)
        settings = {
            "functions": "tests" in job,
            "program": job["program"],
            "folder": self.folder or isolation.SCRATCH,
            "uid": 1 << 30 | os.getpid(),  # one for each judge: RLIMIT_NPROC counts a user's
            **{name: limits[name] for name in ("cpu", "memory", "processes", "file")},
        }
        self.deadline = time.monotonic() + START
        data, sign = framed(marshal.dumps(settings)), b""
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.into, data) :]
            if self.sandbox.wait([self.errors], START):
                sign = os.read(self.errors, 1)
        if sign != b"\n":
            sandbox.broken("no program starts")
        self.seen = time.monotonic()  # when its memory was
        self.deadline = self.seen + limits["wall"]

    def wait(self, fds: list[int], seconds: float, writable: tuple[int, ...] = ()) -> set[int]:
        """As the sandbox's, with an eye on memory: RLIMIT_AS binds each process by itself."""
        end = time.monotonic() + seconds
        while True:
            left = end - time.monotonic()
            ready = self.sandbox.wait(fds, min(left, POLL), writable)
            if time.monotonic() > self.seen + POLL:
                self.seen = time.monotonic()
                if self.sandbox.memory() > self.limits["memory"] + KEEPER:
                    self.end("out of memory", f"more than {self.limits['memory']} bytes in all")
            if ready or left <= POLL:
                return ready

    def write(self, data: bytes) -> None:
        data = framed(data)
        try:
            while data:
                data = data[os.write(self.into, data) :]
        except BrokenPipeError:
            self.ended()

    def close(self) -> None:
        """Kill it and remove its folder."""
        for fd in filter(None, (self.into, self.out, self.errors)):
            os.close(fd)
        if self.folder:
            self.status.shutdown(socket.SHUT_WR)
            while self.status.recv(100):  # until the keeper is through with it
                pass
            shutil.rmtree(self.folder, ignore_errors=True)
        self.status.close()

    def read(self, count: int) -> bytes:
        """So many bytes of the program's answers, before the deadline."""
        got = b""
        while len(got) < count:
            if not self.readable(self.deadline - time.monotonic()):
                self.end("timed out", f"no answer within {self.limits['wall']:g} s")
            new = os.read(self.out, count - len(got))
            got += new or self.ended()
        return got

    def readable(self, seconds: float) -> bool:
        return bool(self.wait([self.out], seconds))

    def ask(self, what: str, *rest: Any) -> Any:
        """Send a request and wait for its answer: a decoded value, or `values.STOP`. Raises Verdict
        if there will be no answer."""
        if self.readable(0):
            self.end("tampered", "an answer came before it was asked for")
        packed = [item if isinstance(item, str) else values.pack(item) for item in rest]
        self.write(marshal.dumps((what, *packed)))
        size = int.from_bytes(self.read(4), "big")
        if size > self.limits["output"]:
            self.end("failed", f"an answer of {size} bytes; {self.limits['output']} may be")
        try:
            number, how, value, changed = values.parse(self.read(size))
            if number != self.count:
                raise ValueError("an answer to another request")
            self.count += 1
            if how not in (*KINDS.get(what, ("value",)), "error"):
                raise ValueError(f"{how} in answer to {what}")
            if how == "error":
                kind, message = map(str, value)
                verdict = "out of memory" if kind == "MemoryError" else "failed"
                self.end(verdict, f"{kind}: {message}" if message else kind)
            if how == "names":
                found = {name: values.decode(item, self) for name, item in value}
                if not found.keys() <= {*rest[0]}:
                    raise ValueError("names that were not asked for")
                return found
            if how == "stop":
                return values.STOP
            if changed is not None:
                _, args, kwargs = rest
                given = (*args, *kwargs.values())
                for old, new in zip(given, values.decode(changed, self), strict=True):
                    values.update(old, new)
            return values.decode(value, self)
        except RecursionError:
            self.end("failed", "an answer nested too deep")
        except (ValueError, TypeError, ArithmeticError, KeyError, IndexError) as error:
            self.end("tampered", f"an answer that the harness does not give ({error})")

    def end(self, verdict: str, reason: str) -> NoReturn:
        self.final = self.final or Verdict(verdict, reason)
        raise self.final

    def ended(self) -> NoReturn:
        """Raise the verdict on a program that is gone or has closed its descriptors."""
        found = self.verdict_of_exit() or Verdict("failed", "it left before the tests were through")
        self.end(found.verdict, found.reason)

    def verdict_of_exit(self, stderr: str = "") -> Verdict | None:
        """The verdict that follows from how it ended; `stderr` is the end of stderr. None if it
        exited with 0."""
        if not self.wait([self.status.fileno()], self.deadline - time.monotonic()):
            return Verdict("timed out", f"still running after {self.limits['wall']:g} s")
        try:
            status, cpu = marshal.loads(self.status.recv(100))
        except (EOFError, ConnectionError):  # only possible without bubblewrap
            return Verdict("tampered", "its keeper was killed")
        code = os.waitstatus_to_exitcode(status)
        # The limit is held against ticks, of which a machine that is busy may count too many.
        if code == -signal.SIGKILL and cpu > 0.5 * self.limits["cpu"]:
            return Verdict("timed out", f"used {self.limits['cpu']} s of CPU time")
        if code < 0:
            return Verdict("crashed", signal.strsignal(-code) or f"signal {-code}")
        last = stderr.strip().splitlines()[-1][:300] if stderr.strip() else ""
        if last.startswith("MemoryError"):
            return Verdict("out of memory", last)
        return Verdict("failed", last or f"exit code {code}") if code else None

    def converse(self, text: bytes) -> tuple[bytes, str]:
        """Write to stdin and read all of stdout, and the end of stderr."""
        out, stderr, unread = bytearray(), b"", [self.out, self.errors]
        os.set_blocking(self.into, False)
        while unread:
            if not text and self.into:
                os.close(self.into)
                self.into = 0
            left = self.deadline - time.monotonic()
            ready = self.wait(unread, left, (self.into,) if self.into else ())
            if not ready:
                self.end("timed out", f"still running after {self.limits['wall']:g} s")
            if self.into in ready:
                try:
                    text = text[os.write(self.into, text[: 1 << 16]) :]
                except BrokenPipeError:  # it does not want to read it
                    text = b""
            for fd in ready & {*unread}:
                if not (new := os.read(fd, 1 << 16)):
                    unread.remove(fd)
                elif fd == self.errors:
                    stderr = (stderr + new)[-4000:]
                else:
                    out += new
            if len(out) > self.limits["output"]:
                self.end("failed", f"more than {self.limits['output']} bytes of output")
        return bytes(out), stderr.decode(errors="replace")


# --------------------------------------------------------------------------------------------------
# the two kinds of jobs


def judge_functions(program: Program, job: dict) -> None:
    """Run the tests against the program's names. Raises Verdict unless all went well."""
    space: dict[str, Any] = {"__name__": "tests"}
    found = program.ask("run", tuple(job["names"]))
    exec(compile(job["setup"], "<setup>", "exec", dont_inherit=True), space)
    for name in job["names"]:
        if name not in found:
            raise Verdict("failed", f"the program defines no {name}")
        if isinstance(found[name], values.ProgramObject):
            vars(found[name])["_callable"] = True
        space[name] = found[name]
    try:
        exec(compile(job["tests"], TESTS, "exec", dont_inherit=True), space)
    except (Exception, SystemExit) as error:
        line, trace = "", error.__traceback__
        while trace:
            if trace.tb_frame.f_code.co_filename == TESTS:
                line = job["tests"].splitlines()[trace.tb_lineno - 1].strip()[:200]
            trace = trace.tb_next
        kind = (
            "" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}; "[:200]
        )
        raise Verdict("failed", f"{kind}{line}") from None
    if program.final:  # and a test swallowed it
        raise program.final
    if program.readable(0):
        program.end("tampered", "it spoke, or left, when it was not asked")


def same(word: str, expected: str) -> bool:
    """Whole numbers, in whatever form, are compared exactly, others to 1e-5. They are not compared
    as floats, because large floats skip whole numbers."""
    if word.lower() == expected.lower():
        return True
    if "_" in word or not word.isascii():  # a number in Python alone
        return False
    with suppress(ArithmeticError):  # no number, or nan
        a, b = Decimal(word), Decimal(expected)
        if a == a.to_integral_value() and b == b.to_integral_value():
            return a == b
        return abs(a - b) < Decimal("1e-5")
    return False


def judge_output(program: Program, text: str, expected: str) -> None:
    """Compare what the program prints, given `text`. Raises Verdict unless it is as expected."""
    out, stderr = program.converse(text.encode(errors="surrogatepass"))
    if found := program.verdict_of_exit(stderr):
        raise found
    got, wanted = out.decode(errors="replace").split(), expected.split()
    for number, (a, b) in enumerate(zip(got, wanted, strict=False), 1):
        if not same(a, b):
            raise Verdict("failed", f"word {number} is {a[:80]!r} instead of {b[:80]!r}")
    if len(got) != len(wanted):
        raise Verdict("failed", f"{len(got)} words instead of {len(wanted)}")


def judge(sandbox: Sandbox, job: dict, limits: dict) -> Verdict:
    if "tests" in job:
        return _verdict(sandbox, job, limits, partial(judge_functions, job=job))
    if job["cpu"]:
        limits = limits | {"cpu": job["cpu"], "wall": 2.0 * job["cpu"]}
    for number, (text, expected) in enumerate(job["cases"], 1):
        check = partial(judge_output, text=text, expected=expected)
        found = _verdict(sandbox, job, limits, check)
        if found.verdict != "passed":
            return Verdict(found.verdict, f"case {number}: {found.reason}")
    return Verdict("passed", "")


def _verdict(
    sandbox: Sandbox, job: dict, limits: dict, check: Callable[[Program], None]
) -> Verdict:
    """The verdict of `check` on a fresh program."""
    program = Program(sandbox, job, limits)
    signal.alarm(int(limits["wall"] + GRACE))
    try:
        check(program)
        return Verdict("passed", "")
    except Verdict as found:
        return found
    except MemoryError:
        return Verdict("failed", "the tests ran out of memory on its answers")
    except Exception as error:  # of this job alone, so the others continue
        return Verdict("failed", f"judging it raised {type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
        program.close()


def main() -> None:
    """Jobs come as lines of JSON, and verdicts go out as lines of JSON. The first line is the
    configuration; a job that must pass answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, resource.RLIM_INFINITY))
    with open(os.dup(1), "w") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # tests print
        read = _lines(0)
        config = json.loads(next(read))
        sandbox = Sandbox(isolation.Walls(**config["walls"]), config["scratch"])
        trial = {"program": "", "tests": "", "setup": "", "names": ()}
        for job in itertools.chain((trial,), map(json.loads, read)):
            start = time.monotonic()
            try:
                try:
                    found = judge(sandbox, job, config["limits"])
                except Broken:  # perhaps by the last program, which without bubblewrap it can be
                    if job is trial:
                        raise
                    sandbox = sandbox.again()
                    found = judge(sandbox, job, config["limits"])
                reason = " ".join(found.reason.split()).encode(errors="replace").decode()
                result: dict[str, Any] = {"verdict": found.verdict, "reason": reason}
                if found.verdict == "tampered":
                    sandbox = sandbox.again()
            except Gone:
                break
            except Exception as error:
                result = {"broken": f"{error}" or type(error).__name__}
            result["seconds"] = time.monotonic() - start
            print(json.dumps(result), file=out, flush=True)
    sandbox.close()
    if sandbox.scratch:  # the supervisor's to remove, but it may have been killed
        shutil.rmtree(sandbox.scratch, ignore_errors=True)


def _lines(fd: int) -> Iterator[bytes]:
    """The lines of a pipe, without reading beyond the line that is asked for."""
    rest = b""
    while True:
        while b"\n" not in rest:
            if not (new := os.read(fd, 1 << 20)):
                return
            rest += new
        line, rest = rest.split(b"\n", 1)
        yield line
