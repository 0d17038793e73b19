"""objective.token_weights: functions of the tokens, and the labels of a generator."""

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import torch

from mtp.config import TrainConfig
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer
from mtp.errors import BadInput
from mtp.objective.objective import Objective
from mtp.objective.token_weights import ByLabel, Factors
from synthetic import polynomials, stories
from tests.mtp.objective.test_objective import config_of, window_of

POLYNOMIALS = "python:synthetic.polynomials?p=7,d=5"


@pytest.fixture(scope="module")
def bpe() -> BPE:
    return BPE.train(islice(stories.documents({"count": "60"}), 60), 400)


def labelled(tokenizer: Tokenizer, text: str, weights: str, source: str) -> list[tuple[str, float]]:
    """The text's tokens with their factors."""
    config = config_of(token_weights=weights)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))
    tokens = torch.tensor([[tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]])
    factors = Factors(config, tokenizer, "cpu").of(tokens)
    assert factors.shape == tokens.shape
    pairs = zip(tokens[0].tolist(), factors[0].tolist(), strict=True)
    of = bytes_of_tokens(tokenizer)
    return [(of(token).decode(errors="replace"), factor) for token, factor in pairs]


def test_answers_of_polynomials() -> None:
    text = "((20553+61030)o(-40112))=40330\n(1+2)=3"
    found = labelled(ByteTokenizer(), text, "labels:answer=4,other=0", POLYNOMIALS)
    answers = "".join(piece for piece, factor in found if factor == 4)
    assert answers == "403303" and all(factor in (0, 4) for _, factor in found)
    (first,) = polynomials.Task(count=1).documents()
    question, answer = first.split("=")
    found = labelled(ByteTokenizer(), first, "labels:answer=2", POLYNOMIALS)
    assert "".join(p for p, f in found if f == 2) == answer and question
    assert all(factor in (1, 2) for _, factor in found)


def test_a_part_of_a_document_that_begins_within_an_answer() -> None:
    found = labelled(ByteTokenizer(), "330\n(1+2)=3", "labels:answer=0", POLYNOMIALS)
    assert "".join(piece for piece, factor in found if factor == 0) == "3303"
    found = labelled(ByteTokenizer(), "553+61030)=40", "labels:answer=0", POLYNOMIALS)
    assert "".join(piece for piece, factor in found if factor == 0) == "40"


def test_copied_names_of_stories_by_tokens(bpe: BPE) -> None:
    """A model that has read the first tokens of a name can copy the last one."""
    text = "Calling Grumo Zega Grumo Grumo Zega."
    found = labelled(bpe, text, "labels:copied=5", "python:synthetic.stories")
    assert "".join(piece for piece, _ in found) == text
    for piece, factor in found:
        assert factor in (1, 5)
        assert factor == 1 or (piece.strip() and not piece.startswith(" "))
    assert "".join(piece for piece, factor in found if factor == 5) == "momoga"


def test_documents_of_a_row_are_labelled_apart_and_bytes_may_be_cut() -> None:
    """Also where a window begins or ends within a character."""
    by = ByLabel("python:synthetic.stories", {"copied": 9.0, "other": 2.0}, ByteTokenizer())
    eos, name = ByteTokenizer.eos, list(b"Grumo")
    row = [*name, 32, *name, eos, *name]
    assert by(torch.tensor([row])).tolist() == [[2] * 9 + [9] * 2 + [2] * 6]
    text = "é Grumo ü Grumo é".encode()
    rows = torch.tensor([list(text[1:-1])])
    factors = by(rows)[0].tolist()
    assert bytes(b for b, f in zip(text[1:-1], factors, strict=True) if f == 9) == b"mo"


def test_bytes_of_tokens(bpe: BPE) -> None:
    text = "Grüße, «Zega» 42\n\tend"
    for tokenizer in (bpe, ByteTokenizer()):
        of = bytes_of_tokens(tokenizer)
        assert b"".join(map(of, tokenizer.encode(text))) == text.encode()
        assert of(tokenizer.bos) == of(tokenizer.eos) == b""


@pytest.mark.parametrize(
    ("weights", "source", "message"),
    [
        ("labels:answer=x", POLYNOMIALS, "'answer=x' is not LABEL=FACTOR"),
        ("labels:answer=1,answer=2", POLYNOMIALS, "names a label twice"),
        ("labels:answer=-1", POLYNOMIALS, "with a factor from 0 to 1e6"),
        ("labels:", POLYNOMIALS, "is not LABEL=FACTOR"),
        ("labels:name=2", POLYNOMIALS, "no label 'name'; choose from: answer, other"),
        ("labels:answer=2", "stdlib", "needs a generator, python:MODULE; data.source is stdlib"),
        ("labels:answer=2", "python:synthetic.story_parts", "has no LABELS"),
    ],
)
def test_labels_that_are_not_there_are_refused(weights: str, source: str, message: str) -> None:
    with pytest.raises(BadInput) as error:
        labelled(ByteTokenizer(), "a", weights, source)
    assert message in str(error.value) and "\n" not in str(error.value)


def with_function(text: str, tmp_path: Path) -> TrainConfig:
    (tmp_path / "own.py").write_text(f"def f(tokens):\n    {text}\n")
    return config_of(token_weights=f"{tmp_path}/own.py:f")


def test_functions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for name, message in {
        "no.such.module:f": "No module named 'no'",
        f"{__name__}:nothing": "has no function 'nothing'",
        f"{tmp_path}/other.py:f": "no such file",
    }.items():
        with pytest.raises(BadInput, match=message):
            Objective(config_of(token_weights=name), "cpu")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return tokens[:, :1]", r"gives \(4, 1\) of torch.int64 for tokens \(4, 15\)"),
        ("return None", r"gives NoneType for tokens \(4, 15\)"),
        ("return tokens * 1j", "must be a real factor"),
        ("return tokens / nothing", "NameError: name 'nothing' is not defined"),
        ("return -1.0 * tokens", "gives factors that are not from 0 to 1e6"),
        ("return tokens * float('nan')", "gives factors that are not from 0 to 1e6"),
        ("return tokens / 0", "gives factors that are not from 0 to 1e6"),
        ("return 0 * tokens", "gives no token a factor above 0"),
    ],
)
def test_factors_that_cannot_be_are_refused(body: str, message: str, tmp_path: Path) -> None:
    objective = Objective(with_function(body, tmp_path), "cpu")
    with pytest.raises(BadInput, match=message):
        objective.derive(window_of(), 4)
        objective.check()


def test_later_factors_are_checked_too(tmp_path: Path) -> None:
    """Without waiting for the device in each step."""
    body = "f.calls = getattr(f, 'calls', 0) + 1; return (1 - 2 * (f.calls > 2)) * (tokens + 1.0)"
    objective = Objective(with_function(body, tmp_path), "cpu")
    for _ in range(2):
        objective.derive(window_of(), 4)
    objective.check()
    objective.derive(window_of(), 4)
    with pytest.raises(BadInput, match="gives factors that are not from 0 to 1e6"):
        objective.check()


def test_a_function_cannot_change_the_text(tmp_path: Path) -> None:
    window, before = window_of(), window_of().tokens
    Objective(with_function("return tokens.fill_(7)", tmp_path), "cpu").derive(window, 4)
    assert torch.equal(window.tokens, before)
