"""What every command line of the project starts from."""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from mtp.errors import choose
from mtp.hardware import PRECISIONS, default_device, use_device

COMMITTED = Path("results")
MINE = Path("results/mine")  # a user's own rows and figures; git ignores it


def has_terminal() -> bool:
    """Whether a progress bar can be drawn: stderr is a terminal whose width is known."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def new_parser(
    module: str, description: str | None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE` that prints `description`, the module's docstring, and
    `epilog` as they are written."""
    return Parser(
        prog=f"python -m {module}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_out(parser: argparse.ArgumentParser, name: str) -> None:
    """--out and --renew, for `out_of`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=Path, help=f"folder of the rows (results/mine/{name})")
    where.add_argument(
        "--renew", action="store_true", help=f"write to results/{name}, the committed rows"
    )
    parser.set_defaults(name=name)


def out_of(args: argparse.Namespace) -> Path:
    """The folder that a command writes its rows to."""
    return args.out or (COMMITTED if args.renew else MINE) / args.name


def add_device(parser: argparse.ArgumentParser, timed: bool = False) -> None:
    """--device and --precision, for `device_of`. Where something is timed, a GPU's default is bf16,
    in which models are decoded in practice."""
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is a GPU)")
    default = "bf16 on a GPU, else float32" if timed else "float32"
    parser.add_argument("--precision", help=f"float32 or bf16, of the weights (default: {default})")
    parser.set_defaults(timed=timed)


def device_of(args: argparse.Namespace) -> tuple[str, str]:
    """The device and the precision to compute in. Raises BadInput for what is not here."""
    if args.precision:
        choose("precision", args.precision, PRECISIONS)
    device = use_device(args.device) if args.device else default_device()
    return device, args.precision or default_precision(device, args.timed)


def default_precision(device: str, timed: bool) -> str:
    """Where speed is measured, that of decoding in practice; where likelihoods are, the exact one.
    float32 is IEEE's: TF32 stays off, as is torch's default."""
    return "bf16" if timed and device != "cpu" else "float32"
