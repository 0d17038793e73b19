"""What a run tells while it trains: metrics.jsonl, status.json, a bar or plain lines.

Where the `tensorboard` extra is installed and MTP_TENSORBOARD=1 is set, metrics go there too.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtp.errors import BadInput

STATUS_SECONDS = 1.0  # between writes of status.json


class Progress:
    """The records of one run in `folder`, from `step` on; `quiet` for all ranks but the first."""

    def __init__(self, folder: Path, step: int, steps: int, quiet: bool = False) -> None:
        self.folder, self.steps, self.quiet = folder, steps, quiet
        self.first, self.step, self.start, self.told = step, step, time.monotonic(), 0.0
        self.marked = (step, self.start)
        self.bar = tqdm(
            total=steps, initial=step, unit="step", disable=quiet or not sys.stderr.isatty()
        )
        self.board = None if quiet else _tensorboard(folder)
        if not quiet:
            self._forget_after(step)
            self.tick(step, force=True)

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def seconds_per_step(self, step: int) -> float:
        """Mean time of a step since the last call, or since the start."""
        now = time.monotonic()
        (before, then), self.marked = self.marked, (step, now)
        return max(1e-9, now - then) / max(1, step - before)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl and show it."""
        if self.quiet:
            return
        row = row | {"eta_seconds": self._eta(row["step"])}
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            for key, value in row.items():
                values = value if isinstance(value, list) else [value]
                for i, v in enumerate(values):
                    name = f"{key}/head {i + 1}" if isinstance(value, list) else key
                    self.board.add_scalar(name, v, row["step"])
        if self.bar.disable:
            self.say(_line(row, self.steps))
        elif "loss" in row:
            self.bar.set_postfix_str(f"loss {row['loss'][0]:.3f}")

    def tick(self, step: int, force: bool = False) -> None:
        """Move the bar; write status.json now and then."""
        self.bar.update(step - self.step)
        self.step = step
        if force or time.monotonic() - self.told > STATUS_SECONDS:
            self._status("running", step)

    def finish(self, state: str) -> None:
        """Close the records; status.json tells how it ended."""
        self.bar.close()
        if self.board:
            self.board.close()
        self._status(state, self.step)

    def _eta(self, step: int) -> float:
        done = max(1, step - self.first)
        return (time.monotonic() - self.start) / done * (self.steps - step)

    def _status(self, state: str, step: int) -> None:
        if self.quiet:
            return
        self.told = time.monotonic()
        write_status(
            self.folder,
            state=state,
            step=step,
            steps=self.steps,
            seconds=self.told - self.start,
            eta_seconds=self._eta(step),
        )

    def _forget_after(self, step: int) -> None:
        """Drop the rows that the interrupted run wrote after its last checkpoint, and torn ones;
        all of them where it begins anew."""
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
        half = file.with_suffix(".half")
        half.write_text("".join(kept))
        half.rename(file)


def write_status(folder: Path, **values: Any) -> None:
    """Replace RUN/status.json in one move."""
    half = folder / "status.half"
    half.write_text(json.dumps(values | {"pid": os.getpid(), "time": time.time()}))
    half.rename(folder / "status.json")


def _line(row: dict[str, Any], steps: int) -> str:
    """One plain log line."""
    if "validation_loss" in row:
        losses = " ".join(f"{x:.4f}" for x in row["validation_loss"])
        return f"step {row['step']}/{steps} | validation loss per head {losses}"
    losses = " ".join(f"{x:.4f}" for x in row["loss"])
    mfu = f" | MFU {row['mfu']:.1%}" if "mfu" in row else ""
    return (
        f"step {row['step']}/{steps} | loss per head {losses} | lr {row['lr']:.2e} | "
        f"grad norm {row['grad_norm']:.2f} | {row['tokens_per_second']:,.0f} tokens/s{mfu} | "
        f"{row['peak_memory_mb']:,.0f} MB | ETA {row['eta_seconds']:.0f} s"
    )


def _tensorboard(folder: Path) -> Any:
    if os.environ.get("MTP_TENSORBOARD") != "1":
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise BadInput(
            "MTP_TENSORBOARD=1 needs the tensorboard extra: pip install -e '.[tensorboard]'"
        ) from None
    return SummaryWriter(str(folder / "tensorboard"))
