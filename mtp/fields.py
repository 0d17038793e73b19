"""All fields of a run's config, with types, defaults and meanings, from the dataclasses alone.

python -m mtp.fields > docs/configuration.md
"""

import dataclasses
import re
import textwrap
import typing
from typing import Any, Literal, get_args, get_origin

from mtp.command_line import new_parser
from mtp.config import CorpusConfig, Execution, ModelConfig, TrainConfig
from mtp.errors import exit_cleanly
from mtp.objective_config import ObjectiveConfig


def table() -> list[tuple[str, list[tuple[str, str, str, str]]]]:
    """(heading, [(field on a command line, type, default, meaning)])."""
    own = [f for f in dataclasses.fields(TrainConfig) if f.name not in _names(Execution)]
    own = [f for f in own if f.name not in ("model", "data", "objective")]
    return [
        ("Model (model.FIELD)", _rows(ModelConfig, "model.", dataclasses.fields(ModelConfig))),
        ("Data (data.FIELD)", _rows(CorpusConfig, "data.", dataclasses.fields(CorpusConfig))),
        (
            "Objective (objective.FIELD)",
            _rows(ObjectiveConfig, "objective.", dataclasses.fields(ObjectiveConfig)),
        ),
        ("Training", _rows(TrainConfig, "", own)),
        (
            "Execution: may change when a run continues, and does not define it",
            _rows(Execution, "", dataclasses.fields(Execution)),
        ),
    ]


def as_text(width: int = 80) -> str:
    """The table for --help."""
    lines = []
    for heading, rows in table():
        lines += ["", heading]
        for name, kind, default, meaning in rows:
            start = f"  {name}={default}  ({kind})"
            lines += [start, *textwrap.wrap(meaning, width - 6, initial_indent=" " * 6,
                                            subsequent_indent=" " * 6)]  # fmt: skip
    return "\n".join(lines[1:])


def as_markdown() -> str:
    """The table as docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "All fields of a run, as `python -m mtp.train --help` prints them. For mtp.train write",
        "`field=value`, for a study `--set field=value`. This page is written by",
        "`python -m mtp.fields > docs/configuration.md`.",
    ]
    for heading, rows in table():
        lines += [
            "",
            f"## {heading}",
            "",
            "| Field | Type | Default | Meaning |",
            "|---|---|---|---|",
        ]
        for name, kind, default, meaning in rows:
            cells = (f"`{name}`", kind, f"`{default}`" if default else "", meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def meanings(cls: type) -> dict[str, str]:
    """Field -> meaning, from the lines "name  meaning" of a config's docstring. A line may name
    several fields with commas."""
    found, current = dict[str, str](), list[str]()
    for line in (cls.__doc__ or "").splitlines():
        started = re.match(r"    (\w+(?:, \w+)*)  +(\S.*)", line)
        if started:
            current = started[1].split(", ")
            found |= dict.fromkeys(current, started[2])
        elif line.startswith("     ") and current:
            for name in current:
                found[name] += " " + line.strip()
        else:
            current = []
    return found


def _rows(cls: Any, prefix: str, fields: Any) -> list[tuple[str, str, str, str]]:
    hints, meaning = typing.get_type_hints(cls), meanings(cls)
    return [
        (prefix + f.name, _kind(hints[f.name]), _plain(f.default), meaning[f.name]) for f in fields
    ]


def _names(cls: Any) -> set[str]:
    return {f.name for f in dataclasses.fields(cls)}


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " | ".join(map(str, get_args(hint)))
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true or false"}[
        hint.__name__
    ]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@exit_cleanly
def main() -> None:
    new_parser("mtp.fields", __doc__).parse_args()
    print(as_markdown(), end="")


if __name__ == "__main__":
    main()
