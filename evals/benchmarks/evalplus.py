"""HumanEval+ and MBPP+ (Liu et al. 2023): the problems with many more inputs.

Their files hold inputs and a reference, and no results. A program is right if it gives what the
reference gives, on the first inputs and the extra ones, by the rules of
evals/benchmarks/plus_rules.py. The reference and the rules are trusted: they run in the judge, and
the program does not see them. The contracts in the files are not used, as in EvalPlus itself: all
inputs keep them.

Arguments are JSON there, so MBPP+ has lists in place of tuples and sets. `AS_MEANT` restores them
for the problems that EvalPlus restores them for.
"""

import keyword
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from evals.benchmarks import plus_rules, programs
from evals.harness.problems import Dataset, Problem, Source, field
from evals.sandbox.runner import FunctionJob
from mtp.errors import BadInput

NAMES = {"humaneval": "HumanEvalPlus", "mbpp": "MbppPlus"}
VERSIONS = {"humaneval": "v0.1.10", "mbpp": "v0.2.0"}  # in the names of EvalPlus's own cache
RELEASES = {
    "humaneval": "https://github.com/evalplus/humanevalplus_release/releases",
    "mbpp": "https://github.com/evalplus/mbppplus_release/releases",
}
RULES = Path(plus_rules.__file__).read_text(encoding="utf-8")
SETUP = """\
space_ = {{"__name__": "rules"}}
exec({rules!r}, space_)
check_ = space_["checker"](*{given})
"""

Arguments = list[Any]


def load(kind: str, source: Source) -> Dataset:
    """The problems of `kind`, humaneval or mbpp. Raises BadInput without EvalPlus's file."""
    name = NAMES[kind]
    files = [
        f"{stem}.jsonl{end}" for stem in (name, f"{name}-{VERSIONS[kind]}") for end in ("", ".gz")
    ]
    try:
        read = source.read(files[0], "", None, files[1:])
    except BadInput as error:
        if any(map(source.has, files)):
            raise
        raise BadInput(f"{error}; EvalPlus releases it: {RELEASES[kind]}") from None
    return dataset(kind, *read)


def dataset(kind: str, records: Iterable[Mapping[str, Any]], origin: str) -> Dataset:
    return Dataset(tuple(problem(kind, record, origin) for record in records), (), origin)


def problem(kind: str, record: Mapping[str, Any], origin: str) -> Problem:
    """One record. Its `about` has the prompt, the function's name and the setup of its tests."""
    name = str(record.get("task_id"))
    where = f"{origin}: problem {name}"
    prompt, entry, solution = (
        field(record, text, where) for text in ("prompt", "entry_point", "canonical_solution")
    )
    atol = record.get("atol")
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not 0 <= atol < math.inf:
        raise BadInput(f"{where} has no 'atol' that is a number from 0 on")
    if not entry.isidentifier() or keyword.iskeyword(entry):
        raise BadInput(f"{where} has an 'entry_point' that is not a name: {entry!r}")
    try:
        compile(prompt + solution, "reference", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise BadInput(f"{where}: prompt and canonical_solution are not Python ({error})") from None
    groups = tuple(
        inputs(kind, name, field(record, group, where, list), f"{where}: {group}")
        for group in ("base_input", "plus_input")
    )
    given = programs.constant((entry, prompt + solution, groups, kind, float(atol)))
    setup = SETUP.format(rules=RULES, given=given)
    about = {"prompt": prompt, "entry_point": entry, "setup": setup}
    about["reference"] = prompt + solution
    shown = prompt if kind == "humaneval" else prompt.strip() + "\n"
    return Problem(name, {"prompt": shown}, about)


def job(problem: Problem, program: str) -> FunctionJob:
    """The job of a whole program."""
    entry = problem.about["entry_point"]
    about = problem.about
    return FunctionJob(
        program,
        f"check_({entry})\n",
        (entry,),
        about["setup"],
        reference=about["reference"],
        objects=False,
    )


# --------------------------------------------------------------------------------------------------
# arguments


def inputs(kind: str, name: str, found: list[Any], where: str) -> list[tuple[Any, ...]]:
    """Lists of arguments, each as the reference wants it."""
    number = name.rpartition("/")[2]
    change = AS_MEANT.get(int(number)) if kind == "mbpp" and number.isdecimal() else None
    if not all(isinstance(arguments, list) for arguments in found):
        raise BadInput(f"{where} has an item that is not a list of arguments")
    try:
        return [tuple(change(arguments) if change else arguments) for arguments in found]
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadInput(f"{where} has arguments of another form ({error})") from None


def deep(value: Any) -> Any:
    """All lists as tuples."""
    return tuple(map(deep, value)) if isinstance(value, list) else value


def first(arguments: Arguments) -> Arguments:
    return [tuple(arguments[0]), *arguments[1:]]


def second(arguments: Arguments) -> Arguments:
    return [arguments[0], tuple(arguments[1])]


def each(arguments: Arguments) -> Arguments:
    return [tuple(argument) for argument in arguments]


def in_each(arguments: Arguments) -> Arguments:
    """Each argument is a list of tuples."""
    return [[tuple(item) for item in argument] for argument in arguments]


def in_first(arguments: Arguments) -> Arguments:
    return [[tuple(item) for item in arguments[0]], *arguments[1:]]


def both(arguments: Arguments) -> Arguments:
    """Each argument is a tuple of tuples."""
    return each(in_each(arguments))


def mixed(arguments: Arguments) -> Arguments:
    """The first argument is a tuple, and so are the lists in it."""
    return [tuple(tuple(x) if isinstance(x, list) else x for x in arguments[0])]


def sets(arguments: Arguments) -> Arguments:
    """A list of sets; an empty one is given as a dict, as in MBPP itself."""
    return [[set(x) if isinstance(x, list) and x else {} for x in arguments[0]]]


def in_values(arguments: Arguments) -> Arguments:
    return [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]


def polar(arguments: Arguments) -> Arguments:
    return [float(arguments[0]), complex(arguments[1])]


def number(arguments: Arguments) -> Arguments:
    return [complex(arguments[0])]


def _table() -> dict[int, Callable[[Arguments], Arguments]]:
    forms: tuple[tuple[Callable[[Arguments], Arguments], tuple[int, ...]], ...] = (
        (each, (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616,
                630, 726, 740, 744, 809)),
        (in_each, (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780)),
        (in_first, (75, 413, 444, 753)),
        (first, (250, 307, 405, 446, 617, 720, 763, 808)),
        (second, (106, 750)),
        (both, (259, 401, 445)),
        (deep, (580, 615, 791)),
        (mixed, (278,)),
        (sets, (115,)),
        (in_values, (722,)),
        (polar, (124,)),
        (number, (252,)),
    )  # fmt: skip
    return {task: form for form, tasks in forms for task in tasks}


AS_MEANT = _table()
