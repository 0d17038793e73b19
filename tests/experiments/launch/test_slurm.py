"""A two-run study on a real Slurm: one run is preempted, and ends with the same weights.

tests/experiments/launch/slurm/start.sh starts a one-node Slurm; without one these tests are
skipped.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments import results
from experiments.jobs import read_status
from experiments.launch.slurm import queued
from tests.conftest import Cli, newest_step

ROOT = Path(__file__).parents[3]
# Two runs of sweep-heads, n=1 and n=4, of some seconds each.
TWO = [
    "model.head=parallel", "model.extra_layers=0", "tokens=51_200", "log_every=1",
    "precision=float32", "compile=off",
]  # fmt: skip
CPU = ["--slurm gpus=0", "--slurm cpus=1", "--slurm memory_gb=2", "--slurm hours=0.2"]


def no_slurm() -> str:
    """Why there is no Slurm to test on; "" if there is one."""
    for tool in ("sbatch", "squeue", "scontrol", "sinfo"):
        if shutil.which(tool) is None:
            return (
                f"{tool} is not installed; tests/experiments/launch/slurm/start.sh starts a Slurm"
            )
    try:
        done = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=10
        )
    except subprocess.TimeoutExpired:
        return "sinfo does not answer; tests/experiments/launch/slurm/start.sh starts a Slurm"
    if done.returncode or not re.search("idle|mixed|allocated|completing", done.stdout):
        return f"no node is up: {(done.stderr or done.stdout).strip()}"
    return ""


@pytest.fixture(autouse=True, scope="module")
def slurm() -> None:
    if why := no_slurm():
        pytest.skip(why)


@pytest.fixture
def cancel() -> Iterator[Callable[[Path], None]]:
    """Remembers folders of runs; their jobs are cancelled at the end."""
    kept: list[Path] = []
    yield kept.append
    jobs = {f.read_text().split("_")[0] for runs in kept for f in runs.glob("*/slurm-job")}
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, "nothing happened"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def weights(folder: Path) -> dict[str, bytes]:
    """The newest checkpoint's weights and optimizer, byte for byte."""
    newest = folder / "checkpoint" / f"step-{newest_step(folder / 'checkpoint'):08}"
    return {f.name: f.read_bytes() for f in newest.glob("*.safetensors")}


def test_a_preempted_member_of_an_array_ends_with_the_weights_of_an_undisturbed_run(
    cli: Cli,
    small: list[str],
    data: Path,
    tmp_path: Path,
    cancel: Callable[[Path], None],
) -> None:
    runs, kept = tmp_path / "runs", tmp_path / "results"
    cancel(runs)
    sets = [*small, *(word for change in TWO for word in ("--set", change))]
    places = ["--runs", str(runs), "--results", str(kept), "--data", str(data)]
    arguments = [*sets, *places, *(word for option in CPU for word in option.split())]
    command = ["make", "-C", str(ROOT), "-o", "setup", f"PY={sys.executable}", "sweep-heads"]
    command += ["SCALE=smoke", "LAUNCHER=slurm", f"ARGS={' '.join(arguments)}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def logged(folder: Path) -> int:
        file = folder / "metrics.jsonl"
        return file.read_text().count("\n") if file.exists() else 0

    def training() -> list[Path]:
        return [f for f in runs.glob("parallel-n4-*") if logged(f) > 10]

    wait_until(training, process)
    (folder,) = training()
    job = (folder / "slurm-job").read_text()
    assert re.fullmatch(r"\d+_[01]", job) and queued()[job] == "RUNNING"
    again = cli("run", "sweep-heads", "--scale", "smoke", "--launcher", "debug", *sets, *places)
    assert again.code == 0 and f"{folder.name}, " in again.out and "already under way" in again.out

    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(lambda: read_status(folder)["state"] == "interrupted", process)
    saved = int(str(read_status(folder)["step"]))
    assert 0 < saved == newest_step(folder / "checkpoint")
    result = cli("status", "sweep-heads", "--scale", "smoke", *sets, *places).out
    assert re.search(rf"  queued, step {saved}/400\n +\S*{folder.name}\n", result)

    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, (out, err)
    assert "2 to run by slurm" in out and "Traceback" not in err
    (file,) = (kept / "sweep-heads").glob("smoke-*.csv")
    assert sorted(results.read(file).n.unique()) == [1, 4]
    (log,) = Path(out.split("logs: ")[1].split("\n")[0]).glob(f"{job}_0_log.out")
    assert (
        "interrupted by SIGTERM; saved" in log.read_text() and log.read_text().count("engine:") == 2
    )

    undisturbed = tmp_path / "undisturbed"
    places[1] = str(undisturbed)
    assert (
        cli("run", "sweep-heads", "--scale", "smoke", "--launcher", "debug", *sets, *places).code
        == 0
    )
    for run in sorted(undisturbed.glob("parallel-*")):
        assert weights(run) and weights(run) == weights(runs / run.name), run.name


def test_slurm_toml_is_obeyed_and_a_refusal_is_one_line(
    cli: Cli, small: list[str], data: Path, tmp_path: Path
) -> None:
    (tmp_path / "slurm.toml").write_text('partition = "no-such"\ngpus = 0\ncpus = 1\n')
    run = ("run", "sweep-n", "--scale", "smoke", "--launcher", "slurm", *small, "--data", str(data))
    result = cli(*run, "--slurm", "memory_gb=2")
    assert result.code == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("error: sbatch refused the jobs: ") and "no-such" in last
    assert result.err.count("no-such") == 1 and "Traceback" not in result.err
    (script,) = (tmp_path / "runs" / "logs").rglob("*.sh")
    text = script.read_text()
    for line in (
        "--partition=no-such",
        "--cpus-per-task=1",
        "--mem=2GB",
        "--requeue",
        "--array=0-4",
    ):
        assert f"#SBATCH {line}" in text, line
    assert "gpus" not in text and "--signal=USR2@120" in text
    assert not list((tmp_path / "runs").glob("*/slurm-job"))
