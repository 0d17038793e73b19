"""Every type of head round trips through its own format; bad folders are reported in one line."""

import json
from pathlib import Path

import pytest

from mtp.data.tokenizer import ByteTokenizer, load
from mtp.formats import folders
from mtp.formats.folders import read_model
from mtp.head_types import HEADS
from tests.mtp.formats.helpers import assert_equal_models, our_model, refused

TYPES = tuple(HEADS)


# --------------------------------------------------------------------------------------------------
# all heads


def test_a_context_beyond_all_memory_is_refused(tmp_path: Path) -> None:
    folders.write_all(tmp_path, our_model(), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"context": 10**13}))
    with refused("config.json", "model.context is 10000000000000", "at most"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("head", "field", "message"),
    [
        ("parallel", "layers", "weights of 5 layers; its config wants 1000"),
        ("linear", "extra_layers", "weights of 5 layers; its config wants 1005"),
        ("linear", "n", "50 weights; its config wants 1000 heads"),
        ("replicated", "n", "50 weights; its config wants 1000 heads"),
    ],
)
def test_layers_and_heads_beyond_the_weights_are_refused(
    head: str, field: str, message: str, tmp_path: Path
) -> None:
    """They are refused at once: building a thousand layers would take long and much memory."""
    folders.write_all(tmp_path, our_model(head), None)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {field: 1000}))
    with refused(str(tmp_path), message):
        read_model(tmp_path)


@pytest.mark.parametrize("head", TYPES)
def test_all_heads_round_trip(head: str, tmp_path: Path) -> None:
    model = our_model(head, kv_heads=2, extra_layers=1, rope_scaling="linear:2")
    folders.write_all(tmp_path, model, ByteTokenizer())
    assert_equal_models(read_model(tmp_path), model)
    assert isinstance(load(tmp_path), ByteTokenizer)


# --------------------------------------------------------------------------------------------------
# heads grown and dropped
