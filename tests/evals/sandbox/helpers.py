"""What the tests of the sandbox share: jobs, and whether walls of a kind work here."""

from functools import cache
from pathlib import Path

import pytest

from evals.sandbox.runner import FunctionJob, Job, Limits, Result, ScriptJob, run_all
from mtp.errors import BadInput
from tests.evals.sandbox.asked import CASES, NAMES, TESTS

ROOT = Path(__file__).parents[3]
SHORT = Limits(cpu=1, wall=2.0)


@cache
def why_not(walls: str) -> str:
    """Why walls of a kind do not work here; empty if they do."""
    try:
        list(run_all([], 1, allow_unsandboxed=True, walls=walls))
    except BadInput as error:
        return str(error)
    return ""


def need(walls: str = "bubblewrap") -> None:
    """Skip the test where these walls do not work."""
    if why := why_not(walls):
        pytest.skip(why)


def judged(job: Job, limits: Limits | None = None) -> Result:
    need()
    (result,) = run_all([job], 1, limits)
    return result


def functions(program: str) -> FunctionJob:
    return FunctionJob(program, TESTS, NAMES)


def scripts(program: str) -> ScriptJob:
    return ScriptJob(program, CASES)
