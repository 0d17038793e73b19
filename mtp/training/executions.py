"""RUN/engine.json: how a run was executed, from which step on. Parts with a `run` are those of a
shorter run that this one continues (mtp/training/branch.py)."""

import json
from pathlib import Path
from typing import Any

from mtp.files import parse_json, write_atomically


def record_execution(folder: Path, used: dict[str, Any]) -> None:
    """Add to RUN/engine.json how the run is executed from step `used["from_step"]` on. What was to
    follow an earlier checkpoint is dropped, since those steps are trained again."""
    parts = [part for part in executions(folder) if part["from_step"] < used["from_step"]]
    if not parts or parts[-1] | {"from_step": 0} != used | {"from_step": 0}:
        parts.append(used)
    write_executions(folder, parts)


def write_executions(folder: Path, parts: list[dict[str, Any]]) -> None:
    write_atomically(folder / "engine.json", json.dumps(parts, indent=1).encode())


def executions(folder: Path) -> list[dict[str, Any]]:
    """How a run was executed, from the start to the last change: the parts of RUN/engine.json. None
    if it has not begun, or the file is torn."""
    try:
        return [dict(part) for part in parse_json((folder / "engine.json").read_bytes())]
    except (OSError, ValueError, TypeError):
        return []
