"""What every command line of the project starts from."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that reports a mistake in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def new_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE` that prints `description`, the module's docstring, as it is
    written."""
    return Parser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
