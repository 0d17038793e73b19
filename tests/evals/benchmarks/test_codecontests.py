"""CodeContests: hand-written records of its format, right and wrong programs."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evals.benchmarks import apps, codecontests
from evals.harness.problems import Dataset, Problem, Source
from mtp.data.pairs import read_records
from mtp.errors import BadInput
from tests.evals.benchmarks.contests import DEEP, judged, shown
from tests.evals.benchmarks.test_apps import TASKS

CONTEST: dict[str, Any] = {
    "name": "1_A. Sum",
    "description": "Print the sum of two numbers.\n\nInput\n\n2 numbers {a}  ",
    "public_tests": {"input": ["1 1\n"], "output": ["2\n"]},
    "private_tests": {"input": ["1 2\n"], "output": ["3\n"]},
    "generated_tests": {"input": ["2 2\n", "10 20\n"], "output": ["4\n", "30\n"]},
    "source": 2,
    "difficulty": 7,
    "solutions": {
        "language": [3, 2, 1, 3, 3],
        "solution": ["print(1)\r\n", "int main() {}", "print 1", "print(2)", " \n"],
    },
    "incorrect_solutions": {"language": [3, 4], "solution": ["print(3)", "class A {}"]},
    "time_limit": {"seconds": 1, "nanos": 500_000_000},
    "input_file": "",
    "output_file": "",
}
NOTHING = {"input": [], "output": []}
CONTESTS = [
    CONTEST,
    CONTEST | {"name": "slow", "time_limit": {"seconds": 11, "nanos": 1}},
    CONTEST | {"name": "files", "input_file": "sum.in"},
    CONTEST | {"name": "shown", "private_tests": NOTHING, "generated_tests": NOTHING},
    CONTEST | {"name": "no limit", "time_limit": None},
]

ADD = "a, b = map(int, input().split())\n"
PROGRAMS = {  # for CONTEST
    f"{ADD}print(a + b)": "passed",
    f"{ADD}print(); print(float(a + b), end=' ')": "passed",
    f"{ADD}print(a + b if a < 10 else 0)": "failed",  # on the last of the generated tests
    f"{ADD}print(a + b)\nraise SystemExit(3)": "failed",
    f"{ADD}print(a + b, a + b)": "failed",
    "import os; os._exit(0)": "failed",
    "exit()": "failed",
    "print('passed')": "failed",
    "while True: print('3' * 1000)": "failed",
    "while True: pass": "timed out",
    "print(": "failed",
    "": "failed",
}


def test_codecontests_asks_for_right_programs() -> None:
    data = codecontests.dataset(CONTESTS, "records")
    left_out = "2 problems without hidden tests or with files left out"
    assert data.origin == f"records, {left_out}"
    assert [p.about["cpu"] for p in data.problems] == [10, 12, 10]
    assert data.problems[0].about["cases"][0] == ("1 2\n", "3\n")
    assert len(data.problems[0].about["cases"]) == 3
    texts = shown(codecontests.CODECONTESTS, data, codecontests.PROTOCOL)
    assert texts["codecontests/0"] == (
        "# LANGUAGE IS python3\n# CORRECT SOLUTION\n"
        "# Print the sum of two numbers.\n#\n# Input\n#\n# 2 numbers {a}\n"
    )


def test_codecontests_programs_are_judged_on_hidden_tests() -> None:
    problem = codecontests.dataset(CONTESTS, "records").problems[0]
    about = {**problem.about, "cpu": 1}
    found = judged(
        codecontests.CODECONTESTS, Problem(problem.id, problem.fields, about), list(PROGRAMS)
    )
    assert dict(zip(PROGRAMS, found, strict=True)) == PROGRAMS


def test_a_slow_program_may_take_its_contests_time() -> None:
    problem = codecontests.dataset(CONTESTS, "records").problems[0]
    slow = f"import time\n{ADD}while a == 1 and time.process_time() < 1.5: pass\nprint(a + b)"
    for cpu, verdict in ((1, "timed out"), (4, "passed")):
        about = {**problem.about, "cpu": cpu}
        made = Problem(problem.id, problem.fields, about)
        assert judged(codecontests.CODECONTESTS, made, [slow]) == [verdict]


def test_a_record_that_lacks_something_is_reported() -> None:
    for wrong, reported in (
        ({"private_tests": None}, "no 'private_tests' of type dict"),
        ({"private_tests": {"input": ["1"], "output": []}}, "has 1 input and 0 output"),
        ({"description": 3}, "no 'description' of type str"),
    ):
        with pytest.raises(BadInput, match=reported):
            codecontests.dataset([CONTEST | wrong], "records")


def write_pairs(monkeypatch: pytest.MonkeyPatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["codecontests", *map(str, args)])
    codecontests.main()


def test_pairs_are_the_python_3_solutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, made = tmp_path / "train.jsonl", tmp_path / "pairs.jsonl"
    train.write_text(json.dumps(CONTEST) + "\n", encoding="utf-8")
    write_pairs(monkeypatch, "--train", train, "--pairs", made)
    data = codecontests.dataset([CONTEST], "records")
    (asked,) = shown(codecontests.CODECONTESTS, data, codecontests.PROTOCOL).values()
    assert list(read_records(made)) == [(asked, "", "print(1)\n"), (asked, "", "print(2)")]
    write_pairs(monkeypatch, "--train", train, "--pairs", made, "--incorrect")
    wrong = asked.replace("# CORRECT", "# INCORRECT")
    assert list(read_records(made))[2:] == [(wrong, "", "print(3)")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pairs.jsonl", "train.jsonl"]


def test_pairs_come_from_the_hub_row_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_dataset(*args: str, **options: Any) -> Any:
        assert args == ("deepmind/code_contests", "default")
        assert options == {"split": "train", "streaming": True}
        yield CONTEST
        raise ConnectionError("the network is gone")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        write_pairs(monkeypatch, "--pairs", tmp_path / "pairs.jsonl")
    reported = (
        "error: deepmind/code_contests could not be read: the network is gone; give --train FILE"
    )
    assert left.value.code == 2 and capsys.readouterr().err == f"{reported}\n"
    assert not list(tmp_path.iterdir())


def test_a_training_set_that_cannot_be_read_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, made = tmp_path / "train.jsonl", tmp_path / "pairs.jsonl"
    train.write_text(json.dumps(CONTEST) + "\n[1]\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "datasets", None)  # type: ignore[arg-type]
    deep, wrong = tmp_path / "deep.jsonl", tmp_path / "wrong.jsonl"
    deep.write_text(json.dumps(CONTEST) + "\n" + '{"solutions": ' * 100_000)
    solutions = {"language": [3], "solution": [None]}
    wrong.write_text(json.dumps(CONTEST) + "\n" + json.dumps(CONTEST | {"solutions": solutions}))
    for args, reported in (
        (("--train", train, "--pairs", made), "line 2 is not a JSON record"),
        (("--train", deep, "--pairs", made), f"{deep} line 2 is not a JSON record"),
        (
            ("--train", wrong, "--pairs", made),
            f"{wrong}: problem 1 has a solution that is not a text",
        ),
        (("--train", tmp_path / "none", "--pairs", made), "cannot be read: No such file"),
        (("--train", train, "--pairs", tmp_path / "none" / "p"), "cannot be written: No such file"),
        (("--pairs", made), "or --train FILE"),
    ):
        with pytest.raises(SystemExit) as left:
            write_pairs(monkeypatch, *args)
        result = capsys.readouterr().err
        assert left.value.code == 2 and reported in result and result.count("\n") == 1
    assert not made.exists()


@pytest.mark.parametrize(
    ("wrong", "reported"),
    [
        ({"time_limit": 2.0}, "has a time_limit that is not of seconds and nanos: 2.0"),
        ({"time_limit": {"seconds": "2"}}, "has a time_limit that is not of"),
        ({"private_tests": {"input": [1], "output": ["1"]}}, "has a test that is not a text"),
        ({"generated_tests": {"input": ["1"], "output": [None]}}, "has a test that is not a text"),
        ({"private_tests": {"input": ["1"], "output": []}}, "private_tests has 1 input and 0 outp"),
        ({"time_limit": json.loads(DEEP)}, r"has a time_limit that is .*\[\.\.\.\]+$"),
        ({"time_limit": {"seconds": 10**400}}, "has a time_limit that is not of"),
    ],
)
def test_a_contest_of_another_format_is_named(wrong: dict[str, Any], reported: str) -> None:
    with pytest.raises(BadInput, match=rf"^data: problem 1:? {reported}"):
        codecontests.dataset([CONTEST, CONTEST | wrong], "data")


def test_a_time_limit_may_lack_a_part() -> None:
    slow = {"seconds": 20, "nanos": None}
    (found,) = codecontests.dataset([CONTEST | {"time_limit": slow}], "data").problems
    assert found.about["cpu"] == 20


@pytest.mark.parametrize(
    ("load", "records", "count"), [(apps.load, TASKS, 4), (codecontests.load, CONTESTS, 3)]
)
def test_both_are_read_from_files(
    tmp_path: Path, load: Callable[[Source], Dataset], records: list[dict[str, Any]], count: int
) -> None:
    records = [{**record, "url": "one line\u2028still"} for record in records]
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    (tmp_path / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    found = load(Source(tmp_path))
    assert len(found.problems) == count and found.origin.startswith("test.jsonl sha256:")
