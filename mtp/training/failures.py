"""Why a run failed: RUN/error.txt and status.json, written by the rank that fails first.

When one rank fails, the others lose their connection to it and fail too. What they have to say
would only hide the cause.
"""

import contextlib
import os
import traceback
from pathlib import Path

from mtp.errors import BadInput
from mtp.training.progress import read_status, write_status


def clear(folder: Path) -> None:
    """Forget an earlier failure, when a run starts again."""
    (folder / "error.txt").unlink(missing_ok=True)


def record(folder: Path, error: Exception) -> None:
    """Write the error, whole to error.txt and in one line to status.json; if another rank has
    failed before, its line."""
    rank = f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 else ""
    kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
    line = rank + " ".join(f"{kind}{error}".split())
    with contextlib.suppress(OSError):  # a full disk; `error` says so already
        try:
            with (folder / "error.txt").open("x") as file:  # made by one rank alone
                file.write(line + "\n\n" + "".join(traceback.format_exception(error)))
        except FileExistsError:
            line = (folder / "error.txt").read_text().partition("\n")[0] or line
        status = read_status(folder)
        write_status(
            folder,
            state="failed",
            step=status.get("step", 0),
            steps=status.get("steps", 0),
            error=line,
        )
