"""results/STUDY/SCALE.json: what each run of SCALE.csv was, so that a reader without its folder can
reconstruct it and see any plateau.

    run -> config      every field
           execution   RUN/engine.json: how it was executed, and from which step on
           parameters  by part
           tokens, flops, flops_per_token
           curve       steps, tokens, lr, and loss[i][j]: of head i + 1 at step j, about 50 places
"""

import json
from pathlib import Path
from typing import Any

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.files import parse_json, write_atomically
from mtp.model.sizes import parameter_counts, run_flops_per_token
from mtp.overrides import to_json
from mtp.training.executions import executions

PLACES = 50


def describe(config: TrainConfig, folder: Path) -> dict[str, Any]:
    """The record of a finished run."""
    logged = [row for row in metrics(folder) if "loss" in row]
    tokens = logged[-1]["tokens"] if logged else 0
    per_token = run_flops_per_token(config)
    return {
        "config": json.loads(to_json(config)),
        "execution": executions(folder),
        "parameters": parameter_counts(config.model),
        "tokens": tokens,
        "flops_per_token": per_token,
        "flops": per_token * tokens,
        "curve": curve(logged),
    }


def curve(logged: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of metrics.jsonl at PLACES places at most, evenly spaced, the first and the last among
    them. A row's loss is the mean over the steps since the row before it in metrics.jsonl."""
    last = len(logged) - 1
    kept = sorted({round(i * last / (PLACES - 1)) for i in range(PLACES)}) if logged else []
    rows = [logged[i] for i in kept]
    heads = len(rows[0]["loss"]) if rows else 0
    return {
        "step": [row["step"] for row in rows],
        "tokens": [row["tokens"] for row in rows],
        "lr": [row["lr"] for row in rows],
        "loss": [[round(row["loss"][i], 5) for row in rows] for i in range(heads)],
    }


def precision_of(folder: Path, device: str = "") -> str:
    """The precision a run was trained in; "" if it has not begun, or not on this `device`."""
    parts = executions(folder)
    if not parts or (device and parts[-1].get("device") != device):
        return ""
    return str(parts[-1].get("precision", ""))


def read(file: Path) -> dict[str, Any]:
    """The runs of a SCALE.json; none if there is no such file. Raises BadInput if it is torn."""
    if not file.exists():
        return {}
    try:
        found = parse_json(file.read_bytes())
        return dict(found["runs"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{file} cannot be read ({error}); move it away") from None


def write(file: Path, runs: dict[str, Any]) -> None:
    """Replace a SCALE.json in one move: a line per run, the same runs give the same bytes."""
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(run)}" for name, run in runs.items())
    write_atomically(file, f'{{"runs": {{\n{lines}\n}}}}\n'.encode())


def metrics(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
    except OSError:
        return []
    rows = []
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:  # torn by a kill
            continue
    return rows
