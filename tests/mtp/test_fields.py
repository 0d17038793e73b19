"""Every field has a meaning, in --help and in the docs."""

import dataclasses
from pathlib import Path

import pytest

from mtp import fields, train
from mtp.config import CorpusConfig, Execution, ModelConfig, TrainConfig
from mtp.objective_config import ObjectiveConfig
from mtp.overrides import override

ROOT = Path(__file__).parents[2]


def test_every_field_has_a_meaning_and_every_meaning_a_field() -> None:
    inherited = {f.name for f in dataclasses.fields(Execution)}
    for cls, but in (
        (ModelConfig, set[str]()), (CorpusConfig, set[str]()), (Execution, set[str]()),
        (ObjectiveConfig, set[str]()), (TrainConfig, {"model", "data", "objective", *inherited}),
    ):  # fmt: skip
        names = {f.name for f in dataclasses.fields(cls)} - but
        assert set(fields.meanings(cls)) == names, cls


def test_each_field_of_the_table_can_be_set_to_its_default() -> None:
    config = TrainConfig(tokens=1e6)
    rows = [row for _, part in fields.table() for row in part]
    for name, _, default, meaning in rows:
        if name not in ("tokens", "epochs"):
            assert override(config, [f"{name}={default}"]) == config, name
        assert len(meaning) > 8 and not meaning.endswith(".")
    assert ("model.n", "whole number", "1") in [row[:3] for row in rows]
    assert ("scheme", "fused | sequential | plain", "fused") in [row[:3] for row in rows]


def test_the_docs_page_is_what_the_dataclasses_say() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == fields.as_markdown()


def test_help_lists_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["mtp.train", "--help"])
    with pytest.raises(SystemExit):
        train.main()
    assert fields.as_text() in capsys.readouterr().out
