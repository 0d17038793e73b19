"""runs/index.tsv: which study each run folder belongs to, and what tells it from the others."""

from pathlib import Path

from mtp.errors import BadInput
from mtp.files import write_atomically
from mtp.locks import locked

HEADER = "run\tstudy\tscale\tarm"


def add(runs: Path, study: str, label: str, arms: dict[str, str]) -> Path:
    """Put a study's runs (folder's name -> arm) into the index; lines of others stay."""
    file = runs / "index.tsv"
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot create {runs}: {error.strerror}") from None
    with locked(runs / ".index.lock"):
        lines = file.read_text().splitlines()[1:] if file.exists() else []
        own = f"\t{study}\t{label}\t"
        lines = [line for line in lines if own not in line]
        lines += [f"{run}{own}{arm}" for run, arm in arms.items()]
        write_atomically(file, "\n".join([HEADER, *sorted(lines)]).encode() + b"\n")
    return file
