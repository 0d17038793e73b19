"""What a launch shows while its jobs run, and how Ctrl-C stops it."""

import signal
import sys
import time
from pathlib import Path

from tqdm import tqdm

from experiments.launch.base import Launcher, follow
from experiments.status import is_done, minutes
from experiments.study import Study
from mtp.command_line import has_terminal
from mtp.training.progress import read_status


def line(done: float, runs: int, active: list[str], seconds: float) -> str:
    """E.g. "2.40/5 runs after 3.0 min, about 3.3 min left; parallel-n1-s0 40%".

    active  runs that are at work, and those that wait
    """
    left = "about " + minutes(seconds / done * (runs - done)) if done > 0.05 else "unknown time"
    at_work = ", ".join(active) or "starting"
    return f"{done:.2f}/{runs} runs after {minutes(seconds)}, {left} left; {at_work}"


def watch(launched: Launcher, folders: list[Path], study: Study) -> None:
    """Show a bar over all runs' steps, or a plain line every half minute without a terminal."""
    terminal = has_terminal()
    bar = tqdm(
        total=len(folders), unit="run", disable=not terminal,
        bar_format="{l_bar}{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}{postfix}]",
    )  # fmt: skip
    began = printed = time.monotonic()
    finished = set[Path]()
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
                if folder in finished:  # its files need no second look
                    shares.append(1.0)
                    continue
                status = read_status(folder)
                steps = float(str(status.get("steps") or 1))
                share = float(str(status.get("step", 0))) / steps
                over = is_done(study, folder, status)
                finished |= {folder} if over else set()
                shares.append(1.0 if over else 0.9 * share)  # the rest is evaluation
                if not over and status.get("state") in ("running", "finished"):
                    active.append(f"{folder.name.rsplit('-', 1)[0]} {100 * share:.0f}%")
            active += [launched.pending] if launched.pending else []
            bar.update(sum(shares) - bar.n)
            bar.set_postfix_str(", ".join(active))
            if not terminal and time.monotonic() - printed > 30:
                printed = time.monotonic()
                print(line(sum(shares), len(folders), active, printed - began), flush=True)
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
