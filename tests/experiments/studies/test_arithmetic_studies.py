"""synthetic-polynomials and synthetic-pauses: arms, contrasts, budgets, what is measured, what is
said of made-up rows; and both at smoke scale, through the command line."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from evals.probes import polynomials as probe
from experiments import results
from experiments.arithmetic import (
    ADDITION,
    COMMONEST,
    NATS,
    NLL,
    ONE_OPERAND,
    OPERATORS,
    SCORE,
    SCORED,
    arithmetic,
    base,
    by_length,
    exact,
    largest,
    likely,
    onset_sentence,
    onsets,
    option,
    progress,
)
from experiments.changes import Changes
from experiments.contrasts import sentences
from experiments.studies import synthetic_pauses as pauses
from experiments.studies import synthetic_polynomials as study
from experiments.study import Study, find, plan, run_folder
from mtp.config import ModelConfig, TrainConfig
from mtp.data.corpus import build
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import parameter_counts, run_flops_per_token
from synthetic import polynomials
from tests.conftest import Cli

POLYNOMIALS, PAUSES = find("synthetic-polynomials"), find("synthetic-pauses")
BOTH = (POLYNOMIALS, PAUSES)

# --------------------------------------------------------------------------------------------------
# the plan


@pytest.mark.parametrize("scale", POLYNOMIALS.scales)
def test_arms_have_their_names_once_for_each_seed(scale: str) -> None:
    configs = plan(POLYNOMIALS, scale)
    names = [(study.arm_of(config), config.seed) for config in configs]
    assert len(set(names)) == len(names)
    seeds = {"smoke": 1, "night": 5}.get(scale, 3)
    plain = {"paper": set(study.PLAIN), "night": set(study.ARMS), "gpu": set(study.ARMS)}
    for seed in range(seeds):
        own = {name for name, its in names if its == seed}
        main = {name for name in own if ", d=" not in name}
        assert main == plain.get(scale, set(study.CPU))
        widths = {"night": 64, "paper": 512}
        small = {f"{n}, d={widths[scale]}" for n in study.PLAIN} if scale in widths else set()
        assert {name for name in own if ", d=" in name} == small
    every = {(c.seed, c.data, c.batch, c.tokens, c.model.context) for c in configs}
    assert scale == "paper" or len(every) == seeds, "all of a seed see the same batches"


def test_arms_differ_in_what_they_are_named_for() -> None:
    arms = dict(zip(study.CPU, plan(POLYNOMIALS, "cpu"), strict=False))
    path = {a: c.model.trunk_layers + (a != study.LINEAR) for a, c in arms.items()}
    short = {"n=1, short", "n=4", "n=4, same target"}
    assert {arm for arm, layers in path.items() if layers == 3} == short
    assert all(path[arm] == 6 for arm in arms.keys() - short)
    size = {arm: parameter_counts(c.model)["non_embedding"] for arm, c in arms.items()}
    assert size["n=1"] == size["n=4"] and size["n=4, linear"] < 1.05 * size["n=1"]
    assert arms["n=1, answers 2.5"].objective.token_weights == "labels:answer=2.5"
    assert {arm for arm, c in arms.items() if c.objective.targets != "ahead"} == {study.SAME}


@pytest.mark.parametrize("which", BOTH, ids=lambda s: s.name)
def test_an_override_keeps_the_names(which: Study) -> None:
    names = [which.arm(config) for config in plan(which, "cpu")]
    for changes in (("lr=1e-3", "model.dim=48"), ("lr=4e-3", "tokens=1e5", "keep_every=10")):
        assert [which.arm(config) for config in plan(which, "cpu", Changes(changes))] == names


@pytest.mark.parametrize("which", BOTH, ids=lambda s: s.name)
def test_contrasts_are_of_arms_that_there_are(which: Study) -> None:
    arms = {scale: {which.arm(c) for c in plan(which, scale)} for scale in ("cpu", "night")}
    for each in which.contrasts:
        scale = "night" if "(night)" in each.name else "cpu"
        assert each.arms.keys() <= arms[scale] and each.arms.keys() <= arms["night"], each.name
        assert (each.metric, each.margin) == ((NLL, 0.05) if each.unit == NATS else (SCORE, 2))
    names = [each.name for each in which.contrasts]
    assert len(set(names)) == len(names) and {*study.SAID, *pauses.SAID} & set(names)


@pytest.mark.parametrize("which", BOTH, ids=lambda s: s.name)
def test_the_cpu_scale_fits_twenty_minutes(which: Study) -> None:
    configs = plan(which, "cpu")
    total = sum(run_flops_per_token(config) * config.tokens for config in configs)
    assert total < 65e12
    for config in configs:
        kept = config.tokens / config.batch / config.model.context / config.keep_every
        assert 20 <= kept <= 40


@pytest.mark.parametrize("scale", PAUSES.scales)
def test_runs_without_pauses_are_those_of_polynomials(scale: str) -> None:
    configs = plan(PAUSES, scale)
    mine = {c for c in configs if "pause" not in c.data.source}
    assert mine <= set(plan(POLYNOMIALS, scale))
    doses, heads = pauses.PAUSES.get(scale, pauses.EVERY), pauses.heads(scale)
    extra = 2 * 5 if scale == "night" else 0  # a random filler
    assert len(configs) == len(mine) * len(doses) + extra and len(mine) % len(heads) == 0
    assert {c.model.dim for c in configs} == {base(scale)[-1].model.dim}


def test_pauses_are_named() -> None:
    own = base("night")[-1]
    names = [pauses.arm_of(pauses.paused(own, p, "night")) for p in (0, 1, 3)]
    assert names == ["n=1", "n=1, 1 pause", "n=1, 3 pauses"]
    assert pauses.arm_of(pauses.paused(own, 3, "night", 20)) == "n=1, 3 random pauses"


@pytest.mark.parametrize("scale", ["cpu", "night", "gpu", "paper"])
@pytest.mark.parametrize("pause", pauses.EVERY)
def test_a_run_with_pauses_sees_as_many_problems(scale: str, pause: int) -> None:
    plain, problem = base(scale)[-1], pauses.PROBLEM[scale]
    config = pauses.paused(plain, pause, scale)
    assert config.tokens / (problem + pause) == pytest.approx(plain.tokens / problem, rel=1e-6)
    assert config.data.source == plain.data.source + (f",pause={pause}" if pause else "")
    assert (config == plain) == (pause == 0)


@pytest.mark.parametrize("scale", ["cpu", "night", "paper"])
def test_a_problem_is_about_as_long_as_said(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polynomials, "CHUNK", 1000)
    assert base("gpu")[-1].data.source.split(",count")[0] in base("paper")[-1].data.source
    assert pauses.PROBLEM["gpu"] == pauses.PROBLEM["paper"]
    options = base(scale)[-1].data.source.partition("?")[2]
    task = dict(part.split("=") for part in options.split(",")) | {"count": "4000"}
    for pause in (0, 3):
        texts = polynomials.documents(task | {"pause": str(pause)})
        length = sum(len(text) + 2 for text in texts) / 4000  # bos and eos too
        assert length == pytest.approx(pauses.PROBLEM[scale] + pause, rel=0.02)


@pytest.mark.parametrize("scale", ["cpu", "night"])
def test_no_problem_comes_again_because_the_corpus_ends(scale: str) -> None:
    for config in plan(PAUSES, scale):
        count = option(pd.DataFrame({"data": [config.data.source]}), "count", 0)
        pause = option(pd.DataFrame({"data": [config.data.source]}), "pause", 0)
        length = pauses.PROBLEM[scale] + pause
        assert config.tokens < 0.99 * count * length * (1 - config.data.validation)


# --------------------------------------------------------------------------------------------------
# measured


def test_both_outcomes_are_measured_by_kind_and_length(data: Path) -> None:
    config = base("smoke")[0]
    corpus = build(config.data, data, progress=False)
    small = ModelConfig(dim=16, layers=2, attn_heads=2, vocab=258, context=64)
    model = MultiTokenTransformer(small)
    rows = {row.metric: row for row in arithmetic(model, corpus, "smoke")}
    task = probe.task_of(corpus)
    found = {s: probe.marks(model, corpus, task.exam(s, 40)) for s in OPERATORS}
    for sign, name in OPERATORS.items():
        assert rows[exact(name)].value == pytest.approx(100 * found[sign].exact)
        assert rows[likely(name)].value == pytest.approx(found[sign].nats)
        assert rows[exact(name)].count == (4 if sign == "-" else 40)
    score = [rows[exact(OPERATORS[sign])].value or 0 for sign in SCORED]
    assert rows[SCORE].value == pytest.approx(sum(score) / 3) and rows[SCORE].count == 120
    assert rows[NLL].value == pytest.approx(sum(found[s].nats for s in SCORED) / 3)
    for m in (2, 3, 4):
        asked = [*dict.fromkeys(task.problems(m, 40))]
        assert rows[exact(f"m={m}")].count == len(asked)
        guess = rows[exact(f"m={m}", COMMONEST)].value
        assert guess == pytest.approx(100 * probe.commonest_answer(asked))
    for who in (COMMONEST, ONE_OPERAND):
        each = [rows[exact(OPERATORS[sign], who)].value or 0 for sign in SCORED]
        assert rows[exact("m=1", who)].value == pytest.approx(sum(each) / 3)
        assert all(0 < share < 40 for share in each)
    then = {row.metric: row.value for row in progress(model, corpus, "smoke")}
    assert then[ADDITION] == rows[exact("addition")].value and not then.keys() & rows.keys()
    assert then[likely("m=1, over training")] == pytest.approx(rows[NLL].value)


# --------------------------------------------------------------------------------------------------
# what is said of rows

Made = Callable[[TrainConfig], tuple[float, float, int]]


def made_up(which: Study, of: Made, scale: str = "cpu", seeds: int = 3) -> pd.DataFrame:
    """Rows as a scale's runs would give them; `of` gives the exact answers, the NLL and the onset
    (0: none) of a run."""
    rows = []
    for config in plan(which, scale):
        if config.seed >= seeds:
            continue
        share, nats, at = of(config)
        common = {name: "x" for name in results.COLUMNS} | {
            "scale": scale, "run_id": run_folder(config, Path()).name, "size": "0.3M",
            "arm": which.arm(config), "seed": config.seed, "n": config.model.n, "changed": "",
            "data": f"{config.data.source}, bytes", "count": 888, "device": "cpu", "step": 1100,
        }  # fmt: skip
        for step in range(100, 1101, 100):
            found = 99.0 if at and step >= at else 9.0
            rows.append(common | {"metric": ADDITION, "value": found, "step": step})
        values = {SCORE: share, NLL: nats, exact("m=1", COMMONEST): 5.0}
        values |= {exact("m=1", ONE_OPERAND): 6.5, likely("m=1", ONE_OPERAND): 1.84}
        values |= {exact(f"m={m}"): share / m for m in (2, 3, 4)}
        values |= {exact(f"m={m}", COMMONEST): 5.0 for m in (2, 3, 4)}
        rows += [common | {"metric": name, "value": value} for name, value in values.items()]
    return pd.DataFrame(rows, columns=results.COLUMNS)


def ahead_helps(config: TrainConfig) -> tuple[float, float, int]:
    """Looking ahead helps, answer weight a little, depth not; three pauses undo it, and all that is
    the same in every seed but for a shared shift."""
    ahead = config.model.n > 1 and config.objective.targets == "ahead"
    pause = option(pd.DataFrame({"data": [config.data.source]}), "pause", 0)
    gain = ahead * (1 - min(pause, 3) / 3) * 0.8
    gain += 0.2 * bool(config.objective.token_weights) + 0.1 * (pause == 3 and not ahead)
    gain += 0.1 * (pause == 3 and ahead)
    share = 20 + 50 * gain + config.seed
    return share, 1.5 - gain + 0.01 * config.seed, 700 + 50 * config.seed if gain > 0.5 else 0


def outcomes(which: Study, rows: pd.DataFrame) -> dict[str, str]:
    said = sentences(which.contrasts, rows)
    ends = {"as predicted": "holds", "which fails": "fails", "no seed has its arms": "none"}
    found = {}
    for each, line in zip(which.contrasts, said, strict=True):
        found[each.name] = next((o for e, o in ends.items() if line.endswith(e)), "open")
    return found


def test_predictions_hold_where_looking_ahead_helps() -> None:
    found = outcomes(POLYNOMIALS, made_up(POLYNOMIALS, ahead_helps))
    assert set(found.values()) == {"holds"}
    found = outcomes(PAUSES, made_up(PAUSES, ahead_helps))
    assert {name for name, outcome in found.items() if outcome != "holds"} == {
        "gain of n=2, 1 pause (night)", "random filler (night)",
    }  # fmt: skip


def test_predictions_fail_where_the_path_is_all() -> None:
    def path_helps(config: TrainConfig) -> tuple[float, float, int]:
        m = config.model
        path = m.trunk_layers + (m.head == "parallel")
        return (60.0, 0.8, 500) if path == 3 else (20.0, 1.5, 0)

    found = outcomes(POLYNOMIALS, made_up(POLYNOMIALS, path_helps))
    assert {name for name, outcome in found.items() if outcome == "fails"} == {
        "path", "lookahead", "depth", "weight", "linear", "lookahead, exact",
    }  # fmt: skip


def test_the_finding_has_contrasts_and_onsets() -> None:
    text = study.finding(made_up(POLYNOMIALS, ahead_helps))
    assert text.startswith("gain, exact, (n=4) - (n=1): +40.0 points [+40.0, +40.0], larger by")
    assert "lookahead, (n=4) - (n=4, same target): -0.800 nats per digit" in text
    seeds = "earlier, 3 of 3 seeds against 0 of 3 by step 1100, p = 0.1"
    assert text.endswith(f"n=4 against n=1: {seeds}; n=4 against n=4, same target: {seeds}.")
    text = pauses.finding(made_up(PAUSES, ahead_helps))
    assert "gain, 3 pauses, (n=4, 3 pauses) - (n=1, 3 pauses): +0.000 nats" in text
    one = made_up(POLYNOMIALS, ahead_helps, seeds=1)
    assert "undecided with 1 seed" in study.finding(one)
    alone = one[one.arm == "n=1"]
    assert study.finding(alone) == pauses.finding(alone) == "No contrast has all of its arms."


def test_onsets_are_kept_steps_that_last() -> None:
    rows = made_up(POLYNOMIALS, ahead_helps)
    assert [tuple(each) for each in onsets(rows)["n=4"].values()] == [
        (700, True), (800, True), (800, True),
    ]  # fmt: skip
    assert all(not each.seen and each.time == 1100 for each in onsets(rows)["n=1"].values())
    assert onsets(rows[rows.step > 1000]) == {} and onset_sentence(rows, [("n=4", "n=9")]) == ""
    once = rows[(rows.arm == "n=1") & (rows.metric == ADDITION)].copy()
    once.loc[once.step == 500, "value"] = 95.0
    assert not any(each.seen for each in onsets(once)["n=1"].values()), "once may be luck"


@pytest.mark.parametrize("which", BOTH, ids=lambda s: s.name)
@pytest.mark.parametrize("scale", ["cpu", "night"])
def test_figures_are_drawn_with_all_of_the_runs_and_with_some(which: Study, scale: str) -> None:
    rows = made_up(which, ahead_helps, scale)
    before = rows.copy()
    runs = list(rows.run_id.unique())
    for some in (runs, runs[:1] if scale == "cpu" else runs[-2:]):
        own = rows[rows.run_id.isin(some)]
        figure = which.figure(own, results.paper())
        figure.canvas.draw()
        caption, headline = (text.get_text() for text in figure.texts)
        assert headline.replace("\n", " ") == which.finding(own)
        assert f"({scale} scale)" in caption and "Grey panel" not in caption
        plt.close(figure)
    assert rows.equals(before), "rows are read alone"


def test_the_figure_has_sizes_where_there_are_some() -> None:
    titles = ["Exact answers to one operation", "Answers' NLL: 90% intervals, grey margins",
              "When additions appear", "By number of operations"]  # fmt: skip
    more = [*titles, "Two sizes (Figure S16)"]
    for scale, wanted in (("cpu", titles), ("night", more), ("paper", more)):
        rows = made_up(POLYNOMIALS, ahead_helps, scale)
        figure = POLYNOMIALS.figure(rows, results.paper())
        shown = [axes.get_title("left").replace("\n", " ") for axes in figure.axes]
        assert shown == wanted
        arms = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        assert not any(", d=" in arm for arm in arms) and "n=4" in arms
        plt.close(figure)


def test_arms_of_a_smaller_size_are_left_out_of_contrasts() -> None:
    rows = made_up(POLYNOMIALS, ahead_helps, "night")
    assert set(largest(rows).arm) == set(study.ARMS) < set(rows.arm)
    small = rows[rows.arm.str.contains(", d=")]
    assert largest(small).equals(small), "what there is"


def test_by_length_takes_one_metric_apart() -> None:
    metrics = [
        exact("m=2"), exact("m=10"), exact("addition"), exact("m=2", COMMONEST), likely("m=1"),
    ]  # fmt: skip
    rows = pd.DataFrame({"metric": metrics, "value": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert by_length(rows)[["m", "value"]].values.tolist() == [[2, 1], [10, 2]]
    assert by_length(rows, COMMONEST)[["m", "value"]].values.tolist() == [[2, 4]]
    assert by_length(rows[2:3]).empty and "m" not in rows


def test_options_are_read_from_the_data() -> None:
    rows = pd.DataFrame({"data": ["python:a.b?pause=5,d=2,ops=12,count=3, bytes"] * 2})
    assert [option(rows, name, 7) for name in ("p", "d", "ops")] == [7, 2, 12]
    sources = [pauses.paused(base("cpu")[0], p, "cpu").data.source for p in (0, 5, 10)]
    rows = pd.DataFrame({"data": [f"{source}, bytes" for source in sources]})
    assert pauses.pause_of(rows).tolist() == [0, 5, 10]


# --------------------------------------------------------------------------------------------------
# at smoke scale


def test_both_studies_run_and_share_what_has_no_pause(cli: Cli, tmp_path: Path, data: Path) -> None:
    places = ("--runs", str(tmp_path / "runs"), "--results", str(tmp_path), "--data", str(data))
    fast = ("--scale", "smoke", "--launcher", "debug", *places)
    rows, said = dict[str, pd.DataFrame](), ""
    for which in BOTH:
        result = cli("run", which.name, *fast)
        said = result.out
        assert result.code == 0, result.err
        rows[which.name] = own = results.read(tmp_path / which.name / "smoke.csv")
        planned = plan(which, "smoke")
        assert list(own.run_id.unique()) == [run_folder(c, Path()).name for c in planned]
        assert list(own.arm.unique()) == [which.arm(c) for c in planned]
        assert not own.duplicated(["run_id", "metric", "step"]).any()
        for _, mine in own.groupby("run_id"):
            kept = mine[mine.metric == ADDITION]
            assert kept.step.tolist()[:2] == [5, 10] and {SCORE, NLL} <= set(mine.metric)
            last = mine[mine.metric == exact("addition")].value.tolist()
            assert last == kept.value.tolist()[-1:]
        for each in which.contrasts:
            if found := each.of(own):
                assert f"{each.name}, {each.formula}: {found.mean:+.3f}"[:-2] in said
    assert "4 runs, 2 finished" in said
    theirs, ours = (rows[which.name].drop(columns="study") for which in BOTH)
    theirs, ours = theirs[theirs.arm.isin(["n=1", "n=4"])], ours[pauses.pause_of(ours) == 0]
    assert ours.reset_index(drop=True).equals(theirs.reset_index(drop=True))
    figures = [tmp_path / which.name / f"smoke.{kind}" for which in BOTH for kind in ("svg", "png")]
    before = [file.read_bytes() for file in figures]
    for which in BOTH:
        again = cli("plot", which.name, "--scale", "smoke", *places)
        assert again.code == 0, again.err
    assert [file.read_bytes() for file in figures] == before
