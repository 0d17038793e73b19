"""sweep-bytes: its arms, what they weigh and take, and what the study says of rows."""

import math
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments import results
from experiments.changes import Changes
from experiments.contrasts import sentences
from experiments.studies import sweep_bytes
from experiments.studies.sweep_bytes import BITS, CONTRASTS, LONG, PLAIN, WORK, arm_of, finding
from experiments.study import find, plan, run_name
from mtp.config import CorpusConfig, TrainConfig
from mtp.data.corpus import build
from mtp.model.sizes import flops_per_token
from mtp.objective_config import base_weights
from tests.conftest import Cli, bytes_model
from tests.experiments.test_figures import faults

STUDY = find("sweep-bytes")
CPU = ["tokens", "n=1", LONG, "n=2", "n=4", "n=8", PLAIN]


def arms_of(scale: str) -> dict[str, TrainConfig]:
    return {arm_of(config): config for config in reversed(plan(STUDY, scale))}


# --------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("scale", STUDY.scales)
def test_each_seed_has_every_arm_once(scale: str) -> None:
    configs = plan(STUDY, scale)
    names, seeds = [arm_of(config) for config in configs], configs[-1].seed + 1
    assert names == names[: len(names) // seeds] * seeds
    assert len(set(names)) * seeds == len(names) == len({run_name(c) for c in configs})


def test_the_arms_of_the_scales() -> None:
    assert [arm_of(config) for config in plan(STUDY, "cpu")] == CPU * 3
    night = arms_of("night")
    assert night.keys() > set(CPU) and len(night) == 16
    kinds = {f"n={n}{kind}" for n in (4, 8, 16) for kind in ("", ", plain sum", ", ramped")}
    assert kinds <= night.keys() and "n=2, plain sum" not in night
    paper = ["tokens", *(f"n={n}" + " replicated" * (n > 1) for n in (1, 8, 16, 32))]
    assert [arm_of(config) for config in plan(STUDY, "paper")] == paper
    assert [arm_of(config) for config in plan(STUDY, "gpu")] == paper * 2


def test_all_see_as_much_text_in_as_many_steps_and_have_the_same_layers() -> None:
    arms = arms_of("cpu")
    longer = arms.pop(LONG)
    assert {config.epochs for config in arms.values()} == {0.04}
    assert {config.batch for config in arms.values()} == {8}
    assert {config.model.trunk_layers for name, config in arms.items() if name != "tokens"} == {6}
    assert arms["tokens"].model.context * 2 == arms["n=8"].model.context == 256
    took = longer.epochs * flops_per_token(longer.model)
    assert took == pytest.approx(0.04 * flops_per_token(arms["n=8"].model), rel=1e-3)


def test_heads_beyond_the_first_weigh_one_in_all_or_one_each() -> None:
    for name, config in arms_of("night").items():
        head, *others = base_weights(config.objective.weights, config.model.n)
        each = name.endswith(("plain sum", "ramped"))
        total = config.model.n - 1 if each else min(1, config.model.n - 1)
        assert head == 1 and sum(others) == pytest.approx(total, abs=1e-5)
        assert config.objective.schedule == ("ramp:0.2:0.4" if "ramped" in name else "constant")


def test_overrides_keep_the_names() -> None:
    for overrides in (("lr=1e-3",), ("model.dim=96", "batch=16"), ("data.source=stdlib",)):
        configs = plan(STUDY, "cpu", Changes(overrides, seeds=(4,)))
        assert [arm_of(config) for config in configs] == CPU
    weighted = plan(STUDY, "cpu", Changes(("objective.weights=geometric:0.5",), seeds=(4,)))
    assert arm_of(weighted[-1]) == "n=8, weights geometric:0.5"


def test_contrasts_are_of_arms_that_there_are() -> None:
    for each in CONTRASTS:
        assert each.arms.keys() <= set(CPU), each.name


def test_four_lies_between_one_and_eight_in_flops() -> None:
    arms = arms_of("cpu")
    one, four, eight = (flops_per_token(arms[f"n={n}"].model) for n in (1, 4, 8))
    share = math.log(four / one) / math.log(eight / one)
    (asked,) = (each for each in CONTRASTS if each.name == "FLOPs, n=4")
    assert -asked.arms[LONG] == pytest.approx(share, abs=0.005)


# --------------------------------------------------------------------------------------------------
# measuring


def test_reference_lines_are_of_the_text_alone(texts: Path, data: Path) -> None:
    corpus = build(CorpusConfig(f"files:{texts}", "bytes", validation=0.3), data)
    assert sweep_bytes.references(bytes_model(64), corpus, "smoke") == []  # n=2
    from mtp.model.surgery import drop_heads

    found = sweep_bytes.references(drop_heads(bytes_model(64)), corpus, "smoke")
    values = {m.metric.removeprefix(f"{BITS}, "): m.value or 0.0 for m in found}
    orders = [f"{name} of bytes" for name in ("unigram", "bigram", "5-gram", "7-gram")]
    assert list(values) == [*orders, "xz"]
    assert values["7-gram of bytes"] < values["bigram of bytes"] < values["unigram of bytes"] < 8
    assert sweep_bytes.references(drop_heads(bytes_model(64)), corpus, "paper") == []


# --------------------------------------------------------------------------------------------------
# what is said

COST = {"n=1": 0.0, LONG: -0.10, "n=2": 0.08, "n=4": 0.09, "n=8": 0.085, PLAIN: 0.3, "tokens": -0.2}


def made_up(scale: str = "cpu", seeds: int = 3) -> pd.DataFrame:
    """Rows as the runs of a scale would give them; seeds differ by less than the margin."""
    rows = []
    for config in plan(STUDY, scale):
        if config.seed >= seeds:
            continue
        arm, n = arm_of(config), config.model.n
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": scale, "run_id": run_name(config), "arm": arm, "seed": config.seed, "n": n,
            "unit": "byte" if config.data.tokenizer == "bytes" else "token", "size": "0.2M",
            "head": config.model.head, "data": "installed, bytes", "count": 100,
            "step": round(2e4 * config.epochs), "changed": "", "device": "cpu, 1 thread",
        }  # fmt: skip
        noise = 0.002 * ((config.seed + 1) * (n + len(arm)) % 3 - 1)
        measured = {
            BITS: 2.1 + COST.get(arm, 0.1) + 0.01 * config.seed + noise,
            "accuracy, head 1 (%)": 60.0,
            WORK: flops_per_token(config.model) * config.model.context / 1e9,
        }
        if n == 1:
            measured |= {f"{BITS}, {line}": 2.3 for line in sweep_bytes.LINES}
        rows += [common | {"metric": name, "value": value} for name, value in measured.items()]
    return pd.DataFrame(rows, columns=results.COLUMNS)


def test_the_predictions_are_judged() -> None:
    said = sentences(CONTRASTS, made_up())
    assert len(said) == len(CONTRASTS) and all(each.endswith("as predicted") for each in said)
    text = finding(made_up())
    assert "starving, (n=8, plain sum) - (n=8): +0.2" in text and "[" in text
    assert "n for tokens" in text and "two bytes" not in text


def test_equal_flops_are_read_between_the_budgets_of_one() -> None:
    (asked,) = (each for each in CONTRASTS if each.name == "FLOPs, n=4")
    found = asked.of(made_up())
    share = sweep_bytes.between(4)
    assert found and found.mean == pytest.approx(0.09 - share * -0.10, abs=0.005)


def test_missing_arms_and_seeds() -> None:
    rows = made_up()
    assert "eight bytes" not in finding(rows[rows.arm != "n=8"])
    assert "undecided with 1 seed" in finding(rows[rows.seed == 1])
    only = finding(rows[rows.arm.isin(["n=1", "tokens"])])
    assert only.startswith("Held-out bits per byte (lower is better): n=1 has")
    assert "nothing to compare" in finding(rows[rows.arm == "tokens"])


@pytest.mark.parametrize("scale", ["cpu", "night", "gpu"])
def test_the_figure_shows_every_run_and_can_be_read(scale: str) -> None:
    rows, paper = made_up(scale), results.paper()
    figure = STUDY.figure(rows, paper)
    assert faults(figure) == []
    points = [sum(len(c.get_offsets()) for c in a.collections) for a in figure.axes]  # type: ignore[arg-type]
    assert points[0] == rows.run_id.nunique()
    assert points[2] == rows[rows.unit == "byte"].run_id.nunique()
    plt.close(figure)


def test_a_figure_of_what_there_is() -> None:
    rows = made_up()
    for part in (rows[rows.arm != "n=1"], rows[(rows.seed == 0) & (rows.arm == "tokens")]):
        plt.close(STUDY.figure(part, results.paper()))


def test_runs_from_the_command_line(cli: Cli, tmp_path: Path, data: Path) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", "--set", "model.layers=2")
    result = cli("run", "sweep-bytes", *fast, *places)
    assert result.code == 0, result.err
    rows = results.read(tmp_path / "sweep-bytes" / "smoke-model.layers=2.csv")
    names = [name for name in CPU if name != "n=4"]
    assert list(dict.fromkeys(rows.arm)) == names and not rows.value.isna().any()
    counts = rows[rows.metric == BITS].groupby("unit")["count"].unique()
    assert all(len(each) == 1 for each in counts)  # all of a unit are judged on the same targets
    xz = rows[rows.metric == f"{BITS}, xz"].value
    assert len(xz) == 3 and xz.max() == xz.min()  # of either tokenizer
    steps = rows.drop_duplicates("arm").set_index("arm").step
    equal = steps[["n=1", "n=2", "n=8", PLAIN]]
    assert equal.nunique() == 1 and steps[LONG] > equal.iloc[0]
    assert "eight bytes, (n=8) - (n=1): " in result.out
    assert "FLOPs, n=4: no seed has its arms" in result.out
