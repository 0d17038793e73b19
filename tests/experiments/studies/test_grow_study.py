"""Heads grown on a trained model: the study at smoke scale, through the command line, and the runs
that begin so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import results
from experiments.changes import Changes
from experiments.run import beginnings
from experiments.study import find, plan, run_name
from mtp.config import ModelConfig, TrainConfig
from mtp.data.tokenizer import ByteTokenizer
from mtp.errors import BadInput
from mtp.head_types import HEADS as TYPES
from mtp.model.loading import load_model
from mtp.model.surgery import grow_heads
from mtp.overrides import from_dict, to_json
from mtp.training.finetune import override_from_start, save_start_weights
from tests.conftest import Cli, Result
from tests.mtp.training.helpers import SHAPE, a_run

HEADS = ["parallel", "linear", "parallel", "parallel +3 layers"]


@pytest.fixture
def run(cli: Cli, tmp_path: Path, data: Path) -> Any:
    def command(name: str, *args: str) -> Result:
        places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results"))
        return cli(name, "grow-heads", "--scale", "smoke", *places, "--data", str(data), *args)

    return command


def test_the_base_is_trained_first_and_each_variant_begins_with_it(
    run: Any, tmp_path: Path
) -> None:
    result = run("run", "--launcher", "debug")
    assert result.code == 0, result.err
    assert "5 to run by debug" in result.out
    rows = results.read(tmp_path / "results" / "grow-heads" / "smoke.csv")
    assert not rows.duplicated(["run_id", "metric"]).any()
    first = rows.drop_duplicates("run_id")
    assert list(first["head"]) == ["parallel", *(f"{head}, continued" for head in HEADS)]
    assert list(first.n) == [1, 1, 4, 4, 4]
    assert rows.metric.str.fullmatch(r"loss, head \d \(nats\)").sum() == 1 + 1 + 3 * 4
    base = tmp_path / "runs" / first.run_id.iloc[0]
    for name in first.run_id[1:]:
        reported = json.loads((tmp_path / "runs" / name / "config.json").read_text())
        assert reported["init"] == base.name
    assert "5 runs, 5 finished" in run("run").out
    assert (tmp_path / "results" / "grow-heads" / "smoke.svg").exists()


def test_overrides_reach_the_base_too() -> None:
    for overrides in ((), ("model.dim=64",), ("tokens=1000",)):
        base, *others = plan(find("grow-heads"), "smoke", Changes(overrides))
        assert base.init == "" and {each.init for each in others} == {run_name(base)}
        first, second = beginnings([others[0], base], Path("runs")).values()
        assert second == {} and first == {"start": str(Path("runs", run_name(base)).resolve())}
    configs = plan(find("grow-heads"), "paper")
    assert {each.init for each in configs} == {"llama-2-7b"}


def test_without_its_base_a_run_waits(run: Any, tmp_path: Path) -> None:
    base = run_name(plan(find("grow-heads"), "smoke")[0])
    (tmp_path / "runs" / base).mkdir(parents=True)
    failed = {"state": "failed", "step": 0, "error": "the disk was full"}
    (tmp_path / "runs" / base / "status.json").write_text(json.dumps(failed))
    result = run("run", "--launcher", "debug")
    assert result.code == 2 and result.err.count(f"waits for {base}, which it begins with") == 4
    assert f"{base}, n=1 parallel: FAILED at step 0: the disk was full" in result.err
    reported = "error: 1 run failed; run again with --retry once the cause is gone"
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
