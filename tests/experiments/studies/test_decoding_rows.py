"""The decoding studies on made-up rows: arms, contrasts, the A/A band, findings and figures."""

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from experiments import results
from experiments.changes import Changes
from experiments.contrasts import sentences
from experiments.decoding_rows import ALONG, Band, bands, by_way, split_metric
from experiments.figures import save
from experiments.studies import decoding, decoding_bytes
from experiments.study import find, plan, run_folder
from mtp.config import TrainConfig
from mtp.model.sizes import parameter_counts, run_flops_per_token
from tests.experiments.test_figures import faults

STUDIES = ("decoding", "decoding-bytes")
MODULES = {"decoding": decoding, "decoding-bytes": decoding_bytes}
Rows = dict[str, float]


def measures(study: str, config: TrainConfig) -> Rows:
    """What a run might have measured."""
    n, seed = config.model.n, config.seed
    found = {"bits per byte": 1.6 + 0.03 * n + 0.02 * (config.model.layers < 6) + 0.002 * seed}
    if n == 1:
        found |= {f"bits per byte, {line}": 1.8 for line in ("bigram", "5-gram", "xz")}
    kinds = ["code", "prose"] if study == "decoding" else ["code"]
    for domain, kind in itertools.product(kinds, ("human", "own")):
        where = f"{domain}, {kind} text"
        found[f"distinct 4-grams (%), {where}"] = 97.0 if kind == "human" else 52.0
        easy = (0.2 if kind == "human" else 0.3) - 0.05 * (domain == "prose")
        found |= {
            f"tokens per forward, {where}, k={k}": 1 + easy * (k - 1) + 0.01 * seed
            for k in range(2, n + 1)
        }
    if n == 1:
        return found
    heads = [k for k in (1, 2, 4, 8) if k <= n] if n == 8 else range(1, n + 1)
    ways = {f"chain, k={k}": 1 + 0.1 * (k - 1) for k in heads}
    ways |= {"n=1 model": 0.7, "n=1 model, half": 1.8}
    for domain, batch in itertools.product(kinds, MODULES[study].SETTINGS["cpu"].batches):
        slower = 1.1 - 0.1 * float(batch) ** 0.5
        found |= {
            f"speedup, {domain}, {way}, batch {batch}": speed * slower + 0.01 * seed
            for way, speed in ways.items()
        }
        found[f"speedup, {domain}, chain, k=1, batch {batch}"] = 1.0
        again = f"speedup, {domain}, chain, k=1 again, batch {batch}"
        found |= {again: 1.01 + 0.015 * seed, f"{again}, lowest of 5 repeats": 0.95}
        found[f"{again}, highest of 5 repeats"] = 1.06
    return found


def rows_for(
    study: str, scale: str = "cpu", keep: Callable[[TrainConfig], bool] = lambda c: True
) -> pd.DataFrame:
    rows = []
    for config in filter(keep, plan(find(study), scale)):
        common = {name: "x" for name in results.COLUMNS} | {
            "study": study, "scale": scale, "run_id": run_folder(config, Path()).name,
            "arm": find(study).arm(config), "seed": config.seed, "n": config.model.n,
            "size": "0.3M", "head": "parallel", "data": "installed, bpe", "count": 64,
            "step": 1098, "device": "cpu", "changed": "",
        }  # fmt: skip
        found = measures(study, config)
        rows += [common | {"metric": metric, "value": value} for metric, value in found.items()]
    return pd.DataFrame(rows, columns=results.COLUMNS)


# --------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("scale", decoding.STUDY.scales)
def test_arms_of_decoding_are_the_same_for_every_seed(scale: str) -> None:
    configs = plan(decoding.STUDY, scale)
    arms = ["n=4", "n=1", "n=1, half"]
    if scale == "night":
        arms = ["n=4", "n=4 linear", "n=4 causal", *arms[1:]]
        arms += ["n=4, 0.48M tokens", "n=4, 2.4M tokens"]
    if scale == "paper":
        arms.pop()
    seeds = configs[-1].seed + 1
    assert seeds == {"cpu": 3, "night": 3, "gpu": 2}.get(scale, 1)
    assert [decoding.arm_of(config) for config in configs] == arms * seeds


@pytest.mark.parametrize("study", STUDIES)
def test_the_cpu_scale_has_eight_tokens_per_parameter_and_fits_twenty_minutes(study: str) -> None:
    configs = plan(find(study), "cpu")
    for config in configs:
        assert config.tokens >= 8 * parameter_counts(config.model)["non_embedding"]
        setting = MODULES[study].SETTINGS["cpu"]
        assert setting.length + config.model.n <= config.model.context, "every place is followed"
    flops = sum(run_flops_per_token(config) * config.tokens for config in configs)
    assert flops < 60e9 * 12 * 60
    if study == "decoding":
        one, half = (c for c in configs if c.model.n == 1 and c.seed == 0)
        assert half.model.layers * 2 == one.model.layers
    assert len({(c.data, c.tokens, c.batch, c.lr) for c in configs}) == 1


def test_arms_of_bytes_differ_in_n_alone() -> None:
    for scale in decoding_bytes.STUDY.scales:
        configs = plan(decoding_bytes.STUDY, scale)
        several = (1, 8, 16, 32) if scale in ("gpu", "paper") else (1, 4, 8)
        seeds = configs[-1].seed + 1
        assert [decoding_bytes.arm_of(c) for c in configs] == [f"n={n}" for n in several] * seeds
        assert {(c.model.head, c.model.vocab, c.data.tokenizer) for c in configs} == {
            ("replicated", 258, "bytes")
        }
        assert len({(c.model.layers, c.tokens, c.epochs, c.batch) for c in configs}) == 1


def test_an_override_keeps_the_names() -> None:
    configs = plan(decoding.STUDY, "smoke", Changes(("lr=1e-3", "model.dim=48", "tokens=384")))
    assert [decoding.arm_of(config) for config in configs] == ["n=4", "n=1", "n=1, half"]


# --------------------------------------------------------------------------------------------------
# contrasts


@pytest.mark.parametrize("study", STUDIES)
def test_every_contrast_has_its_arms_in_the_rows(study: str) -> None:
    rows = rows_for(study)
    for each in find(study).contrasts:
        found = each.of(rows)
        assert found and list(found.by_seed) == [0, 1, 2], each.name
    assert not any("no seed" in line for line in sentences(find(study).contrasts, rows))


def test_ways_of_one_run_are_compared_within_it() -> None:
    rows = rows_for("decoding")
    asked = {each.name: each for each in decoding.CONTRASTS}
    own = asked["own text, code"].of(rows)
    assert own and own.by_seed == pytest.approx({0: 0.3, 1: 0.3, 2: 0.3})
    assert asked["own text, code"].formula == (
        "(n=4, k=4, code, own text) - (n=4, k=4, code, human text)"
    )
    control = asked["A/A"].of(rows)
    assert control and control.by_seed == pytest.approx({0: 0.01, 1: 0.025, 2: 0.04})
    against = asked["against n=1"].of(rows)
    assert against and against.by_seed == pytest.approx({0: 0.6, 1: 0.6, 2: 0.6})
    slow = asked["batch 32"].of(rows)
    assert slow and slow.mean == pytest.approx(1.3 * (1.1 - 0.1 * 32**0.5) + 0.01 - 1)
    price = asked["price"].of(rows)
    assert price and price.mean == pytest.approx(0.09)


def test_rows_by_way_keep_the_others() -> None:
    rows = rows_for("decoding")
    more = by_way(rows)
    assert more[: len(rows)].equals(rows.reset_index(drop=True))
    arms = set(more[more.metric == "speed over k=1, prose, batch 8"].arm)
    assert arms == {
        *(f"n=4, k={k}" for k in ("1", "2", "3", "4", "1 again")),
        "n=1 beside n=4",
        "half n=1 beside n=4",
    }
    assert (more.metric == ALONG).sum() == 3 * 2 * 2 * 3  # seeds, domains, kinds, k


def test_the_band_is_that_of_the_control() -> None:
    rows = rows_for("decoding")
    found = bands(rows)
    assert list(found) == [1, 8, 32] and {*map(str, found.values())} == {"0.95 to 1.06"}
    wider = rows.assign(value=rows.value.where(~rows.metric.str.contains("lowest"), 0.95**2))
    assert bands(pd.concat([rows, wider], ignore_index=True))[8].low == pytest.approx(
        0.95**1.5
    )  # geometric
    assert bands(rows[~rows.metric.str.contains("again")]) == {}
    band = Band(0.9, 1.2)
    assert [band.judge(v) for v in (0.8, 0.9, 1.2, 1.21)] == ["below", "within", "within", "above"]
    assert str(band) == "0.90 to 1.20"


def test_patterns_split_metrics() -> None:
    rows = pd.DataFrame({"metric": ["a, k=2, batch 16", "b", "a, k=x, batch 1", "a, k=3, batch 1"]})
    found = split_metric(rows, r"^a, k=(?P<k>\d+), batch (?P<batch>\d+)$")
    assert found[["k", "batch"]].to_numpy().tolist() == [[2, 16], [3, 1]]


# --------------------------------------------------------------------------------------------------
# findings and figures


def test_findings_name_the_band_and_the_contrasts() -> None:
    text = decoding.finding(rows_for("decoding"))
    assert "Speedup at batch 1 on code (A/A 0.95 to 1.06): k=2 1.11 (" in text
    assert "k=2 1.11 (1.10 to 1.12) above, k=3 1.21 (1.20 to 1.22) above, k=4" in text
    assert "own text, code" in text and "against n=1" in text and "price, (n=4) - (n=1)" in text
    text = decoding_bytes.finding(rows_for("decoding-bytes"))
    assert "(A/A 0.95 to 1.06): n=4 1.31 with k=4 above, n=8 1.71 with k=8 above" in text
    assert "further heads" in text and "price of 4" in text


CASES: dict[str, Callable[[TrainConfig], bool]] = {
    "all": lambda c: True,
    "one seed": lambda c: c.seed == 0,
    "n=1 alone": lambda c: c.model.n == 1,
    "several heads alone": lambda c: c.model.n > 1,
    "one run": lambda c: c.seed == 1 and c.model.n == 4,
    "uneven seeds": lambda c: c.seed <= (0 if c.model.n == 1 else 2),
}


@pytest.mark.parametrize(("study", "case"), itertools.product(STUDIES, CASES))
def test_figures_are_drawn_of_what_there_is(study: str, case: str, tmp_path: Path) -> None:
    rows = rows_for(study, keep=CASES[case])
    picture = find(study).figure(rows, results.paper())
    assert faults(picture) == []
    points = [sum(len(c.get_offsets()) for c in axes.collections) for axes in picture.axes]  # type: ignore[arg-type]
    if case == "all":  # k by seed, kind and arm
        assert points[1] == 3 * 3 * 4 if study == "decoding" else 3 * 2 * (3 + 7)
        assert points[2] == (4 + 2 if study == "decoding" else 3 + 4 + 1) * (3 + 1)
    if case == "n=1 alone":
        assert sum(points) == 0 and find(study).finding(rows).startswith("No run with n > 1")
    labels = [label for axes in picture.axes for label in axes.get_legend_handles_labels()[1]]
    assert ("k=1 again (A/A)" in labels) == (case != "n=1 alone")
    assert ("52% distinct" in " ".join(labels)) == (case != "n=1 alone")
    if case == "all":
        _, png = save(picture, tmp_path / "a")
        assert matplotlib.image.imread(png).shape[0] > 400
    plt.close(picture)


def test_night_s_other_arms_do_not_change_what_is_shown() -> None:
    rows = rows_for("decoding", "night")
    assert decoding.main_arm(rows) == "n=4"
    picture = decoding.figure(rows, results.paper())
    assert faults(picture) == []
    plt.close(picture)
