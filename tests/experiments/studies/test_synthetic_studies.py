"""The studies of stories and choices at smoke scale, for real, through the command line; and their
parts.

One folder of runs and results for all tests of this file, made by the first.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from experiments import results
from experiments.choices import ALL_VALID, KL, LOSS, VALID
from experiments.name_copying import DRAWN, HELD_OUT, LIKELY, NAMES, NATS, RIGHT, chosen
from experiments.panels import in_millions
from experiments.plot import varies
from experiments.studies.synthetic_induction_heads import EVEN, STRONGEST
from experiments.study import find, plan, run_folder
from tests.conftest import Cli, Result

Made = Callable[..., Result]
STUDIES = {  # and the runs that each has, and trains where those before it are there
    "synthetic-induction": (4, 4),
    "synthetic-induction-books": (4, 2),
    "synthetic-induction-heads": (4, 0),
    "synthetic-choices": (3, 3),
}


@pytest.fixture
def made(cli: Cli, tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Made]:
    """The shared folder, and a function that runs a command on a study in it, at smoke scale."""
    folder = tmp_path_factory.getbasetemp() / "synthetic-studies"

    def run(command: str, study: str, *args: str) -> Result:
        places = ("--runs", str(folder / "runs"), "--results", str(folder / "results"))
        return cli(command, study, "--scale", "smoke", *places, "--data", str(data), *args)

    if not folder.exists():
        folder.mkdir()
        for study in STUDIES:
            result = run("run", study, "--launcher", "debug")
            assert result.code == 0, result
            runs = [each.name for each in (folder / "runs").glob("*-n*-s*")]
            (folder / f"{study}.out").write_text(result.out)
            (folder / f"{study}.runs").write_text("\n".join(sorted(runs)))
    return folder, run


def rows_of(folder: Path, study: str) -> pd.DataFrame:
    return results.read(folder / "results" / study / "smoke.csv")


def runs_after(folder: Path, study: str) -> set[str]:
    """The run folders that were there once a study was made."""
    return set((folder / f"{study}.runs").read_text().split())


def values(rows: pd.DataFrame, metric: str) -> list[float]:
    return rows[rows.metric == metric].value.tolist()


# --------------------------------------------------------------------------------------------------
# at smoke scale


@pytest.mark.parametrize("study", STUDIES)
def test_rows_are_of_the_planned_runs_and_no_number_comes_twice(
    made: tuple[Path, Made], study: str
) -> None:
    rows = rows_of(made[0], study)
    assert list(rows.columns) == results.COLUMNS
    assert not rows.duplicated(["run_id", "metric", "step"]).any()
    planned = [run_folder(c, Path()).name for c in plan(find(study), "smoke")]
    assert list(rows.run_id.unique()) == planned and len(planned) == STUDIES[study][0]
    assert set(rows.study) == {study} and set(rows.scale) == {"smoke"}


@pytest.mark.parametrize("study", STUDIES)
def test_runs_are_shared(made: tuple[Path, Made], study: str) -> None:
    folder, before, after = made[0], set[str](), set[str]()
    for name, (count, new) in STUDIES.items():
        before, after = after, runs_after(folder, name)
        assert before <= after and len(after - before) == new
        if name == study:
            mine = {run_folder(c, Path()).name for c in plan(find(name), "smoke")}
            assert mine <= after and after - before <= mine and len(mine) == count
            result = (folder / f"{study}.out").read_text()
            # what is trained is not all that a study needs: some look at the runs for themselves
            looks = ("synthetic-induction-heads", "synthetic-induction-books")
            done = 0 if study in looks else count - new
            assert f"{study} at scale smoke: {count} runs, {done} finished" in result


def test_heads_are_those_of_the_induction_study(made: tuple[Path, Made]) -> None:
    ours, theirs = (rows_of(made[0], f"synthetic-induction{name}") for name in ("-heads", ""))
    assert list(ours.run_id.unique()) == list(theirs.run_id.unique())


def test_runs_without_books_are_those_of_the_induction_study(made: tuple[Path, Made]) -> None:
    ours, theirs = (rows_of(made[0], f"synthetic-induction{name}") for name in ("-books", ""))
    alone = ours[~ours.data.str.startswith("mix:9*")]
    assert set(alone.arm) == {"n=1, stories", "n=2 +1 layer, stories"}
    assert set(ours.arm) - set(alone.arm) == {"n=1, with books", "n=2 +1 layer, with books"}
    both = alone.merge(theirs, on=["run_id", "metric", "step"])
    random = theirs[theirs.arm.str.endswith(", random")]
    assert len(both) == len(random) > 0 and both.value_x.equals(both.value_y)
    size = ours[ours.metric == "bytes of text per token"]
    assert len(size) == 4 and size.value.between(1, 4).all()


def test_induction_is_measured_at_the_end_and_over_training(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "synthetic-induction")
    then = [RIGHT.metric, LIKELY.metric, "held-out loss, over training (nats)"]
    once = [f"{NAMES}, last step", f"{NATS}, last step", f"{NAMES}, {DRAWN}", f"{NATS}, {DRAWN}"]
    once += [f"{NAMES}, the commonest one"]
    ends = [f"{NAMES}, last step, 90% interval, {end}" for end in ("low", "high")]
    others = [f"{NAMES}, n-grams of the training text", "held-out names of two tokens", HELD_OUT]
    seen, unseen = (
        f"{NAMES} of any pieces, {w} in training, last step" for w in ("seen", "not seen")
    )
    arms = ["n=1, random", "n=2 +1 layer, random", "n=1, cyclic", "n=2 +1 layer, cyclic"]
    assert set(rows.unit) == {"token"} and list(rows.arm.unique()) == arms
    for _, mine in rows.groupby("run_id"):
        assert set(mine.metric) == {*then, *once, *ends, *others, seen, unseen}
        assert set(mine[~mine.metric.isin(then)].step) == {10}
        for metric in then:
            assert mine[mine.metric == metric].step.tolist() == [5, 10]
        low, high = (values(mine, name)[0] for name in ends)
        assert 0 <= low <= values(mine, once[0])[0] <= high <= 100
        asked = set(mine[mine.metric.isin([*once, *then[:2]])]["count"])
        parts = mine[mine.metric.isin([seen, unseen])]
        assert len(asked) == 1 and min(asked) > 10 and parts["count"].sum() > 10
        shares = mine[mine.metric.str.startswith(NAMES) & (mine["count"] > 0)]
        assert shares.value.between(0, 100).all() and mine[mine["count"] == 0].value.isna().all()
        for curve, end in zip(then[:2], once[:2], strict=True):
            assert values(mine, curve)[-1] == values(mine, end)[0]
        assert 30 < values(mine, f"{NAMES}, {DRAWN}")[0] < 80
        assert all(0 < loss < 8 for loss in [*values(mine, then[1]), *values(mine, then[2])])
        assert values(mine, HELD_OUT)[0] == pytest.approx(values(mine, then[2])[-1], rel=0.05)
    summary = made[1]("plot", "synthetic-induction").out
    for each in find("synthetic-induction").contrasts[:3]:
        assert f"{each.name}: {each.missing}" in summary, "no onset at this scale"
    assert "cost, random, (n=2 +1 layer, random) - (n=1, random): " in summary


def test_choices_are_measured_at_the_end_and_over_training(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "synthetic-choices")
    assert list(rows.arm.unique()) == ["n=1, m=3", "n=2 linear, m=3", "n=1, weight 2.5, m=3"]
    for _, mine in rows.groupby("run_id"):
        assert set(mine.metric) == {*LOSS.values(), KL, ALL_VALID, *VALID.values()}
        for name in LOSS.values():
            own = mine[mine.metric == name]
            assert own.step.tolist() == [5, 10] and set(own["count"]) == {256}
            assert own.value.between(2, 7).all(), "it cannot know a choice yet"
        assert values(mine, KL)[0] > 2 and 0 <= values(mine, ALL_VALID)[0] < 50
    summary = made[1]("plot", "synthetic-choices").out
    assert "n=1, weight 2.5, m=3" in summary and "±" not in summary, "one row for each arm"
    assert "n=2 linear, m=3: not learned" in summary


def test_every_attention_head_has_a_score(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "synthetic-induction-heads")
    for _, mine in rows.groupby("run_id"):
        (even,) = values(mine, EVEN)
        assert 0 < even < 0.2
        scores = mine[mine.metric.str.startswith("prefix matching, layer")]
        assert scores.metric.tolist() == [  # the second head's layer is off the path
            f"prefix matching, layer {i} head {j}" for i in range(1, 5) for j in (1, 2)
        ]
        assert scores.value.between(0, 1, inclusive="neither").all()
        over_training = mine[mine.metric == STRONGEST]
        assert over_training.step.tolist() == [5, 10]
        assert max(scores.value) == over_training.value.tolist()[-1]
        names = mine[mine.metric == RIGHT.metric]
        assert values(mine, f"{NAMES}, last step") == names.value.tolist()[-1:]


# --------------------------------------------------------------------------------------------------
# figures


@pytest.mark.parametrize("study", STUDIES)
def test_the_figure_redraws_to_the_same_bytes(made: tuple[Path, Made], study: str) -> None:
    folder, run = made
    stem = folder / "results" / study / "smoke"
    files = [stem.with_suffix(kind) for kind in (".svg", ".png", ".csv")]
    before = [file.read_bytes() for file in files]
    assert before[0].startswith(b"<?xml") and before[1].startswith(b"\x89PNG")
    for file in files[:2]:
        file.unlink()
    result = run("plot", study)
    assert result.code == 0 and f"figure: {files[1]}" in result.out
    assert [file.read_bytes() for file in files] == before


def with_seeds(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """The same rows as of several seeds, each a little higher."""
    copies = [
        rows.assign(
            seed=seed, scale="cpu", value=rows.value * (1 + 0.1 * seed),
            run_id=rows.run_id.str.replace("-s0-", f"-s{seed}-"),
        )
        for seed in range(count)
    ]  # fmt: skip
    return pd.concat(copies, ignore_index=True)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("study", list(STUDIES)[:2])
def test_three_seeds_are_drawn(made: tuple[Path, Made], study: str) -> None:
    rows = with_seeds(rows_of(made[0], study), 3)
    before = rows.copy()
    figure = find(study).figure(rows, results.paper())
    caption, headline = words(figure)
    assert headline.replace("\n", " ") == find(study).finding(rows)
    assert "(cpu scale)" in caption and "3 seeds" in caption.replace("\n", " ")
    assert rows.equals(before), "rows are read alone"
    figure.canvas.draw()
    plt.close(figure)


def test_two_sizes_are_drawn_small_first(made: tuple[Path, Made]) -> None:
    rows = with_seeds(rows_of(made[0], "synthetic-induction"), 3)
    small, large = rows.assign(size="9.8M"), rows.assign(size="10.5M")
    large = large.assign(run_id=large.run_id + "-large")
    figure = find("synthetic-induction").figure(pd.concat([large, small]), results.paper())
    panel = figure.axes[0]
    assert panel.get_xlabel() == "non-embedding parameters"
    assert [t.get_text() for t in panel.get_xticklabels()] == ["9.8M", "10.5M"]
    plt.close(figure)


def test_sizes_are_ordered_by_parameters() -> None:
    assert sorted(["1.0B", "3.1M", "10.6M", "302.1M"], key=in_millions) == [
        "3.1M", "10.6M", "302.1M", "1.0B",
    ]  # fmt: skip


@pytest.mark.parametrize("study", STUDIES)
def test_the_figure_of_some_of_the_runs_is_drawn(made: tuple[Path, Made], study: str) -> None:
    rows = rows_of(made[0], study)
    runs = list(rows.run_id.unique())
    for some in [runs[:1], runs[1:2], runs[-1:], runs[1:], runs[:-1]]:
        figure = find(study).figure(rows[rows.run_id.isin(some)], results.paper())
        figure.canvas.draw()
        plt.close(figure)


@pytest.mark.parametrize("study", STUDIES)
def test_the_caption_speaks_of_a_grey_panel_where_there_is_one(
    made: tuple[Path, Made], study: str
) -> None:
    figure = find(study).figure(rows_of(made[0], study), results.paper())
    grey = [axes for axes in figure.axes if axes.get_facecolor()[:3] != (1, 1, 1)]
    assert "Grey panel" in words(figure)[0] if grey else "Grey panel" not in words(figure)[0]
    plt.close(figure)


def test_a_column_varies_where_it_does_within_a_group() -> None:
    rows = pd.DataFrame({"n": [1, 1, 2, 2], "size": list("aabb"), "data": list("xyxx")})
    assert [varies(rows, name, ["n"]) for name in ("size", "data")] == [False, True]
    assert not varies(rows, "data", ["n", "data"]) and not varies(rows[1:], "data", ["n"])


# --------------------------------------------------------------------------------------------------
# the best over training, and the honest one


def over_training(n: int, seed: int, points: dict[int, tuple[float, float]]) -> pd.DataFrame:
    """Rows of a run: step -> accuracy on names, held-out loss."""
    kinds = (RIGHT.metric, "held-out loss, over training (nats)")
    made = [
        (step, kind, p)
        for step, pair in points.items()
        for kind, p in zip(kinds, pair, strict=True)
    ]
    rows = pd.DataFrame(made, columns=["step", "metric", "value"])
    return rows.assign(size="1.0M", arm=f"n={n}", n=n, seed=seed, run_id=f"{n} {seed}")


RISES = {60: (10.0, 2.0), 120: (50.0, 1.4), 180: (30.0, 1.1), 240: (20.0, 1.3)}


def test_the_best_is_of_the_test_and_the_honest_one_of_held_out_text() -> None:
    (found,) = chosen(over_training(1, 0, RISES)).to_dict("records")
    own = {"size": "1.0M", "arm": "n=1", "n": 1, "seed": 0}
    assert found == own | {"best": 50.0, "honest": 30.0}


def test_each_run_is_chosen_for_itself() -> None:
    falls = {step: (acc, 10 - loss) for step, (acc, loss) in RISES.items()}
    runs = [over_training(1, 0, RISES), over_training(1, 1, falls), over_training(2, 0, falls)]
    runs[2]["value"] += 1
    found = chosen(pd.concat(runs))
    assert found[["n", "seed"]].values.tolist() == [[1, 0], [1, 1], [2, 0]]
    assert found.best.tolist() == [50, 50, 51] and found.honest.tolist() == [30, 10, 11]


def test_the_honest_value_is_never_above_the_best(made: tuple[Path, Made]) -> None:
    found = chosen(rows_of(made[0], "synthetic-induction"))
    assert len(found) == 4 and (found.honest <= found.best).all()
