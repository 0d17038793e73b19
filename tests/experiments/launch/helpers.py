"""Waiting for runs in the background, and looking at what they have written."""

import json
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path


class Started:
    """A command in the background, as a terminal starts it."""

    def __init__(self, process: ForkServerProcess, output: Path) -> None:
        self.output, self.process = output, process
        self.process.start()
        assert self.process.pid
        self.pid = self.process.pid

    def end(self) -> tuple[int | None, str, str]:
        self.process.join(timeout=240)
        out, err = (self.output.with_suffix(s).read_text() for s in (".out", ".err"))
        return self.process.exitcode, out, err


def wait_until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def folders() -> list[Path]:
    return sorted(p for p in Path("runs").glob("*-s0-*") if p.is_dir())


def steps_logged(folder: Path) -> list[int]:
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("\n")]


def wait_for_step(count: int = 1, step: int = 5) -> None:
    """Until `count` runs have trained some steps."""
    wait_until(
        lambda: len(folders()) == count and all(len(steps_logged(f)) > step for f in folders())
    )
