"""Heads grown on a trained model: the study's arms, what it says of rows, its runs at smoke scale
through the command line, and the runs that begin so."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from experiments import results
from experiments.changes import Changes
from experiments.contrasts import sentences
from experiments.studies.grow_heads import (
    BITS,
    CONSTANT,
    CONTRASTS,
    COPIES,
    FORWARD,
    SECOND,
    arm_of,
    finding,
    paired,
)
from experiments.study import STREAM, find, plan, run_name
from mtp.config import ModelConfig, TrainConfig
from mtp.data.order import shuffled
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.head_types import HEADS as TYPES
from mtp.model.loading import load_model
from mtp.model.sizes import run_flops_per_token
from mtp.model.surgery import grow_heads
from mtp.overrides import from_dict, to_json
from mtp.training.finetune import override_from_start, save_start_weights
from tests.conftest import Cli, Result
from tests.experiments.test_figures import faults
from tests.mtp.training.helpers import SHAPE, a_run

STUDY = find("grow-heads")
BASES = ["base, n=1", "base, linear"]
GROWN = ["n=1", "linear", "+3", "+3, frozen", "+3, frozen first", "+3, detached"]
OLD = "linear, from the start"
ARMS = [*BASES, *GROWN, OLD]


@pytest.fixture
def run(cli: Cli, tmp_path: Path, data: Path) -> Any:
    def command(name: str, *args: str) -> Result:
        places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
        return cli(name, "grow-heads", "--scale", "smoke", *places, "--data", str(data), *args)

    return command


# --------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("scale", ["smoke", "cpu", "night", "gpu"])
def test_each_arm_goes_on_from_the_base_that_it_is_named_for(scale: str) -> None:
    configs = plan(STUDY, scale)
    by_name = {run_name(config): config for config in configs}
    assert len(by_name) == len(configs)
    names, seeds = [arm_of(config) for config in configs], configs[-1].seed % STREAM + 1
    assert names == names[: len(names) // seeds] * seeds
    assert names[: len(names) // seeds][: len(ARMS)] == ARMS or scale == "night"
    assert set(ARMS) <= set(names)
    for config in configs:
        chain = [config]
        while chain[-1].init:
            chain.append(by_name[chain[-1].init])
        places = [each.seed for each in reversed(chain)]  # a stream of its own for each link
        assert places == [chain[-1].seed + STREAM * i for i in range(len(chain))]
        arm, base = arm_of(config), arm_of(chain[-1])
        old = "from the start" in arm
        assert base == (f"base, {arm.split(',')[0]}" if old else base)
        assert len(chain) == 1 or old or base == "base, n=1"
        assert len(chain) == (1 if "base" in arm else 3 if "frozen first" in arm else 2)
    for seed in range(seeds):
        ends = {"n=1", "linear", "+3", "+3, frozen first", "+3, detached", OLD}
        own = [c for c in configs if c.seed % STREAM == seed and arm_of(c) in ends]
        assert len({total(c, by_name) for c in own}) == 1, "as many tokens in all"


def total(config: TrainConfig, by_name: dict[str, TrainConfig]) -> float:
    before = total(by_name[config.init], by_name) if config.init else 0.0
    return before + config.tokens


def test_the_bases_are_runs_of_the_sweeps() -> None:
    for scale in ("smoke", "cpu", "gpu"):
        bases = {run_name(c) for c in STUDY.runs(scale) if not c.init and c.seed == 0}
        assert bases <= {run_name(c) for c in plan(find("sweep-heads"), scale)}


def test_arms_differ_in_what_they_are_named_for() -> None:
    arms = {arm_of(config): config for config in reversed(plan(STUDY, "night"))}
    assert len(arms) == 13
    for arm, config in arms.items():
        model = config.model
        assert config.objective.detach == ("detached" in arm)
        assert (config.freeze == "trunk") == arm.endswith(", frozen")
        assert model.n == (1 if "n=1" in arm else 4) and ("linear" in arm) == (
            model.head == "linear"
        )
        assert model.extra_layers == 3 * ("+3" in arm)
    assert arms["+0"].model.trunk_layers == arms["n=1"].model.trunk_layers - 3
    assert {c.lr for c in arms.values() if c.init} == {arms["base, n=1"].lr / 2}


def test_little_of_what_follows_has_been_seen() -> None:
    """The streams of seed and seed + 100 share no more windows than chance lets them."""
    windows, base, more = 158_811, 11_719, 7_812  # at cpu scale
    for seed in range(3):
        first = shuffled(np.arange(base), windows, seed, 0)
        then = shuffled(np.arange(more), windows, seed + STREAM, 0)
        share = len(np.intersect1d(first, then)) / more
        assert share == pytest.approx(base / windows, abs=0.01)


def test_the_cpu_scale_fits_its_budget() -> None:
    flops = sum(c.tokens * run_flops_per_token(c) for c in plan(STUDY, "cpu"))
    assert flops < 65e12


def test_overrides_reach_the_bases_and_the_whole_chain() -> None:
    for overrides in ((), ("model.dim=64",), ("tokens=1000",)):
        configs = plan(STUDY, "smoke", Changes(overrides))
        assert [arm_of(config) for config in configs] == ARMS
        names = [run_name(config) for config in configs]
        for i, config in enumerate(configs):
            assert config.init in ["", *names[:i]], "what a run begins with stands before it"
    configs = plan(STUDY, "paper")
    assert {each.init for each in configs} == {"llama-2-7b"}
    assert [arm_of(config) for config in configs] == ["n=1", "linear", "+0", "+3"]


def test_other_seeds_keep_their_distance() -> None:
    configs = plan(STUDY, "smoke", Changes(seeds=(5, 7)))
    assert [arm_of(config) for config in configs] == ARMS * 2
    assert {c.seed for c in configs} == {s + d for s in (5, 7) for d in (0, 100, 200)}
    with pytest.raises(BadInput, match="--seeds must be below 100 for grow-heads"):
        plan(STUDY, "smoke", Changes(seeds=(0, 100)))


# --------------------------------------------------------------------------------------------------
# what is said

COST = {"base, n=1": 0.1, "base, linear": 0.2, "n=1": 0.0, "linear": 0.05, OLD: 0.12}
COST |= {"+3": 0.04, "+3, frozen first": 0.045, "+3, detached": 0.001, "+3, frozen": 0.1}
DRAFTS = {"base, linear": 1.5, "linear": 1.4, OLD: 1.6, "+3": 1.55, "+3, frozen first": 1.552}
DRAFTS |= {"+3, detached": 1.45, "+3, frozen": 1.3}


def made_up(scale: str = "cpu", seeds: int = 3) -> pd.DataFrame:
    """Rows as the runs of a scale would give them; seeds differ more than arms, but evenly."""
    rows = []
    for config in plan(STUDY, scale):
        arm, seed = arm_of(config), config.seed % STREAM
        if seed >= seeds:
            continue
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": scale, "run_id": run_name(config), "arm": arm, "seed": config.seed,
            "n": config.model.n, "head": config.model.head, "unit": "token", "size": "0.2M",
            "data": "installed, bpe-512", "count": 100, "step": 488, "changed": "",
            "device": "cpu, 1 thread",
        }  # fmt: skip
        noise = 0.001 * ((seed + 1) * (len(arm) + 1) % 3 - 1)
        measured = {BITS: 1.6 + COST.get(arm, 0.1) + 0.2 * seed + noise, COPIES: 1.1, CONSTANT: 1.2}
        if config.model.n > 1:
            measured[FORWARD] = DRAFTS.get(arm, 1.4) + 0.2 * seed + noise
            measured[SECOND] = 20 * DRAFTS.get(arm, 1.4)
        else:
            measured |= {f"{BITS}, {name}": 1.9 for name in ("5-gram", "xz")}
        rows += [common | {"metric": name, "value": value} for name, value in measured.items()]
    return pd.DataFrame(rows, columns=results.COLUMNS)


def test_contrasts_pair_the_arms_by_the_seed_of_their_base() -> None:
    rows = made_up()
    assert sorted(set(rows.seed)) == [0, 1, 2, 100, 101, 102, 200, 201, 202]
    assert sorted(set(paired(rows).seed)) == [0, 1, 2]
    for each in CONTRASTS:
        assert each.arms.keys() <= set(ARMS)
        found = each.of(rows)
        assert found and len(found.by_seed) == 3, each.name
    said = sentences(CONTRASTS, rows)
    assert all(each.endswith("as predicted") for each in said), said
    assert "pretrained, (linear, from the start) - (linear): +0.200 tokens" in finding(rows)


def test_missing_arms_and_seeds() -> None:
    rows = made_up()
    assert "pretrained" not in finding(rows[rows.arm != OLD])
    assert "undecided with 1 seed" in finding(rows[rows.seed % STREAM == 1])
    paper = finding(made_up("paper"))
    assert "cost, linear, (linear) - (n=1): " in paper and "pretrained" not in paper
    assert "nothing to compare" in finding(rows[rows.arm == "n=1"])


@pytest.mark.parametrize("scale", ["cpu", "night"])
def test_the_figure_shows_every_run_and_can_be_read(scale: str) -> None:
    rows = made_up(scale)
    figure = STUDY.figure(rows, results.paper())
    assert faults(figure) == []
    points = [sum(len(c.get_offsets()) for c in a.collections) for a in figure.axes]  # type: ignore[arg-type]
    assert points[0] == rows.run_id.nunique()
    assert points[2] == rows[rows.n > 1].run_id.nunique()
    assert "3 seeds" in " ".join(text.get_text().replace("\n", " ") for text in figure.texts)
    plt.close(figure)


def test_a_figure_of_what_there_is() -> None:
    rows = made_up()
    for part in (rows[rows.arm != "n=1"], rows[(rows.seed == 0) & (rows.n == 1)]):
        plt.close(STUDY.figure(part, results.paper()))


# --------------------------------------------------------------------------------------------------
# the runs


def test_the_bases_are_trained_first_and_each_arm_begins_with_one(run: Any, tmp_path: Path) -> None:
    fast = ("--set", "tokens=640", "--set", "model.layers=3")
    result = run("run", "--launcher", "debug", *fast)
    if "waits for" in result.err:  # a run of the third level waits for the next call
        result = run("run", "--launcher", "debug", *fast)
    assert result.code == 0, result.err
    rows = results.read(tmp_path / "results" / "grow-heads" / "smoke-model.layers=3,tokens=640.csv")
    assert not rows.duplicated(["run_id", "metric"]).any() and rows.value.notna().all()
    first = rows.drop_duplicates("run_id").set_index("arm")
    assert list(first.index) == ARMS and list(first.seed) == [0, 0, *[100] * 4, 200, 100, 100]
    for arm, start in ((OLD, "base, linear"), ("+3, frozen first", "+3, frozen"), ("+3", BASES[0])):
        folder = tmp_path / "runs" / first.run_id[arm]
        assert json.loads((folder / "config.json").read_text())["init"] == first.run_id[start]
    values = rows.pivot(index="arm", columns="metric", values="value")
    assert values[BITS]["+3, frozen"] == pytest.approx(values[BITS]["base, n=1"], abs=1e-9)
    assert values[COPIES]["+3, frozen"] == values[COPIES]["base, n=1"]
    assert values[BITS]["+3, detached"] == pytest.approx(values[BITS]["n=1"], abs=0.02)
    drafted = values[FORWARD].dropna()
    assert set(drafted.index) == {arm for arm in ARMS if "n=1" not in arm}
    assert drafted.between(1, 4).all()
    assert "9 runs, 9 finished" in run("run", *fast).out


def test_without_its_base_a_run_waits(run: Any, tmp_path: Path) -> None:
    base, linear, *_ = plan(STUDY, "smoke")
    failed = {"state": "failed", "step": 0, "error": "the disk was full"}
    for name in (run_name(base), run_name(linear)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "status.json").write_text(json.dumps(failed))
    result = run("run", "--launcher", "debug")
    assert result.code == 2
    assert result.err.count(f"waits for {run_name(base)}, which it begins with") == 5
    assert f"{run_name(base)}, base, n=1 seed=0: FAILED at step 0: the disk was full" in result.err
    reported = "error: 2 runs failed; run again with --retry once the cause is gone"
    assert result.err.splitlines()[-1] == reported  # the same command would wait again
    assert not list((tmp_path / "runs").glob("*/checkpoint"))


@pytest.mark.parametrize(
    ("head", "extra"),
    [
        *((head, 0) for head in TYPES),
        *((head, row.layers(3) - row.layers(1)) for head, row in TYPES.items() if row.grows_layers),
    ],
)
def test_a_run_begins_with_heads_grown(head: Any, extra: int, tmp_path: Path) -> None:
    """As mtp.convert grow makes them; `init` is a path, or the name of a run beside."""
    model = a_run(tmp_path / "start", n=1)
    given = ["model.n=3", f"model.head={head}", f"model.extra_layers={extra}", "epochs=1"]
    base = TrainConfig(tokens=1e6, model=model.config)
    config = override_from_start(base, [f"init={tmp_path / 'start'}", *given, "tokens=0"])
    expected = grow_heads(model, 3, head, matched=TYPES[head].grows_layers and not extra)
    assert config.model == expected.config
    assert "n=1 -> 3" in save_start_weights(config, ByteTokenizer(), tmp_path / "run")
    named = ["init=start", *given, "tokens=0"]
    beside = override_from_start(base, named, tmp_path / "another")
    assert (beside.model, beside.init) == (config.model, "start")
    save_start_weights(beside, ByteTokenizer(), tmp_path / "another")
    for name in ("run", "another"):
        (tmp_path / name / "config.json").write_text(to_json(beside))
        made = load_model(tmp_path / name).state_dict()
        assert all(torch.equal(w, made[key]) for key, w in expected.state_dict().items())


def test_heads_that_cannot_be_grown(tmp_path: Path) -> None:
    a_run(tmp_path / "start", n=2)
    base = TrainConfig(tokens=1e6, model=from_dict(ModelConfig, SHAPE))
    init = f"init={tmp_path / 'start'}"
    with pytest.raises(BadInput, match="2 parallel heads; drop them before growing linear ones"):
        override_from_start(base, [init, "model.n=3", "model.head=linear"])
    config = override_from_start(base, [init, "model.n=3", "model.extra_layers=2"])
    with pytest.raises(
        BadInput, match=r"extra_layers 1 -> 2: new heads add their own layers alone"
    ):
        save_start_weights(config, ByteTokenizer(), tmp_path / "run")
