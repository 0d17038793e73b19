"""A program behind walls, as the judge sees it: it starts, is asked, prints, and ends.

`Sandbox` is the process inside the walls that forks programs (evals/sandbox/inside.py); `Program`
is one of them. Nothing here waits for a program without an eye on its time. Its memory is watched
by the supervisor (evals/sandbox/runner.py), since the judge may be busy with an answer.

Standard library only, as evals/sandbox/judge.py is.
"""

import errno
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
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from evals.sandbox import inside, isolation, syscalls, values
from evals.sandbox.clock import PATIENCE, Clock
from evals.sandbox.objects import STOP
from evals.sandbox.values import Lied, Undecided, Verdict

LENT = 64  # attributes of objects that may be containers and changed by tests, at a time
START = 10.0  # seconds that a program may take to start, without waiting for cores; the wall clock
LONGEST = 40.0  # the same, once it has been too slow: each new sandbox gets twice as long
WALL = 2.0  # seconds of wall clock for each second of CPU time, where a limit is of that alone
# What each request may be answered with, beside "error".
KINDS = {"run": ("names",), "next": ("value", "stop")}


class Gone(BaseException):
    """The supervisor is gone."""


class Broken(Exception):
    """The walls do not work; no program is to blame."""


class Slow(Broken):
    """They may work, but not in time."""


class Sandbox:
    """The process inside the walls that forks programs (evals/sandbox/inside.py). scratch: the
    folder for their files; None in bubblewrap, which has its own."""

    def __init__(self, walls: isolation.Walls, scratch: str | None) -> None:
        self.walls, self.scratch, self.start = walls, scratch, START
        # Descriptors that any process of the user has sent, and none has received, count against
        # it: programs of an ordinary user can have some hundreds on the way.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        ours, theirs = socket.socketpair()
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            isolation.command(walls, inside.BOOTSTRAP),
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,  # as those of programs: Python asks early whether it can seek
            stderr=subprocess.PIPE,
            env=isolation.environment(walls),
        )
        theirs.close()
        self.control = ours
        source = Path(inside.__file__).read_text()
        code = compile(source, "<inside>", "exec", dont_inherit=True)
        with suppress(BrokenPipeError):  # `broken` will tell
            ours.sendall(
                framed(marshal.dumps((walls.kind, [*walls.path], [*walls.packages])))
                + framed(marshal.dumps(code))
            )

    def broken(self, reason: str, kind: type[Broken] = Broken) -> NoReturn:
        """Raise Broken with the last message of the walls."""
        assert self.process.stderr
        self.process.kill()
        lines = self.process.stderr.read().decode(errors="replace").strip().splitlines()
        raise kind(f"{self.walls.kind} does not work here: {lines[-1] if lines else reason}")

    def wait(self, fds: list[int], seconds: float, writable: tuple[int, ...] = ()) -> set[int]:
        """Those that are ready within so many seconds. Raises Gone if the supervisor is gone, which
        sends nothing while a job is under way."""
        readable, written, _ = select.select([0, *fds], writable, [], max(0, seconds))
        if 0 in readable:
            raise Gone
        return {*readable, *written}

    def pass_on(self, fds: list[int]) -> None:
        """Send descriptors to the keeper. Waits while programs have too many on the way, which
        ends with them."""
        until = time.monotonic() + START * PATIENCE
        while True:
            try:
                with suppress(BrokenPipeError):  # `broken` will tell
                    socket.send_fds(self.control, [b"x"], fds)
                return
            except OSError as error:
                if error.errno != errno.ETOOMANYREFS:
                    raise
                if time.monotonic() > until:
                    self.broken("the user has too many descriptors on the way")
            self.wait([], 0.02)

    def again(self) -> "Sandbox":
        """A new sandbox in its place, with more time to start."""
        self.close()
        new = Sandbox(self.walls, self.scratch)
        new.start = min(2 * self.start, LONGEST)
        return new

    def close(self) -> None:
        self.control.close()  # the keeper leaves, and so does bwrap
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        for pipe in filter(None, (self.process.stdout, self.process.stderr)):
            pipe.close()


def mode_of(job: dict) -> str:
    """How evals/sandbox/inside.py runs a job's program."""
    if "cases" in job:
        return "script"
    return "inside" if job.get("inside") else "functions"


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


class Program:
    """A program that has started. `job` and `limits` are as evals/sandbox/runner.py sends them."""

    def __init__(self, sandbox: Sandbox, job: dict, limits: dict) -> None:
        self.sandbox, self.limits, self.count = sandbox, limits, 0
        self.final: Verdict | None = None  # that holds, whatever the tests say
        self.over: Verdict | None = None  # that has ended it
        self.objects = job.get("objects", True)  # whether tests may read their attributes
        self.known = dict[int, Any]()  # its objects, by number
        self.values = dict[int, Any]()  # those that are plain values too
        # Containers that are attributes of these, by number: ours, and as the program last saw it.
        self.lent = dict[int, tuple[Any, Any]]()
        self.places = list[Any]()
        self.unread = bytearray()  # of its answers, read ahead
        self.heard = 0  # bytes of its answers
        self.cpu = 0.0  # seconds that it has used, once it has ended
        self.folder = tempfile.mkdtemp(dir=sandbox.scratch) if sandbox.scratch else None
        into, self.into = os.pipe()
        self.out, out = os.pipe()
        self.errors, errors = os.pipe()
        for fd in (into, out, errors):
            os.fchmod(fd, 0o666)  # a program, another user, may open them as /dev/stdin
        self.status, status = socket.socketpair()
        sandbox.pass_on([into, out, errors, status.fileno()])
        status.close()
        for fd in (into, out, errors):
            os.close(fd)
        settings = {
            "mode": mode_of(job),
            "objects": self.objects,
            "word": job.get("word", b""),
            "program": job["program"].removeprefix("\ufeff"),  # as Python reads a file
            # Tests and what they expect stay here, but for jobs that ask to have them inside.
            **(
                {part: job[part] for part in ("setup", "tests", "names")}
                if job.get("inside")
                else {}
            ),
            "folder": self.folder or isolation.SCRATCH,
            # By chance, so that it tells nothing.
            "uid": 1 << 30 | int.from_bytes(os.urandom(4), "big") >> 2,
            "filter": syscalls.program(),
            "devices": [f"/dev/{name}" for name in isolation.DEVICES],
            **{name: limits[name] for name in ("cpu", "memory", "processes", "file")},
        }
        for fd in (self.into, self.out, self.errors):  # a program may take back what it has written
            os.set_blocking(fd, False)
        self.clock = Clock(sandbox.start)
        sign = b""
        with suppress(BrokenPipeError):
            sent = self.send(framed(marshal.dumps(settings)))
            if not sent or not self.ready([self.status.fileno()]):
                sandbox.broken(f"no program starts within {sandbox.start:g} s", Slow)
            with suppress(BlockingIOError):
                sign = self.status.recv(1)
        if sign != b"\n":
            sandbox.broken("no program starts")
        sandbox.start = START
        self.clock = Clock(limits["wall"], self.clock.begin)

    def ready(self, fds: list[int], writable: tuple[int, ...] = ()) -> set[int]:
        """Those that are ready, of which there is one unless the program's time is over."""
        with self.clock as clock:
            while not clock.over():
                if found := self.sandbox.wait(fds, clock.patience(), writable):
                    return found
        return set()

    def send(self, data: bytes) -> bool:
        """Write all of it to the program; False if its time is over before it has read it. Raises
        BrokenPipeError if it does not read."""
        left = memoryview(data)
        while True:
            with suppress(BlockingIOError):
                left = left[os.write(self.into, left[: 1 << 20]) :]
            if not left:
                return True
            if not self.ready([], (self.into,)):
                return False

    def write(self, data: bytes) -> None:
        try:
            if not self.send(framed(data)):
                self.end("timed out", f"it did not read an argument within {self.clock.limit:g} s")
        except BrokenPipeError:
            self.ended()

    def kill(self) -> None:
        """Kill it, unless it has ended; then `cpu` is known. It dies before its requests end, so
        that it does not see that nothing more comes."""
        with suppress(OSError):  # its keeper was killed
            self.status.shutdown(socket.SHUT_WR)
            while report := self.status.recv(100):  # until the keeper is through with it
                _, self.cpu = marshal.loads(report)

    def close(self) -> None:
        """Kill it and remove its folder."""
        self.kill()
        for fd in filter(None, (self.into, self.out, self.errors)):
            os.close(fd)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.status.close()

    def took(self) -> float:
        """The seconds of CPU time that a limit must allow for it, with WALL times as many of wall
        clock, once it has ended."""
        return max(self.cpu, self.clock.time / WALL)

    def read(self, count: int) -> bytes:
        """So many bytes of the program's answers, before the deadline."""
        while len(self.unread) < count:
            if not self.ready([self.out]):
                self.end("timed out", f"no answer within {self.clock.limit:g} s")
            with suppress(BlockingIOError):
                self.unread += os.read(self.out, 1 << 16) or self.ended()
        got = bytes(self.unread[:count])
        del self.unread[:count]
        return got

    def speaks(self) -> bool:
        """Whether it has written something, or left, by now."""
        return bool(self.unread or self.sandbox.wait([self.out], 0))

    def ask(self, what: str, *rest: Any) -> Any:
        """Send a request and wait for its answer: a decoded value, or `values.STOP`. Raises what
        the program raises, and Verdict if there will be no answer."""
        if self.over:
            raise self.over
        if self.lent and what != "fill":
            self.give_back()
        if self.speaks():
            self.end("tampered", "an answer came before it was asked for")
        try:
            packed = [item if isinstance(item, str) else values.pack(item) for item in rest]
        except TypeError as error:  # ours, so that a test which expects one must not see it
            self.undecided("failed", str(error))
        self.write(marshal.dumps((what, *packed)))
        size = int.from_bytes(self.read(4), "big")
        if size > self.limits["output"]:
            self.end("failed", f"an answer of {size} bytes; {self.limits['output']} may be")
        raised: Exception | None = None
        data = self.read(size)
        self.heard += size
        try:
            number, how, value, changed = values.parse(data)
            if number != self.count:
                raise ValueError("an answer to another request")
            self.count += 1
            if how not in (*KINDS.get(what, ("value",)), "error"):
                raise ValueError(f"{how} in answer to {what}")
            if how == "error":
                names, given = value
                kind, message, *kinds = map(str, names)
                own = (message,) if given is None else values.decode(given, self)
                raised = values.raised(tuple(kinds), own, message)
                # In a test, StopIteration would end a loop as if all were well.
                silent = kind == "MemoryError" or isinstance(raised, StopIteration)
                if what == "run" or silent or raised is None:
                    verdict = "out of memory" if kind == "MemoryError" else "failed"
                    self.end(verdict, f"{kind}: {message}" if message else kind)
            elif how == "names":
                found = {name: values.decode(item, self) for name, item in value}
                if not found.keys() <= {*rest[0]}:
                    raise ValueError("names that were not asked for")
                return found
            elif how == "stop":
                return STOP
            if changed is not None:
                _, args, kwargs = rest
                values.update((*args, *kwargs.values()), changed, self)
            if how != "error":
                lent = what == "get" and type(value) is list and value[0] == "lent"
                return self.lend(*value[1]) if lent else values.decode(value, self)
        except RecursionError:
            self.end("failed", "an answer nested too deep")
        except (ValueError, TypeError, ArithmeticError, KeyError, IndexError) as error:
            self.end("tampered", f"an answer that the harness does not give ({error})")
        assert raised
        raise raised

    def lend(self, number: Any, value: Any) -> Any:
        """A container that is an attribute of an object, as the one that the tests have of it.
        Raises ValueError if it is none."""
        new = values.decode(value, self)
        if type(number) is not int or not inside.changes(new):
            raise ValueError("an attribute that is not lent")
        old, _ = self.lent.pop(number, (None, None))
        if type(old) is type(new):
            values.fill(old, new)
            new = old
        self.lent[number] = new, values.pack(new)
        if len(self.lent) > LENT:
            del self.lent[next(iter(self.lent))]
        return new

    def give_back(self) -> None:
        """Tell the program what the tests have done to its attributes."""
        for number, (value, seen) in [*self.lent.items()]:
            try:
                packed = values.pack(value)
            except TypeError as error:
                self.undecided("failed", str(error))
            if packed != seen:
                self.lent[number] = value, packed
                self.ask("fill", number, value)

    def end(self, verdict: str, reason: str) -> NoReturn:
        self.over = self.over or Verdict(verdict, reason)
        if self.final is None or verdict == "tampered":
            self.final = self.over
        raise self.over

    def undecided(self, verdict: str, reason: str) -> NoReturn:
        if self.final is None or (verdict == "tampered" and self.over is None):
            self.final = Lied(verdict, reason)
        raise Undecided(reason)

    def ended(self) -> NoReturn:
        """Raise the verdict on a program that is gone or has closed its descriptors."""
        if self.over:
            raise self.over
        found = self.verdict_of_exit() or Verdict("failed", "it left before the tests were through")
        self.end(found.verdict, found.reason)

    def verdict_of_exit(self, stderr: str = "") -> Verdict | None:
        """The verdict that follows from how it ended; `stderr` is the end of stderr. None if it
        exited with 0."""
        if not self.ready([self.status.fileno()]):
            return Verdict("timed out", f"still running after {self.clock.limit:g} s")
        try:
            status, self.cpu = marshal.loads(self.status.recv(100))
        except (EOFError, ConnectionError):  # only possible without bubblewrap
            return Verdict("tampered", "its keeper was killed")
        code = os.waitstatus_to_exitcode(status)
        # The limit is held against ticks, of which a machine that is busy may count too many.
        if code == -signal.SIGKILL and self.cpu > 0.5 * self.limits["cpu"]:
            return Verdict("timed out", f"used {self.limits['cpu']} s of CPU time")
        if code < 0:
            return Verdict("crashed", signal.strsignal(-code) or f"signal {-code}")
        last = stderr.strip().splitlines()[-1][:300] if stderr.strip() else ""
        if last.startswith("MemoryError"):
            return Verdict("out of memory", last)
        return Verdict("failed", last or f"exit code {code}") if code else None

    def converse(self, text: bytes, most: int) -> tuple[bytes, str]:
        """Write to stdin and read all of stdout, of `most` bytes, and the end of stderr."""
        out, stderr, unread, left = bytearray(), b"", [self.out, self.errors], memoryview(text)
        while unread:
            if not left and self.into:
                os.close(self.into)
                self.into = 0
            ready = self.ready(unread, (self.into,) if self.into else ())
            if not ready:
                self.end("timed out", f"still running after {self.clock.limit:g} s")
            if self.into in ready:
                try:
                    left = left[os.write(self.into, left[: 1 << 16]) :]
                except BrokenPipeError:  # it does not want to read it
                    left = memoryview(b"")
            for fd in ready & {*unread}:
                try:
                    new = os.read(fd, 1 << 16)
                except BlockingIOError:
                    continue
                if not new:
                    unread.remove(fd)
                elif fd == self.errors:
                    stderr = (stderr + new)[-4000:]
                else:
                    out += new
            if len(out) > most:
                self.end("failed", f"more than {most} bytes of output")
        return bytes(out), stderr.decode(errors="replace")
