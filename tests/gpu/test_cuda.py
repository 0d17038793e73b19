"""A GPU computes what the CPU computes. `make test-gpu` runs these tests on a GPU.

MTP_TEST_DEVICE says where they run:

    cuda   on the GPU; without one they are skipped
    cpu    all of them on the CPU, compilation included, to see that the tests themselves work
    unset  the quick ones on the CPU, as a part of the ordinary suite
"""

import copy
import dataclasses
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtp.config import ModelConfig, TrainConfig
from mtp.decoding.generate import generate
from mtp.hardware import has_compiler
from mtp.head_types import HEADS
from mtp.model.model import MultiTokenTransformer
from mtp.objective import cross_entropy
from mtp.objective.cross_entropy import SCHEMES, valid_counts
from mtp.sharded import copy_into
from mtp.training import engine
from mtp.training.run import train
from mtp.training.trainer import Trainer
from tests.conftest import newest_step
from tests.mtp.decoding.helpers import trained
from tests.mtp.training.helpers import Make, on_ranks, rows, trainer

pytestmark = pytest.mark.cuda

# Relative errors that rounding explains. float32 keeps 24 bits, a rounding is 6e-8, and sums of up
# to 2^13 terms in another order stay below 1e-4. bf16 keeps 8 bits, a rounding is 0.4%; through a
# few layers and back, the CPU's own bf16 gradients are 1 to 2% from float32's.
TOLERANCE = {"float32": 1e-4, "bf16": 0.05, "autocast": 0.05}


@pytest.fixture(scope="session")
def device() -> str:
    """Where the tests run; the other tests of the suite never see a GPU."""
    device = os.environ.get("MTP_TEST_DEVICE", "cpu")
    assert device in ("cpu", "cuda"), f"MTP_TEST_DEVICE={device}; choose cpu or cuda"
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    return device


@pytest.fixture(scope="session")
def slow_device(device: str) -> str:
    """The same for tests that take long on a CPU."""
    if "MTP_TEST_DEVICE" not in os.environ:
        pytest.skip("takes long on a CPU, and other tests cover it there; MTP_TEST_DEVICE=cpu")
    if device == "cpu" and not has_compiler():
        pytest.skip("there is no C++ compiler")
    return device


def error(got: Tensor, want: Tensor) -> float:
    """The norm of the difference over the norm of what is wanted, on the CPU."""
    got, want = got.detach().cpu().double(), want.detach().cpu().double()
    return float((got - want).norm() / want.norm())


def test_only_make_test_gpu_lets_tests_see_a_gpu() -> None:
    if os.environ.get("MTP_TEST_DEVICE") != "cuda":
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and not torch.cuda.is_available()


# --------------------------------------------------------------------------------------------------
# training


Pair = Callable[[TrainConfig], tuple[Trainer, Trainer]]


@pytest.fixture
def pair(device: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    """A trainer on the device, and one in float32 on the CPU with the same weights."""

    def make(config: TrainConfig) -> tuple[Trainer, Trainer]:
        ours = trainer(config, tmp_path / "ours", data)
        assert ours.engine.device == device
        plain = dataclasses.replace(config, precision="float32", compile="off", scheme="plain")
        with monkeypatch.context() as patched:
            patched.setattr(engine, "default_device", lambda: "cpu")
            reference = trainer(plain, tmp_path / "reference", data)
        weights = reference.trainable.weights()
        for name, weight in ours.trainable.weights().items():
            copy_into(weight, weights[name].detach())
        ours.trainable.update_model()
        return ours, reference

    return make


def gradients(run: Trainer) -> dict[str, Tensor]:
    """The gradients of a run's first step: AdamW's first mean is (1 - beta1) times the gradient."""
    state, beta = run.optimizer.state, run.config.beta1
    return {name: state[w]["exp_avg"] / (1 - beta) for name, w in run.trainable.weights().items()}


@pytest.mark.parametrize("precision", ["float32", "bf16", "autocast"])
@pytest.mark.parametrize("head", HEADS)
def test_a_step_has_the_losses_and_gradients_of_the_cpu(
    head: str, precision: str, pair: Pair, make_config: Make
) -> None:
    model = {"head": head, "layers": 5, "n": 3}
    ours, reference = pair(make_config(model=model, precision=precision, micro=2, clip=1e9))
    (losses, norm, _), (wanted, wanted_norm, _) = ours.train_step(), reference.train_step()
    limit = TOLERANCE[precision]
    assert error(losses, wanted) < limit / 5  # forward alone
    assert error(norm, wanted_norm) < limit
    got, want = gradients(ours), gradients(reference)
    assert got.keys() == want.keys()
    # That of a single number is a sum over all positions, most of which cancels.
    limits = {name: limit * (1 + (w.numel() == 1)) for name, w in want.items()}
    errors = {name: error(got[name], want[name]) for name in want}
    assert all(errors[name] < limits[name] for name in want), errors


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_compiled_step_is_like_an_eager_one(
    precision: str, slow_device: str, pair: Pair, make_config: Make
) -> None:
    ours, reference = pair(make_config(precision=precision, compile="on", clip=1e9))
    losses, wanted = ours.train_step()[0], reference.train_step()[0]
    assert error(losses, wanted) < TOLERANCE[precision] / 5
    got, want = gradients(ours), gradients(reference)
    assert max(error(got[name], want[name]) for name in want) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_schemes_agree(
    scheme: str, precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where `fused` takes several chunks."""
    torch.manual_seed(0)
    model = MultiTokenTransformer(ModelConfig(dim=32, layers=3, vocab=512, n=2, context=64))
    tokens = torch.randint(512, (4, 64))
    targets = torch.randint(512, (2, 4, 64))
    counts = valid_counts(targets)
    wanted = SCHEMES["plain"](model, tokens, targets, counts)
    want = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    model.to(device, torch.float32 if precision == "float32" else torch.bfloat16)
    monkeypatch.setattr(cross_entropy, "chunk_rows", lambda *_: 100)  # 256 rows: three chunks
    losses = SCHEMES[scheme](model, tokens.to(device), targets.to(device), counts.to(device))
    limit = TOLERANCE[precision]
    assert error(losses, wanted) < limit / 5
    for name, p in model.named_parameters():
        gradient, expected = p.grad, want[name]
        assert gradient is not None and expected is not None
        assert error(gradient, expected) < limit, name


def train_until_killed(config: TrainConfig, folder: Path, data: Path, step: int) -> None:
    """Train; right after the checkpoint of this step the process ends as if by `kill -9`."""
    save = Trainer.save

    def save_and_die(self: Trainer, folder: Path | None = None) -> None:
        save(self, folder)
        if folder is None and self.step == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Trainer.save = save_and_die  # in this process alone, which is about to end
    train(config, folder, data)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_killed_run_continues_as_if_nothing_had_happened(
    precision: Any,
    slow_device: str,
    make_config: Make,
    data: Path,
    tmp_path: Path,
    processes: ForkServerContext,
) -> None:
    """The loss curve is the same. On a GPU sums may be taken in another order at each run, so it is
    the same up to rounding."""
    config = make_config(
        tokens=20 * 4 * 32, log_every=1, save_every=5, eval_every=10, precision=precision
    )
    train(config, tmp_path / "whole", data)
    folder = tmp_path / "killed"
    process = processes.Process(target=train_until_killed, args=(config, folder, data, 10))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL and newest_step(folder / "checkpoint") == 10
    train(config, folder, data)
    got, want = rows(folder), rows(tmp_path / "whole")
    assert [row["step"] for row in got] == [row["step"] for row in want]
    limit = 0.0 if slow_device == "cpu" else 1e-3 if precision == "float32" else 0.02
    for a, b in zip(got, want, strict=True):
        for key in {"loss", "validation_loss"} & b.keys():
            assert a[key] == pytest.approx(b[key], rel=limit), (key, a["step"])


def test_two_gpus_train_as_one_does(
    slow_device: str, make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    """FSDP2 over NCCL (over gloo on the CPU)."""
    if slow_device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    cases = [("parallel", "float32"), ("anticausal", "float32"), ("parallel", "bf16")]
    shared: dict[str, Any] = {"tokens": 6 * 4 * 32, "log_every": 1, "eval_every": 3}
    both = []
    for head, precision in cases:
        config = make_config(**shared, model={"head": head}, precision=precision)
        train(config, tmp_path / head / precision / "one", data)
        both.append((config, tmp_path / head / precision / "two"))
    assert on_ranks(processes, 2, both, data) == [0, 0]
    for head, precision in cases:
        one, two = (rows(tmp_path / head / precision / ranks) for ranks in ("one", "two"))
        assert [row["step"] for row in two] == [row["step"] for row in one]
        for a, b in zip(two, one, strict=True):
            for key in {"loss", "validation_loss"} & b.keys():
                assert a[key] == pytest.approx(b[key], rel=TOLERANCE[precision]), (head, key)


# --------------------------------------------------------------------------------------------------
# decoding

PROMPTS = [[1, 2, 3, 4, 5, 6], [1, 7, 8], [12, 3, 13, 14, 2, 15, 1, 2], [9]]
NEW = 24
TIE = 1e-3  # of two logits: rounding may decide between them


@torch.no_grad()
def without_cache(model: MultiTokenTransformer, prompt: list[int]) -> list[int]:
    """Head 1's best tokens, each from a forward pass over the whole text, up to a tie."""
    text, device = list(prompt), model.embedding.weight.device
    for _ in range(NEW):
        best = model(torch.tensor([text], device=device), k=1)[0][0, -1].topk(2)
        if best.values[0] - best.values[1] < TIE:
            break
        text.append(int(best.indices[0]))
    return text[len(prompt) :]


@pytest.mark.parametrize("head", HEADS)
def test_greedy_decoding_is_decoding_without_caches(head: str, slow_device: str) -> None:
    """In float32, for every k. The model has learned a little, so some drafts are accepted."""
    model = copy.deepcopy(trained(head)).to(slow_device, torch.float32)
    want = [without_cache(model, prompt) for prompt in PROMPTS]
    assert sum(map(len, want)) > len(PROMPTS) * NEW / 2  # few ties
    for k in range(1, model.config.n + 1):
        found = generate(model, PROMPTS, NEW, k)
        assert [t[: len(w)] for t, w in zip(found.tokens, want, strict=True)] == want, k
        assert k == 1 or found.tokens_per_forward > 1.1


@pytest.mark.parametrize("k", [1, 4])
def test_compiled_decoding_is_eager_decoding(k: int, slow_device: str) -> None:
    model = copy.deepcopy(trained("parallel")).to(slow_device, torch.float32)
    want = [without_cache(model, prompt) for prompt in PROMPTS]
    found = generate(model, PROMPTS, NEW, k, compiled=True)
    assert [t[: len(w)] for t, w in zip(found.tokens, want, strict=True)] == want
