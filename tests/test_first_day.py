"""docs/first-day.md as a user would follow it: every command, in a clone, with nothing tracked
changed. The runs are a tenth as long, and only the first program is started anew: the others are
forked from a process that has imported torch, which would take most of the time."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import results

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "first-day.md").read_text()
BLOCK = re.compile(
    r"(?:Save this as `([^`]+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def git(folder: Path, *command: str) -> str:
    done = subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout's files, as they are now, in a repository of their own."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("clone")
    for name in git(ROOT, "ls-files").splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "as it is")
    return folder


# Runs `python -m MODULE ARGUMENTS` for each line of JSON that it reads, as a new interpreter would:
# nothing that it has imported before is this project's. Prints the exit codes.
FORKS = """
import gc, json, os, runpy, sys
import matplotlib.pyplot, pandas, submitit, torch._dynamo
gc.collect(); gc.freeze()  # else every child's end visits all objects, for a second
for line in sys.stdin:
    child = os.fork()
    if not child:
        sys.argv, output = json.loads(line)
        for fd, path, flags in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY)):
            os.dup2(os.open(path, flags), fd)
        os.dup2(1, 2)
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
Run = Callable[[str], tuple[int, str]]


@pytest.fixture(scope="module")
def run(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a line of the page in the clone; returns its exit code and what it prints."""
    environment = os.environ | {"PYTHONPATH": str(clone), "OMP_NUM_THREADS": "1"}
    output, started = tmp_path_factory.mktemp("output") / "output", False

    def run(line: str) -> tuple[int, str]:
        nonlocal started
        output.write_text("")
        found = re.fullmatch(r"\.venv/bin/python -m ([^|<>;&$*]+)", line)
        if found and started:
            print(json.dumps([shlex.split(found[1]), str(output)]), file=forks.stdin, flush=True)
            assert forks.stdout
            return int(forks.stdout.readline()), output.read_text()
        started = started or bool(found)
        command = line.replace(".venv/bin/python", sys.executable)
        with output.open("w") as file:
            done = subprocess.run(
                ["bash", "-c", command], cwd=clone, env=environment, stdout=file, stderr=file
            )
        return done.returncode, output.read_text()

    with subprocess.Popen(
        [sys.executable, "-c", FORKS], cwd=clone, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as forks:  # fmt: skip
        yield run


@pytest.fixture(scope="module")
def lived(clone: Path, run: Run) -> str:
    """All that the page's commands print, after every file of the page is written."""
    said = []
    for name, language, text in BLOCK.findall(PAGE):
        if name:
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            (clone / name).write_text(text)
            continue
        assert not language, f"a block of {language} that is neither a file nor commands"
        for line in text.splitlines():
            if "experiments.evaluate" in line and not shutil.which("bwrap"):
                continue  # programs need the sandbox
            code, printed = run(
                re.sub(r"(tokens=\d)e(\d)", lambda m: f"{m[1]}e{int(m[2]) - 1}", line)
            )
            assert code == 0, f"{line}\n{printed}"
            said.append(f"$ {line}\n{printed}")
    return "\n".join(said)


def test_nothing_that_git_tracks_is_changed(clone: Path, lived: str) -> None:
    assert git(clone, "diff", "--stat") == ""
    untracked = git(clone, "status", "--porcelain").splitlines()
    mine = {"exported/", "input.txt", "mine/", "my_study.py", "pairs.jsonl", "texts/"}
    assert {line.removeprefix("?? ") for line in untracked} == mine


def test_the_ends_inform(clone: Path, lived: str) -> None:
    assert "runs/first is trained; next: python -m mtp.decode --checkpoint runs/first" in lived
    assert re.search(r"n=2, \(n=2\) - \(n=1\): [+-]\d", lived)
    assert re.search(r"  lr=0.002 .* 1 seed  [+-]0\.\d{4}$", lived, re.MULTILINE)
    assert "bits per byte" in lived and "tokens per forward" in lived
    assert (
        "extra-layer at scale cpu" in lived
        and "figure: results/mine/extra-layer/smoke.png" in lived
    )


def test_rows_and_figures_are_where_the_page_says(clone: Path, lived: str) -> None:
    mine = clone / "results" / "mine"
    assert (mine / "compared.png").exists() and (mine / "sweep-n-compared.png").exists()
    labels = {file.stem for file in (mine / "sweep-n").glob("*.csv")}
    assert {"smoke-lr=0.003,n=1,4", "smoke-lr=0.01,n=1,4"} <= labels
    (bytes_,) = [label for label in labels if "data.tokenizer=bytes" in label]
    rows = results.read(mine / "sweep-n" / f"{bytes_}.csv")
    assert len(rows.drop_duplicates(["seed", "n"])) == 6
    assert set(rows.changed) == {"data.source=files:texts, data.tokenizer=bytes"}
    index = (clone / "runs" / "index.tsv").read_text()
    assert "\textra-layer\tsmoke\tn=2 +1 layers" in index and "lr=0.01" in index


def test_the_models_are_the_ones_asked_for(clone: Path, lived: str) -> None:
    assert (
        '"head": "mine/residual.py:residual"' in (clone / "runs/residual/config.json").read_text()
    )
    assert '"n": 1,' in (clone / "runs/tuned/config.json").read_text()
    (events,) = (clone / "runs" / "faster" / "tensorboard").iterdir()
    assert events.stat().st_size > 100 and not (clone / "runs/first/tensorboard").exists()
    assert (clone / "exported" / "model.safetensors").exists()
