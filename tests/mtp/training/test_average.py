"""The averaged copy of the model that is a term's target: it starts as the model, follows it, is
saved, and stays out of what is evaluated."""

import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mtp import checkpoint
from mtp.config import TrainConfig
from mtp.model import loading
from mtp.model.model import AUXILIARY
from mtp.training.finetune import override_from_start
from mtp.training.run import train
from mtp.training.trainer import Trainer
from tests.mtp.training.helpers import (
    Make,
    Runs,
    assert_same_run,
    final_weights,
    on_ranks,
    rows,
    train_in_parts,
    trainer,
)

COPY = f"{AUXILIARY}embedding.average."
AVERAGE: dict[str, Any] = {"embedding": 0.5, "embedding_target": "average", "embedding_decay": 0.5}


def six_steps(make_config: Make, **changes: Any) -> TrainConfig:
    objective = AVERAGE | changes.pop("objective", {})
    values = {"tokens": 6 * 4 * 32, "log_every": 1, "save_every": 3, "objective": objective}
    return make_config(**values | changes)


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averages, by the names of what they average."""
    return {n.removeprefix(COPY): w.clone() for n, w in weights.items() if n.startswith(COPY)}


def weights_of(run: Trainer) -> dict[str, Tensor]:
    return {name: w.detach() for name, w in run.trainable.weights().items()}


HEADS_READ = {  # the modules of three heads that head 1 reads through
    "parallel": {"heads.0"},
    "anticausal": {"heads.0", "heads.1", "heads.2"},
    "sequential-shared": {"heads.0"},
    "replicated": set(),
}


@pytest.mark.parametrize("head", HEADS_READ)
def test_the_copy_is_what_head_1_needs(
    head: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    run = trainer(six_steps(make_config, model={"head": head, "n": 3, "layers": 5}), tmp_path, data)
    weights = weights_of(run)
    found = copied(weights)
    assert {".".join(n.split(".")[:2]) for n in found if "heads" in n} == HEADS_READ[head]
    trunk = {n for n in weights if n.startswith(("trunk.", "embedding.", "norm."))}
    assert {n for n in found if "heads" not in n} == trunk
    assert all(torch.equal(w, weights[n]) for n, w in found.items()), "it starts as the model"
    tokens = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(0))
    model = run.trainable.model
    (copy,) = model.copies().values()
    assert torch.equal(copy.first_latent(tokens), model.normed(model.latents(tokens, 1)[0]))


@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("precision", ["float32", "bf16", "autocast"])
def test_the_average_has_the_closed_form(
    precision: str, decay: float, make_config: Make, data: Path, tmp_path: Path
) -> None:
    """d^k w_0 + (1 - d) sum over j = 1..k of d^(k-j) w_j, in float32 whatever the precision."""
    objective = {"embedding_decay": decay}
    config = six_steps(make_config, precision=precision, objective=objective, lr=0.01)
    run = trainer(config, tmp_path, data)
    names = list(copied(weights_of(run)))
    expected = {name: weights_of(run)[name].double() for name in names}
    for _ in range(4):
        run.train_step()
        now = weights_of(run)
        expected = {n: decay * w + (1 - decay) * now[n].double() for n, w in expected.items()}
    got = copied(weights_of(run))
    assert all(w.dtype == torch.float32 for w in got.values())
    same = {n: w.float() for n, w in expected.items()}
    torch.testing.assert_close(got, same, rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(w, weights_of(run)[n]) for n, w in got.items()) == (decay > 0)
    for name, p in run.trainable.model.named_parameters():
        if name.startswith(COPY):
            assert torch.equal(p.float(), got[name.removeprefix(COPY)].to(p.dtype).float())
            assert p.grad is None and name not in run.trainable.trained()


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("parallel", {}),
        ("anticausal", {"micro": 2, "scheme": "sequential"}),
        ("parallel", {"precision": "bf16", "objective": {"embedding_loss": "infonce"}}),
    ],
)
def test_a_run_resumes_bit_for_bit_and_the_model_has_no_copy(
    head: str,
    changes: dict[str, Any],
    make_config: Make,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = six_steps(make_config, model={"head": head}, keep_every=3, **changes)
    whole = tmp_path / "whole"
    train(config, whole, data)
    train_in_parts(config, tmp_path / "parts", data, 4, monkeypatch)
    assert_same_run(tmp_path / "parts", whole)

    assert all("embedding" in row["terms"] for row in rows(whole))
    assert all(row["collapse"]["embedding"]["effective_rank"] > 1 for row in rows(whole))
    saved = checkpoint.newest_of(whole).weights()
    assert copied(saved) and not any("exp_avg" in n and COPY in n for n in final_weights(whole))
    own = {name for name in saved if not name.startswith(AUXILIARY)}
    model = loading.load_model(whole)
    assert {name for name, _ in model.named_parameters()} == own
    assert load_file(checkpoint.kept_file(whole, 6)).keys() == own


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_run_with_init_starts_the_copy_as_the_weights_it_begins_with(
    precision: str, make_config: Make, data: Path, tmp_path: Path
) -> None:
    """Also if the start has had a copy, which is another."""
    start = tmp_path / "start"
    train(six_steps(make_config), start, data)
    had = checkpoint.newest_of(start).weights()
    config = six_steps(make_config, precision=precision)
    run = trainer(override_from_start(config, [f"init={start}"], tmp_path), tmp_path / "run", data)
    for name, weight in copied(weights_of(run)).items():
        assert torch.equal(weight, had[name]) and not torch.equal(had[name], had[COPY + name])
        model = dict(run.trainable.model.named_parameters())
        assert torch.equal(model[name], model[COPY + name])


def to_step_3(run: Path, copy: Path) -> Path:
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoint" / "step-00000006")
    return copy


def test_two_processes_train_as_one_does_and_go_on_from_one_anothers_checkpoints(
    make_config: Make, data: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    cases: dict[str, dict[str, Any]] = {
        "cosine": {"recompute": 2, "micro": 1},
        "infonce": {"model": {"head": "anticausal"}, "objective": {"embedding_loss": "infonce"}},
    }
    todo: Runs = []
    for name, changes in cases.items():
        config = six_steps(make_config, clip=0.5, **changes)
        train(config, tmp_path / name / "one", data)
        todo.append((config, tmp_path / name / "two"))
        moved = to_step_3(tmp_path / name / "one", tmp_path / name / "one, then two")
        todo.append((config, moved))
    assert on_ranks(processes, 2, todo, data) == [0, 0]
    config, two = todo[0]
    back = to_step_3(two, two.with_name("two, then one"))
    train(config, back, data)
    for folder in (*(folder for _, folder in todo), back):
        reference = folder.with_name("one")
        for a, b in zip(rows(folder), rows(reference), strict=True):
            for key in ("loss", "terms", "grad_norm"):
                assert a[key] == pytest.approx(b[key], rel=1e-4), key
        got, want = final_weights(folder), final_weights(reference)
        assert copied(got)
        torch.testing.assert_close(got, want, rtol=0.01, atol=1e-3)
