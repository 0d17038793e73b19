"""What a step makes the host wait for, and the batches that are built ahead of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtp.data.batches import Batches
from mtp.data.corpus import build
from mtp.training.stream import Stream
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import Make, trainer

# What reads a tensor's values on the host. On a GPU each of them waits for all work before it.
WAITS = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.nonzero", "aten.equal", "aten.item")


class Waits(TorchDispatchMode):
    """Counts the operators of WAITS, and copies of a tensor to main memory (`.cpu()` and the like
    leave no trace on a CPU, so these are counted where they are called)."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).rsplit(".", 1)[0]
        if name in WAITS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Calls of the methods that copy a tensor to main memory."""
    found: Counter[str] = Counter()

    def counting(name: str) -> None:
        method = getattr(torch.Tensor, name)

        def counted(self: torch.Tensor, *args: Any, **options: Any) -> Any:
            found[name] += 1
            return method(self, *args, **options)

        monkeypatch.setattr(torch.Tensor, name, counted)

    for name in ("cpu", "tolist", "item", "numpy", "__float__", "__int__", "__bool__"):
        counting(name)
    return found


@pytest.mark.parametrize("precision", ["float32", "bf16", "autocast"])
def test_a_step_waits_for_no_value(
    precision: str, make_config: Make, data: Path, tmp_path: Path, copies: Counter[str]
) -> None:
    run = trainer(make_config(precision=precision, micro=2), tmp_path / "run", data)
    run._add(*run.train_step()[:2])  # AdamW makes its state
    copies.clear()
    with Waits() as waits:
        for _ in range(3):
            run._add(*run.train_step()[:2])
    assert not waits.found and not copies
    run.mean_losses()
    assert copies["tolist"] == 1, "what is counted can be counted"


def test_the_loop_waits_when_it_logs_alone(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value of a step is read between two logged steps."""
    config = make_config(log_every=10, tokens=40 * 4 * 32)
    looks: list[int] = []
    check = Trainer._check_finite

    def looking(self: Trainer) -> None:
        looks.append(self.step)
        check(self)

    monkeypatch.setattr(Trainer, "_check_finite", looking)
    trainer(config, make_folder(tmp_path), data).run()
    assert looks == [10, 20, 30, 40]


def make_folder(path: Path) -> Path:
    (path / "run").mkdir()
    return path / "run"


def test_batches_built_ahead_are_the_same(make_config: Make, data: Path) -> None:
    config = make_config()
    corpus = build(config.data, data, progress=False)

    def batches() -> Batches:
        return Batches(corpus.train, 4, 32, 2, seed=1)

    plain, ahead = (Stream(batches(), "cpu", ahead=ahead) for ahead in (False, True))
    for step in range(6):
        got = ahead.next()
        for expected in (plain.next(), batches().at(4 * step)):
            assert torch.equal(got.tokens, expected.tokens)
            assert torch.equal(got.valid, expected.valid)
            assert torch.equal(got.targets(), expected.targets())
        assert ahead.batches.windows == plain.batches.windows == 4 * (step + 1)
    saved = ahead.batches.state()  # the windows that are built ahead are not consumed
    again = Stream(batches(), "cpu", ahead=True)
    again.batches.load_state(saved)
    assert torch.equal(again.next().tokens, plain.next().tokens)
