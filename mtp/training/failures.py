"""Why a run failed: RUN/error.txt, and `error` in its status.json.

If several processes train a run, the one that fails first tells the reason: it creates error.txt,
whose first line is the reason. The others lose contact with it and fail too; they leave its file.
"""

import os
import re
import time
import traceback
from pathlib import Path

from mtp.errors import BadInput
from mtp.training.progress import read_status, write_status

# what the other ranks meet when one of them has ended
LOST_CONTACT = re.compile(
    r"connection (closed|reset|refused)|broken pipe|remote process exited|socket timeout"
    r"|timed out waiting|nccl (error|communicator)",
    re.IGNORECASE,
)


def record_failure(folder: Path, error: Exception) -> None:
    """Record why the run in `folder` fails; any rank may call this. The first call creates
    error.txt, and every call marks the run as failed for the reason that is there. Raises OSError
    if the disk is full."""
    reason = _reason(error)
    try:
        descriptor = os.open(folder / "error.txt", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{reason}\n\n{''.join(traceback.format_exception(error))}")
    mark_failed(folder, reason)


def mark_failed(folder: Path, reason: str) -> None:
    """Set the run's state to failed: for the reason in error.txt, or this one if it has none."""
    status = read_status(folder)
    write_status(
        folder,
        state="failed",
        step=status.get("step", 0),
        steps=status.get("steps", 0),
        error=first_failure(folder) or reason,
    )


def first_failure(folder: Path) -> str:
    """The reason in error.txt, in one line; "" if the run has not failed."""
    for _ in range(20):  # another process may have created the file and be about to write
        try:
            first, newline, _ = (folder / "error.txt").read_text().partition("\n")
        except OSError:
            return ""
        if newline:
            return first
        time.sleep(0.05)
    return ""


def clear_failure(folder: Path) -> None:
    """Forget an earlier failure, when the run starts anew; for the first rank."""
    (folder / "error.txt").unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
    reason = " ".join(f"{kind}{error}".split())
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return reason
    if LOST_CONTACT.search(reason):
        reason += " (another rank seems to have ended without a message; see the log)"
    return f"rank {os.environ.get('RANK', '0')}: {reason}"
