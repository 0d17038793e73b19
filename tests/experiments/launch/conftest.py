"""Commands in the background: `python -m experiments run` in a process of its own."""

import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.experiments.launch.helpers import Started


def command(folder: Path, output: Path, study: str, args: tuple[str, ...]) -> None:
    """`python -m experiments run`, in a forked process that leads a session of its own."""
    os.setsid()
    os.chdir(folder)
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(output.with_suffix(suffix), os.O_WRONLY | os.O_CREAT), number)
    if study == "sweep-n":  # of one run, which would get all cores, and wait for the busiest
        os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
    from experiments.__main__ import main
    from experiments.launch.slurm import Slurm

    Slurm.pause = 0.5  # it is this machine's own Slurm, if any
    sys.argv = ["experiments", "run", study, "--scale", "smoke", *args]
    main()


@pytest.fixture
def start(
    cli: Cli, processes: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Started]]:
    """Starts commands in tmp_path and kills what they leave behind at the end."""
    outputs, started = tmp_path_factory.mktemp("outputs"), list[Started]()

    def begin(study: str, *args: str) -> Started:
        output = outputs / str(len(started))
        where = (Path.cwd(), output, study, args)
        started.append(Started(processes.Process(target=command, args=where), output))
        return started[-1]

    yield begin
    for each in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.process.join()
