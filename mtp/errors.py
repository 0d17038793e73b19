"""A user's mistakes, reported in one line.

Whatever a user can get wrong (a config, a file, a checkpoint, an argument) raises BadInput with a
message that names the culprit and what is allowed. Command lines wrap their main in `exit_cleanly`,
which prints that line and exits with code 2, the conventional status for bad usage.
"""

import errno
import functools
import os
import signal
import sys
from collections.abc import Callable


class BadInput(Exception):
    """The user's input is unusable; the message is one line: culprit, then what is allowed."""


def choose(kind: str, name: str, allowed: object) -> None:
    """Raise BadInput unless `name` is one of `allowed`."""
    names = list(allowed)  # pyright: ignore[reportArgumentType]
    if name not in names:
        raise BadInput(f"unknown {kind} {name!r}; choose one of: {', '.join(map(str, names))}")


def exit_cleanly(main: Callable[[], object]) -> Callable[[], None]:
    """Wrap a command line's main: BadInput and a full disk become one line and exit code 2, Ctrl-C
    becomes one line and exit code 130."""

    @functools.wraps(main)
    def wrapped() -> None:
        try:
            main()
        except BadInput as error:
            sys.exit(_fail(str(error)))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:  # the reader of our output has closed it
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)  # it has what it wanted
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            sys.exit(_fail(f"no space left on the disk that holds {error.filename or 'the run'}"))

    return wrapped


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
