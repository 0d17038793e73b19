"""The plans of the synthetic studies at every scale, against Table S13."""

from pathlib import Path

import pytest

from experiments import name_copying
from experiments.study import STUDIES, find, plan, run_folder
from mtp.config import TrainConfig
from tests.conftest import Cli


@pytest.mark.parametrize("name", [name for name in STUDIES if name.startswith("synthetic")])
@pytest.mark.parametrize("scale", ["smoke", "cpu", "night", "gpu", "paper"])
def test_every_scale_has_a_plan(cli: Cli, name: str, scale: str) -> None:
    if scale not in find(name).scales:
        result = cli("plan", name, "--scale", scale)
        assert result.code == 2 and result.err.count("\n") == 1 and f"'{scale}'" in result.err
        return
    configs = plan(find(name), scale)
    result = cli("plan", name, "--scale", scale)
    assert result.code == 0 and result.out.startswith(f"{name} at scale {scale}")
    assert f"{len(configs)} run" in result.out and "not counted" not in result.out
    assert len({run_folder(c, Path()).name for c in configs}) == len(configs)


def as_table(config: TrainConfig) -> tuple[float, float, float, int]:
    """A row of Table S13: steps, tokens of a batch, learning rate, context."""
    batch = config.batch * config.model.context
    return config.tokens / batch, batch, config.lr, config.model.context


def test_books_at_paper_scale_are_as_many_tokens_in_half_the_steps() -> None:
    configs = plan(find("synthetic-induction-books"), "paper")
    assert {as_table(c) for c in configs} == {(50_000, 524_288, 1e-4, 2048)}
    assert {c.model.dim for c in configs} == {
        c.model.dim for c in plan(find("synthetic-induction"), "paper")
    }


@pytest.mark.parametrize("study", ["synthetic-polynomials", "synthetic-induction"])
def test_paper_scale_has_the_numbers_of_table_s13(study: str) -> None:
    configs = plan(find(study), "paper")
    sizes = {c.model.dim: as_table(c) for c in configs}
    assert all(as_table(c) == sizes[c.model.dim] for c in configs), "whatever n and seed"
    if study == "synthetic-polynomials":  # 30M and 100M
        assert sizes == {
            512: (100_000, 262_144, 1e-4, 1024),
            768: (100_000, 262_144, 1e-4, 2048),
        }
        assert {c.model.n for c in configs} == {1, 2, 4}
        assert {(c.model.layers, c.data.tokenizer) for c in configs} == {
            (10, "bytes"),
            (14, "bytes"),
        }
    else:  # 1M to 1B
        assert list(sizes) == [128, 256, 384, 512, 768, 1024, 1536]
        assert set(sizes.values()) == {(100_000, 262_144, 1e-4, 2048)}
        assert {c.model.n for c in configs} == {1, 2} and all(c.keep_every for c in configs)


def test_pauses_at_paper_scale_are_the_largest_models() -> None:
    configs = plan(find("synthetic-pauses"), "paper")
    assert {c.model.dim for c in configs} == {768} and {c.seed for c in configs} == {0, 1, 2}
    mine = [c for c in configs if "pause" not in c.data.source]
    assert set(mine) <= set(plan(find("synthetic-polynomials"), "paper"))
    assert len(configs) == 5 * len(mine)


@pytest.mark.parametrize("command", ["plan", "run", "status"])
def test_a_run_that_keeps_nothing_is_bad_input(cli: Cli, command: str) -> None:
    result = cli(command, "synthetic-induction", "--scale", "smoke", "--set", "keep_every=0")
    assert result.code == 2 and result.err.count("\n") == 1 and "keep_every" in result.err
    assert "synthetic-induction" in result.err and not result.out
    assert not list(Path().iterdir()), "nothing is made"


def test_steps_kept_are_steps_that_are_run() -> None:
    for scale in find("synthetic-induction").scales:
        for config in name_copying.runs(scale):
            steps = as_table(config)[0]
            assert 2 <= steps // config.keep_every <= 100
