"""Python files of the user's own, named on the command line: head types, token weights, studies."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from mtp.errors import BadInput


def load_file(file: Path) -> ModuleType:
    """The module in a file, executed once per process. Its folder may hold modules that it imports.
    Raises BadInput, with the line that failed, if there is no such file or it cannot be run."""
    if not file.is_file():
        raise BadInput(f"{file}: no such file")
    path = file.resolve()
    name = f"mtp_user_{path.stem}_{abs(hash(str(path))):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader, file
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BadInput as error:
        del sys.modules[name]
        raise BadInput(f"{file}: {error}") from error
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise BadInput(f"{file}{what_failed(error, path)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def file_of(name: str) -> Path | None:
    """The file behind FILE.py:NAME or MODULE:NAME; None if it has none or cannot be found."""
    module = name.rpartition(":")[0]
    if module.endswith(".py"):
        return Path(module)
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def what_failed(error: BaseException, file: Path | None) -> str:
    """ ", line 7: ValueError: message" of an error in a user's file, in one line. The line is left
    out if the error did not pass through the file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [each.lineno for each in frames if file and each.filename == str(file.resolve())]
    where = f", line {lines[-1]}" if lines else ""
    message = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(": ")
    return f"{where}: {message[:LONGEST]}"


LONGEST = 500  # characters of an error's message; compilers write pages


class Tables:
    """Tables that users' files add rows to. A file cannot change a row that the project or an
    earlier file has put there: other models in the process would change with it."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Any]] = {}
        self.before: dict[str, dict[str, Any]] = {}  # the rows as the file finds them
        self.taken: dict[str, set[str]] = {}

    def guard(self, name: str, table: dict[str, Any]) -> None:
        """Guard the rows that the table has now. `name` is what messages call it."""
        self.tables[name], self.before[name], self.taken[name] = table, dict(table), set(table)

    def run(self, file: Path) -> dict[str, dict[str, Any]]:
        """Run a file; returns the rows that it sets, by the name of their table. Raises BadInput
        if it fails or changes a guarded row; then the tables are as before."""
        self.before = {name: dict(table) for name, table in self.tables.items()}
        try:
            module = load_file(file)
            found = {name: self._set(name) for name in self.tables}
            for name, rows in found.items():
                if changed := sorted(set(rows) & self.taken[name] & set(self.before[name])):
                    sys.modules.pop(module.__name__)
                    raise BadInput(
                        f"{file} changes {name}[{changed[0]!r}], which others use; choose a name "
                        f"that is not taken: {', '.join(self.before[name])} are"
                    )
        except BadInput:
            for name, table in self.tables.items():
                table.clear()
                table.update(self.before[name])
            raise
        for name, rows in found.items():
            self.taken[name] |= set(rows)
        return found

    def _set(self, name: str) -> dict[str, Any]:
        now, before = self.tables[name], self.before[name]
        names = [*now, *(row for row in before if row not in now)]  # deleted ones too
        return {row: now.get(row) for row in names if now.get(row) is not before.get(row)}
