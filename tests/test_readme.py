"""What README shows works: its targets exist, and its new head type trains and decodes."""

import re
from pathlib import Path
from typing import Literal

import pytest
import torch

from mtp import config
from mtp.config import ModelConfig
from mtp.decoding.generate import generate
from mtp.model import heads
from mtp.model.model import MultiTokenTransformer
from mtp.objective import cross_entropy

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_every_number_is_filled_in_and_every_target_exists() -> None:
    assert not re.findall(r"@[A-Z]+@", TEXT)
    targets = re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", TEXT, re.MULTILINE))
    assert named and named <= set(" ".join(targets).split())


def test_every_file_of_the_map_exists() -> None:
    for folder in ("mtp", "evals", "synthetic", "experiments"):
        files = {p.name for p in (ROOT / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
        unnamed = {name for name in files if name not in TEXT}
        assert not {n for n in unnamed if not n.startswith(("sweep_", "synthetic_"))}, folder


def test_the_new_head_type_trains_and_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    code = TEXT.split("### A new head type")[1].split("```python")[1].split("```")[0]
    names = {name: getattr(torch.nn, name) for name in ("Module", "Linear")}
    space = {"nn": torch.nn, "F": torch.nn.functional, "Tensor": torch.Tensor} | names
    monkeypatch.setattr(heads, "HEADS", dict(heads.HEADS))
    monkeypatch.setattr(config, "HeadType", Literal["residual"])
    exec(code, space | {"HEADS": heads.HEADS, "HeadSpec": heads.HeadSpec})
    torch.manual_seed(0)
    made = ModelConfig(dim=16, layers=2, attn_heads=2, vocab=11, n=3, context=16, head="residual")  # type: ignore[arg-type]
    tokens, targets = torch.randint(11, (2, 16)), torch.randint(11, (3, 2, 16))
    gradients = []
    for scheme in cross_entropy.SCHEMES.values():
        torch.manual_seed(1)
        model = MultiTokenTransformer(made).double()
        scheme(model, tokens, targets, cross_entropy.valid_counts(targets))
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))  # type: ignore[union-attr]
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0])
    model = MultiTokenTransformer(made).double()
    prompts = [[1, 2, 3], [4]]
    assert generate(model, prompts, 8, k=3).tokens == generate(model, prompts, 8, k=1).tokens
