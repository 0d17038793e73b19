"""objective.token_weights: functions of the tokens, and the labels of a generator."""

import dataclasses
from itertools import islice
from pathlib import Path

import pytest
import tokenizers
import torch

from mtp.config import TrainConfig
from mtp.data.token_bytes import bytes_of_tokens
from mtp.data.tokenizer import BPE, ByteTokenizer, LlamaTokenizer, Tokenizer
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


TEXT = "Grüße, «Zega» 42 comió é ġ <0x1F> <0xzz>\n\tend"  # with letters of GPT-2's alphabet


def test_bytes_of_tokens(bpe: BPE) -> None:
    text = TEXT
    for tokenizer in (bpe, ByteTokenizer()):
        of = bytes_of_tokens(tokenizer)
        assert b"".join(map(of, tokenizer.encode(text))) == text.encode()
        assert of(tokenizer.bos) == of(tokenizer.eos) == b""


def test_bytes_of_pieces_of_sentencepiece(llama_file: Path) -> None:
    """A piece is its text, whatever GPT-2's alphabet makes of its letters."""
    tokenizer = LlamaTokenizer(llama_file)
    of = bytes_of_tokens(tokenizer)
    assert b"".join(map(of, tokenizer.encode(TEXT))) == f" {TEXT}".encode()


def test_bytes_of_a_tokenizer_file_in_sentencepieces_alphabet() -> None:
    """With é and <0x1F> as whole tokens, of which only the second is a byte; and a special token
    that is written with letters of other alphabets."""
    bytewise = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", "<|bos|>", "<|eos|>", *bytewise, "▁", "é", "a", "▁a", "<0xzz>"]
    model = tokenizers.models.BPE(
        {piece: i for i, piece in enumerate(pieces)}, [("▁", "a")], byte_fallback=True
    )
    inner = tokenizers.Tokenizer(model)
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never")
    inner.decoder = tokenizers.decoders.Metaspace(prepend_scheme="never")
    inner.add_special_tokens(["<|bos|>", "<|eos|>", "<|ġ▁|>"])
    tokenizer = BPE(inner)
    of = bytes_of_tokens(tokenizer)
    assert b"".join(map(of, tokenizer.encode("é aü"))) == "é aü".encode()
    found = {piece: of(i) for i, piece in enumerate((*pieces, "<|ġ▁|>"))}
    assert found["<0x1F>"] == b"\x1f" and found["<0xzz>"] == b"<0xzz>"
    assert found["▁a"] == b" a" and found["<|ġ▁|>"] == "<|ġ▁|>".encode()


def test_a_special_token_of_a_byte_level_tokenizer_is_its_text() -> None:
    bpe = BPE.train(["abc"], 300)
    bpe.inner.add_special_tokens(["<|ġé|>"])
    bpe = BPE(bpe.inner)
    assert bytes_of_tokens(bpe)(bpe.vocab_size - 1) == "<|ġé|>".encode()


@pytest.mark.parametrize(
    ("weights", "source", "message"),
    [
        ("labels:answer=x", POLYNOMIALS, "'answer=x' is not LABEL=FACTOR"),
        ("labels:answer=1,answer=2", POLYNOMIALS, "'answer=2' names a label for the second time"),
        ("labels:answer=-1", POLYNOMIALS, "with a factor from 0 to 1e6"),
        ("labels:", POLYNOMIALS, "is not LABEL=FACTOR"),
        ("labels:name=2", POLYNOMIALS, "no label 'name'; choose from: answer, other"),
        (
            "labels:answer=2",
            "stdlib",
            "answer=2 takes the labels of a generator, python:MODULE; data",
        ),
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
        factors = objective.may_train_nothing
        assert factors
        factors.check_total(float(factors.total))


def test_weights_of_nothing_are_no_mistake_where_a_term_trains(tmp_path: Path) -> None:
    config = with_function("return 0 * tokens", tmp_path)
    own = dataclasses.replace(config.objective, bag=1.0)
    objective = Objective(dataclasses.replace(config, objective=own), "cpu")
    objective.derive(window_of(), 4)
    assert objective.may_train_nothing is None


@pytest.mark.parametrize(
    "span", [(-1, 2, "answer"), (3, 2, "answer"), (0, 99, "answer"), (0, 1, "anser")]
)
def test_spans_that_no_text_has_are_refused(
    span: tuple[int, int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polynomials, "labels", lambda text: [span])
    with pytest.raises(BadInput) as error:
        labelled(ByteTokenizer(), "(1+2)=3", "labels:answer=2", POLYNOMIALS)
    assert f"labels(text) gives the span {span} in a text of 7 characters" in str(error.value)


def test_names_of_labels_are_no_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polynomials, "LABELS", "answer")
    with pytest.raises(BadInput, match="must be a tuple of texts, not 'answer'"):
        labelled(ByteTokenizer(), "(1+2)=3", "labels:answer=2", POLYNOMIALS)


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
