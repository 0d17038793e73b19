"""What Slurm's jobs ask for: slurm.toml in the working folder, then --slurm FIELD=VALUE."""

import dataclasses
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtp.errors import BadInput
from mtp.overrides import from_dict, override

OWN = {  # sbatch's options that have a field here, and the field
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint",
    "gres": "gres", "reservation": "reservation", "exclude": "exclude", "time": "hours",
    "nodes": "nodes", "gpus-per-node": "gpus", "ntasks-per-node": "tasks", "cpus-per-task": "cpus",
    "mem": "memory_gb", "signal": "warn_seconds",
}  # fmt: skip
LAUNCHERS_OWN = ("array", "error", "output", "open-mode", "requeue", "kill-on-invalid-dep")


@dataclass(frozen=True)
class SlurmOptions:
    """The options of sbatch, and of the launcher.

    hours         time limit of a job
    nodes         for each run
    gpus          on each node; 0: the jobs run on CPUs
    tasks         processes on each node; 0: one for each GPU, at least one
    cpus          cores for each process
    memory_gb     of each node; 0: what the model needs (experiments/launch/needs.py)
    parallel      how many of the study's runs at a time
    warn_seconds  before the time limit, when Slurm tells the job to save; 0: long enough for the
                  largest run to save (experiments/launch/needs.py)
    setup         lines of shell that run before each job, such as "module load cuda"
    extra         any other option of sbatch by its name; True for one without a value
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = ""
    reservation: str = ""
    exclude: str = ""
    hours: float = 24.0
    nodes: int = 1
    gpus: int = 1
    tasks: int = 0
    cpus: int = 8
    memory_gb: int = 0
    parallel: int = 64
    warn_seconds: int = 0
    setup: tuple[str, ...] = ()
    extra: dict[str, str | bool] = dataclasses.field(default_factory=dict)

    @property
    def tasks_per_node(self) -> int:
        return self.tasks or max(1, self.gpus)

    @property
    def world(self) -> int:
        """Processes that train one run."""
        return self.nodes * self.tasks_per_node

    @property
    def minutes(self) -> int:
        """The time limit as sbatch takes it."""
        return max(1, round(60 * self.hours))


def slurm_options(assignments: list[str], file: Path = Path("slurm.toml")) -> SlurmOptions:
    """The options of the file, with "field=value" assignments applied. Assignments to `setup` add
    a line each; "extra.NAME=VALUE" sets sbatch's --NAME. Raises BadInput for what is unusable."""
    try:
        values = tomllib.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} cannot be read: {error}") from None
    lines = _lines(values.pop("setup", []), file)
    extra = _extra(values.pop("extra", {}), file)
    plain = list[str]()
    for text in assignments:
        name, equals, value = text.partition("=")
        name = name.strip()
        if name == "setup" and equals:
            lines.append(value)
        elif name.startswith("extra."):
            extra |= _extra({name.removeprefix("extra."): value}, f"--slurm {text}")
        elif name == "extra":
            raise BadInput(f"--slurm {text}: write extra.NAME=VALUE for sbatch's --NAME=VALUE")
        else:
            if equals:
                _must_be_field(name)
            plain.append(text)
    options = override(from_dict(SlurmOptions, values, f"{file}: "), plain)
    options = dataclasses.replace(options, setup=tuple(lines), extra=extra)
    _check(options)
    return options


def _must_be_field(name: str) -> None:
    if name not in (names := [f.name for f in dataclasses.fields(SlurmOptions)]):
        raise BadInput(f"unknown --slurm field {name!r}; choose one of {', '.join(names)}")


def _lines(value: Any, file: Path) -> list[str]:
    lines = [value] if isinstance(value, str) else value
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise BadInput(f"{file}: setup is {value!r}; it must be a list of lines")
    return list(lines)


def _extra(values: Any, where: object) -> dict[str, str | bool]:
    """Options by sbatch's spelling, with hyphens. An empty value or `true` is an option without a
    value; `false` leaves it out."""
    if not isinstance(values, dict):
        raise BadInput(f"{where}: extra is {values!r}; it must be a table of sbatch's options")
    found = dict[str, str | bool]()
    for key, value in values.items():
        name = key.removeprefix("--").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
            raise BadInput(f"{where}: extra.{key} is not the name of an option of sbatch")
        if name in OWN:
            raise BadInput(f"{where}: extra.{key} has a field of its own: {OWN[name]}")
        if name in LAUNCHERS_OWN:
            raise BadInput(f"{where}: extra.{key} is the launcher's; leave it out")
        if not isinstance(value, str | int | float):
            raise BadInput(f"{where}: extra.{key} is {value!r}; it must be a word or a number")
        if value is False:
            continue
        found[name] = value is True or str(value) or True
    return found


def _check(options: SlurmOptions) -> None:
    for name in ("nodes", "cpus", "parallel"):
        if getattr(options, name) < 1:
            raise BadInput(f"slurm's {name} is {getattr(options, name)}; it must be at least 1")
    for name in ("gpus", "tasks", "memory_gb", "warn_seconds"):
        if getattr(options, name) < 0:
            raise BadInput(f"slurm's {name} is {getattr(options, name)}; it must be at least 0")
    if options.hours <= 0:
        raise BadInput(f"slurm's hours is {options.hours:g}; it must be above 0")
    if options.gpus and options.tasks > options.gpus:
        raise BadInput(
            f"slurm's tasks is {options.tasks} with gpus={options.gpus}; each process needs a GPU "
            "of its own, so tasks must be at most gpus"
        )


def of_one_process(options: SlurmOptions) -> SlurmOptions:
    """The same for a job of one process on one node, with one GPU if there are any."""
    gres = re.sub(r"\bgpu((?::[A-Za-z]\w*)?):\d+", r"gpu\1:1", options.gres)
    gpus = min(1, options.gpus)
    return dataclasses.replace(options, nodes=1, tasks=1, gpus=gpus, gres=gres)


def sbatch_options(options: SlurmOptions, words: Iterable[str]) -> dict[str, str]:
    """The fields of these names that are set."""
    return {word: value for word in words if (value := getattr(options, word))}
