"""What every command line of the project starts from."""

import argparse


def new_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """A parser for `python -m MODULE` that prints `description`, the module's docstring, as it is
    written."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
