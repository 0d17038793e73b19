"""How soon command lines answer, and what plan, status and collecting cost for 500 runs.

    python -m bench.cli

Each command is a process of its own, as for a user; "imports" counts the modules that it imports,
which does not depend on the load of the machine. The 500 runs are made up: their folders hold the
files of finished runs. With a stand-in for Slurm's squeue, calls of it are counted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import common
from experiments.study import find, record_file, run_folder
from mtp.command_line import out_of
from mtp.errors import BadInput, exit_cleanly
from mtp.overrides import to_json

RUNS = 500
ANSWERS = {  # what a user waits for: listings and refusals
    "list": ("experiments", "list"),
    "plan": ("experiments", "plan", "sweep-n"),
    "plan of all studies": ("experiments", "plan"),
    "status of all studies": ("experiments", "status"),
    "unknown study": ("experiments", "run", "sweep-m"),
    "unknown field": ("experiments", "run", "sweep-n", "--set", "model.dmi=3"),
    "unknown source": ("mtp.train", "--run", "x", "data.source=stdlb"),
    "fields": ("mtp.train", "--help"),
    "no such run": ("mtp.decode", "--checkpoint", "x", "--prompt", "x"),
    "unknown benchmark": ("evals", "--checkpoint", "x", "--benchmarks", "humanevil"),
}
STUDY = """
import dataclasses

from experiments.bases import base, with_model
from experiments.study import find


def runs(scale):
    return [with_model(base(scale), seed, n=n) for seed in range(COUNT // 5) for n in range(1, 6)]


STUDY = dataclasses.replace(find("sweep-n"), name="made-up", runs=runs)
"""


def timed(folder: Path, *command: str) -> tuple[float, str, str]:
    """Seconds, stdout and stderr of `python -m COMMAND` in a folder."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "PATH": f"{folder}:{os.environ['PATH']}"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", *command],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    return time.perf_counter() - start, done.stdout, done.stderr


def finished_runs(folder: Path, count: int) -> None:
    """A study of so many finished runs, and a squeue that counts its calls."""
    (folder / "many.py").write_text(STUDY.replace("COUNT", str(count)))
    (folder / "squeue").write_text(f"#!/bin/sh\necho >> {folder}/calls\necho '1_0|RUNNING'\n")
    (folder / "squeue").chmod(0o755)
    measure = {"metric": "bits per byte", "value": 2.0, "count": 1000}
    record = {
        "measures": [measure], "data": "stdlib, bpe-2048", "step": 20, "precision": "float32",
        "device": "cpu", "versions": "", "commit": "",
    }  # fmt: skip
    row = {"step": 20, "tokens": 1000, "lr": 1e-3, "loss": [2.0]}
    study = find(str(folder / "many.py"))
    for config in study.runs("cpu"):
        run = run_folder(config, folder / "runs")
        (run / "evals").mkdir(parents=True)
        (run / "config.json").write_text(to_json(config))
        (run / "status.json").write_text(json.dumps({"state": "finished", "step": 20, "steps": 20}))
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (run / "slurm-job").write_text("1_0")
        for name in study.records:
            record_file(run, name).write_text(json.dumps(record))


@exit_cleanly
def main() -> None:
    args = common.parser("cli", __doc__, seconds=40).parse_args()
    report = common.Report("cli", out_of(args))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, command in ANSWERS.items():
            tries = [timed(folder, *command) for _ in range(1 if args.quick else 3)]
            err = tries[0][2]
            report.add(case, "seconds", min(seconds for seconds, _, _ in tries), "s")
            report.add(case, "imports", err.count("import time:") - 1, "modules")
            report.add(case, "torch", float("| torch\n" in err), "imported")
        count = 20 if args.quick else RUNS
        finished_runs(folder, count)
        for case, command in {
            f"plan, {count} runs": "plan",
            f"rows, {count} finished runs": "run",
            f"status, {count} runs, half of them queued": "status",
        }.items():
            if command == "status":
                for status in sorted((folder / "runs").glob("*/status.json"))[::2]:
                    status.unlink()
            seconds, out, err = timed(folder, "experiments", command, "many.py")
            if out.count("\n") < 3:
                raise BadInput(f"experiments {command} failed: {err.splitlines()[-1]}")
            calls = folder / "calls"
            asked = calls.read_text().count("\n") if calls.exists() else 0
            report.add(case, "seconds", seconds, "s")
            report.add(case, "squeue", asked, "calls")
    report.table({"seconds": ".2f", "imports": ".0f", "torch": ".0f", "squeue": ".0f"})
    report.finish()


if __name__ == "__main__":
    main()
