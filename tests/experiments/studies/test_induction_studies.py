"""The studies of induction: arms, contrasts, plans, and figures of made-up rows."""

import dataclasses
import math
from pathlib import Path
from typing import cast

import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

from evals.probes import attention
from evals.probes.induction import Question
from experiments import results
from experiments.changes import Changes
from experiments.contrasts import sentences
from experiments.name_copying import HELD_OUT, arm_of
from experiments.studies import synthetic_induction_books as books
from experiments.studies import synthetic_induction_heads as heads
from experiments.study import find, plan
from mtp.config import ModelConfig, TrainConfig
from mtp.data.sources import generator_options
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import run_flops_per_token
from tests.conftest import Cli
from tests.experiments.studies.induction_rows import rows_of
from tests.experiments.test_figures import faults

NAME = "synthetic-induction"
CPU = ["n=1, random", "n=2 +1 layer, random", "n=1, cyclic", "n=2 +1 layer, cyclic"]
ANY = {books.ANY: 25.0, books.BYTES: 2.6}
CENSORED = 1e9


def when(arm: str, seed: int) -> float:
    """As predicted."""
    base = 900 + 140 * seed
    slow = 1.6 if arm.startswith("n=2") else 1.0
    if "cyclic" in arm:
        return base / 2 * (0.75 if slow > 1 else 1)
    return base * slow * (7 if "books" in arm else 4 if "no calls" in arm else 1)


def path(config: TrainConfig) -> int:
    """Layers to the next token."""
    return config.model.trunk_layers + 1


# --------------------------------------------------------------------------------------------------
# arms and plans


def test_the_cpu_scale_has_four_arms_and_three_seeds_within_its_budget() -> None:
    configs = plan(find(NAME), "cpu")
    assert [arm_of(config) for config in configs] == CPU * 3
    assert [config.seed for config in configs] == [0] * 4 + [1] * 4 + [2] * 4
    assert {path(config) for config in configs} == {4}, "n=2 has n=1's path"
    assert len({(c.batch, c.tokens, c.lr, c.data.vocab, c.keep_every) for c in configs}) == 1
    assert sum(run_flops_per_token(c) * c.tokens for c in configs) < 60e12


def test_the_night_scale_has_every_arm_in_both_orders() -> None:
    configs = plan(find(NAME), "night")
    by_arm = {arm_of(config): config for config in configs}
    arms = ["n=1", "n=1 short", "n=2", "n=2 +1 layer", "n=2 +1 layer ramped"]
    wanted = [f"{arm}, {order}" for order in ("random", "cyclic") for arm in arms]
    assert list(by_arm) == [*wanted, "n=1, no calls", "n=2 +1 layer, no calls"]
    assert len(configs) == 10 * len(by_arm)
    assert {arm: path(by_arm[f"{arm}, random"]) for arm in arms} == {
        "n=1": 4, "n=1 short": 3, "n=2": 3, "n=2 +1 layer": 4, "n=2 +1 layer ramped": 4,
    }  # fmt: skip
    ramped, plain = (by_arm[f"n=2 +1 layer{end}, cyclic"] for end in (" ramped", ""))
    assert ramped.objective.schedule == "ramp:0.2:0.4"
    assert dataclasses.replace(ramped, objective=plain.objective) == plain
    without, one = by_arm["n=1, no calls"], by_arm["n=1, random"]
    assert without.tokens == 3 * one.tokens and without.model == one.model
    assert generator_options(without.data.source)[1] == {"count": "72000", "order": "none"}
    assert sum(run_flops_per_token(c) * c.tokens for c in configs) < 2e15


@pytest.mark.parametrize("changed", ["model.dim=32", "lr=1e-3", "keep_every=50", "tokens=1e6"])
def test_an_override_keeps_the_names(changed: str) -> None:
    for scale in ("cpu", "night"):
        before, after = (plan(find(NAME), scale, c) for c in (Changes(), Changes((changed,))))
        assert [arm_of(config) for config in after] == [arm_of(config) for config in before]


def test_contrasts_are_of_arms_that_there_are() -> None:
    night = {find(NAME).arm(config) for config in plan(find(NAME), "night")}
    for each in find(NAME).contrasts:
        assert each.arms.keys() <= night
    cpu = [each.name for each in find(NAME).contrasts if each.arms.keys() <= set(CPU)]
    assert cpu == [
        "n=2, random", "n=2, cyclic", "interaction", "interaction, nats", "cost, random",
        "cost, cyclic",
    ]  # fmt: skip
    with_text = {books.arm_with_text(config) for config in plan(find(f"{NAME}-books"), "night")}
    assert {arm for each in books.CONTRASTS for arm in each.arms} == with_text
    assert {arm.split(":")[0] for each in heads.CONTRASTS for arm in each.arms} == set(CPU)


@pytest.mark.parametrize("scale", ["smoke", "cpu", "night", "gpu", "paper"])
def test_heads_share_all_seeds_of_the_largest_size(scale: str) -> None:
    mine, theirs = plan(find(f"{NAME}-heads"), scale), plan(find(NAME), scale)
    assert set(mine) <= set(theirs) and {c.seed for c in mine} == {c.seed for c in theirs}
    assert {c.model.dim for c in mine} == {max(c.model.dim for c in theirs)}
    arms = list(dict.fromkeys(map(arm_of, mine)))
    assert arms == (["n=1", "n=2"] if scale == "paper" else CPU)


@pytest.mark.parametrize("scale", ["night", "gpu"])
def test_books_are_added_to_as_many_stories(scale: str) -> None:
    configs = plan(find(f"{NAME}-books"), scale)
    alone = [c for c in configs if not c.data.source.startswith("mix:")]
    mixed = [c for c in configs if c.data.source.startswith("mix:9*files:data/books|1*")]
    assert len(mixed) == len(alone) == len(configs) / 2
    for with_books, config in zip(sorted(mixed, key=key), sorted(alone, key=key), strict=True):
        assert with_books.tokens == 10 * config.tokens
        assert with_books.data.source.endswith(f"|1*{config.data.source}")
        keys = ("model", "batch", "seed", "lr")
        assert all(getattr(with_books, name) == getattr(config, name) for name in keys)
        assert with_books.tokens / with_books.batch / config.model.context > 400 * 2


def key(config: TrainConfig) -> tuple[int, int, int]:
    return config.model.dim, config.model.n, config.seed


def test_without_books_the_study_is_refused_in_a_line(cli: Cli, tmp_path: Path) -> None:
    result = cli("run", f"{NAME}-books", "--scale", "night", "--data", str(tmp_path))
    assert result.code == 2 and result.err.count("\n") == 1
    assert "data/books: no such file or folder" in result.err


# --------------------------------------------------------------------------------------------------
# what rows say


SHOWN = [(NAME, "cpu", 3), (NAME, "night", 3), (f"{NAME}-heads", "cpu", 3)]


@pytest.mark.parametrize(("name", "scale", "seeds"), [*SHOWN, (f"{NAME}-books", "night", 3)])
def test_predictions_hold_where_rows_are_as_predicted(name: str, scale: str, seeds: int) -> None:
    rows = rows_of(name, scale, when, seeds, ANY)
    rows.loc[(rows.metric == HELD_OUT) & (rows.n == 2), "value"] += 0.1
    study = find(name)
    found = {each.name: each.of(rows) for each in study.contrasts}
    if scale == "cpu" and name == NAME:
        assert [name for name, each in found.items() if each is None] == [
            "depth", "equal size", "ramp", "no calls",
        ]  # fmt: skip
    skip = ("ramp", "no calls")  # made up otherwise
    for each in study.contrasts:
        if (contrast := found[each.name]) and each.name not in skip:
            assert each.outcome(contrast) == "holds", each.name
    text = study.finding(rows)
    if name == NAME:
        assert "random: later, median " in text and "as predicted" in text
    figure = study.figure(rows, results.paper())
    assert faults(figure) == []
    plt.close(figure)


@pytest.mark.parametrize("name", [NAME, f"{NAME}-heads", f"{NAME}-books"])
def test_rows_with_missing_arms_and_seeds_are_drawn(name: str) -> None:
    scale = "night" if name.endswith("books") else "cpu"
    rows = rows_of(name, scale, lambda arm, seed: CENSORED if seed else 700, 2, ANY)
    arms = list(rows.arm.unique())
    few = [rows[rows.arm == arms[0]], rows[~((rows.arm == arms[1]) & (rows.seed == 0))]]
    for some in few:
        figure = find(name).figure(some, results.paper())
        plt.close(figure)
    for some in (*few, rows[rows.seed == 0], rows[rows.seed == 1], rows[rows.arm != arms[-1]]):
        assert find(name).finding(some).endswith(".") and sentences(find(name).contrasts, some)


def test_a_censored_arm_is_later_by_the_log_rank_test_and_a_bound_in_the_contrast() -> None:
    def late(arm: str, seed: int) -> float:
        return CENSORED if arm == "n=2 +1 layer, random" else when(arm, seed)

    rows = rows_of(NAME, "cpu", late, 3, ANY)
    text = find(NAME).finding(rows)
    assert "random: later, median none against 1050 steps, log-rank p = 0.1" in text
    assert "0 of 3 seeds against 3 of 3 by 2099" in text
    assert "undecided with 3 seeds (3 of 3 differences are bounds)" in text


def test_stories_are_counted_where_books_are_added() -> None:
    rows = rows_of(f"{NAME}-books", "night", when, 2, ANY)
    table = books.of_stories(rows)
    steps = {arm: own.time.tolist() for arm, own in table.groupby("arm")}
    for n in ("n=1", "n=2 +1 layer"):
        for alone, mixed in zip(steps[f"{n}, stories"], steps[f"{n}, with books"], strict=True):
            assert mixed == pytest.approx(0.7 * alone, abs=70), "seven times as late, a tenth each"
    # with fewer bytes of a token, a step has fewer stories
    fewer = rows.copy()
    fewer.loc[(rows.metric == books.BYTES) & rows.arm.str.endswith("books"), "value"] = 1.3
    halved = books.of_stories(fewer)
    mixed = table.arm.str.endswith("books")
    assert halved[mixed].time.tolist() == pytest.approx((table[mixed].time / 2).tolist())
    assert halved.time.max() <= 2441 / 2 + 1, "until the first run ends"


# --------------------------------------------------------------------------------------------------
# attention heads


def test_scores_are_means_over_all_questions() -> None:
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=2, attn_heads=2, vocab=40, context=12)
    model = MultiTokenTransformer(config)
    one, two = [1, 7, 8, 2, 7, 8, 3, 7, 8], [4, 9, 5, 6, 9, 5]
    asked = [Question(one, 4, True), Question(one, 7, True), Question(two, 4, True)]
    found, even = heads.scores(model, asked)
    slow, level = torch.zeros(2, 2), 0.0
    for question in asked:
        at, tokens = question.at, question.tokens
        after = [s + 1 for s in range(at) if tokens[s] == tokens[at]]
        weights = attention.maps(model, torch.tensor(tokens))
        slow += weights[:, :, at, after].sum(-1) / 3
        level += len(after) / (at + 1) / 3
    assert torch.allclose(found, slow) and math.isclose(even, level, rel_tol=1e-5)


def test_points_join_score_and_names() -> None:
    rows = rows_of(f"{NAME}-heads", "cpu", when, 1, {})
    both = heads.points(rows)
    assert len(both) == 4 * 30 and set(both.arm) == set(CPU)
    high = cast(pd.DataFrame, both[both.score > 0.5])
    assert (high.right == 90).all() and (both[both.score < 0.5].right == 20).all()
