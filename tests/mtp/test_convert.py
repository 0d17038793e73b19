"""python -m mtp.convert: what it writes is decoded from and trained on, or nothing is written."""

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp import convert
from mtp.checkpoint import Checkpoint, run_config, save
from mtp.config import CorpusConfig, TrainConfig
from mtp.data.corpus import build
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer, load, same_tokenizer
from mtp.formats import folders, hugging_face
from mtp.formats.folders import read_model
from mtp.model.loading import load_model
from mtp.model.model import MultiTokenTransformer
from mtp.model.surgery import drop_heads
from mtp.objective_config import ObjectiveConfig
from mtp.overrides import from_dict, override, to_json
from mtp.training.run import train
from mtp.training.trainer import Trainer
from tests.conftest import load_checkpoint
from tests.mtp.formats.helpers import (
    TOKENS,
    assert_equal_models,
    from_pretrained,
    logits,
    our_model,
    released_model,
    save_released,
    their_model,
)

NO_TOKENIZER = ("--set", "data.tokenizer=bpe")  # that comes with the weights


class Command:
    """Runs a module's command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capfd = monkeypatch, capfd

    def __call__(self, *args: object, module: str = "mtp.convert") -> str:
        """What it prints; it must succeed."""
        code, out, err = self.run(module, *args)
        assert code == 0, err
        return out

    def fails(self, *args: object) -> str:
        """The one line it prints; it must leave with code 2."""
        code, out, err = self.run("mtp.convert", *args)
        assert code == 2 and not out
        assert err.startswith("error: ") and err.count("\n") == 1, err
        return err

    def run(self, module: str, *args: object) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", [module, *map(str, args)])
        self.monkeypatch.delitem(sys.modules, module, raising=False)
        self.capfd.readouterr()
        code = 0
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as left:
            code = int(left.code or 0)
        result = self.capfd.readouterr()
        return code, result.out, result.err


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capfd)


def a_run(
    folder: Path, model: MultiTokenTransformer, tokenizer: Tokenizer | None, step: int = 7
) -> None:
    """A trained run's folder, as mtp.train leaves it."""
    config = TrainConfig(tokens=1e6, lr=1e-3, model=model.config)
    folder.mkdir()
    (folder / "config.json").write_text(to_json(config))
    if tokenizer:
        tokenizer.save(folder)
    weights = {name: w.detach() for name, w in model.named_parameters()}
    moments = {f"exp_avg.{name}": w for name, w in weights.items()}
    save(folder / "checkpoint", Checkpoint(step, weights, moments, {"step": step}))


def test_an_imported_llama_is_a_run(command: Command, tmp_path: Path) -> None:
    bpe = BPE.train([Path(__file__).read_text()], 400)
    theirs = their_model(vocab_size=400, num_key_value_heads=2)
    theirs.save_pretrained("llama")
    hugging_face.write_hf_tokenizer(Path("llama"), bpe, 64)
    assert command("import", "llama", "runs/llama") == "runs/llama: import of llama\n"
    model = load_model(Path("runs/llama"))
    with torch.no_grad():
        expected = theirs(TOKENS).logits
    torch.testing.assert_close(logits(model)[0], expected, rtol=0, atol=1e-5)
    assert load(Path("runs/llama")).encode("def f(x)") == bpe.encode("def f(x)")
    shown = command(
        *("--checkpoint", "runs/llama", "--prompt", "def ", "--max-new", 8), module="mtp.decode"
    )
    assert shown.startswith("def ")
    names = {path.name for path in Path("runs/llama").iterdir()}
    assert names == {"config.json", "checkpoint", "tokenizer.json"}
    assert [path.name for path in Path("runs").iterdir()] == ["llama"]


def test_a_released_model_is_imported_with_a_tokenizer_from_elsewhere(command: Command) -> None:
    weights, params = released_model(3)
    save_released(Path("7B"), weights, params)
    parts = command.fails("import", "7B", "run", "--set", "model.context=64")
    assert "without a tokenizer" in parts and "--tokenizer" in parts and not Path("run").exists()
    result = command("import", "7B", "run", "--set", "model.context=64", *NO_TOKENIZER)
    assert result == "run: import of 7B, without a tokenizer: mtp.train makes a new one\n"
    assert load_model(Path("run")).config.context == 64
    assert torch.equal(logits(load_model(Path("run"))), logits(read_model(Path("7B"))))
    Path("tokenizer").mkdir()
    ByteTokenizer().save(Path("tokenizer"))
    parts = command.fails("import", "7B", "other", "--tokenizer", "tokenizer")
    assert "258 tokens" in parts and "97" in parts and not Path("other").exists()


def test_the_command_offers_every_format() -> None:
    assert tuple(folders.FORMATS) == convert.FORMATS


@pytest.mark.parametrize("format", folders.FORMATS)
def test_what_is_exported_is_imported_again(format: str, command: Command) -> None:
    fitting = {"medusa": "replicated", "speculators": "sequential-shared"}
    head = fitting.get(format, "parallel")
    model, bpe = our_model(head, vocab=400), BPE.train([Path(__file__).read_text()], 400)
    a_run(Path("run"), model, bpe)
    command("export", "run", "out", "--format", format)
    command("import", "out", "again")
    again = load_model(Path("again"))
    if format in ("hf", "hf-heads", "medusa", "speculators"):  # head 1
        model = drop_heads(model)
        with torch.no_grad():
            theirs = from_pretrained(Path("out"))(TOKENS).logits
        torch.testing.assert_close(theirs, logits(model)[0], rtol=0, atol=1e-5)
    # a speculator's verifier has the gain of its last norm in another place
    off = 1e-5 if format == "speculators" else 0
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=off)
    text = "def test(x): <|eos|> é"
    assert load(Path("again")).encode(text) == bpe.encode(text)


def test_heads_that_a_format_cannot_hold_are_refused(command: Command) -> None:
    a_run(Path("run"), our_model("parallel"), None)
    error = command.fails("export", "run", "out", "--format", "speculators")
    assert "parallel heads" in error and "sequential-shared" in error
    assert not Path("out").exists()


def test_heads_are_grown_and_dropped(command: Command) -> None:
    model = our_model("parallel", 1)
    a_run(Path("run"), model, None)
    command("grow", "run", "more", "--n", 4, "--head", "linear", "--set", "lr=1e-5", *NO_TOKENIZER)
    more = load_model(Path("more"))
    assert (more.config.n, more.config.head) == (4, "linear")
    assert torch.equal(logits(more)[0], logits(model)[0])
    config = from_dict(TrainConfig, json.loads(Path("more/config.json").read_text()))
    assert (config.lr, config.tokens) == (1e-5, 1e6)
    command("grow", "run", "matched", "--n", 3, "--matched", *NO_TOKENIZER)
    assert load_model(Path("matched")).config.trunk_layers == 2
    command("drop", "more", "fewer", "--n", 2, *NO_TOKENIZER)
    assert torch.equal(logits(load_model(Path("fewer"))), logits(more)[:2])
    command("drop", "more", "one", *NO_TOKENIZER)
    assert_equal_models(load_model(Path("one")), drop_heads(more))


LIVES: dict[str, tuple[dict[str, Any], list[Any], list[str], str]] = {
    # a run's own fields, the command, what --set must repair, and the field it repairs
    "a frozen trunk, one head": ({"init": "a", "freeze": "trunk"}, ["drop"], [], ""),
    "a frozen trunk, two": ({"init": "a", "freeze": "trunk"}, ["drop", "--n", 2], [], ""),
    "a frozen trunk, more": ({"init": "a", "freeze": "trunk"}, ["grow", "--n", 4], [], ""),
    "listed weights, fewer": (
        {"objective": {"weights": "1,0.3,0.1"}},
        ["drop"],
        ["objective.weights=equal"],
        "weights",
    ),
    "listed weights, more": (
        {"objective": {"weights": "1,0.3,0.1"}},
        ["grow", "--n", 4],
        ["objective.weights=1,1,1,1"],
        "weights",
    ),
    "cut heads that head 1 reads": (
        {"objective": {"detach": True}, "n": 1},
        ["grow", "--n", 2, "--head", "anticausal"],
        ["objective.detach=false"],
        "detach",
    ),
    "a target that heads are told": (
        {"objective": {"targets": "same"}, "n": 1},
        ["grow", "--n", 2, "--head", "inject"],
        ["objective.targets=ahead"],
        "targets",
    ),
}


@pytest.mark.parametrize("case", LIVES)
def test_any_run_can_be_dropped_and_grown(case: str, command: Command) -> None:
    """The new folder begins anew; what cannot be kept of the objective is named, to be set."""
    own, (how, *args), repair, field = LIVES[case]
    own = dict(own)
    a_run(Path("run"), our_model("parallel", own.pop("n", 3), vocab=300), ByteTokenizer())
    file = Path("run/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    if repair:
        error = command.fails(how, "run", "out", *args)
        assert error.startswith(f"error: objective.{field}") and "does not fit" in error
        default = str(getattr(ObjectiveConfig(), field)).lower()
        assert f"--set objective.{field}={default}, or" in error and not Path("out").exists()
        assert "does not fit" not in command.fails(how, "run", "out", *args, "--set", "lr=x")
    command(how, "run", "out", *args, *(part for text in repair for part in ("--set", text)))
    made = run_config(Path("out"))
    assert made.model == load_model(Path("out")).config
    assert (made.init, made.freeze, made.lr) == ("", "none", 1e-3)
    assert made == override(made, repair)


def test_training_continues_from_an_imported_model(
    command: Command, texts: Path, tmp_path: Path
) -> None:
    """It uses the model's weights and tokens and a fresh optimizer, interrupted or not."""
    bpe = BPE.train([Path(__file__).read_text()], 400)
    llama_folder = Path("llama")
    llama_folder.mkdir()
    hugging_face.write_hf(llama_folder, our_model("parallel", 1, vocab=400), bpe)
    command("import", "llama", "runs/llama")
    more = [f"data.source=files:{texts}", "tokens=640", "batch=2", "model.context=32", "warmup=0"]
    more += ["precision=float32", "compile=off", "save_every=3", "lr=1e-3"]
    more = [part for text in more for part in ("--set", text)]
    command("grow", "runs/llama", "runs/more", "--n", 2, "--head", "linear", *more)
    config = from_dict(TrainConfig, json.loads(Path("runs/more/config.json").read_text()))
    assert config.data.tokenizer == "run:runs/more"
    corpus = build(config.data)
    text = "the cat went to the hill"
    assert corpus.tokenizer.encode(text) == bpe.encode(text)
    start = load_model(Path("runs/more"))
    trainer = Trainer(config, corpus, Path("runs/more"))
    for name, weight in trainer.trainable.weights().items():
        assert torch.equal(weight, start.state_dict()[name])
    assert (trainer.step, trainer.steps) == (0, 10)
    train(config, Path("runs/more"))
    command("--run", "runs/more", module="mtp.train")  # finished: nothing to do
    found = load_checkpoint(Path("runs/more/checkpoint"))
    assert found is not None and found.step == 10 and found.optimizer
    assert load(Path("runs/more")).encode(text) == bpe.encode(text)
    rows = Path("runs/more/metrics.jsonl").read_text().splitlines()
    first = json.loads(rows[0])["loss"]
    assert abs(first[0] - first[1]) < 3  # both heads began as good as head 1


QUICK = ["tokens=640", "batch=2", "model.context=32", "precision=float32", "compile=off"]


def test_a_tokenizer_that_is_named_comes_along(command: Command, texts: Path) -> None:
    Path("llama").mkdir()
    hugging_face.write_hf(Path("llama"), our_model("parallel", 1, vocab=258), None)
    given = ["data.tokenizer=bytes", f"data.source=files:{texts}", *QUICK]
    given = [part for text in given for part in ("--set", text)]
    assert command("import", "llama", "run", *given) == "run: import of llama\n"
    assert load(Path("run")).name == "bytes"
    command("--run", "run", module="mtp.train")


def test_a_run_continues_in_the_folder_it_was_moved_to(command: Command, texts: Path) -> None:
    """Its config names its tokenizer by the folder in which it was made."""
    bpe = BPE.train([Path(__file__).read_text()], 400)
    a_run(Path("run"), our_model("parallel", 2, vocab=400), bpe)
    given = [part for text in [f"data.source=files:{texts}", *QUICK] for part in ("--set", text)]
    command("drop", "run", "here", *given)
    Path("here").rename("there")
    command("--run", "there", module="mtp.train")
    assert load(Path("there")).encode("def f(x)") == bpe.encode("def f(x)")


def test_a_run_never_continues_with_another_tokenizer(command: Command, texts: Path) -> None:
    bpe = BPE.train([Path(__file__).read_text()], 400)
    a_run(Path("run"), our_model("parallel", 2, vocab=400), bpe)
    given = [part for text in [f"data.source=files:{texts}", *QUICK] for part in ("--set", text)]
    command("drop", "run", "one", *given)
    there = json.loads(Path("one/config.json").read_text())
    for name in ("bytes", "bpe"):
        there["data"] |= {"tokenizer": name, "vocab": 400}
        Path("one/config.json").write_text(json.dumps(there))
        code, _, parts = command.run("mtp.train", "--run", "one")
        assert code == 2, parts
        assert f"data.tokenizer={name} is not the tokenizer of the weights in one" in parts
        assert same_tokenizer(load(Path("one")), bpe)


def test_a_sentencepiece_model_comes_along(command: Command, llama_file: Path) -> None:
    Path("7B").mkdir()
    shutil.copyfile(llama_file, "7B/tokenizer.model")
    folders.released.write_released(Path("7B"), our_model(vocab=500), None)
    command("import", "7B", "run")
    config = from_dict(TrainConfig, json.loads(Path("run/config.json").read_text()))
    assert config.data.tokenizer == "llama:run/tokenizer.model"
    assert load(Path("run")).name == "llama"
    command("export", "run", "out", "--format", "released")
    names = {"params.json", "consolidated.00.pth", "tokenizer.model"}
    assert {path.name for path in Path("out").iterdir()} == names


def unigram(folder: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece", reason="extra [llama] not installed")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(Path(__file__).read_text().splitlines()),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=400,
        byte_fallback=True,
        minloglevel=2,
    )


BAD: dict[str, tuple[list[Any], list[str]]] = {
    "no source": (["import", "nothing", "out"], ["nothing", "is not a checkpoint"]),
    "a run as source": (["import", "run", "out"], ["run is a run already"]),
    "a source that is a file": (["import", "file", "out"], ["file", "is not a checkpoint"]),
    "an existing destination": (["import", "hf", "there"], ["there exists"]),
    "an existing file": (["export", "run", "file"], ["file exists"]),
    "itself": (["grow", "run", "run", "--n", 4], ["run exists"]),
    "below a file": (["import", "hf", "file/out", *NO_TOKENIZER], ["file/out cannot be written"]),
    "no run": (["export", "nothing", "out"], ["nothing: no such folder"]),
    "not a run": (["export", "hf", "out"], ["hf is not a run", "'architectures'"]),
    "heads it has": (
        ["grow", "run", "out", "--n", 2],
        ["n is 2", "the model's 3 heads; `drop`"],
    ),
    "heads without end": (
        ["grow", "run", "out", "--n", 10**12, "--head", "parallel"],
        ["model.n is 1000000000000", "at most 1024"],
    ),
    "other heads": (["grow", "run", "out", "--n", 4, "--head", "causal"], ["3 parallel heads"]),
    "fewer than none": (["drop", "run", "out", "--n", 0], ["0 heads", "has 3"]),
    "more than there are": (["drop", "run", "out", "--n", 4], ["4 heads", "has 3"]),
    "another shape": (
        ["import", "hf", "out", "--set", "model.dim=64"],
        ["model.dim", "only the context"],
    ),
    "another type": (
        ["import", "hf", "out", "--set", "model.head=causal"],
        ["model.head", "context"],
    ),
    "no field": (["import", "hf", "out", "--set", "rate=1"], ["'rate'", "lr"]),
    "no number": (["grow", "run", "out", "--set", "lr=x", "--n", 4], ["lr", "'x'"]),
    "no tokenizer there": (["import", "hf", "out", "--tokenizer", "file"], ["tokenizer.json"]),
    "weights of no tokenizer": (["import", "hf", "out"], ["without a tokenizer", "--tokenizer"]),
    "fewer heads of no tokenizer": (["drop", "causal", "out"], ["without a tokenizer", "--set"]),
    "another tokenizer": (
        ["drop", "run", "out", "--set", "data.tokenizer=bpe"],
        ["data.tokenizer=bpe", "beside them, bytes"],
    ),
    "a format for parallel heads": (
        ["export", "causal", "out", "--format", "released"],
        ["released", "causal"],
    ),
    "a tokenizer of another kind": (
        ["export", "unigram", "out"],
        ["tokenizer.model", "is not a BPE"],
    ),
    "a tokenizer that is torn": (["import", "torn", "out"], ["tokenizer.json", "not a tokenizer"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case: str, command: Command) -> None:
    a_run(Path("run"), our_model(vocab=300), ByteTokenizer())
    a_run(Path("causal"), our_model("causal"), None)
    for name in ("hf", "torn"):
        Path(name).mkdir()
        hugging_face.write_hf(Path(name), our_model(), None)
    Path("torn/tokenizer.json").write_text("{")
    if "unigram" in BAD[case][0]:
        a_run(Path("unigram"), our_model(vocab=400), None)
        unigram(Path("unigram"))
    Path("there").mkdir()
    Path("file").write_text("x")
    before = sorted(path for path in Path().rglob("*"))
    args, parts = BAD[case]
    message = command.fails(*args)
    for part in parts:
        assert part in message, message
    assert sorted(path for path in Path().rglob("*")) == before


@pytest.mark.parametrize("args", [["import", "hf", "out", *NO_TOKENIZER], ["export", "run", "out"]])
def test_a_write_that_fails_leaves_nothing(
    args: list[str], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "out")

    a_run(Path("run"), our_model(), None)
    Path("hf").mkdir()
    hugging_face.write_hf(Path("hf"), our_model(), None)
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr("safetensors.torch.save_file", no_space)
    assert "no space left" in command.fails(*args)
    assert sorted(Path().rglob("*")) == before


def test_what_a_killed_process_left_is_cleared(command: Command) -> None:
    a_run(Path("run"), our_model(), None)
    Path(".half-out").mkdir()
    Path(".half-out/rest").write_text("x")
    command("export", "run", "out", "--format", "all")
    names = {"config.json", "model.safetensors"}
    assert {path.name for path in Path("out").iterdir()} == names and not Path(".half-out").exists()


def test_the_same_tokenizer_makes_the_same_corpus(
    command: Command, texts: Path, tmp_path: Path
) -> None:
    bpe = BPE.train([Path(__file__).read_text()], 400)
    for name in ("a", "b"):
        Path(name).mkdir()
        bpe.save(Path(name))
    config = CorpusConfig(source=f"files:{texts}", tokenizer="run:a")
    folder = build(config).folder
    assert build(override(config, ["tokenizer=run:b"])).folder == folder
    BPE.train(["other text " * 9], 400).save(Path("b"))
    assert build(override(config, ["tokenizer=run:b"])).folder != folder
