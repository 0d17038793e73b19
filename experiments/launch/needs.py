"""How much memory a run's processes need, and how long before its time limit a job is warned.

Both are estimates for Slurm's jobs; `memory_gb` and `warn_seconds` replace them.
"""

import contextlib
import json
import math
from pathlib import Path

from experiments.launch.local import run_bytes
from mtp.config import ModelConfig, TrainConfig
from mtp.files import parse_json
from mtp.model.sizes import parameter_counts
from mtp.overrides import from_dict
from mtp.training.time_limit import margin

PROCESS_BYTES = 4e9  # the interpreter, torch, CUDA's and NCCL's own
CHECKPOINT_BYTES = 12  # of a parameter: the weight and two moments in float32
SAVED_PER_SECOND = 200e6  # bytes that a process writes, of a network disk
LEAST_WARNING = 120  # seconds
GB = 2**30  # as Slurm counts them


def memory_gb(configs: list[TrainConfig], nodes: int, tasks: int, gpu: bool) -> int:
    """Main memory of each node, in whole GB, for the training of the largest of these runs by
    `tasks` processes on each of the nodes.

    A process needs 4 GB, the largest weight twice in float32 (weights are drawn one by one), and
    its share of a copy of the checkpoint (12 bytes per parameter), which is written while training
    goes on. On CPUs the training itself comes on top; so do the weights that a run with `init`
    starts from (8 bytes per parameter while the first process reads them).
    """
    need = 0.0
    for config in configs:
        count = parameter_counts(config.model)["total"]
        own = PROCESS_BYTES + 8.0 * largest_weight(config.model)
        own += CHECKPOINT_BYTES * count / (nodes * tasks)
        own += 0 if gpu else run_bytes(config, "cpu") / (nodes * tasks)
        need = max(need, tasks * own + (8.0 * count if config.init else 0))
    return math.ceil(need / GB)


def evaluation_memory_gb(configs: list[TrainConfig], gpu: bool) -> int:
    """The same for one process that evaluates: it holds the weights that it has read and the
    model, both in float32; on CPUs, its activations too."""
    need = 0.0
    for config in configs:
        own = PROCESS_BYTES + 8.0 * parameter_counts(config.model)["total"]
        need = max(need, own + (0 if gpu else run_bytes(config, "cpu")))
    return math.ceil(need / GB)


def largest_weight(config: ModelConfig) -> int:
    """Elements of the model's largest matrix."""
    return config.dim * max(config.vocab, config.ffn, config.attn_heads * config.head_size)


def warning_seconds(
    configs: list[TrainConfig], folders: list[Path], world: int, limit: float
) -> int:
    """How many seconds before its time limit, of `limit` seconds, a job is told to save: long
    enough for the slowest of the runs by `measured_margin`, or by an estimate for one that has not
    run; 120 at least. Never more than a fifth of the limit, so that a short job trains too."""
    need = float(LEAST_WARNING)
    for config, folder in zip(configs, folders, strict=True):
        measured = measured_margin(folder)
        save = CHECKPOINT_BYTES * parameter_counts(config.model)["total"] / SAVED_PER_SECOND / world
        need = max(need, margin(save, 0.0) if measured is None else measured)
    return math.ceil(need) if need < limit else max(1, int(limit / 5))


def measured_margin(folder: Path) -> float | None:
    """`margin` by what the run measured when it ran before, RUN/timings.json: {"save_seconds": s,
    "step_seconds": s}. None if it has not, or the file is unusable."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        values = parse_json((folder / "timings.json").read_bytes())
        found = margin(float(values["save_seconds"]), float(values["step_seconds"]))
        return found if math.isfinite(found) else None
    return None


def configs_of(texts: list[str]) -> list[TrainConfig]:
    """The configs of jobs, from their JSON."""
    return [from_dict(TrainConfig, json.loads(text)) for text in texts]
