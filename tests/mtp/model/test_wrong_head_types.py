"""A head type in a user's file that cannot work is refused in one line that says what is wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtp import head_types
from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer

FILE = """
from torch import nn
from mtp.head_types import HEADS, HeadType
from mtp.model.heads import MODULES

class Own(nn.Module):
    def forward(self, {arguments}):
        return {result}

MODULES["own module"] = lambda config, i: Own()
HEADS["own"] = HeadType({row})
"""


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The tables forget the file's rows."""
    tables = head_types.HEADS, heads.MODULES
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before, strict=True):
        for name in set(table) - set(rows):
            del table[name]


RIGHT = {"arguments": "x, *_", "result": "x", "row": "lambda i, n: 0, 'own module'"}


def first_logits(tmp_path: Path, **parts: str) -> Tensor:
    """Of a tiny model with heads of the file."""
    file = tmp_path / "own.py"
    file.write_text(FILE.format(**(RIGHT | parts)))
    own = f"{file}:own"
    config = ModelConfig(dim=16, layers=4, attn_heads=2, vocab=19, context=12, n=2, head=own)
    return MultiTokenTransformer(config)(torch.zeros(1, 5, dtype=torch.long))[1]


def test_the_right_one_works(tmp_path: Path) -> None:
    assert first_logits(tmp_path).shape == (1, 5, 19)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"row": "lambda i, n: i % n + 1, 'own module'"}, "head 1 would not reach the trunk"),
        ({"row": "lambda i, n: 99, 'own module'"}, "own.py: head 1 would not reach the trunk"),
        ({"row": "lambda i, n: 0, 'nowhere'"}, "has the module 'nowhere', which is not in"),
        (
            {"row": "lambda i, n: 0, 'own module', reads=lambda i: (i,)"},
            "own.py: head 1 would",
        ),
        ({"row": "lambda i, n: 0, 'own module', is_layer=True"}, "is not a mtp.model.transformer"),
        ({"arguments": "x"}, "a head's module is called as forward(x, rope)"),
        ({"result": "x[..., :4]"}, "head 1 made (1, 5, 16) into (1, 5, 4)"),
    ],
)
def test_wrong_ones_are_refused(parts: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as error:
        first_logits(tmp_path, **parts)
    assert message in str(error.value) and "\n" not in str(error.value)
