"""freeze=trunk: what heads 2..n do not share with head 1 moves, and nothing else."""

from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from mtp.config import TrainConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.loading import load_model
from mtp.objective.objective import Objective
from mtp.training.finetune import override_from_start
from mtp.training.run import train
from tests.mtp.training.helpers import Make, a_run, assert_same_run, on_ranks, train_in_parts

ALONE = [head for head in HEADS if HEADS[head].first_is_alone(3)]
CASES = [(head, "ce") for head in ALONE] + [
    (head, loss) for head in ("parallel", "sequential", "replicated") for loss in ("kl", "tv")
]
STEPS = 8


@pytest.fixture
def frozen(make_config: Make, tmp_path: Path) -> Callable[..., TrainConfig]:
    """A config that trains the heads of a run with this head type."""

    def make(head: str, *assignments: str) -> TrainConfig:
        start = tmp_path / f"start-{head}"
        if not start.exists():
            a_run(start, 0, ByteTokenizer(), head=head)
        base = make_config(tokens=STEPS * 4 * 48, log_every=1, warmup=2)
        own = [f"init={start}", "freeze=trunk", "model.context=48", *assignments]
        return override_from_start(base, own)

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_model(folder).named_parameters())


@pytest.mark.parametrize(("head", "loss"), CASES)
def test_the_heads_alone_move(
    head: str, loss: str, frozen: Callable[..., TrainConfig], data: Path, tmp_path: Path
) -> None:
    config = frozen(
        head, f"objective.loss={loss}", "scheme=sequential" if loss == "tv" else "micro=2"
    )
    train(config, tmp_path / "run", data)
    before, after = weights(Path(config.init)), weights(tmp_path / "run")
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    group = "unembeddings" if head == "replicated" else "heads"
    assert moved == {n for n in after if n.startswith((f"{group}.1.", f"{group}.2."))} != set()


@pytest.mark.parametrize("head", ALONE)
def test_grown_heads_leave_the_next_token_model_as_it_is(
    head: str, frozen: Callable[..., TrainConfig], data: Path, tmp_path: Path
) -> None:
    """Their layers are added to the model: a frozen trunk could not make up for lost ones."""
    a_run(tmp_path / f"start-{head}", 0, ByteTokenizer(), n=1)
    config = frozen(head, "model.n=3", f"model.head={head}")
    train(config, tmp_path / "run", data)
    start, run = load_model(Path(config.init)), load_model(tmp_path / "run")
    tokens = torch.randint(256, (2, 40))
    with torch.no_grad():
        torch.testing.assert_close(run(tokens)[0], start(tokens)[0], rtol=0, atol=0)
    assert run.config.n == 3


def test_a_cut_run_ends_like_a_whole_one(
    frozen: Callable[..., TrainConfig], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = frozen("parallel", "save_every=2", "objective.loss=kl")
    train(config, tmp_path / "whole", data)
    train_in_parts(config, tmp_path / "parts", data, 5, monkeypatch)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_two_processes_train_as_one_does(
    frozen: Callable[..., TrainConfig], data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    config = frozen("parallel", "objective.loss=kl")
    train(config, tmp_path / "one", data)
    assert on_ranks(processes, 2, [(config, tmp_path / "two")], data) == [0, 0]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


def test_what_makes_no_sense_is_refused(
    frozen: Callable[..., TrainConfig], make_config: Make
) -> None:
    with pytest.raises(BadInput, match="freeze=trunk needs a trained trunk; set init"):
        make_config(freeze="trunk")
    with pytest.raises(BadInput, match="nothing to train: head 1 has no other heads"):
        frozen("parallel", "model.n=1")
    with pytest.raises(BadInput, match=r"objective\.order nothing to train"):
        frozen("parallel", "objective.order=1")
    with pytest.raises(BadInput, match="head 1 reads through the other anticausal heads"):
        frozen("anticausal")
    with pytest.raises(BadInput, match="balance=gradient weighs what heads do to the trunk"):
        frozen("linear", "objective.balance=gradient")
    for nothing in ("weights=1,0,0", "schedule=ramp:1:1", "schedule=decay:0:0:0"):
        with pytest.raises(BadInput, match=r"give heads 2\.\.3 the weight 0 throughout"):
            frozen("linear", f"objective.{nothing}")
    with pytest.raises(BadInput, match="give head 2 the weight 0 throughout"):
        frozen("linear", "model.n=2", "objective.weights=1,0")
    frozen("linear", "objective.schedule=ramp:0:1")


def test_the_clip_counts_what_is_trained(frozen: Callable[..., TrainConfig]) -> None:
    objective = Objective(frozen("linear", "objective.weights=1000,1,3"), "cpu")
    objective.begin_step(0.0)
    assert float(objective.total_weight) == 4
    assert Objective(frozen("linear"), "cpu").total_weight == 2
