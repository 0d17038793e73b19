"""A judge: a process that takes jobs from evals/sandbox/runner.py, one at a time, and reports on
them.

It starts one sandbox (evals/sandbox/program.py), in which evals/sandbox/inside.py forks programs.
For each job it has a program started. Then it either runs the tests itself, where a name of the
program's is a proxy that asks the program and gets plain data back (evals/sandbox/values.py), or it
writes to the program's stdin and compares the output (evals/sandbox/compare.py). So tests, expected
results and comparisons are in a process that the program cannot reach. After a program that has
tampered, the judge puts up new walls.

Answers on which the judge or the tests would work for too long end the judge by a signal. The judge
leaves when the supervisor does. Programs end with the judge, because the keeper sees its sockets
close.

A program is not told how it did. Tests go on after a wrong answer (evals/sandbox/quiet.py), a
script gets its other cases, and in the end each program is killed in the same way.

It uses only the standard library, since it is started without site-packages.
"""

import gc
import importlib
import itertools
import json
import math
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from evals.sandbox import compare, isolation, quiet, values
from evals.sandbox.clock import PATIENCE, Linux
from evals.sandbox.program import WALL, Broken, Gone, Program, Sandbox, Slow
from evals.sandbox.values import Lied, Undecided, Verdict

WORK = 4.0  # seconds of CPU time beyond a program's that the judge and its tests may take for it
ROOM = 2 << 30  # bytes of memory for the tests, some of which make large inputs
REFERENCE = {"cpu": 60, "wall": 120.0}  # the limits of a reference solution
SLACK = 3  # a program may take so many times as long as the reference
FIRST_ALONE = 10  # of a script that has more cases, a wrong answer to the first ends it
JUDGE = 4  # a change of verdicts makes old ones stale


# --------------------------------------------------------------------------------------------------
# the two kinds of jobs


def judge_functions(program: Program, job: dict) -> None:
    """Run the tests against the program's names, all of them. Raises Verdict unless all went
    well: of what went wrong, the first."""
    space: dict[str, Any] = {"__name__": "tests"}
    found = program.ask("run", tuple(job["names"]))
    exec(compile(job["setup"], "<setup>", "exec", dont_inherit=True), space)
    for name in job["names"]:
        if name not in found:
            raise Verdict("failed", f"the program defines no {name}")
        space[name] = found[name]
    missed, late = list[BaseException](), False
    space[quiet.MISSED] = lambda: missed or missed.append(sys.exception() or AssertionError())
    try:
        exec(quiet.compiled(job["tests"]), space)
    except (Exception, SystemExit) as error:
        missed.append(error)
    except Verdict as end:  # there is nothing to go on with
        if not missed or end.verdict == "tampered":
            raise
        late = end.late
    final = program.final
    if final and (not missed or final.verdict == "tampered" or isinstance(missed[0], Undecided)):
        final.late |= late
        raise final
    if missed:
        raise _miss(missed[0], job["tests"], late)
    if program.speaks():
        program.end("tampered", "it spoke, or left, when it was not asked")


def _miss(error: BaseException, tests: str, late: bool) -> Verdict:
    """The verdict on an error that a test has come to, with the test's line."""
    if isinstance(error, MemoryError):
        return Verdict("failed", "the tests ran out of memory on its answers", late)
    line, trace = "", error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == quiet.TESTS:
            line = tests.splitlines()[trace.tb_lineno - 1].strip()[:200]
        trace = trace.tb_next
    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}; "[:200]
    return Verdict("failed", f"{kind}{line}", late)


def judge_inside(program: Program, word: bytes) -> None:
    """Let the program and its tests run in one process. Raises Verdict unless it says that they
    were reached and exits with 0."""
    out, stderr = program.converse(b"", 1000)
    if found := program.verdict_of_exit(stderr):
        raise found
    if out != word:
        raise Verdict("failed", "it left before the tests were through")


class Wrong(Verdict):
    """What a script printed is not what it should. Its other cases are run all the same."""


def judge_output(program: Program, text: str, expected: str, rule: compare.Rule) -> None:
    """Compare what the program prints, given `text`. Raises Verdict unless it is as expected."""
    most = max(program.limits["output"], 2 * len(expected))
    out, stderr = program.converse(text.encode(errors="surrogatepass"), most)
    found = program.verdict_of_exit(stderr)
    if found and (rule.exit or found.verdict != "failed"):
        raise found
    if wrong := compare.difference(out.decode(errors="surrogateescape"), expected, rule):
        raise Wrong("failed", found.reason if found else wrong)


def judge(sandbox: Sandbox, job: dict, limits: dict) -> Verdict:
    """The verdict on a job's program. If it ran out of time, whatever it had answered, and the job
    has a reference solution, it gets another try with the time that the reference takes on this
    machine, times SLACK."""
    if job.get("cpu"):
        limits = limits | {"cpu": job["cpu"], "wall": WALL * job["cpu"]}
    found, _ = _judge(sandbox, job, limits)
    if found.late and job.get("reference"):
        own, took = _judge(sandbox, job | {"program": job["reference"]}, limits | REFERENCE)
        more = int(SLACK * took + 1)
        if own.verdict == "passed" and more > limits["cpu"]:
            found, _ = _judge(sandbox, job, limits | {"cpu": more, "wall": WALL * more})
    return found


def second_try(sandbox: Sandbox, job: dict, trial: dict, limits: dict) -> tuple[Verdict, Sandbox]:
    """The verdict on a job before which the walls have broken, and the sandbox to go on with. If
    they break once more, but hold for a trial, it is the job's fault; where they were slow, if they
    break again. Raises Broken if they do not hold."""
    why = ""
    for _ in range(2):
        try:
            return judge(sandbox, job, limits), sandbox
        except Broken as error:
            why, slow = f"{error}", isinstance(error, Slow)
            sandbox = sandbox.again()
            held = judge(sandbox, trial, limits)
            if job is trial:
                return held, sandbox
            if held.verdict != "passed":
                raise
            if not slow:
                break
    return Verdict("tampered", f"it did not start twice ({why})"), sandbox


def _judge(sandbox: Sandbox, job: dict, limits: dict) -> tuple[Verdict, float]:
    """The verdict and, if the program passed, what its longest case took (`Program.took`). Of what
    went wrong, the verdict is the first."""
    if job.get("inside"):
        job = job | {"word": os.urandom(32).hex().encode()}
        return _verdict(sandbox, job, limits, partial(judge_inside, word=job["word"]))
    if "tests" in job:
        return _verdict(sandbox, job, limits, partial(judge_functions, job=job))
    rule, most, wrong = compare.RULES[job["rule"]], 0.0, None
    for number, (text, expected) in enumerate(job["cases"], 1):
        check = partial(judge_output, text=text, expected=expected, rule=rule)
        found, cpu = _verdict(sandbox, job, limits, check)
        most = max(most, cpu)
        if found.verdict == "passed":
            continue
        named = Verdict(found.verdict, f"case {number}: {found.reason}")
        if found.verdict != "tampered":
            named = wrong = wrong or named
            wrong.late |= found.late
        alone = number == 1 and len(job["cases"]) > FIRST_ALONE
        if not isinstance(found, Wrong) or alone:
            return named, 0.0
    return wrong or Verdict("passed", ""), most


def _verdict(
    sandbox: Sandbox, job: dict, limits: dict, check: Callable[[Program], None]
) -> tuple[Verdict, float]:
    """The verdict of `check` on a fresh program, and what it took (`Program.took`) if it passed."""
    program = Program(sandbox, job, limits)
    # Tests may run the reference themselves, as EvalPlus's do.
    work = limits["cpu"] + (4 if job.get("reference") else 1) * WORK
    signal.setitimer(signal.ITIMER_PROF, work)
    _end_after(int(PATIENCE * limits["wall"] + WORK) + 1)  # for tests that sleep
    try:
        check(program)
        program.kill()
        return Verdict("passed", ""), program.took()
    except Verdict as found:
        return found, 0.0
    except MemoryError:
        return Verdict("failed", "the tests ran out of memory on its answers"), 0.0
    except Exception as error:  # of this job alone, so the others continue
        return Verdict("failed", f"judging it raised {type(error).__name__}: {error}"), 0.0
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        if program.heard > 1 << 20:  # tracebacks hold on to answers
            gc.collect()
        program.close()


def _end_after(seconds: int) -> None:
    """End this process after so many seconds, not counting those for which it waits for a core."""
    machine = Linux()
    before = machine.waited()

    def expired(*_: object) -> None:
        nonlocal before
        waited = machine.waited() - before
        before += waited
        if waited < 1:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGALRM)
        signal.alarm(math.ceil(waited))

    signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)


def main() -> None:
    """Jobs come as lines of JSON, and verdicts go out as lines of JSON. The first line is the
    configuration; a job that must pass answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to handle
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, resource.RLIM_INFINITY))
    sys.set_int_max_str_digits(0)  # as the programs
    with open(os.dup(1), "w") as out:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # tests print
        read = _lines(0)
        config = json.loads(next(read))
        sys.path += config["path"]  # for tests
        for name in config["walls"]["packages"]:
            importlib.import_module(name)
        gc.freeze()  # so that collections leave out what stays for good
        sandbox = Sandbox(isolation.Walls(**config["walls"]), config["scratch"])
        trial = {"program": "", "tests": "", "setup": "", "names": ()}
        for job in itertools.chain((trial,), map(json.loads, read)):
            start = time.monotonic()
            try:
                try:
                    found = judge(sandbox, job, config["limits"])
                except Broken:  # perhaps by the last program, which without bubblewrap it can be
                    sandbox = sandbox.again()
                    found, sandbox = second_try(sandbox, job, trial, config["limits"])
                reason = values.line_of(found.reason)
                result: dict[str, Any] = {"verdict": found.verdict, "reason": reason}
                if found.verdict == "tampered" and not isinstance(found, Lied):
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
    parts = list[bytes]()
    while new := os.read(fd, 1 << 20):
        while b"\n" in new:
            line, new = new.split(b"\n", 1)
            yield b"".join([*parts, line])
            parts.clear()
        parts.append(new)
