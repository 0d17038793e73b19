"""Table S5: how much longer a step takes with n heads, by size and memory scheme.

n = 1, 2, 4, 8 heads, the three schemes of mtp/objective/cross_entropy.py, three sizes: on a CPU
half, once and twice the width of the cpu scale, on a GPU 0.3B, 0.6B and 1.3B of Table S14. All
cases of a size are timed in turn, step by step; the engine is the one that the size gets,
uncompiled, so that the schemes differ in themselves. Beside each ratio stands the one of the
counted FLOPs, and the paper's, which trained 0.3B to 13B with FSDP.
"""

import dataclasses

from bench import common
from bench.train import trainer
from experiments import results
from experiments.bases import base, with_model
from mtp.command_line import out_of
from mtp.config import TrainConfig, size
from mtp.errors import exit_cleanly
from mtp.model.sizes import flops_per_token
from mtp.objective.cross_entropy import SCHEMES

N = (1, 2, 4, 8)


def sizes(quick: bool) -> dict[str, TrainConfig]:
    """The n=1 configs."""
    off = dataclasses.replace(base("smoke" if quick else "cpu"), compile="off")
    if quick:
        return {"smoke": off}
    if common.DEVICE == "cuda":
        batch = dataclasses.replace(off, batch=4, micro=4)
        return {
            name: dataclasses.replace(batch, model=size(name, vocab=32_000, context=2048))
            for name in ("0.3B", "0.6B", "1.3B")
        }
    widths = {"d=64": (64, 2), "d=128": (128, 4), "d=256": (256, 8)}
    return {name: with_model(off, dim=d, attn_heads=h) for name, (d, h) in widths.items()}


def measure(report: common.Report, name: str, config: TrainConfig, seconds: float) -> None:
    cases = {}
    for n in N:
        for scheme in SCHEMES:
            one = dataclasses.replace(with_model(config, n=n), scheme=scheme)
            cases[f"n={n}, {scheme}"] = trainer(one).train_step
    times = common.interleave(cases, seconds, warm=2)
    paper = results.paper()
    paper = paper[(paper.artefact == "Table S5") & (paper.params == name)].set_index("n").value
    for n in N:
        flops = flops_per_token(with_model(config, n=n).model) / flops_per_token(config.model)
        for scheme in SCHEMES:
            where = f"{name}, n={n}, {scheme}"
            report.add(where, "ms", 1e3 * common.median(times, f"n={n}, {scheme}"), "ms")
            slower = common.ratio(times, f"n={n}, {scheme}", f"n=1, {scheme}")
            report.add(where, "over n=1", slower, "ratio")
            report.add(where, "FLOPs", flops, "ratio")
            if n in paper.index:
                report.add(where, "paper", float(paper[n]), "ratio")
        if n > 1:
            fused = common.ratio(times, f"n={n}, fused", "n=1, fused")
            report.ratio(f"{name}, n={n}", "step time over FLOPs, fused", fused / flops, "<= 1.1")


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
