"""Any combination of objective, head type and execution trains, resumes bit for bit and decodes
exactly, or is refused in one line. Which ones are refused is written down here once more."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from mtp.config import TrainConfig
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.head_types import HEADS
from mtp.model.loading import load_model
from mtp.overrides import config_id, override
from mtp.training.run import train
from tests.mtp.training.helpers import Make, assert_same_run, train_in_parts

STEPS = 6
CONTEXT = 32
TOLD = ("sequential", "sequential-shared", "inject")  # head 2 reads x[t+1]
Values = dict[str, Any]


def some(*values: Any) -> SearchStrategy[Any]:
    """The first one, the default, as often as all others."""
    return st.sampled_from([*[values[0]] * (len(values) - 1), *values[1:]])


weight = some(0.0, 0.25)
AXES: dict[str, SearchStrategy[Any]] = {
    "model.head": st.sampled_from(sorted(HEADS)),
    "model.n": st.sampled_from([1, 2, 3]),
    "scheme": st.sampled_from(["fused", "sequential", "plain"]),
    "micro": st.sampled_from([0, 2]),
    "recompute": some(0, 2),
    "objective.weights": some("equal", "sum1", "geometric:0.5", "1,0.5", "0.5,1,0"),
    "objective.schedule": some(
        "constant", "ramp:0.2:0.6", "decay:0:1:0.1", "forward", "reverse", "ramp:0.5"
    ),
    "objective.balance": some("none", "gradient", "cosine", "uncertainty"),
    "objective.measure_every": some(0, 2),
    "objective.detach": some(False, True),
    "objective.targets": some("ahead", "same", "shuffled"),
    "objective.loss": some("ce", "kl", "tv"),
    "objective.token_weights": some("", "tests.mtp.objective.test_objective:trigger"),
    "objective.order": weight,
    "objective.order_window": some(0, 5),
    "objective.bag": weight,
    "objective.latent": weight,
    "objective.latent_steps": some(1, 2),
    "objective.embedding": weight,
    "objective.embedding_loss": some("cosine", "infonce"),
    "objective.embedding_target": some("tokens", "average"),
    "objective.embedding_decay": some(0.999, 0.5),
}


def refused(v: Values) -> bool:
    """Whether the combination makes no sense."""
    o = {name.removeprefix("objective."): value for name, value in v.items()}
    n, head = v["model.n"], v["model.head"]
    listed = o["weights"].count(",") + 1 if "," in o["weights"] else n
    balanced, taught = o["balance"] != "none", o["loss"] != "ce"
    return (
        listed != n
        or o["schedule"] == "ramp:0.5"
        or (o["detach"] and (o["balance"] in ("gradient", "cosine")))
        or (o["detach"] and n > 1 and head == "anticausal")
        or (taught and (balanced or o["measure_every"] > 0 or o["targets"] != "ahead"))
        or (o["targets"] == "same" and n > 1 and head in TOLD)
        or bool(o["order_window"] and not o["order"])
        or bool(o["latent_steps"] > 1 and not o["latent"])
        or bool(o["embedding_loss"] != "cosine" and not o["embedding"])
        or bool(o["embedding_target"] == "average" and not o["embedding"])
        or bool(o["embedding_decay"] != 0.999 and o["embedding_target"] != "average")
    )


def config_of(values: Values, make_config: Make) -> TrainConfig:
    base = make_config(tokens=STEPS * 4 * CONTEXT, save_every=2, log_every=1, warmup=1)
    given = [f"{name}={value}" for name, value in values.items()]
    return override(base, ["model.layers=4", "model.dim=16", *given])


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=st.fixed_dictionaries(AXES), cut=st.integers(1, STEPS - 1))
def test_a_combination_trains_resumes_and_decodes_or_is_refused(
    values: Values,
    cut: int,
    make_config: Make,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if refused(values):
        with pytest.raises(BadInput) as error:
            config_of(values, make_config)
        assert "\n" not in str(error.value)
        return
    config = config_of(values, make_config)
    run = tmp_path / config_id(config)
    if run.exists():  # the same one again, in another execution
        return
    train(config, run / "whole", data)
    train_in_parts(config, run / "parts", data, cut, monkeypatch)
    assert_same_run(run / "parts", run / "whole")
    model = load_model(run / "whole").double()
    prompts = torch.randint(256, (2, 7), generator=torch.Generator().manual_seed(cut)).tolist()
    with torch.no_grad():
        expected = generate(model, prompts, 9, k=1).tokens
        for k in range(2, config.model.n + 1):
            assert generate(model, prompts, 9, k=k).tokens == expected
