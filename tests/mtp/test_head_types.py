"""What the table of head types says, and what follows from it for a config."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtp.config import ModelConfig
from mtp.errors import BadInput
from mtp.head_types import HEADS


@pytest.mark.parametrize("head", ["parallel", "causal", "anticausal"])
def test_transformer_heads_need_a_trunk(head: Any) -> None:
    assert ModelConfig(layers=5, n=4, head=head).trunk_layers == 1
    assert ModelConfig(layers=5, n=5, head=head, extra_layers=1).trunk_layers == 1
    assert ModelConfig(layers=1, n=1, head=head).trunk_layers == 0  # one layer, head 1
    for layers in (1, 4):
        with pytest.raises(BadInput, match=f"no trunk in {layers} layers; choose n up to"):
            ModelConfig(layers=layers, n=layers + 1, head=head)


@pytest.mark.parametrize("head", ["linear", "replicated"])
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
    }
    assert [head for head, row in HEADS.items() if row.reads_heads] == ["causal", "anticausal"]
    assert [head for head, row in HEADS.items() if not row.shared_unembedding] == ["replicated"]


def test_a_config_is_refused_before_torch_is_imported() -> None:
    code = (
        "import sys; from mtp.config import ModelConfig; from mtp.errors import BadInput\n"
        "try: ModelConfig(head='medusa')\n"
        "except BadInput: sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
