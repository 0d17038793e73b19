"""What a run reports while it trains: metrics.jsonl, status.json, and a bar or plain lines; and
other places that `log_to` names (mtp/training/sinks.py)."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtp.command_line import has_terminal
from mtp.files import write_atomically
from mtp.training.clock import Clock
from mtp.training.sinks import Sinks

STATUS_SECONDS = 1.0  # between writes of status.json
LINE_SECONDS = 2.0  # between plain lines, where there is no terminal


class Progress:
    """The records of a run in `folder`, from `step` on.

    quiet   for all ranks but the first
    log_to  the names of other sinks, which are told the run's `config`
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        steps: int,
        quiet: bool = False,
        log_to: str = "",
        config: dict[str, Any] | None = None,
    ) -> None:
        self.folder, self.steps, self.quiet = folder, steps, quiet
        self.step, self.start, self.written = step, time.monotonic(), 0.0
        self.clock = Clock()
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=quiet or not has_terminal())
        self.shown = -LINE_SECONDS  # when the last plain line was printed
        self.sinks = Sinks("" if quiet else log_to, folder, config or {}, step, self.say)
        if not quiet:
            self._drop_rows_after(step)
            self.tick(step, force=True)

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl and show it."""
        if self.quiet:
            return
        row = row | {"eta_seconds": self._eta(row["step"])}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.sinks.log(row)
        if self.bar.disable:
            last = row["step"] == self.steps or "loss" not in row
            if last or time.monotonic() - self.shown >= LINE_SECONDS:
                self.shown = time.monotonic()
                self.say(_line(row, self.steps))
        elif "loss" in row:
            self.bar.set_postfix_str(f"loss {row['loss'][0]:.3f}")

    def tick(self, step: int, force: bool = False) -> None:
        """Move the bar, and update status.json about once a second."""
        self.bar.update(step - self.step)
        self.step = step
        if force or time.monotonic() - self.written > STATUS_SECONDS:
            self._status("running", step)

    def finish(self, state: str) -> None:
        """Close the records; status.json says how the run ended."""
        self.bar.close()
        self.sinks.close()
        self._status(state, self.step)

    def _eta(self, step: int) -> float | None:
        """Seconds of training left, without validation and saving; None if not known yet."""
        mean = self.clock.mean(step)
        return None if mean is None else mean * (self.steps - step)

    def _status(self, state: str, step: int) -> None:
        if self.quiet:
            return
        self.written = time.monotonic()
        write_status(
            self.folder,
            state=state,
            step=step,
            steps=self.steps,
            seconds=self.written - self.start,
            eta_seconds=self._eta(step),
        )

    def _drop_rows_after(self, step: int) -> None:
        """Drop torn rows and the rows that an interrupted run wrote after its last checkpoint; all
        rows if the run starts over."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return
        kept = []
        for line in file.read_text().splitlines():
            try:
                if step and json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except ValueError:
                continue
        write_atomically(file, "".join(kept).encode())


def write_status(folder: Path, **values: Any) -> None:
    """Replace RUN/status.json atomically."""
    text = json.dumps(values | {"pid": os.getpid(), "time": time.time()})
    write_atomically(folder / "status.json", text.encode())


def read_status(folder: Path) -> dict[str, object]:
    """A run's status.json; empty if there is none or it is torn."""
    with contextlib.suppress(OSError, ValueError):
        return json.loads((folder / "status.json").read_text())
    return {}


def is_trained(folder: Path) -> bool:
    """Whether a run has made its last step and saved it, even if something failed afterwards."""
    status = read_status(folder)
    if status.get("state") == "failed":
        return bool(status.get("steps")) and status.get("step") == status.get("steps")
    return status.get("state") == "finished"


def _line(row: dict[str, Any], steps: int) -> str:
    """One plain log line."""
    if "validation_loss" in row:
        losses = " ".join(f"{x:.4f}" for x in row["validation_loss"])
        return f"step {row['step']}/{steps} | validation loss per head {losses}"
    losses = " ".join(f"{x:.4f}" for x in row["loss"])
    parts = [
        f"step {row['step']}/{steps}",
        f"loss per head {losses}",
        f"lr {row['lr']:.2e}",
        f"grad norm {row['grad_norm']:.2f}",
    ]
    if "tokens_per_second" in row:
        parts.append(f"{row['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in row:
        parts.append(f"MFU {row['mfu']:.1%}")
    parts.append(f"{row['peak_memory_mb']:,.0f} MB")
    if row["eta_seconds"] is not None:
        parts.append(f"ETA {row['eta_seconds']:.0f} s")
    return " | ".join(parts)
