"""Train a model: one config, one folder, resumable at any moment.

    python -m mtp.train --run runs/first tokens=2e6 model.n=4 data.source=files:texts
    torchrun --nproc-per-node 8 -m mtp.train -- --run runs/first ...     (with the --)
    python -m mtp.train --run runs/tuned init=runs/first ...             (mtp/training/finetune.py)

On SIGTERM, SIGUSR1, SIGUSR2 or Ctrl-C the run saves at the end of the step and exits with code 128
plus the signal's number (130 for Ctrl-C); the same command continues it. A killed run continues
too, from its last checkpoint, and ends with the same weights as an uninterrupted one, bit for bit
on a CPU.
"""

import sys
from pathlib import Path
from typing import Any

from mtp import fields
from mtp.command_line import new_parser
from mtp.config import TrainConfig
from mtp.data.sources import open_source
from mtp.errors import BadInput, exit_cleanly
from mtp.files import parse_json
from mtp.overrides import from_dict
from mtp.training import finetune
from mtp.training.rank import is_first_rank
from mtp.training.signals import Interrupted


@exit_cleanly
def main() -> None:
    parser = new_parser("mtp.train", __doc__, epilog=f"fields:\n\n{fields.as_text()}")
    parser.add_argument("--run", type=Path, required=True, help="the run's folder")
    parser.add_argument("--config", type=Path, help="a config.json to start from")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are built")
    parser.add_argument(
        "overrides", nargs="*", metavar="field=value", help="e.g. model.n=4; all fields are below"
    )
    args = parser.parse_args()
    config = config_of(args.run, args.config, args.overrides)
    open_source(config.data.source, args.data)  # refuses an unknown or missing one
    from mtp.training.run import train  # torch takes a second to import

    try:
        train(config, args.run, args.data)
    except Interrupted as stopped:
        print(f"{stopped}; the same command continues", file=sys.stderr)
        sys.exit(128 + stopped.signum)
    if is_first_rank():
        decode = f'python -m mtp.decode --checkpoint {args.run} --prompt "..."'
        print(f"{args.run} is trained; next: {decode}")


def config_of(run: Path, file: Path | None, overrides: list[str]) -> TrainConfig:
    """The config of a run: `file`'s, or the one that the run began with, or the default, with the
    overrides applied. A budget in epochs replaces one in tokens, and the other way round. Raises
    BadInput for a new run without a budget: nobody has said how long it should train."""
    if file is None and (run / "config.json").exists():
        file = run / "config.json"
    values: dict[str, Any] = {"tokens": 1}  # until the budget is set, below
    if file:
        try:
            values = parse_json(file.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"config {file} cannot be read: {error}") from None
    assigned = {text.partition("=")[0].strip() for text in overrides}
    for budget, other in (("epochs", "tokens"), ("tokens", "epochs")):
        if budget in assigned and other not in assigned and isinstance(values, dict):
            values |= {budget: 1, other: 0}
    config = finetune.override_from_start(
        from_dict(TrainConfig, values, f"{file}: " if file else ""), overrides, run
    )
    if file is None and not assigned & {"tokens", "epochs"}:
        raise BadInput(f"{run} is not a run; set tokens= or epochs= to start one")
    return config


if __name__ == "__main__":
    main()
