"""Where a record comes from: the commit and the versions that made it."""

import functools
import platform
import subprocess
from pathlib import Path


@functools.cache
def commit() -> str:
    """The commit of this checkout, with a "+" if files differ from it; "" outside a checkout."""
    try:
        command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
        folder = Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def versions() -> str:
    import torch

    return f"python {platform.python_version()}, torch {torch.__version__}"
