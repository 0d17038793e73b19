"""The two decoding studies at smoke scale, for real, through the command line.

One folder of runs and results for all tests of this file, made by the first.
"""

import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import results
from experiments.decoding_speed import AGAIN
from experiments.status import count_of
from experiments.studies import decoding, decoding_bytes
from experiments.study import find, plan
from mtp.decoding.passes import WINDOW
from mtp.model.model import MultiTokenTransformer
from tests.conftest import Cli, Result

Made = Callable[..., Result]
STUDIES = ("decoding", "decoding-bytes")
CHAINS = [f"chain, k={k}" for k in (1, 2, 3, 4)]
BESIDE = ["n=1 model", "n=1 model, half"]
TREE, CONTROL = "tree of 6, k=4", "chain, k=4, shifted by one place"
CONTROLS = (
    "chain, k=4, shifted, counted along the text",
    "chain, k=4, of another prompt",
    "by chance",
)
SAMPLED = ["T=0.8, k=1", "T=0.8, k=4"]


@pytest.fixture
def made(cli: Cli, tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Made]:
    """The shared folder, and a function that runs a command on a study in it, at smoke scale."""
    folder = tmp_path_factory.getbasetemp() / "decoding-study"

    def run(command: str, study: str, *args: str) -> Result:
        places = ("--runs", str(folder / "runs"), "--results", str(folder / "results"))
        return cli(command, study, "--scale", "smoke", *places, "--data", str(data), *args)

    if not folder.exists():
        folder.mkdir()
        for study in STUDIES:
            result = run("run", study, "--launcher", "debug")
            assert result.code == 0, result
            (folder / f"{study}.out").write_text(result.out)
    return folder, run


def stem(folder: Path, study: str) -> Path:
    return folder / "results" / study / "smoke"


def rows_of(folder: Path, study: str) -> pd.DataFrame:
    return results.read(stem(folder, study).with_suffix(".csv"))


def values(rows: pd.DataFrame, metric: str) -> pd.Series:
    found = rows[rows.metric == metric].value
    assert len(found) == 1, metric
    return found


def value(rows: pd.DataFrame, metric: str) -> float:
    return float(values(rows, metric).iloc[0])


def found_in(rows: pd.DataFrame, pattern: str) -> set[tuple[str, ...]]:
    """The groups of `pattern` in the metrics that match it as a whole."""
    matches = (re.fullmatch(pattern, metric) for metric in rows.metric)
    return {match.groups() for match in matches if match}


def by_run(folder: Path, study: str) -> list[tuple[int, str, pd.DataFrame, list[str]]]:
    """n, domain, rows and greedy chains of each run with several heads, and each domain."""
    found = []
    for _, mine in rows_of(folder, study).groupby("run_id"):
        n = int(mine.n.iloc[0])
        heads = range(1, 5) if study == "decoding" else [k for k in decoding_bytes.HEADS if k <= n]
        for domain in ("code", "prose") if study == "decoding" else ("code",):
            if n > 1:
                found.append((n, domain, mine, [f"chain, k={k}" for k in heads]))
    assert len(found) == 2
    return found


def test_decoding_measures_every_way_domain_and_batch(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "decoding")
    assert list(rows.columns) == results.COLUMNS
    assert list(dict.fromkeys(rows.arm)) == ["n=4", "n=1", "n=1, half"]
    assert not rows.duplicated(["run_id", "metric"]).any() and set(rows.unit) == {"token"}
    rows = rows[rows.n == 4]
    domains, batches = ("code", "prose"), ("1", "4")
    greedy, sampled = [*CHAINS, TREE, AGAIN], SAMPLED
    timed = set(itertools.product(domains, [*greedy, *sampled, *BESIDE], batches))
    for kind in ("tokens/s", "speedup", "ms to the end of a batch", "ms per token"):
        assert found_in(rows, rf"{kind}, (\w+), (.*), batch (\d+)") == timed
    ends = rf"speedup, (\w+), {AGAIN}, batch (\d+), (lowest|highest) of 1 repeats"
    assert found_in(rows, ends) == set(itertools.product(domains, batches, ("lowest", "highest")))
    same = r"same tokens as k=1, (\w+), (.*), batch (\d+)"
    assert found_in(rows, same) == set(itertools.product(domains, greedy, batches))
    assert found_in(rows, r"same tokens as k=1, (\w+), ((?:(?!batch).)*)") == {
        (domain, CONTROL) for domain in domains
    }
    forward = set(itertools.product(domains, [*greedy, *sampled], batches))
    for kind in ("tokens per forward", "distinct 4-grams (%)"):
        assert found_in(rows, rf"{re.escape(kind)}, (\w+), (.*), batch (\d+)") == forward
    drafts = {
        (str(i), domain, f"{way}, batch {batch}")
        for domain, way, batch in forward
        for i in range(2, 1 + (1 if way == AGAIN else int(way.rpartition("k=")[2])))
    }
    drafts |= {("2", domain, way) for domain in domains for way in (CONTROL, *CONTROLS)}
    assert found_in(rows, r"acceptance, head (\d) \(%\), (\w+), (.*)") == drafts
    certain = rows[~rows.metric.str.contains("largest gap|earliest position")]
    assert certain.value.notna().all() and (certain["count"] > 0).all()


def test_decoding_bytes_measures_every_k_of_every_model(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "decoding-bytes")
    assert not rows.duplicated(["run_id", "metric"]).any()
    assert list(rows.arm.unique()) == ["n=1", "n=4", "n=8"] and set(rows.unit) == {"byte"}
    for n, mine in rows[rows.n > 1].groupby("n"):
        heads = {str(k) for k in (1, 2, 4, 8) if k <= int(str(n))}
        for kind in ("tokens per forward", "tokens/s", "speedup", "same tokens as k=1"):
            found = found_in(mine, rf"{re.escape(kind)}, code, chain, k=(.+), batch (\d+)")
            assert found == {(k, "1") for k in heads | {"1 again"}}
        last = {i for i, k in found_in(mine, r"acceptance, head (\d+) \(%\), .*, k=(\d+), .*")}
        assert last == {str(i) for i in range(2, int(str(n)) + 1)}


@pytest.mark.parametrize("study", STUDIES)
def test_likelihood_is_measured_beside_it(made: tuple[Path, Made], study: str) -> None:
    rows = rows_of(made[0], study)
    bits = rows[rows.metric == "bits per byte"]
    assert len(bits) == 3 and (bits.value > 0).all()
    for line in ("bigram", "5-gram", "xz"):
        assert set(rows[rows.metric == f"bits per byte, {line}"].n) == {1}


@pytest.mark.parametrize("study", STUDIES)
def test_drafts_are_followed_along_human_text_and_own_text(
    made: tuple[Path, Made], study: str
) -> None:
    for n, domain, rows, _ in by_run(made[0], study):
        for kind in ("human", "own"):
            where = f"{domain}, {kind} text"
            forward = [value(rows, f"tokens per forward, {where}, k={k}") for k in range(2, n + 1)]
            shares = [value(rows, f"accepted, head {i} (%), {where}") for i in range(2, n + 1)]
            sums = itertools.accumulate(shares, initial=100.0)
            assert forward == pytest.approx([each / 100 for each in list(sums)[1:]])
            assert 1 <= forward[0] <= forward[-1] <= n
    rows = rows_of(made[0], study)
    for kind in ("human", "own"):
        four = rows[rows.metric == f"distinct 4-grams (%), code, {kind} text"]
        assert len(four) == 3 and four.value.between(0, 100, inclusive="right").all()
        assert kind == "own" or four.value.nunique() == 1, "it does not depend on the model"


@pytest.mark.parametrize("study", STUDIES)
def test_greedy_tokens_are_those_of_k_1(made: tuple[Path, Made], study: str) -> None:
    rows = rows_of(made[0], study)
    same = rows[rows.metric.str.startswith("same tokens as k=1")]
    assert (same.value == 1).all()
    assert len(same) > 5
    assert same.metric.str.contains("shifted by").sum() == (2 if study == "decoding" else 0)
    assert not same.metric.str.contains("T=0.8").any(), "sampled ones may differ"


@pytest.mark.parametrize("study", STUDIES)
def test_tokens_per_forward_and_acceptances_agree(made: tuple[Path, Made], study: str) -> None:
    for n, domain, rows, chains in by_run(made[0], study):
        for way in [*chains, *([TREE, *SAMPLED] if study == "decoding" else [])]:
            k = int(way.rpartition("k=")[2])
            forward = value(rows, f"tokens per forward, {domain}, {way}, batch 1")
            shares = [
                value(rows, f"acceptance, head {i} (%), {domain}, {way}, batch 1") / 100
                for i in range(2, k + 1)
            ]
            assert 1 <= forward <= k <= n
            assert forward - 1 == pytest.approx(sum(shares), abs=1e-12)
            assert all(b <= a for a, b in itertools.pairwise([1.0, *shares]))
            assert k > 1 or forward == 1
        longer = [value(rows, f"tokens per forward, {domain}, {way}, batch 1") for way in chains]
        assert longer[-1] > 1, "some draft was right"


def test_the_control_has_drafts_of_its_own(made: tuple[Path, Made]) -> None:
    for _, domain, rows, _ in by_run(made[0], "decoding"):
        where = f"acceptance, head 2 (%), {domain}"
        own, shifted = (value(rows, f"{where}, {way}") for way in ("chain, k=4, batch 4", CONTROL))
        assert shifted != own  # 20 steps do not tell which is larger
        assert 0 <= shifted < 100 and 0 < value(rows, f"{where}, by chance") < 100


@pytest.mark.parametrize("study", STUDIES)
def test_speedups_are_ratios_to_k_1(made: tuple[Path, Made], study: str) -> None:
    for _, domain, rows, chains in by_run(made[0], study):
        ways = [*chains, AGAIN, *([TREE, *SAMPLED, *BESIDE] if study == "decoding" else [])]
        for way, batch in itertools.product(ways, ("1", "4") if study == "decoding" else ("1",)):
            where = f"{domain}, {way}, batch {batch}"
            base = SAMPLED[0] if way in SAMPLED else "chain, k=1"
            speed, slow = (
                value(rows, f"tokens/s, {domain}, {each}, batch {batch}") for each in (way, base)
            )
            # smoke has one repeat: the median of its ratio is the ratio of its medians
            assert speed > 0
            assert value(rows, f"speedup, {where}") == pytest.approx(speed / slow, rel=1e-9)
            assert (way == base) == (value(rows, f"speedup, {where}") == 1), "k=1 again is timed"
            ends = [f"speedup, {where}, {end} of 1 repeats" for end in ("lowest", "highest")]
            if way == AGAIN:
                assert [value(rows, end) for end in ends] == [value(rows, f"speedup, {where}")] * 2


@pytest.mark.parametrize("study", STUDIES)
def test_latency_is_the_time_of_a_batch(made: tuple[Path, Made], study: str) -> None:
    setting = {"decoding": decoding, "decoding-bytes": decoding_bytes}[study].SETTINGS["smoke"]
    for _, domain, rows, chains in by_run(made[0], study):
        for batch, way in itertools.product(setting.batches, chains):
            where = f"{domain}, {way}, batch {batch}"
            end, token, rate = (
                value(rows, f"{kind}, {where}")
                for kind in ("ms to the end of a batch", "ms per token", "tokens/s")
            )
            assert end == pytest.approx(token * setting.new)
            assert rate == pytest.approx(1e3 * batch * setting.new / end)


def test_rows_that_differ_in_bf16_say_how_near_the_logits_were(made: tuple[Path, Made]) -> None:
    for _, domain, rows, _ in by_run(made[0], "decoding"):
        where = f"bf16, {domain}, chain, k=4"
        differ = value(rows, f"rows that differ from k=1 (%), {where}")
        assert 0 <= differ <= 100
        for metric in (
            "earliest position where they differ",
            "largest gap of the two best logits there (ulp)",
        ):
            (found,) = values(rows, f"{metric}, {where}")
            assert pd.isna(found) if differ == 0 else found >= 0


def test_counts_are_of_the_prompts(made: tuple[Path, Made]) -> None:
    rows = rows_of(made[0], "decoding")
    timed = rows[rows.metric.str.contains(", batch ")]
    assert set(timed["count"]) <= set(range(1, 9)), "different ones among the eight"
    chance = rows[rows.metric.str.contains("by chance")]
    new = decoding.SETTINGS["smoke"].new
    assert all(0 < count <= 8 * new and count % new == 0 for count in chance["count"])


@pytest.mark.parametrize("study", STUDIES)
def test_the_figure_redraws_to_the_same_bytes(made: tuple[Path, Made], study: str) -> None:
    folder, run = made
    files = [stem(folder, study).with_suffix(kind) for kind in (".svg", ".png", ".csv")]
    before = [file.read_bytes() for file in files]
    assert before[0].startswith(b"<?xml") and before[1].startswith(b"\x89PNG")
    for file in files[:2]:
        file.unlink()
    result = run("plot", study)
    assert result.code == 0 and f"figure: {files[1]}" in result.out
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize("study", STUDIES)
def test_the_summary_has_our_numbers_and_where_they_are(
    made: tuple[Path, Made], study: str
) -> None:
    folder, run = made
    result = (folder / f"{study}.out").read_text()
    count = len(plan(find(study), "smoke"))
    assert f"{study} at scale smoke: {count_of(count)}, 0 finished" in result
    n = {"decoding": 4, "decoding-bytes": 8}[study]
    last = f"tokens per forward, code, own text, k={n}"
    rows = rows_of(folder, study)
    assert last in result and f"{value(rows[rows.n == n], last):.3f}" in result
    assert "A/A, " in result and "undecided with 1 seed; predicted: equal within 0.1" in result
    assert f"rows: {stem(folder, study)}.csv" in result
    again = run("run", study, "--launcher", "debug")
    assert again.code == 0 and f"{count_of(count)}, {count} finished" in again.out
    assert "to run by" not in again.out


def test_the_paper_scale_fits_a_gpu_of_80_gb() -> None:
    """Weights and caches; the copies that are measured share their weights."""
    config, _ = decoding.runs("paper")
    setting = decoding.SETTINGS["paper"]
    slots = setting.prompt + setting.new + setting.nodes + WINDOW

    def gigabytes(dtype: torch.dtype, rows: int) -> float:
        with torch.device("meta"):
            model = MultiTokenTransformer(config.model).to(dtype)
        caches = model.new_caches(rows, slots, config.model.n)
        held = [*model.parameters(), *(t for cache in caches for t in (cache.k, cache.v))]
        return sum(each.numel() * each.element_size() for each in held) / 1e9

    assert 13 < gigabytes(torch.bfloat16, 0) < 14
    assert gigabytes(torch.bfloat16, max(setting.batches)) < 40  # of `speeds`
    few = decoding.IN_FLOAT32["paper"]
    assert gigabytes(torch.float32, few) < 50  # of `texts`, and of `checks` at first
    assert gigabytes(torch.float32, 0) + gigabytes(torch.bfloat16, few) < 55  # and then
    assert gigabytes(torch.float32, max(setting.batches)) > 75  # why its prompts are fewer
