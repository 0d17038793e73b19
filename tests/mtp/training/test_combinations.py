"""Any combination of objective, head type, start and execution trains, resumes bit for bit and
decodes exactly, whatever the scheme, or is refused in one line that names the fields."""

import random
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtp.checkpoint import run_config
from mtp.config import TrainConfig
from mtp.decoding.generate import generate
from mtp.errors import BadInput
from mtp.model.loading import load_model
from mtp.overrides import override
from mtp.training.finetune import override_from_start
from mtp.training.run import train
from tests.mtp.training.combinations import (
    AXES,
    DEFAULTS,
    FIELDS,
    FIRST,
    RULES,
    Combination,
    Pair,
    Values,
    broken,
    cover,
    name_of,
    random_values,
    refused_pairs,
    values_of,
    with_one_head,
    with_pair,
)
from tests.mtp.training.helpers import Make, assert_same_run, rows, train_in_parts

STEPS = 4
CONTEXT = 32
COVER = cover(seed=6)  # of several seeds the one with the fewest
COMBINATIONS = COVER + with_one_head(COVER, 2)
REFUSED = refused_pairs()
# Relative, of losses and gradient norms in float32. Heads that begin as copies of head 1 have s = p
# where two tokens with the same past follow each other; the gradient of tv jumps there, so that
# rounding decides.
TOLERANCES = {"ce": 1e-5, "kl": 1e-5, "tv": 5e-3}


def base(make_config: Make) -> TrainConfig:
    config = make_config(tokens=STEPS * 4 * CONTEXT, save_every=2, log_every=1, warmup=1)
    return override(config, ["model.layers=4", "model.dim=16"])


def assignments(values: Values, start: Path | str = "START") -> list[str]:
    return [f"{name}={value}".replace("START", str(start)) for name, value in values.items()]


@pytest.fixture(scope="module")
def start(make_config: Make, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one head, from which others start."""
    folder = tmp_path_factory.mktemp("start") / "run"
    train(override(base(make_config), ["model.n=1"]), folder, data)
    return folder


# --------------------------------------------------------------------------------------------------
# what makes sense


def measured(folder: Path) -> Tensor:
    """The losses of heads and terms and the gradient norm of each step, (STEPS, ..)."""
    return torch.tensor(
        [[*row["loss"], *row.get("terms", {}).values(), row["grad_norm"]] for row in rows(folder)],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("combination", COMBINATIONS, ids=name_of)
def test_a_combination_trains_resumes_and_decodes(
    combination: Combination,
    make_config: Make,
    data: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = assignments(values_of(combination), start)
    config = override_from_start(base(make_config), given)
    whole, parts, reference = tmp_path / "whole", tmp_path / "parts", tmp_path / "reference"
    train(config, whole, data)
    assert override(run_config(whole), given) == run_config(whole)
    assert measured(whole).isfinite().all()

    train_in_parts(config, parts, data, 3, monkeypatch)  # the checkpoint is of step 2
    assert_same_run(parts, whole)

    defined = override(config, ["scheme=plain", "micro=0", "recompute=0"])
    if defined != config:
        train(defined, reference, data)
        rtol = TOLERANCES[combination["loss"]]
        torch.testing.assert_close(measured(whole), measured(reference), rtol=rtol, atol=0)

    model = load_model(whole).double()
    prompts = torch.randint(256, (2, 7), generator=torch.Generator().manual_seed(0)).tolist()
    expected = generate(model, prompts, 9, k=1).tokens
    for k in range(2, config.model.n + 1):
        assert generate(model, prompts, 9, k=k).tokens == expected


def test_each_pair_of_values_is_trained_or_refused() -> None:
    trained = {(a, c[a], b, c[b]) for c in COVER for a, b in combinations(AXES, 2) if c["n"] != "1"}
    for a, b in combinations(AXES, 2):
        for pair in ((a, x, b, y) for x in AXES[a] for y in AXES[b]):
            assert (pair in trained) != (pair in REFUSED), pair


def test_each_value_is_trained_with_several_heads() -> None:
    for axis, values in AXES.items():
        trained = {c[axis] for c in COMBINATIONS if int(c["n"]) > 1}
        assert trained == set(values), axis
    assert {c["n"] for c in COMBINATIONS} == {"1", "2", "3"}


# --------------------------------------------------------------------------------------------------
# what does not


def refusal(make_config: Make, values: Values) -> str:
    """The message, one line; empty if the config is accepted."""
    try:
        override(base(make_config), assignments(values))
    except BadInput as error:
        assert str(error) and "\n" not in str(error)
        return str(error)
    return ""


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: "{}={} {}={}".format(*pair))
def test_a_pair_is_refused_in_one_line_that_names_its_fields(pair: Pair, make_config: Make) -> None:
    values = values_of(with_pair(pair))
    (rule,) = broken(values)
    message = refusal(make_config, values)
    assert message and all(word in message for word in rule.words), message


@pytest.mark.parametrize("values", [
    {"objective.weights": "1,0.5", "model.n": 3},
    {"objective.schedule": "ramp:0.5"},
    {"objective.token_weights": "trigger"},
    {"objective.targets": "shuffled", "batch": 3},
    {"batch": 3, "micro": 2},
    {"freeze": "trunk"},
    {"freeze": "trunk", "init": "START", "model.n": 1},
    {"freeze": "trunk", "init": "START", "objective.schedule": "decay:0:0:0"},
    {"freeze": "trunk", "init": "START", "objective.weights": "1,0,0", "model.n": 3},
    {"objective.order_window": 5},
    {"objective.bag_window": 3},
    {"objective.latent_steps": 2},
    {"objective.embedding_steps": 2},
    {"objective.embedding_loss": "infonce"},
    {"objective.embedding_target": "average"},
    {"objective.embedding": 0.25, "objective.embedding_decay": 0.5},
], ids=str)  # fmt: skip
def test_other_values_are_refused_in_one_line_that_names_them(
    values: Values, make_config: Make
) -> None:
    (rule,) = broken(values)
    message = refusal(make_config, values)
    assert message and all(word in message for word in rule.words), message


def test_the_rules_agree_with_the_configs(make_config: Make) -> None:
    rng, accepted, seen = random.Random(0), 0, set[int]()
    for _ in range(1000):
        values = random_values(rng)
        rules, message = broken(values), refusal(make_config, values)
        assert bool(rules) == bool(message), (values, message)
        if message:
            assert any(all(word in message for word in rule.words) for rule in rules), message
        accepted += not message
        seen |= {id(rule) for rule in rules}
    assert 200 < accepted < 800
    assert len(seen) == len(RULES)  # each was broken at times


def test_the_rules_read_the_fields_that_combinations_set(make_config: Make) -> None:
    assert not refusal(make_config, DEFAULTS)
    execution = {"scheme", "recompute"}  # which no rule reads
    assert {name for c in COVER for name in values_of(c)} <= FIELDS.keys() | execution
    assert not any(broken(values_of(c)) for c in (FIRST, *COMBINATIONS))
