"""What a command changes of a study's runs: --set, --seeds and --n.

Changed runs have rows and figures of their own, beside the study's:
results/mine/sweep-n/cpu-lr=0.01.csv. Several values of a field (--set lr=1e-3,4e-3) are as many
variations, each with its own file, and end in a comparison.
"""

import dataclasses
import hashlib
import itertools
import re
from dataclasses import dataclass

from mtp.config import TrainConfig
from mtp.errors import BadInput
from mtp.overrides import EXECUTION, override

WITH_COMMAS = ("data.source", "model.rope_scaling", "init", "log_to")  # in one value


@dataclass(frozen=True)
class Changes:
    """overrides: "field=value", one value each. seeds, n: replace the study's own, if any."""

    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    n: tuple[int, ...] = ()

    def fields(self) -> dict[str, str]:
        """Field -> its new value as text, without those of a run's execution."""
        pairs = (text.partition("=")[::2] for text in self.overrides)
        last = {name.strip(): value for name, value in pairs}
        return {name: value for name, value in sorted(last.items()) if name not in EXECUTION}

    @property
    def text(self) -> str:
        """What is changed, for rows, captions and tables: "lr=0.01, model.n=2"; "" if nothing."""
        return ", ".join(f"{name}={_plainly(name, value)}" for name, value in self.fields().items())

    def label(self, scale: str) -> str:
        """The name of the rows' file: "cpu", "cpu-lr=0.01", "cpu-seeds=0,1,2"."""
        fields = self.fields().items()
        parts = [f"{name}={_plainly(name, value)}" for name, value in fields]
        parts.sort(key=lambda part: len(part) > 30)  # long ones may be cut
        for name in ("seeds", "n"):
            if values := getattr(self, name):
                parts.append(f"{name}={','.join(map(str, values))}")
        if not parts:
            return scale
        text = ",".join(parts)
        readable = re.sub(r"[^\w.=,+-]+", "-", text)[:60]
        if readable != text:
            readable += "-" + hashlib.sha256(text.encode()).hexdigest()[:6]
        return f"{scale}-{readable}"


NOTHING = Changes()


def variations(assignments: list[str], seeds: str, n: str) -> list[Changes]:
    """The changes that --set, --seeds and --n ask for: one for each combination of values."""
    every = []
    for text in assignments:
        name, equals, value = text.partition("=")
        several = [value] if name.strip() in WITH_COMMAS else value.split(",")
        every.append([f"{name}{equals}{one}" for one in several])
    numbers = whole_numbers("--seeds", seeds, 0), whole_numbers("--n", n, 1)
    return [Changes(tuple(one), *numbers) for one in itertools.product(*every)]


def whole_numbers(flag: str, text: str, least: int) -> tuple[int, ...]:
    """ "0,1,2" as numbers; none of "". Raises BadInput for other text."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) >= least for part in parts):
        raise BadInput(f"{flag} is {text!r}; it takes whole numbers from {least} on, with commas")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _plainly(name: str, value: str) -> str:
    """A value as its field holds it, so that 1e-2 and 0.01 are the same."""
    default = TrainConfig(tokens=1)
    if name == "epochs":
        default = dataclasses.replace(default, tokens=0, epochs=1)
    parent, _, last = name.rpartition(".")
    try:
        config = override(default, [f"{name}={value}"])
    except BadInput:  # it needs other fields too; the runs' own configs decide
        return value
    found = getattr(getattr(config, parent) if parent else config, last)
    return f"{found:g}" if isinstance(found, float) else str(found)
