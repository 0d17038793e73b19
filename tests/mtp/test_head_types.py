"""What the table of head types says, and what follows from it for a config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS, HeadType


@pytest.mark.parametrize("head", ["parallel", "causal", "anticausal", "sequential"])
def test_transformer_heads_need_a_trunk(head: Any) -> None:
    assert ModelConfig(layers=5, n=4, head=head).trunk_layers == 1
    assert ModelConfig(layers=5, n=5, head=head, extra_layers=1).trunk_layers == 1
    assert ModelConfig(layers=1, n=1, head=head).trunk_layers == 0  # one layer, head 1
    for layers in (1, 4):
        with pytest.raises(BadInput, match=f"no trunk in {layers} layers; choose n of at most"):
            ModelConfig(layers=layers, n=layers + 1, head=head)


@pytest.mark.parametrize("head", ["linear", "replicated", "mlp", "inject"])
def test_other_heads_do_not_take_layers(head: Any) -> None:
    assert ModelConfig(layers=2, n=32, head=head).trunk_layers == 2


def test_the_tables_arrows_are_the_papers() -> None:
    """Appendix B: which latent each of four heads reads, 0 for the trunk."""
    arrows = {head: [row.parent(i, 4) for i in (1, 2, 3, 4)] for head, row in HEADS.items()}
    assert arrows == {
        "parallel": [0, 0, 0, 0],
        "causal": [0, 1, 2, 3],
        "anticausal": [2, 3, 4, 0],
        "linear": [0, 0, 0, 0],
        "replicated": [0, 0, 0, 0],
        "mlp": [0, 0, 0, 0],
        "inject": [0, 0, 0, 0],
        "sequential": [0, 1, 2, 3],
        "sequential-shared": [0, 1, 2, 3],
    }
    chains = ["causal", "anticausal", "sequential", "sequential-shared"]
    assert [head for head, row in HEADS.items() if row.reads_heads(3)] == chains
    assert [head for head, row in HEADS.items() if not row.shared_unembedding] == ["replicated"]


def test_which_tokens_heads_read() -> None:
    reads = {head: [row.reads(i) for i in (1, 2, 3, 4)] for head, row in HEADS.items()}
    assert reads.pop("inject") == [(), (1,), (1,), (1,)]
    assert reads.pop("sequential") == reads.pop("sequential-shared") == [(), (1,), (2,), (3,)]
    assert not any(any(each) for each in reads.values())


@pytest.mark.parametrize(
    ("parent", "reads", "head"),
    [
        (lambda i, n: 0, lambda i: (1,), 1),
        (lambda i, n: 0, lambda i: (i,) if i > 2 else (), 3),
        (lambda i, n: i + 1 if i < n else 0, lambda i: (1,) if i > 1 else (), 1),
    ],
    ids=["head 1", "its own target", "through another head"],
)
def test_heads_cannot_read_what_they_predict(parent: Any, reads: Any, head: int) -> None:
    with pytest.raises(BadInput, match=f"head {head} would read a token that it predicts"):
        HeadType(parent, "layer", reads=reads).check(4)


def test_heads_that_share_a_layer_take_two_from_the_trunk() -> None:
    for n, trunk in ((1, 4), (2, 3), (3, 3), (64, 3)):
        assert ModelConfig(layers=5, n=n, head="sequential-shared").trunk_layers == trunk
    with pytest.raises(BadInput, match="no trunk in 2 layers; choose n of at most 1"):
        ModelConfig(layers=2, n=3, head="sequential-shared")


def test_a_config_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from mtp.config import ModelConfig; from mtp.errors import BadInput\n"
        "try: ModelConfig(head='medusa')\n"
        "except BadInput: sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
