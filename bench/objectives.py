"""What each head type and each part of the objective costs, over a plain step of n=1.

Steps of mtp.training.trainer.Trainer.train_step at the shape of a micro-model (d=64, 8 layers), in
float32, not compiled, timed in turn. `time` and `FLOPs` are over those of n=1, `memory` is the peak
above weights and moments in one more step of each.

The heads' gradients at the latent are measured every 25 steps (objective.measure_every). `measured`
is a step that measures; what it takes more, over 25 steps, is the cost of measuring.
"""

from functools import partial

from bench import common
from bench.shapes import bench_config
from bench.train import trainer
from experiments.bases import with_model
from mtp.command_line import out_of
from mtp.config import TrainConfig
from mtp.errors import exit_cleanly
from mtp.head_types import HEADS
from mtp.model.sizes import run_flops_per_token
from mtp.objective_config import MEASURE
from mtp.overrides import override

OBJECTIVES = {
    "weights, schedule": ["objective.weights=geometric:0.5", "objective.schedule=ramp:0.2:0.4"],
    "detach": ["objective.detach=true"],
    "uncertainty": ["objective.balance=uncertainty"],
    "measured": ["objective.measure_every=1"],
}
TERMS = {name: [f"objective.{name}=1"] for name in ("order", "bag", "latent", "embedding")} | {
    "embedding of the average": ["objective.embedding=1", "objective.embedding_target=average"]
}  # beside the loss of n=1


def plain(quick: bool) -> TrainConfig:
    config = override(bench_config(quick), ["compile=off", "precision=float32"])
    shape = {"dim": 64, "layers": 8, "vocab": 512, "context": 128}
    small = config if quick else override(config, ["batch=32"])
    return with_model(small, **({"layers": 8} if quick else shape))


def cases_of(quick: bool) -> dict[str, TrainConfig]:
    one = plain(quick)
    four = {f"n=4, {head}": with_model(one, n=4, head=head) for head in HEADS}
    parallel = with_model(one, n=4)
    own = {f"n=4, {name}": override(parallel, each) for name, each in OBJECTIVES.items()}
    terms = {f"n=1, {term}": override(one, each) for term, each in TERMS.items()}
    return {"n=1": one} | four | own | terms


@exit_cleanly
def main() -> None:
    args = common.parser("objectives", __doc__, seconds=150).parse_args()
    report = common.Report("objectives", out_of(args))
    configs = cases_of(args.quick)
    runs = {name: trainer(config) for name, config in configs.items()}
    times = common.interleave({name: run.train_step for name, run in runs.items()}, args.seconds)
    peaks = {}
    for name, run in runs.items():
        with common.peak_memory() as peak:
            run.train_step()
        peaks[name] = peak.bytes
    flops = {name: run_flops_per_token(config) for name, config in configs.items()}
    for name in configs:
        report.add(name, "ms", 1e3 * common.median(times, name), "ms")
        report.add(name, "time", common.ratio(times, name, "n=1"), "ratio")
        report.add(name, "FLOPs", flops[name] / flops["n=1"], "ratio")
        report.add(name, "memory", peaks[name] / peaks["n=1"], "ratio")
    base_case = "n=4, parallel"
    ratio = partial(common.ratio, times)
    for name in OBJECTIVES:
        if name != "measured":
            over = ratio(f"n=4, {name}", base_case)
            report.ratio(f"n=4, {name}", "time over equal weights", over, "<= 1.05")
    cost = (ratio("n=4, measured", base_case) - 1) / MEASURE
    report.ratio("n=4, measured", f"cost of measuring every {MEASURE} steps", cost, "<= 0.05")
    report.table({"ms": ",.1f", "time": ".3f", "FLOPs": ".3f", "memory": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
