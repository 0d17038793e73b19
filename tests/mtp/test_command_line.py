"""What command lines share: one-line mistakes, where rows go, terminals without a width."""

import os
import sys
from pathlib import Path

import pytest

from experiments.watch import line
from mtp import hardware
from mtp.command_line import add_out, has_terminal, new_parser, out_of


def test_a_mistake_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = new_parser("mtp.some", "What it does.")
    parser.add_argument("--size", type=int)
    with pytest.raises(SystemExit) as left:
        parser.parse_args(["--size", "wide"])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: argument --size: invalid int value: 'wide'; see python -m mtp.some --help\n"
    )


def test_rows_go_where_git_does_not_look_unless_they_are_renewed() -> None:
    parser = new_parser("mtp.some", None)
    add_out(parser, "bench")
    for options, place in (
        ([], "results/mine/bench"), (["--renew"], "results/bench"), (["--out", "x"], "x"),
    ):  # fmt: skip
        assert out_of(parser.parse_args(options)) == Path(place)
    ignored = (Path(__file__).parents[2] / ".gitignore").read_text().split()
    assert "results/mine/" in ignored


@pytest.mark.parametrize(("columns", "bar"), [(80, True), (0, False)])
def test_a_terminal_without_a_width_gets_plain_lines(
    columns: int, bar: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stderr, "fileno", lambda: 2, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((columns, 24)))
    assert has_terminal() == bar


def test_a_line_of_a_log_says_how_long_it_will_take() -> None:
    assert line(2.0, 5, ["n1 40%"], 120) == (
        "2.00/5 runs after 2.0 min, about 3.0 min left; n1 40%"
    )
    assert line(0.0, 5, [], 10) == "0.00/5 runs after 10 s, unknown time left; starting"


@pytest.mark.parametrize(
    ("threads", "load", "advice"), [(2, 9.0, True), (1, 9.0, False), (2, 0.3, False)]
)
def test_a_busy_machine_is_mentioned(
    threads: int, load: float, advice: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(hardware, "cores", lambda: 2)
    said = hardware.other_load()
    assert ("OMP_NUM_THREADS=1" in said and "load 9.0" in said) == advice
