"""Shared by the tests: one thread each, no GPU, a small corpus of files, a config that trains in
seconds, and processes that start fast."""

import json
import os
import random
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start
# torch.compile would start helpers, which import torch for seconds.
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
# Tests run on the CPU on every machine: many compare bit for bit, and every worker of pytest would
# hold memory of the GPU. Only `make test-gpu` lets them see GPUs. This precedes torch's import.
if os.environ.get("MTP_TEST_DEVICE") != "cuda":
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}

import pytest
import torch
import torch._dynamo
from safetensors.torch import load_file

from mtp import checkpoint, sharded
from mtp.checkpoint import Checkpoint
from mtp.config import ModelConfig, TrainConfig
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import from_dict
from tests.frozen import freeze

torch.set_num_threads(1)
with suppress(ImportError):  # rouge-score is not needed for tests/gpu
    import absl.logging

    # its logger would keep pytest's stderr, and importing submitit would close it
    absl.logging.get_absl_handler().python_handler.stream = sys.__stderr__

# Files of published benchmarks; tests that read them are skipped if they are missing.
BENCHMARK_DATA = Path(
    os.environ.get("BENCHMARK_DATA", Path(__file__).parents[2] / "shared" / "data")
)

# Files of tests that take a minute or more, longest first. They begin first, so that none of them
# is left for a single worker at the end; those of Slurm mostly wait.
LONG = (
    "experiments/launch/test_slurm.py", "test_first_day.py", "bench/test_bench.py",
    "experiments/launch/test_launch.py", "experiments/test_study.py",
    "mtp/training/test_distributed.py", "experiments/studies/test_synthetic_studies.py",
    "evals/sandbox/test_hostile.py", "experiments/test_figures.py", "mtp/decoding/test_generate.py",
)  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because some tests mostly wait."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ranks = {Path(__file__).parent / name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: ranks.get(item.path, len(LONG)))  # stable


def pytest_collection_finish() -> None:
    """What is imported by now stays, torch._dynamo among it, which AdamW imports."""
    freeze()


# Lines in the formats of MBPP and GSM8K, with contents of our own.
MBPP_LINES: list[dict[str, Any]] = [
    {
        "text": f"Write a function to add {i} to a number.",
        "code": f"def add_{i}(n):\r\n    return n + {i}",
        "task_id": i,
        "test_setup_code": "",
        "test_list": [f"assert add_{i}({j}) == {i + j}" for j in range(3)],
        "challenge_test_list": [],
    }
    for i in (2, 3, 4, 11, 12, 13, 600)
]
GSM8K_LINES = [
    {
        "question": f"Ann has {i} hens. She buys 1,000 more. How many has she?",
        "answer": f"She has {i}+1000=<<{i}+1000={i + 1000}>>{i + 1000} hens.\n#### {i + 1000:,}",
    }
    for i in range(10)
]

ANIMALS = ["cat", "dog", "fox", "owl", "bee", "ant", "cow", "hen", "pig", "rat"]
PLACES = ["hill", "lake", "wood", "road", "barn", "cave"]


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 documents, about 40 kB in all, whose lines a small model learns."""
    folder = tmp_path_factory.mktemp("texts")
    for i in range(40):
        rng = random.Random(i)
        lines = [
            f"{i}.{j} the {rng.choice(ANIMALS)} went to the {rng.choice(PLACES)} and came back."
            for j in range(20)
        ]
        (folder / f"{i:02}.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where corpora are built, once for all tests."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def make_config(texts: Path) -> Callable[..., TrainConfig]:
    """A tiny run on `texts`: 40 steps of 4 x 32 tokens; keyword arguments change its fields."""

    def make(**changes: Any) -> TrainConfig:
        model = {"dim": 32, "layers": 3, "attn_heads": 2, "vocab": 258, "n": 2, "context": 32}
        source = {"source": f"files:{texts}", "tokenizer": "bytes", "validation": 0.1}
        values: dict[str, Any] = {
            "tokens": 40 * 4 * 32,
            "batch": 4,
            "lr": 3e-3,
            "warmup": 5,
            "precision": "float32",
            "compile": "off",
            "log_every": 2,
        }
        model |= changes.pop("model", {})
        source |= changes.pop("data", {})
        return from_dict(TrainConfig, values | changes | {"model": model, "data": source})

    return make


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """multiprocessing whose children start with what they need imported, in a few milliseconds."""
    context = get_context("forkserver")
    modules = ["mtp.training.trainer", "torch._dynamo", "experiments.run", "experiments.jobs"]
    context.set_forkserver_preload([*modules, "tests.mtp.training.helpers", "tests.frozen"])
    ensure_running()  # now, in the folder that has tests/
    return context


def bytes_model(context: int) -> MultiTokenTransformer:
    """An untrained model of bytes with two heads."""
    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=258, n=2, context=context)
    return MultiTokenTransformer(config)


def newest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder `checkpoint`, damaged or not; else 0."""
    return max((int(path.name.removeprefix("step-")) for path in folder.glob("step-*")), default=0)


def load_checkpoint(folder: Path, weights_only: bool = False) -> Checkpoint | None:
    """All of the newest whole checkpoint in a run's folder `checkpoint`, in shards or not."""
    found = checkpoint.newest(folder, weights_only)
    if found is None:
        return None
    moments: dict[str, Any] = {}
    if not weights_only and sharded.is_sharded(found.path):
        names = [name for name in sharded.shapes(found.path) if not name.startswith("model.")]
        moments = sharded.read(found.path, names)
    elif not weights_only:
        moments = load_file(found.path / "optimizer.safetensors")
    return Checkpoint(found.step, found.weights(), moments, found.state)


def write_jsonl(file: Path, *records: object) -> Path:
    """Write a line for each record, and make the folder if it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


class Result(NamedTuple):
    code: int
    out: str
    err: str


Cli = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Run `python -m experiments ARGS` in this process, all its folders in tmp_path."""
    from experiments.__main__ import main

    monkeypatch.chdir(tmp_path)
    return lambda *args: run_main(main, ["experiments", *args], monkeypatch, capfd)


@pytest.fixture
def run_evals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `python -m evals ARGS` in this process, or another `main` of these arguments."""
    from evals import __main__ as command

    def run(*args: object, main: Callable[[], None] = command.main) -> Result:
        return run_main(main, ["evals", *map(str, args)], monkeypatch, capsys)

    return run


def run_main(
    main: Callable[[], None],
    argv: list[str],
    monkeypatch: pytest.MonkeyPatch,
    captured: pytest.CaptureFixture[str],
) -> Result:
    monkeypatch.setattr(sys, "argv", argv)
    captured.readouterr()
    code = 0
    try:
        main()
    except SystemExit as left:
        code = int(left.code or 0)
    output = captured.readouterr()
    return Result(code, output.out, output.err)


@pytest.fixture(scope="session")
def runs(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Two runs of byte models with two heads each, which differ in the seed."""
    from mtp.training.run import train

    folder = tmp_path_factory.mktemp("evaluate")
    for seed in (0, 1):
        config = make_config(model={"context": 192}, tokens=5 * 4 * 192, seed=seed)
        train(config, folder / f"run{seed}", data)
    return folder / "run0", folder / "run1"


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with the names and formats of the published ones, but other contents."""
    folder = tmp_path_factory.mktemp("files")
    for name, lines in (
        ("mbpp.jsonl", MBPP_LINES),
        ("gsm8k/test.jsonl", GSM8K_LINES),
        ("gsm8k/train.jsonl", GSM8K_LINES),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="session")
def llama_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece model of 500 pieces, with the settings of Llama's own."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="extra [llama] not installed")
    prefix = tmp_path_factory.mktemp("llama") / "tokenizer"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(Path(__file__).read_text().splitlines()),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")


@pytest.fixture(scope="session")
def small(texts: Path) -> list[str]:
    """Arguments that have a study use the bytes of `texts`, a corpus that is built at once."""
    return ["--set", f"data.source=files:{texts}", "--set", "data.tokenizer=bytes"]
