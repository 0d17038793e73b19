"""What a launch shows while its jobs run, and how Ctrl-C stops it."""

import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

from experiments.launch.base import Launcher, follow
from experiments.status import is_done
from experiments.study import Study
from mtp.training.progress import read_status


def watch(launched: Launcher, folders: list[Path], study: Study) -> None:
    """Show a bar over all runs' steps, or a plain line every half minute without a terminal."""
    terminal = sys.stderr.isatty()
    bar = tqdm(
        total=len(folders), unit="run", disable=not terminal,
        bar_format="{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    printed = time.monotonic()
    # Between two looks, not wherever it strikes: raised inside a destructor it would be lost.
    # In-process jobs have no such pause.
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if not launched.in_process:
        signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        for _ in follow(launched):
            if pressed:
                raise KeyboardInterrupt
            shares, active = [], []
            for folder in folders:
                status = read_status(folder)
                steps = float(str(status.get("steps") or 1))
                share = float(str(status.get("step", 0))) / steps
                over = is_done(study, folder, status)
                shares.append(1.0 if over else 0.9 * share)  # the rest is evaluation
                if not over and status.get("state") in ("running", "finished"):
                    active.append(f"{folder.name.rsplit('-', 1)[0]} {100 * share:.0f}%")
            bar.update(sum(shares) - bar.n)
            bar.set_postfix_str(", ".join(active))
            if not terminal and time.monotonic() - printed > 30:
                printed = time.monotonic()
                print(f"{sum(shares):.2f}/{len(folders)} runs; {', '.join(active)}", flush=True)
        if pressed:
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, before)  # pressed again, it leaves at once
        bar.close()
        print("\nstopping; running jobs save first", file=sys.stderr)
        print(f"{launched.stop()}; the same command continues", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGINT, before)
    bar.close()
