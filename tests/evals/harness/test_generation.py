"""Prompts as long as the context allows, and answers to them that go on after a kill."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.harness import counter as progress
from evals.harness.candidates import Candidate
from evals.harness.generation import draw, protocol_answers
from evals.harness.journal import Journal
from evals.harness.problems import Dataset, Problem
from evals.harness.prompts import Prompt, prompts
from evals.harness.protocol import Protocol
from mtp.data.tokenizer import ByteTokenizer
from mtp.decoding import generate
from mtp.errors import BadInput


@given(st.integers(0, 6), st.integers(30, 400))
def test_shots_are_left_out_from_the_left_until_the_prompt_fits(shots: int, context: int) -> None:
    made = tuple(Problem(f"{i}", {"q": f"question {i}?", "a": f"answer {i}"}, {}) for i in range(6))
    data = Dataset((Problem("p", {"q": "x" * 40, "a": ""}, {}),), made, "data")
    protocol = Protocol("b", "v", shots, "{q}\n", "{a}\n\n", max_new=16)
    (found,) = prompts(data, protocol, ByteTokenizer(), context).values()
    last = "x" * 40 + "\n"
    examples = [f"question {i}?\nanswer {i}\n\n" for i in range(shots)]
    fits = [
        n
        for n in range(shots + 1)
        if 1 + len("".join(examples[shots - n :]) + last) + 16 <= context
    ]
    if not fits:
        assert found is None
    else:
        assert found and found.shots == max(fits)
        expected = "".join(examples[shots - max(fits) :]) + last
        assert ByteTokenizer().decode(found.tokens) == expected


def test_too_few_examples_are_reported() -> None:
    data = Dataset((Problem("p", {"q": "x"}, {}),), (), "data")
    with pytest.raises(BadInput, match="data has 0 solved examples; b v shows 3"):
        prompts(data, Protocol("b", "v", 3, "{q}"), ByteTokenizer(), 64)


ASKED = {f"p{i}": Prompt([256, *f"{i}: the fox went".encode()], 0) for i in range(5)}


def test_no_pass_is_made_for_rows_that_have_their_stop(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = list[int]()

    def counted(*args: Any, **options: Any) -> Any:
        inner, sent = stream(*args, **options), None
        while True:
            try:
                gains = inner.send(sent)
            except StopIteration:
                return
            passes.append(len(gains))
            sent = yield gains

    stream = generate.stream
    monkeypatch.setattr(generate, "stream", counted)
    model = Candidate(runs[0]).model()
    every = tuple(bytes([b]).decode(errors="replace") for b in range(256))
    prompts_ = [prompt.tokens for prompt in ASKED.values()]
    protocol = Protocol("b", "v", stops=every, max_new=40)
    assert protocol_answers(model, ByteTokenizer(), prompts_, protocol, 1, 0) == [""] * 5
    assert passes == [5]


def test_a_killed_run_goes_on_to_the_same_answers(runs: tuple[Path, Path], tmp_path: Path) -> None:
    model, text = Candidate(runs[0]).model(), ByteTokenizer()
    protocol = Protocol("b", "v", max_new=8, samples=3, temperature=0.9)
    with Journal(tmp_path / "whole", {}) as journal:
        whole = draw(model, text, ASKED, protocol, journal, batch=4)
    lines = (tmp_path / "whole").read_bytes()
    assert lines.count(b"\n") == 16 and len({a for made in whole.values() for a in made}) > 5
    for cut in (0, 3, 200, len(lines) // 2, len(lines) - 1, len(lines)):
        (tmp_path / "cut").write_bytes(lines[:cut])
        with Journal(tmp_path / "cut", {}) as journal:
            assert draw(model, text, ASKED, protocol, journal, batch=4) == whole
        assert (tmp_path / "cut").read_bytes() == lines
    with Journal(tmp_path / "whole", {}) as journal:  # complete: no model needed
        assert draw(None, text, ASKED, protocol, journal, batch=4) == whole  # type: ignore[arg-type]


def test_progress_in_a_log_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 30.0, 31.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    result = list[str]()
    with progress.Counter("x", 100, result.append) as counter:
        counter.skip(40)
        for _ in range(2):
            counter.add(15)
        counter.add(30)
    assert result == ["x: 70/100, 1.0/s, ETA 30 s", "x: 100/100, 1.9/s, ETA 0 s"]
