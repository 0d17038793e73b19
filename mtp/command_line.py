"""What every command line of the project starts from."""

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

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
