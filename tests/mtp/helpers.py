"""Command lines in processes that start fast."""

import importlib
import os
import sys
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path


def start_command(
    processes: ForkServerContext, module: str, arguments: list[str], out: object, err: Path
) -> BaseProcess:
    """Start `python -m MODULE ARGUMENTS` in a process that does not have to import torch, with
    stdout and stderr to files or terminals."""
    process = processes.Process(target=_run, args=(module, arguments, str(out), str(err)))
    process.start()
    return process


def _run(module: str, arguments: list[str], out: str, err: str) -> None:
    for path, descriptor in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
