"""What is asked of Slurm: the script of the README's command, options, memory, arrays, warnings. A
stand-in for sbatch keeps the scripts."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from experiments.launch import squeue
from experiments.launch.base import Job
from experiments.launch.needs import evaluation_memory_gb, memory_gb, warning_seconds
from experiments.launch.slurm import Slurm, equal_parts
from experiments.launch.slurm_options import SlurmOptions, slurm_options
from experiments.study import find, plan, run_folder
from experiments.watch import line
from mtp.config import TrainConfig, size
from mtp.errors import BadInput
from mtp.overrides import to_json
from mtp.training import time_limit
from tests.conftest import Cli

SBATCH = """#!/bin/sh
echo "$*" >> {folder}/sbatch-calls
number=$(wc -l < {folder}/sbatch-calls)
for word in "$@"; do test -f "$word" && cp "$word" {folder}/script-$number.sh; done
echo "Submitted batch job $number"
"""
SEVEN = TrainConfig(model=size("6.7B", vocab=32_000, context=4096), batch=2048, micro=2, tokens=1e9)


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that gets script-1.sh, script-2.sh .. of what is submitted. All jobs have ended at
    once, as far as squeue says."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (
        ("sbatch", SBATCH.format(folder=tools)),
        ("srun", "#!/bin/sh"),
        ("squeue", "#!/bin/sh"),
        ("scontrol", "#!/bin/sh\necho 'MaxArraySize = 3'"),
    ):
        (tools / name).write_text(text + "\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return tools


def test_jobs_that_never_start_say_why(cli: Cli, scripts: Path, tmp_path: Path) -> None:
    """A partition that is down, say, looked like a run that starts."""
    (tmp_path / "jobs").mkdir()
    jobs = jobs_of(tmp_path / "jobs", 3)
    launched = Slurm(jobs, tmp_path / "logs", SlurmOptions(gpus=2))  # each trains, then evaluates
    own = list(launched.job_ids.values())
    lines = [f"{first}|PENDING|PartitionConfig\n{then}|PENDING|Dependency" for first, then in own]
    (scripts / "squeue").write_text("#!/bin/sh\necho '" + "\n".join(lines) + "'\n")
    assert launched.step() and launched.pending == "3 pending: PartitionConfig"
    assert line(0.0, 3, [launched.pending], 40).endswith("; 3 pending: PartitionConfig")
    lines[0] = lines[0].replace("PENDING|PartitionConfig", "RUNNING|None")
    lines[2] = lines[2].replace("PENDING|PartitionConfig", "PENDING|None")
    (scripts / "squeue").write_text("#!/bin/sh\necho '" + "\n".join(lines) + "'\n")
    assert launched.step() and launched.pending == "1 pending: PartitionConfig, 1 pending"

    study = find("sweep-n")
    for config, ids in zip(plan(study, "smoke"), own, strict=False):
        folder = run_folder(config, tmp_path / "runs")
        folder.mkdir(parents=True)
        squeue.write_job_ids(folder, ids)
    said = cli("status", "sweep-n", "--scale", "smoke").out
    counts = "3 running or queued, 2 not started, 1 pending: PartitionConfig, 1 pending"
    assert said.startswith(f"sweep-n at scale smoke, 5 runs: {counts}\n")
    assert re.search(r"  n=2  queued \(PartitionConfig\)\n", said)
    assert re.search(r"  n=1  queued\n", said) and re.search(r"  n=4  queued\n", said)
    (scripts / "squeue").write_text("#!/bin/sh\n")
    assert not launched.step() and launched.pending == ""


def options_of(script: Path) -> dict[str, str]:
    """The #SBATCH lines of a script."""
    found = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script.read_text(), re.MULTILINE)
    return dict(found)


def test_the_readmes_command_for_several_nodes(
    cli: Cli, scripts: Path, texts: Path, tmp_path: Path
) -> None:
    """Its arguments, with a small corpus in place of the user's."""
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    (line,) = [line for line in readme.splitlines() if "SCALE=paper LAUNCHER=slurm" in line]
    arguments = shlex.split(re.search(r"ARGS='([^']*)'", line)[1])  # pyright: ignore
    words = [w for w in arguments if "data." not in w and w != "--set"]
    words += ["--set", f"data.source=files:{texts}", "--set", "data.tokenizer=bytes"]
    result = cli("run", "sweep-n", "--scale", "paper", "--launcher", "slurm", *words)
    assert "Traceback" not in result.err
    first = result.out.splitlines()[0]
    assert re.fullmatch(r"sweep-n at scale \S+: 5 runs, 0 finished", first), "not of this machine"
    training = options_of(scripts / "script-1.sh")
    assert training["nodes"] == "8" and training["ntasks-per-node"] == "8"
    assert training["gpus-per-node"] == "8" and training["cpus-per-task"] == "8"
    assert training["time"] == "1440" and "requeue" in training
    assert training["array"].startswith("0-2%"), "no more than MaxArraySize"
    memory = int(training["mem"].removesuffix("GB"))
    assert 40 < memory < 200, "each node has eight processes of some GB, and none a whole model"
    signal, _, seconds = training["signal"].partition("@")
    assert signal.startswith("USR") and 120 <= int(seconds) < 1200
    srun = next(x for x in (scripts / "script-1.sh").read_text().splitlines() if "srun" in x)
    assert "--cpus-per-task=8" in srun and "--kill-on-bad-exit=1" in srun

    evaluation = options_of(scripts / "script-2.sh")
    assert evaluation["dependency"] == "aftercorr:1" and evaluation["array"].startswith("0-2%")
    assert (
        evaluation["nodes"] == evaluation["ntasks-per-node"] == evaluation["gpus-per-node"] == "1"
    )
    assert evaluation["kill-on-invalid-dep"] == "yes"
    assert options_of(scripts / "script-3.sh")["array"].startswith("0-1%"), "the other two runs"


def test_a_plan_prints_the_scripts_that_would_be_submitted(
    cli: Cli, scripts: Path, texts: Path, tmp_path: Path
) -> None:
    """Nothing is submitted or made, and a machine without Slurm will do."""
    words = ("--launcher", "slurm", "--slurm", "nodes=2", "--slurm", "gpus=8", "--slurm", "hours=3")
    words += ("--set", f"data.source=files:{texts}", "--set", "data.tokenizer=bytes")
    study = ("sweep-n", "--scale", "paper", *words)
    planned = cli("plan", *study)
    assert planned.code == 0, planned.err
    assert not (tmp_path / "runs").exists() and not (scripts / "sbatch-calls").exists()
    asked = re.findall(r"^5 jobs to .*$", planned.out, re.MULTILINE)
    each = r"8 processes of 8 cores and \d+ GB; time limit 3 h"
    assert re.fullmatch(rf"5 jobs to train: 2 nodes, each with 8 GPUs, {each}", asked[0])
    one = r"1 node with 1 GPU, 1 process of 8 cores and \d+ GB; time limit 3 h"
    assert len(asked) == 2 and re.fullmatch(f"5 jobs to evaluate: {one}", asked[1])

    cli("run", *study)  # the stand-in for sbatch keeps what it gets

    def comparable(text: str) -> list[str]:
        """Without the hour in the names of logs, and the number of the job that is waited for."""
        text = re.sub(r"(logs/sweep-n)/\d{8}-\d{6}", r"\1", text).replace(
            "aftercorr:1", "aftercorr:JOB"
        )
        return text.replace(f"{tmp_path}/", "").strip().splitlines()

    printed = planned.out.split("#!/bin/bash\n")[1:]
    for own, number in zip(printed, (1, 2), strict=True):
        submitted = comparable((scripts / f"script-{number}.sh").read_text())
        assert comparable("#!/bin/bash\n" + own)[: len(submitted)] == submitted

    (scripts / "squeue").unlink()
    assert cli("plan", *study).code == 0
    odd = cli("plan", *study, "--slurm", "nodes=3")
    assert odd.code == 2 and "batch 2048 does not divide over 24 ranks" in odd.err
    local = cli("plan", "sweep-n", "--slurm", "nodes=3")
    assert (local.code, local.err) == (2, "error: --slurm needs --launcher slurm\n")


def jobs_of(tmp_path: Path, count: int) -> list[Job]:
    folders = [tmp_path / f"run{i}" for i in range(count)]
    for folder in folders:
        folder.mkdir()
    config = to_json(TrainConfig(tokens=1e6))
    return [Job("sweep-n", "smoke", config, str(folder), "data") for folder in folders]


def test_all_that_a_cluster_may_need_reaches_sbatch(scripts: Path, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text(
        'partition = "gpu"\nqos = "long"\nconstraint = "h100"\nsetup = ["module load cuda"]\n'
        '[extra]\nmail-type = "END"\n'
    )
    words = ["gres=gpu:h100:4", "gpus=4", "tasks=2", "reservation=mine", "exclude=n1,n2"]
    words += ["setup=export A=1", "extra.comment=hello", "memory_gb=7", "warn_seconds=90"]
    Slurm(jobs_of(tmp_path, 1), tmp_path / "logs", slurm_options(words, file))
    found = options_of(scripts / "script-1.sh")
    wanted = {
        "partition": "gpu", "qos": "long", "constraint": "h100", "gres": "gpu:h100:4",
        "reservation": "mine", "exclude": "n1,n2", "mail-type": "END", "comment": "hello",
        "mem": "7GB", "ntasks-per-node": "2",
    }  # fmt: skip
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["signal"].endswith("@90") and "gpus-per-node" not in found
    script = (scripts / "script-1.sh").read_text()
    assert script.index("module load cuda") < script.index("export A=1") < script.index("\nsrun")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["extra=1"], "write extra.NAME=VALUE"),
        (["extra.mem=1"], "extra.mem has a field of its own: memory_gb"),
        (["extra.array=1"], "extra.array is the launcher's"),
        (["extra.a b=1"], "not the name of an option"),
        (["nodes=0"], "nodes is 0; it must be at least 1"),
        (["gpus=-1"], "gpus is -1; it must be at least 0"),
        (["tasks=9"], "tasks is 9 with gpus=1"),
        (["hours=0"], "hours is 0; it must be above 0"),
        (["qoss=1"], "qoss"),
    ],
)
def test_a_bad_option_is_named(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        slurm_options(words, tmp_path / "none.toml")


def test_arrays_are_cut_in_equal_parts(scripts: Path, tmp_path: Path) -> None:
    assert squeue.max_array_size() == 3
    assert [len(part) for part in equal_parts(jobs_of(tmp_path, 7))] == [3, 3, 1]
    assert equal_parts([]) == []


def test_memory_follows_from_the_model() -> None:
    assert memory_gb([SEVEN], nodes=8, tasks=8, gpu=True) < 60
    one = memory_gb([SEVEN], nodes=1, tasks=8, gpu=True)
    assert one > memory_gb([SEVEN], nodes=8, tasks=8, gpu=True), "shards of the checkpoint"
    tuned = dataclasses.replace(SEVEN, init="runs/start")
    assert memory_gb([tuned], 8, 8, True) > memory_gb([SEVEN], 8, 8, True) + 40
    assert 50 < evaluation_memory_gb([SEVEN], gpu=True) < 70


def test_the_warning_follows_from_what_the_run_has_measured(tmp_path: Path) -> None:
    small = TrainConfig(tokens=1e6)
    assert warning_seconds([small], [tmp_path], 1, 3600) == 120
    assert warning_seconds([SEVEN], [tmp_path], 1, 86_400) > 600, "80 GB by one process"
    assert warning_seconds([SEVEN], [tmp_path], 64, 86_400) == 120
    timings = {"save_seconds": 300.0, "step_seconds": 20.0}
    (tmp_path / "timings.json").write_text(json.dumps(timings))
    assert warning_seconds([SEVEN], [tmp_path], 64, 86_400) == time_limit.margin(300, 20) == 690
    assert warning_seconds([SEVEN], [tmp_path], 64, 600) == 120, "a fifth of a short limit"
    (tmp_path / "timings.json").write_text("{torn")
    assert warning_seconds([small], [tmp_path], 1, 3600) == 120


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1-02:00:30", 93_630), ("02:00:30", 7230), ("5:07", 307), ("UNLIMITED", None), ("", None)],
)
def test_slurms_times_are_read(text: str, seconds: float | None) -> None:
    assert time_limit.parse_time(text) == seconds


def test_options_have_the_defaults_that_the_docs_say() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "gpu-and-cluster.md").read_text()
    for field in dataclasses.fields(SlurmOptions):
        assert f"`{field.name}`" in docs, field.name
