"""The training loop: what a step computes, and what a run logs and saves."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtp.errors import BadInput
from mtp.hardware import has_compiler
from mtp.overrides import config_id
from mtp.training.optimizer import new_optimizer
from mtp.training.run import train
from mtp.training.schedule import first_of_decay, learning_rate
from mtp.training.trainer import Trainer
from tests.conftest import newest_step
from tests.mtp.training.helpers import Make, final_weights, rows, status, trainer


def test_the_mean_of_the_logged_losses_is_of_the_steps_between(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    every = trainer(make_config(), tmp_path / "a", data)
    each = torch.stack([every.train_step()[0] for _ in range(10)]).double()
    train(make_config(tokens=10 * 4 * 32, log_every=4, warmup=5), tmp_path / "b", data)
    logged = [row["loss"] for row in rows(tmp_path / "b")]
    # the schedules of 10 and 40 steps agree during warm-up
    torch.testing.assert_close(torch.tensor(logged[0], dtype=torch.float64), each[:4].mean(0))
    assert [row["step"] for row in rows(tmp_path / "b")] == [4, 8, 10]


def test_the_learning_rate_warms_up_and_decays_to_its_ratio(make_config: Make) -> None:
    config = make_config(lr=1.0, warmup=10, min_lr=0.1)
    rates = [learning_rate(config, step, 110) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[4] == pytest.approx(0.5)
    assert rates[9] == rates[10] == 1.0 == max(rates)
    assert rates[109] == pytest.approx(0.1) == pytest.approx(min(rates[10:]))
    middle = 10 + 99 / 2  # between peak and end
    around = (learning_rate(config, 59, 110) + learning_rate(config, 60, 110)) / 2
    assert middle == 59.5 and around == pytest.approx(0.55)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    no_warmup = make_config(lr=1.0, warmup=0)
    assert learning_rate(no_warmup, 0, 1) == 1.0  # a run of one step trains at the peak
    assert all(math.isfinite(learning_rate(make_config(warmup=50), s, 20)) for s in range(20))


def test_a_wsd_schedule_is_constant_before_its_last_share(make_config: Make) -> None:
    """Runs of different budgets have the same rates until the shorter one decays, so that the
    shorter run's beginning is the longer one's."""
    config = make_config(lr=1.0, warmup=10, min_lr=0.1, lr_schedule="wsd:0.2")
    long, short = ([learning_rate(config, s, steps) for s in range(steps)] for steps in (200, 100))
    assert long[4] == pytest.approx(0.5) and set(long[10:160]) == {1.0}
    assert long[160] < 1 and long[199] == pytest.approx(0.1) and long[179] == pytest.approx(0.55)
    assert long[10:] == sorted(long[10:], reverse=True)
    begin = first_of_decay(config, 100)
    assert begin == 80 and short[:begin] == long[:begin] and short[begin] < long[begin]
    for steps, warmup in ((1, 0), (20, 50), (60, 55)):  # no stable phase, or no warmed-up one
        odd = make_config(lr=1.0, warmup=warmup, lr_schedule="wsd:0.2")
        rates = [learning_rate(odd, step, steps) for step in range(steps)]
        assert all(0 < rate <= 1 for rate in rates)


def test_weight_decay_is_for_matrices_alone(make_config: Make, data: Path, tmp_path: Path) -> None:
    run = trainer(make_config(weight_decay=0.1), tmp_path / "run", data)
    names = {id(w): name for name, w in run.trainable.weights().items()}
    decayed, spared = (
        {names[id(w)] for w in group["params"]} for group in run.optimizer.param_groups
    )
    assert [group["weight_decay"] for group in run.optimizer.param_groups] == [0.1, 0.0]
    assert run.optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    assert spared == {name for name in names.values() if "norm" in name}
    assert decayed | spared == set(names.values()) and not decayed & spared
    # decoupled: without a gradient, a step shrinks matrices by lr * weight_decay
    weights = {"matrix": torch.ones(2, 2), "gain": torch.ones(2)}
    optimizer = new_optimizer(make_config(lr=0.5, weight_decay=0.1), weights)
    for w in weights.values():
        w.grad = torch.zeros_like(w)
    optimizer.step()
    torch.testing.assert_close(weights["matrix"], torch.full((2, 2), 0.95))
    assert torch.equal(weights["gain"], torch.ones(2))


def test_micro_batches_add_up_to_the_batch(make_config: Make, data: Path, tmp_path: Path) -> None:
    runs = [trainer(make_config(micro=m), tmp_path / str(m), data) for m in (0, 2, 1)]
    for _ in range(5):
        results = [run.train_step() for run in runs]
        for losses, norm, rate in results[1:]:
            torch.testing.assert_close(losses, results[0][0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(norm, results[0][1], rtol=1e-4, atol=1e-5)
            assert rate == results[0][2]


@pytest.mark.parametrize(("every", "compile_"), [(1, "off"), (2, "off"), (1, "on")])
def test_recomputed_layers_train_alike(
    every: int, compile_: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    if compile_ == "on" and not has_compiler():
        pytest.skip("needs a C++ compiler")
    kept = trainer(make_config(), tmp_path / "kept", data)
    anew = trainer(make_config(recompute=every, compile=compile_), tmp_path / "anew", data)
    layers = (*anew.trainable.model.trunk, *anew.trainable.model.heads)
    assert [layer.recompute for layer in layers] == [[True] * 3, [False, True, False]][every - 1]
    for _ in range(3):
        losses, norm, _ = anew.train_step()
        torch.testing.assert_close((losses, norm), kept.train_step()[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scheme", ["plain", "sequential"])
def test_every_loss_trains_alike(
    scheme: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    runs = [trainer(make_config(scheme=s), tmp_path / s, data) for s in ("fused", scheme)]
    for _ in range(5):
        a, b = (run.train_step()[0] for run in runs)
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_clipped_gradient_has_the_norm_it_is_clipped_to(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(make_config(clip=0.01), tmp_path / "run", data)
    seen = []

    def look(*_: object) -> None:
        squares = [w.grad.square().sum() for w in run.trainable.weights().values()]  # type: ignore[union-attr]
        seen.append(float(torch.stack(squares).sum().sqrt()))

    monkeypatch.setattr(run.optimizer, "step", look)
    _, norm, _ = run.train_step()
    n = run.config.model.n  # the sum of the weights
    assert n > 1 and float(norm) > 0.1 and seen[0] == pytest.approx(0.01 * n, rel=1e-3)


def test_a_budget_of_epochs_is_one_of_tokens(make_config: Make, data: Path, tmp_path: Path) -> None:
    run = trainer(make_config(tokens=0, epochs=2), tmp_path / "run", data)
    assert run.steps == round(2 * run.corpus.train.tokens / (4 * 32))
    assert run.steps * 4 / run.batches.windows_per_epoch == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("precision", ["bf16", "autocast"])
def test_low_precision_tracks_float32(
    precision: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    exact = trainer(make_config(), tmp_path / "float32", data)
    low = trainer(make_config(precision=precision), tmp_path / precision, data)
    assert all(w.dtype == torch.float32 for w in low.trainable.weights().values())
    want = torch.zeros(2)
    for _ in range(40):
        want = exact.train_step()[0]
        torch.testing.assert_close(low.train_step()[0], want, rtol=0.05, atol=0.05)
    assert want[0] < 4.5  # of ln 258 = 5.55: both learn
    low.save()
    saved = final_weights(tmp_path / precision)
    assert all(w.dtype == torch.float32 for w in saved.values())
    again = trainer(make_config(precision=precision), tmp_path / precision, data)
    assert again.step == 40
    for (name, w), v in zip(
        low.trainable.weights().items(), again.trainable.weights().values(), strict=True
    ):
        assert torch.equal(w, v), name
    assert torch.equal(low.train_step()[0], again.train_step()[0])


def test_the_seed_decides_everything(make_config: Make, data: Path, tmp_path: Path) -> None:
    a, b, c = (
        trainer(make_config(seed=seed), tmp_path / str(i), data).train_step()[0]
        for i, seed in enumerate((0, 0, 1))
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert config_id(make_config(seed=0)) != config_id(make_config(seed=1))


def test_a_periodic_evaluation_needs_held_out_text(
    make_config: Make, data: Path, tmp_path: Path
) -> None:
    config = make_config(eval_every=5, data={"validation": 0.0})
    with pytest.raises(BadInput, match="no validation documents"):
        trainer(config, tmp_path / "run", data)


def test_a_diverging_run_stops_before_it_saves(
    make_config: Make, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = make_config(save_every=1, log_every=10), tmp_path / "run"
    step = Trainer.train_step

    def poisoned(self: Trainer) -> tuple[Tensor, Tensor, float]:
        losses, norm, rate = step(self)
        return losses, norm / 0 if self.step == 4 else norm, rate

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    with pytest.raises(BadInput, match=r"at step 4; choose a smaller lr than 0.003"):
        train(config, folder, data)
    assert newest_step(folder / "checkpoint") == 3
    assert status(folder)["state"] == "failed"
