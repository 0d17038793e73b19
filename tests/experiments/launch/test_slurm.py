"""Studies on a real Slurm: runs that are preempted or reach their time limit end with the weights
of undisturbed ones.

tests/experiments/launch/slurm/start.sh starts a one-node Slurm; without one these tests are
skipped.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from experiments import results
from experiments.jobs import read_status
from experiments.launch.squeue import queued, read_job_ids
from mtp.config import TrainConfig
from mtp.overrides import from_dict
from tests.conftest import Cli, newest_step
from tests.experiments.launch.helpers import (
    Started,
    folders,
    steps_logged,
    wait_for_step,
    wait_until,
)
from tests.mtp.training.helpers import on_ranks

ROOT = Path(__file__).parents[3]
# Two runs of sweep-heads, n=1 and n=4, of some seconds each.
TWO = [
    "model.head=parallel", "model.extra_layers=0", "tokens=25_600", "log_every=1",
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


def weights(folder: Path) -> dict[str, bytes]:
    """The newest checkpoint's weights and optimizer, byte for byte."""
    newest = folder / "checkpoint" / f"step-{newest_step(folder / 'checkpoint'):08}"
    files = [*newest.glob("*.safetensors"), *newest.glob("**/*.distcp")]
    return {str(f.relative_to(newest)): f.read_bytes() for f in files}


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

    def training() -> list[Path]:
        return [f for f in runs.glob("parallel-n4-*") if len(steps_logged(f)) > 10]

    wait_until(lambda: training() or process.poll() is not None)
    (folder,) = training()
    job = (folder / "slurm-job").read_text()
    assert re.fullmatch(r"\d+_[01]", job) and queued()[job].state == "RUNNING"
    again = cli("run", "sweep-heads", "--scale", "smoke", "--launcher", "debug", *sets, *places)
    assert again.code == 0 and f"{folder.name}, " in again.out and "already under way" in again.out

    subprocess.run(["scontrol", "requeue", job], check=True)
    wait_until(lambda: read_status(folder)["state"] == "interrupted")
    saved = int(str(read_status(folder)["step"]))
    assert 0 < saved == newest_step(folder / "checkpoint")
    result = cli("status", "sweep-heads", "--scale", "smoke", *sets, *places).out
    assert re.search(rf"  queued, step {saved}/200(?: \(\w+\))?\n +\S*{folder.name}\n", result)

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


RANKS = [  # one run on two ranks, 80 steps of a tenth of a second
    "--set=model.n=2", "--set=tokens=10_240", "--set=log_every=1", "--set=precision=float32",
    "--set=compile=off", "--slurm=tasks=2",
]  # fmt: skip


@pytest.mark.parametrize("partition", ["main", "cancelled"])
def test_two_ranks_that_an_urgent_job_preempts_end_with_the_weights_of_undisturbed_ones(
    partition: str, start: Callable[..., Started], small: list[str], data: Path,
    processes: ForkServerContext, cancel: Callable[[Path], None],
) -> None:  # fmt: skip
    """main requeues what is preempted; cancelled cancels it, and the launcher submits it again. In
    main, the first job also meets its time limit: it leaves less than a run keeps for its last
    save, so that the job stops after a step."""
    cancel(Path("runs"))
    options = [f"--slurm=partition={partition}", *RANKS, *(word for o in CPU for word in o.split())]
    if partition == "main":
        limit = "export SLURM_JOB_END_TIME=$(($(date +%s) + 25))"
        options.append(f'--slurm=setup=test "$SLURM_RESTART_COUNT" || {limit}')
    command = start("sweep-n", "--launcher=slurm", *options, *small, "--data", str(data))
    wait_for_step(1, 10)
    (folder,) = folders()
    jobs = read_job_ids(folder)
    urgent = ["sbatch", "--partition=urgent", "--ntasks=2", "--wrap", "sleep 1"]
    subprocess.run([*urgent, "--output=/dev/null"], check=True, capture_output=True)
    wait_until(lambda: read_status(folder)["state"] == "interrupted")
    saved = int(str(read_status(folder)["step"]))
    assert 10 < saved == newest_step(folder / "checkpoint") < 80

    code, out, err = command.end()
    assert code == 0 and "Traceback" not in err, (out, err)
    again = "1 preempted, submitted again" in err
    assert again == (partition == "cancelled") == (read_job_ids(folder) != jobs)
    starts = sum(log.read_text().count("engine:") for log in Path("runs/logs").rglob("*.out"))
    assert starts == (3 if partition == "main" else 2)
    assert steps_logged(folder) == list(range(1, 81))

    config = from_dict(TrainConfig, json.loads((folder / "config.json").read_text()))
    assert on_ranks(processes, 2, [(config, Path("undisturbed"))], data) == [0, 0]
    assert weights(folder) == weights(Path("undisturbed"))


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
