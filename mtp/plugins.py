"""Python files of the user's own, named on the command line: head types, token weights, studies."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

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
    except Exception as error:
        del sys.modules[name]
        lines = [entry.lineno for entry in _frames(error) if entry.filename == str(path)]
        where = f"{file}, line {lines[-1]}" if lines else str(file)
        raise BadInput(f"{where}: {type(error).__name__}: {error}") from error
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


def _frames(error: Exception) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))
