"""What README and docs print is true: links, files, targets and options exist, examples run."""

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch

from experiments import study as studies
from experiments.results import Measure
from mtp.config import CorpusConfig, ModelConfig, TrainConfig
from mtp.data.corpus import Corpus, build
from mtp.data.tokenizer import ByteTokenizer
from mtp.decoding.generate import generate
from mtp.head_types import HEADS
from mtp.model.heads import MODULES
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads, grow_heads
from mtp.objective.cross_entropy import SCHEMES, valid_counts
from mtp.objective.token_weights import ByLabel
from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = {page: page.read_text() for page in PAGES}
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(params=PAGES, ids=NAMES)
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", TEXT[page], flags=re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str = "") -> list[str]:
    """The fenced blocks of a language, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT[page], re.DOTALL | re.MULTILINE)
    return [code for name, code in found if name == language]


# --------------------------------------------------------------------------------------------------
# references


def test_readme_is_short() -> None:
    assert len(TEXT[ROOT / "README.md"].splitlines()) <= 150


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    plain = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return plain.strip().replace(" ", "-")


def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT[page]):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, place = target.partition("#")
        file = page if not path else page.parent / path
        assert file.exists(), f"{target} in {page.name} is not there"
        if place:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert place in map(anchor, headings), f"{target} in {page.name}: no such heading"


def test_files_and_folders_that_are_named_exist(page: Path) -> None:
    kinds = r"(?:mtp|evals|experiments|bench|synthetic|tests|docs|results/paper)/[\w/.-]*"
    for name in re.findall(rf"(?<![\w/.]){kinds}", TEXT[page]):
        name = name.rstrip(".")
        if not re.search(r"small_n|STUDY|NAME", name):  # to be filled in by the reader
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_every_page_is_reachable_from_readme() -> None:
    linked, todo = set(), [ROOT / "README.md"]
    while todo:
        one = todo.pop().resolve()
        if one in linked or one.suffix != ".md":
            continue
        linked.add(one)
        paths = re.findall(r"\]\(([^)\s#:]+)", one.read_text())
        todo += [one.parent / path for path in paths if (one.parent / path).exists()]
    assert {page.resolve() for page in PAGES} <= linked


def targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    return set(" ".join(re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE)).split())


def test_make_targets_exist(page: Path) -> None:
    named = set(re.findall(r"(?:`|^)make ([a-z][a-z-]+)", TEXT[page], re.MULTILINE))
    assert named <= targets() | {"bench-"}


def test_every_study_has_a_target_and_a_page() -> None:
    assert set(studies.STUDIES) <= targets()
    pages = {page.stem for page in PAGES if page.parent.name == "studies"}
    assert set(studies.STUDIES) <= pages


def commands() -> dict[tuple[str, str], set[str]]:
    """Every `python -m MODULE ...` that a page prints: module and subcommand -> options given."""
    found: dict[tuple[str, str], set[str]] = {}
    line = re.compile(r"python -m ((?:mtp|evals|experiments|bench)[\w.]*)((?: [^`|#\n]*)?)")
    for text in TEXT.values():
        for module, rest in line.findall(text.replace("\\\n", " ")):
            words = rest.split()
            sub = words[0] if module in ("mtp.convert", "experiments") and words else ""
            options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
            found.setdefault((module, sub), set()).update(options)
    return found


@pytest.mark.parametrize(("module", "sub"), sorted(commands()))
def test_options_that_are_printed_exist(
    module: str, sub: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if module == "evals.lm_eval":
        pytest.importorskip("lm_eval", reason="extra [lm-eval] not installed")
    name = f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module
    monkeypatch.setattr(sys, "argv", [name, *([sub] if sub else []), "--help"])
    with pytest.raises(SystemExit) as left:
        importlib.import_module(name).main()
    assert not left.value.code
    shown = capsys.readouterr().out
    for option in commands()[module, sub]:
        assert option in shown, f"python -m {module} {sub} has no {option}"


def fields(cls: Any, where: str = "") -> set[str]:
    """The names that "field=value" assignments may have."""
    found = set()
    for name, field in cls.__dataclass_fields__.items():
        inner = {"model": ModelConfig, "data": CorpusConfig}.get(name)
        found |= fields(inner, f"{name}.") if inner else {where + field.name}
    return found


def test_the_printed_plan_is_the_commands(cli: Cli) -> None:
    """The command of gpu-and-cluster.md that shows what a run needs."""
    page = ROOT / "docs" / "gpu-and-cluster.md"
    (block,) = (text for text in blocks(page) if text.startswith("$ "))
    command, *lines = block.splitlines()
    planned = cli(*command.split(" -m experiments ")[1].split())
    assert lines and "\n".join(lines) in planned.out


def test_config_fields_that_are_assigned_exist(page: Path) -> None:
    lines = [line for line in TEXT[page].splitlines() if re.search(r"mtp\.train|--set ", line)]
    for line in lines:
        for word in re.findall(r"(?<![\w-])((?:model|data)\.\w+|lr|tokens|batch|micro)=", line):
            assert word in fields(TrainConfig), f"{page.name}: {word}"


def test_variables_of_make_are_the_makefiles() -> None:
    makefile = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([A-Z_]+) *\?=", makefile, re.MULTILINE))
    for page, text in TEXT.items():
        for line in re.findall(r"(?:^|`)(make [a-z].*?)(?:`|$)", text, re.MULTILINE):
            names = set(re.findall(r" ([A-Z_]+)=", line))
            assert names <= known, f"{page.name}: {line}"


# --------------------------------------------------------------------------------------------------
# examples, executed


def test_the_readmes_python_decodes(
    make_config: Callable[..., TrainConfig],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mtp.training.run import train

    monkeypatch.chdir(tmp_path)
    train(
        make_config(model={"n": 4, "layers": 5, "context": 128}, tokens=512),
        Path("runs/first"),
        data,
    )
    (code,) = blocks(ROOT / "README.md", "python")
    exec(code, space := {})
    assert len(space["made"].tokens[0]) == 64 or space["text"].eos in space["made"].tokens[0]
    assert str(space["made"].tokens_per_forward) in capsys.readouterr().out


EXTENDING = blocks(ROOT / "docs" / "extending.md", "python")


def example(word: str) -> dict[str, Any]:
    """The names that the example which contains `word` defines."""
    (code,) = [block for block in EXTENDING if word in block]
    space: dict[str, Any] = {"__name__": "example"}
    exec(code, space)
    return space


@pytest.fixture(autouse=True)
def tables() -> Any:
    """Examples add rows to these; they are as before afterwards."""
    before = [(table, dict(table)) for table in (HEADS, MODULES, SCHEMES)]
    yield
    for table, rows in before:
        table.clear()
        table.update(rows)  # type: ignore[arg-type]


def gradients(config: ModelConfig, scheme: Callable[..., Any]) -> torch.Tensor:
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).double()
    tokens, target = torch.randint(11, (2, 16)), torch.randint(11, (config.n, 2, 16))
    scheme(model, tokens, target, valid_counts(target))
    return torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]


def test_the_head_type_trains_decodes_grows_and_drops() -> None:
    example('HEADS["residual"]')
    tiny: dict[str, Any] = {"dim": 16, "layers": 2, "attn_heads": 2, "vocab": 11, "context": 16}
    config = ModelConfig(**tiny, n=3, head="residual")
    expected = gradients(config, SCHEMES["plain"])
    for scheme in SCHEMES.values():
        torch.testing.assert_close(gradients(config, scheme), expected)
    torch.manual_seed(1)
    model = MultiTokenTransformer(config).double()
    prompts = [[1, 2, 3], [4]]
    assert generate(model, prompts, 8, k=3).tokens == generate(model, prompts, 8, k=1).tokens
    one = drop_heads(model, 1)
    again = grow_heads(one, 3, "residual")
    tokens = torch.randint(11, (2, 16))
    for logits in again(tokens):  # new heads say what head 1 says
        torch.testing.assert_close(logits, one(tokens)[0])


def test_the_memory_scheme_gives_the_same_gradients() -> None:
    new = example('SCHEMES["by_sequence"]')["by_sequence"]
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=11, context=16, n=2)
    torch.testing.assert_close(gradients(config, new), gradients(config, SCHEMES["plain"]))


def test_the_files_become_a_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = example("all.jsonl")["corpus"]
    assert isinstance(corpus, Corpus) and corpus.manifest["documents"]["train"] > 150
    assert str(corpus.train.tokens) in capsys.readouterr().out


def test_the_generator_becomes_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = [block for block in EXTENDING if "def countdown" in block]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "countdown.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "python:mine.countdown?count=50,longest=99"
    config = CorpusConfig(source, "bytes", validation=0.1)
    first = next(iter(build(config, tmp_path / "data", progress=False).train.documents()))
    assert bytes(first[1:-1].tolist()).startswith(b"Counting down from ")
    factors = ByLabel(source, {"number": 4.0, "other": 0.0}, ByteTokenizer())(
        torch.tensor(first[None])
    )
    told = [chr(b) for b, f in zip(first.tolist(), factors[0].tolist(), strict=True) if f == 4]
    assert "".join(told) in bytes(first[1:-1].tolist()).decode().replace(", ", "") and told


def test_the_evaluation_counts_agreement(
    make_config: Callable[..., TrainConfig], data: Path
) -> None:
    config = make_config()
    corpus = build(config.data, data, progress=False)
    torch.manual_seed(0)
    model = MultiTokenTransformer(config.model)
    (found,) = example("def agreement")["agreement"](model, corpus, "smoke")
    assert isinstance(found, Measure) and 0 <= (found.value or 0) <= 100 and found.count > 100


def test_the_study_runs_and_draws(
    cli: Cli, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("experiments.studies.small_n")
    vars(module)["STUDY"] = example('name="small-n"')["STUDY"]
    monkeypatch.setitem(sys.modules, "experiments.studies.small_n", module)
    monkeypatch.setattr(studies, "STUDIES", (*studies.STUDIES, "small-n"))
    done = cli("run", "small-n", "--scale", "smoke", "--launcher", "debug", *small)
    assert done.code == 0, done.err
    (file,) = (tmp_path / "results" / "mine" / "small-n").glob("*.csv")
    assert list(pd.read_csv(file).n.unique()) == [1, 2, 3, 4]
    assert file.with_suffix(".png").exists() and file.with_suffix(".json").exists()
