"""Train a model: one config, one folder, resumable at any moment.

    python -m mtp.train --run runs/first tokens=2e6 model.n=4 data.source=files:texts
    torchrun --nproc-per-node 8 -m mtp.train -- --run runs/first ...     (with the --)
    python -m mtp.train --run runs/tuned init=runs/first ...             (mtp/training/finetune.py)

SIGTERM, SIGUSR1, SIGUSR2 and Ctrl-C save at the end of the step and leave; the same command
continues. So does a run that was killed: it ends with the weights of an uninterrupted one, bit for
bit on a CPU.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mtp.config import TrainConfig
from mtp.errors import BadInput, exit_cleanly
from mtp.files import parse_json
from mtp.overrides import from_dict
from mtp.training import finetune
from mtp.training.run import train
from mtp.training.signals import Interrupted


@exit_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mtp.train", description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--config", type=Path, help="a config.json to start from")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are built")
    parser.add_argument("overrides", nargs="*", metavar="field=value", help="e.g. model.n=4")
    args = parser.parse_args()
    own = args.run / "config.json"  # a run that has begun continues with what it began with
    file = args.config or (own if own.exists() else None)
    values: dict[str, Any] = {"tokens": 1e6}
    if file:
        try:
            values = parse_json(file.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"config {file} cannot be read: {error}") from None
    assigned = {text.partition("=")[0].strip() for text in args.overrides}
    for budget, other in (("epochs", "tokens"), ("tokens", "epochs")):
        if budget in assigned and other not in assigned and isinstance(values, dict):
            values |= {budget: 1, other: 0}
    config = finetune.override_from_start(from_dict(TrainConfig, values), args.overrides, args.run)
    try:
        train(config, args.run, args.data)
    except Interrupted as stopped:
        print(f"{stopped}; the same command continues", file=sys.stderr)
        sys.exit(128 + stopped.signum)


if __name__ == "__main__":
    main()
