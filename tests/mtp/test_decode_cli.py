"""python -m mtp.decode: what it prints, in which colours, and how it reports bad input."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import StringIO
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch

from mtp import decode, hardware
from mtp.command_line import default_precision
from mtp.config import TrainConfig
from mtp.data.tokenizer import load
from mtp.decoding.generate import Gain, Generation, generate, stream
from mtp.decoding.sampling import Sampling
from mtp.errors import BadInput
from mtp.model import loading
from mtp.model.loading import load_model
from mtp.model.model import MultiTokenTransformer
from mtp.training.run import train
from tests.conftest import Result
from tests.mtp.helpers import start_command

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GREEN, PLAIN = "\033[32m", "\033[0m"
PROMPT, NEW = "3.1 the fox went to", 40
MODEL = {"n": 4, "layers": 6, "context": 64}


@pytest.fixture(scope="module")
def run(
    make_config: Callable[..., TrainConfig], data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose drafts are sometimes right."""
    folder = tmp_path_factory.mktemp("decode") / "run"
    train(make_config(model=MODEL, tokens=100 * 4 * 64, lr=1e-2), folder, data)
    return folder


@pytest.fixture
def run_decode(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run `python -m mtp.decode` in this process, by default on the run and with PROMPT."""
    monkeypatch.delenv("NO_COLOR", raising=False)

    def call(*args: str, prompt: str = PROMPT, checkpoint: Path = run, terminal: bool = False):
        common = ["--checkpoint", str(checkpoint), "--prompt", prompt, "--max-new", str(NEW)]
        common += ["--precision", "float32"]  # a GPU's default is another
        monkeypatch.setattr(sys, "argv", ["decode", *common, *args])
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        capsys.readouterr()
        code = 0
        try:
            decode.main()
        except SystemExit as left:
            code = int(left.code or 0)
        output = capsys.readouterr()
        return Result(code, output.out, output.err)

    return call


RunDecode = Callable[..., Result]


def expected(run: Path, prompt: str = PROMPT, **options: Any) -> tuple[str, Generation]:
    """Prompt and continuation, and the generation behind them."""
    model, tokenizer = load_model(run, DEVICE), load(run)
    ids = [tokenizer.bos, *tokenizer.encode(prompt)]
    generation = generate(model, [ids], NEW, eos=tokenizer.eos, **options)
    return prompt + tokenizer.decode(generation.tokens[0]) + "\n", generation


def command(run: Path, prompt: str) -> list[str]:
    options = ["--checkpoint", str(run), "--prompt", prompt, "--max-new", str(NEW)]
    return [sys.executable, "-m", "mtp.decode", *options]


# --------------------------------------------------------------------------------------------------
# what is printed


def test_it_prints_what_generate_makes(run: Path, run_decode: RunDecode) -> None:
    text, generation = expected(run)
    output = run_decode()
    assert output.code == 0 and output.out == text
    assert len(text) > len(PROMPT) + 20 and generation.tokens_per_forward > 1.5
    for k in (1, 2, 4):
        output = run_decode("--k", str(k))
        assert output.out == text
        summary = re.fullmatch(
            r"(\d+) tokens in (\d+\.\d\d) s \(\d+ tokens/s\), (\d+) forward passes after the "
            r"prompt's, (\d\.\d\d) tokens per forward\n",
            output.err,
        )
        assert summary, output.err
        _, generation = expected(run, k=k)
        assert (
            int(summary[1]) == len(generation.tokens[0]) and int(summary[3]) == generation.forwards
        )
        assert summary[4] == f"{generation.tokens_per_forward:.2f}"


def test_sampling_options_reach_the_sampler(run: Path, run_decode: RunDecode) -> None:
    texts = []
    for law in (Sampling(1.5, seed=1), Sampling(1.5, 5, 0.9, 1), Sampling(1.5, seed=2)):
        values = {"temperature": law.temperature, "top-k": law.top_k, "top-p": law.top_p}
        options = [f"--{name}={value}" for name, value in (values | {"seed": law.seed}).items()]
        texts.append(expected(run, sampling=law)[0])
        assert run_decode(*options).out == texts[-1]
    assert len({*texts, expected(run)[0]}) == 4


def test_one_token_needs_no_pass_after_the_prompts(run: Path, run_decode: RunDecode) -> None:
    output = run_decode("--max-new", "1")
    assert output.out == expected(run)[0][: len(PROMPT) + 1] + "\n"
    assert output.err.startswith("1 tokens in ")
    assert output.err.endswith(" 0 forward passes after the prompt's, 1.00 tokens per forward\n")


def test_a_dash_reads_the_prompt_from_stdin(
    run: Path, run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO("12.3 the hen\n"))
    assert run_decode(prompt="-").out == expected(run, "12.3 the hen\n")[0]


def test_as_a_process_in_a_pipe(run: Path) -> None:
    done = subprocess.run(command(run, "-"), input=PROMPT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == expected(run)[0]
    assert done.stderr.count("\n") == 1 and " tokens per forward" in done.stderr


# --------------------------------------------------------------------------------------------------
# colours


def coloured(run: Path) -> str:
    """The text with accepted drafts marked, by the passes of `stream`: all but the last of each."""
    model, tokenizer = load_model(run, DEVICE), load(run)
    ids = [tokenizer.bos, *tokenizer.encode(PROMPT)]
    text = PROMPT
    for ((_, tokens, accepted),) in stream(model, [ids], NEW, eos=tokenizer.eos):
        for i, token in enumerate(tokens):
            new = tokenizer.decode([token])
            text += f"{GREEN}{new}{PLAIN}" if i < accepted else new
    return text + "\n"


def test_accepted_drafts_are_green_on_a_terminal(run: Path, run_decode: RunDecode) -> None:
    output = run_decode(terminal=True)
    assert output.out == coloured(run)
    assert output.out.replace(GREEN, "").replace(PLAIN, "") == expected(run)[0]
    drafts = re.findall(r"\033\[32m(.)\033\[0m", output.out, re.DOTALL)
    generation = expected(run)[1]
    # the last pass may accept more than it prints
    assert 0 <= int(generation.accepted[1:].sum()) - len(drafts) < 4
    assert 5 < len(drafts) < len(generation.tokens[0]) - 5
    assert "\033" not in output.err
    assert run_decode("--k", "1", terminal=True).out == expected(run)[0], "no drafts, no colour"


@pytest.mark.parametrize(("value", "colours"), [("1", False), ("yes", False), ("", True)])
def test_no_color_is_respected(
    run: Path, run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch, value: str, colours: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", value)  # no-color.org: present and not empty
    assert run_decode(terminal=True).out == (coloured(run) if colours else expected(run)[0])


def test_as_a_process_on_a_terminal(
    run: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    ours, theirs = pty.openpty()
    arguments = command(run, PROMPT)[3:]
    process = start_command(
        processes, "mtp.decode", arguments, os.ttyname(theirs), tmp_path / "stderr"
    )
    printed, expected = b"", coloured(run).replace("\r\n", "\n")
    while len(printed.replace(b"\r\n", b"\n")) < len(expected.encode()):
        printed += os.read(ours, 4096)
    process.join()
    os.close(ours)
    os.close(theirs)
    assert process.exitcode == 0
    assert printed.decode().replace("\r\n", "\n") == expected


# --------------------------------------------------------------------------------------------------
# characters of several tokens


def passes(*gains: tuple[list[int], int]) -> Callable[..., Iterator[list[Gain]]]:
    """A stand-in for `stream`."""
    return lambda *_, **__: iter([[Gain(0, *gain)] for gain in gains])


def test_characters_are_printed_whole(
    run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = "é".encode()
    euro = list("€".encode())
    monkeypatch.setattr(
        "mtp.decoding.generate.stream",
        passes(([first], 0), ([second, *b"ab"], 2), (euro[:2], 1), ([euro[2], ord("c")], 1)),
    )
    output = run_decode(terminal=True)
    assert output.out == f"{PROMPT}{GREEN}é{PLAIN}{GREEN}a{PLAIN}b{GREEN}€{PLAIN}c\n"
    assert output.err.startswith("8 tokens in ") and "2.33 tokens per forward" in output.err


def test_a_torn_character_does_not_hide_what_follows(
    run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mtp.decoding.generate.stream", passes(([0xC3], 0), ([*b"ab"], 1), ([0xE2, ord("c")], 0))
    )
    assert run_decode().out == f"{PROMPT}\ufffdab\ufffdc\n"


@pytest.mark.parametrize("last", [[0xC3, 257], [0xEF, 0xBF, 0xBD, 257]])
def test_a_torn_character_before_the_end_is_printed(
    run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch, last: list[int]
) -> None:
    """As tokenizer.decode has it; the second is U+FFFD itself."""
    monkeypatch.setattr("mtp.decoding.generate.stream", passes(([ord("a")], 0), (last, 0)))
    assert run_decode().out == f"{PROMPT}a\ufffd\n"


# --------------------------------------------------------------------------------------------------
# bad input


def one_line(output: Result, *words: str) -> None:
    assert output.code == 2 and output.err.count("\n") == 1, output
    assert output.err.startswith("error: ") and all(word in output.err for word in words), (
        output.err
    )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--k", "0"), ("k is 0", "from 1 to the model's 4 heads")),
        (("--k", "5"), ("k is 5",)),
        (("--temperature", "-1"), ("temperature is -1.0", "0 (greedy) or positive")),
        (("--temperature", "nan"), ("temperature is nan",)),
        (("--top-k", "-2"), ("top_k is -2",)),
        (("--top-p", "0"), ("top_p is 0.0",)),
        (("--max-new", "0"), ("max_new is 0",)),
        (("--max-new", "45"), ("20 tokens and max_new 45 make 65", "context of 64")),
    ],
)
def test_bad_values_are_reported_in_one_line(
    run_decode: RunDecode, args: tuple[str, ...], words: tuple[str]
) -> None:
    one_line(run_decode(*args), *words)


def test_a_prompt_that_is_too_long_is_reported(run_decode: RunDecode) -> None:
    one_line(run_decode(prompt="x" * 40), "prompt 0 of 41 tokens", "context of 64")


def test_nothing_is_printed_before_the_error(run_decode: RunDecode) -> None:
    """On a terminal both streams share the line: `error:` would follow the prompt."""
    assert run_decode("--k", "5").out == ""


def test_a_seed_that_is_too_large_is_reported(run_decode: RunDecode) -> None:
    one_line(run_decode("--temperature", "1", "--seed", str(2**64)), "seed")


def test_a_prompt_that_is_not_utf8_is_reported(run_decode: RunDecode) -> None:
    one_line(run_decode(prompt=os.fsdecode(b"caf\xe9")))  # as it stands in sys.argv


def test_folders_without_a_trained_run_are_reported(
    run_decode: RunDecode, run: Path, tmp_path: Path
) -> None:
    one_line(run_decode(checkpoint=tmp_path / "none"), f"{tmp_path}/none: no such folder")
    one_line(run_decode(checkpoint=run / "config.json"), "is not a run")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (fresh / name).write_bytes((run / name).read_bytes())
    one_line(run_decode(checkpoint=fresh), str(fresh), "no checkpoint yet")
    (fresh / "checkpoint").symlink_to(run / "checkpoint")
    assert run_decode(checkpoint=fresh).out == expected(run)[0]
    (fresh / "tokenizer.json").unlink()
    one_line(run_decode(checkpoint=fresh), "tokenizer.json", str(fresh))


def test_as_a_process_errors_have_no_traceback(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    out, err = tmp_path / "stdout", tmp_path / "stderr"
    process = start_command(processes, "mtp.decode", command(tmp_path, PROMPT)[3:], out, err)
    process.join()
    one_line(Result(process.exitcode or 0, "", err.read_text()), str(tmp_path), "is not a run")
    assert out.read_text() == ""


def test_device_and_precision_are_chosen(
    run_decode: RunDecode, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[torch.dtype] = []

    def watched(run: Path, device: str, dtype: torch.dtype) -> MultiTokenTransformer:
        loaded.append(dtype)
        return load_model(run, device, dtype)

    monkeypatch.setattr(loading, "load_model", watched)
    for options in (["--device", "cpu"], ["--device", "cpu", "--precision", "bf16"]):
        assert run_decode(*options).code == 0
    assert loaded == [torch.float32, torch.bfloat16]
    for options, said in (
        (["--device", "tpu"], "unknown device 'tpu'; choose one of: cpu, cuda, cuda:N"),
        (["--precision", "int4"], "unknown precision 'int4'; choose one of: float32, bf16"),
    ):
        result = run_decode(*options)
        assert (result.code, result.err) == (2, f"error: {said}\n")


@pytest.mark.parametrize(("count", "name", "current"), [(2, "cuda", None), (2, "cuda:1", 1)])
def test_a_gpu_is_made_the_current_one(
    count: int, name: str, current: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    assert hardware.use_device(name) == name
    assert chosen == ([] if current is None else [current])
    with pytest.raises(BadInput, match="no cuda:2; the last of the 2 GPUs is cuda:1"):
        hardware.use_device("cuda:2")
    assert default_precision("cuda:1", timed=True) == "bf16"
    assert default_precision("cuda", timed=False) == default_precision("cpu", timed=True)
