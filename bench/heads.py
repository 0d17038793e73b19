"""Table S5: how much longer a step takes with n heads, by size and memory scheme.

n = 1, 2, 4, 8 heads, the three schemes of mtp/objective/cross_entropy.py, three sizes: on a CPU
half, once and twice the width of the cpu scale, on a GPU 0.3B, 0.6B and 1.3B of Table S14. All
cases of a size are timed in turn (on a GPU those of one n), in the precision that suits the machine
and uncompiled, so that the schemes differ in themselves. Beside each ratio stands the one of the
counted FLOPs, and the paper's, which trained 0.3B to 13B with FSDP.
"""

import dataclasses
import gc
from functools import partial
from typing import Any

import torch

from bench import common
from bench.shapes import bench_config
from bench.train import trainer
from experiments import results
from experiments.bases import with_model
from mtp.command_line import out_of
from mtp.config import TrainConfig, size
from mtp.errors import exit_cleanly
from mtp.model.sizes import flops_per_token
from mtp.objective.cross_entropy import SCHEMES
from mtp.training.engine import auto_precision
from mtp.training.trainer import Trainer

N = (1, 2, 4, 8)


def sizes(quick: bool) -> dict[str, TrainConfig]:
    """The n=1 configs."""
    off = dataclasses.replace(bench_config(quick), compile="off")
    if quick:
        return {"smoke": dataclasses.replace(off, precision="float32")}
    precision: Any = auto_precision(common.DEVICE)[0]  # on a CPU a measurement: once for all cases
    off = dataclasses.replace(off, precision=precision)
    if common.DEVICE == "cuda":
        batch = dataclasses.replace(off, batch=4, micro=4)
        return {
            name: dataclasses.replace(batch, model=size(name, vocab=32_000, context=2048))
            for name in ("0.3B", "0.6B", "1.3B")
        }
    widths = {"d=64": (64, 2), "d=128": (128, 4), "d=256": (256, 8)}
    return {name: with_model(off, dim=d, attn_heads=h) for name, (d, h) in widths.items()}


def take_step(run: Trainer, scheme: str) -> None:
    """A step in this scheme; the schemes of a model share its weights and optimizer."""
    run.objective.scheme = SCHEMES[scheme]
    run.train_step()


def times_of(
    report: common.Report, name: str, config: TrainConfig, ns: tuple[int, ...], seconds: float
) -> common.Times:
    """Seconds of the steps by n and scheme; all cases take turns. What does not fit is a row."""
    cases = {}
    for n in ns:
        run = trainer(with_model(config, n=n))
        for scheme in SCHEMES:
            step = partial(take_step, run, scheme)
            try:
                step()
                cases[f"n={n}, {scheme}"] = step
            except torch.OutOfMemoryError:
                report.add(f"{name}, n={n}, {scheme}", "out of memory", 1.0, "count")
    return common.interleave(cases, seconds)


def measure(report: common.Report, name: str, config: TrainConfig, seconds: float) -> None:
    # A GPU may hold one model alone, so there the schemes of one n take turns.
    groups = [N] if common.DEVICE == "cpu" else [(n,) for n in N]
    times: common.Times = {}
    for ns in groups:
        times |= times_of(report, name, config, ns, seconds / len(groups))
        gc.collect()
        torch.cuda.empty_cache()  # does nothing without a GPU
    paper = results.paper()
    paper = paper[(paper.artefact == "Table S5") & (paper.params == name)].set_index("n").value
    for n in N:
        flops = flops_per_token(with_model(config, n=n).model) / flops_per_token(config.model)
        for scheme in SCHEMES:
            case, one, where = f"n={n}, {scheme}", f"n=1, {scheme}", f"{name}, n={n}, {scheme}"
            if case not in times or one not in times:
                continue
            report.add(where, "ms", 1e3 * common.median(times, case), "ms")
            if common.DEVICE == "cpu":
                slower = common.ratio(times, case, one)
            else:
                slower = common.median(times, case) / common.median(times, one)
            report.add(where, "over n=1", slower, "ratio")
            report.add(where, "FLOPs", flops, "ratio")
            if n in paper.index:
                report.add(where, "paper", float(paper[n]), "ratio")
            if n > 1 and scheme == "fused":
                metric = "step time over FLOPs, fused"
                report.ratio(f"{name}, n={n}", metric, slower / flops, "<= 1.1")
    report.write()


@exit_cleanly
def main() -> None:
    args = common.parser("heads", __doc__, seconds=150).parse_args()
    report = common.Report("heads", out_of(args))
    configs = sizes(args.quick)
    for name, config in configs.items():
        measure(report, name, config, args.seconds / len(configs))
    print()
    report.table({"ms": ",.1f", "over n=1": ".3f", "FLOPs": ".3f", "paper": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
