"""Head types and studies in files of the user's own."""

from pathlib import Path

import pytest

from experiments.study import find
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS, short_name
from mtp.model.heads import MODULES
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.plugins import load_file

HEAD = """
from torch import nn
from mtp.head_types import HEADS, HeadType
from mtp.model.heads import MODULES

HEADS["wide"] = HeadType(parent=lambda i, n: 0, module="wide")
MODULES["wide"] = lambda config, i: nn.Sequential(
    nn.Linear(config.dim, 3 * config.dim, bias=False), nn.Linear(3 * config.dim, config.dim)
)
"""


@pytest.fixture(autouse=True)
def tables_as_before() -> object:
    before = [(table, dict(table)) for table in (HEADS, MODULES)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)  # type: ignore[arg-type]


def test_a_head_from_a_file_is_counted_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(HEAD)
    name = f"{tmp_path}/own.py:wide"
    config = ModelConfig(dim=16, layers=2, attn_heads=2, vocab=11, n=3, head=name)
    assert short_name(name) == "wide" and "wide" not in HEADS
    counts = parameter_counts(config)
    assert [counts[f"head {i}"] for i in (1, 2, 3)] == [2 * 3 * 16 * 16 + 16] * 3
    plain = ModelConfig(dim=16, layers=2, attn_heads=2, vocab=11, n=3, head="linear")
    more = 6 * (3 * 2 * 3 * 16 * 16 - 2 * 16 * 16)
    assert flops_per_token(config) == flops_per_token(plain) + more


@pytest.mark.parametrize(
    ("text", "head", "words"),
    [
        (None, "own.py:wide", "own.py: no such file"),
        ("x = 1\ny = z\n", "own.py:wide", "own.py, line 2: NameError: name 'z' is not defined"),
        ("x = (\n", "own.py:wide", "own.py: SyntaxError"),
        ("x = 1\n", "own.py:wide", "own.py adds no head type 'wide'"),
        (
            "x = 1\n",
            "serial",
            "unknown head type 'serial'; choose one of: .*FILE.py:NAME",
        ),
    ],
)
def test_a_file_that_gives_no_head(
    text: str | None, head: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        Path("own.py").write_text(text)
    with pytest.raises(BadInput, match=words):
        ModelConfig(head=head)


def test_a_file_is_run_once_and_may_import_its_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("neighbour_of_own.py").write_text("value = []\n")
    Path("own.py").write_text("import neighbour_of_own\nneighbour_of_own.value.append(1)\n")
    first, second = load_file(Path("own.py")), load_file(tmp_path / "own.py")
    assert first is second and first.neighbour_of_own.value == [1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "defines no STUDY"),
        (
            "import dataclasses\nfrom experiments.study import find\n"
            "STUDY = dataclasses.replace(find('sweep-n'), name='sweep-heads')",
            "the study's name is 'sweep-heads'",
        ),
        (
            "import dataclasses\nfrom experiments.study import find\n"
            "STUDY = dataclasses.replace(find('sweep-n'), name='../up')",
            "name is '../up'",
        ),
    ],
)
def test_a_file_that_gives_no_study(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(BadInput, match=words):
        find(str(tmp_path / "own.py"))
