"""One optimizer step: ours against transformers' LlamaForCausalLM, and n=4 against n=1.

Ours is mtp.training.trainer.Trainer.train_step on random tokens, batches included, with the engine
that mtp.training.engine.choose_engine picks and compilation on, and in float32. Theirs is in
float32 and in bf16 autocast, with its default attention and with its plain one, in float32 also
with torch.compile; what compiling takes is a row of its own. All have the same shape, tokens per
step, gradient clipping and fused AdamW, and are timed in turn, step by step, on all threads.

The micro-models are those of the synthetic studies.

n=4 has as many parameters as n=1 but multiplies more unembeddings, so the ratio of their times is
compared with the ratio of their counted FLOPs (mtp.model.sizes.flops_per_token).

The profile says what our own step spends its time on: the self time of each operator, in percent of
the steps' wall time.
"""

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from bench import common
from bench.shapes import bench_config
from experiments.bases import base, with_model
from mtp.command_line import out_of
from mtp.config import TrainConfig
from mtp.data.batches import Batches
from mtp.errors import exit_cleanly
from mtp.model.sizes import flops_per_token, parameter_counts
from mtp.training.optimizer import clip_gradients
from mtp.training.trainer import Trainer, new_optimizer

Step = Callable[[], object]


class RandomTokens:
    """A split of random tokens, without document ends."""

    tokens, eos = 2**20 + 1, -1

    def __init__(self, vocab: int) -> None:
        self.ids = np.random.default_rng(0).integers(0, vocab, self.tokens)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self.ids[start:stop]


def trainer(config: TrainConfig) -> Trainer:
    """A Trainer on random tokens; it writes nothing."""
    split = RandomTokens(config.model.vocab)
    tokenizer = SimpleNamespace(vocab_size=config.model.vocab, name="random")
    folder = Path(tempfile.gettempdir()) / "mtp-bench-no-run"
    corpus: Any = SimpleNamespace(train=split, validation=split, tokenizer=tokenizer, folder=folder)
    return Trainer(config, corpus, folder)


def llama_step(config: TrainConfig, autocast: bool, attention: str, compiled: bool = False) -> Step:
    """A step of LlamaForCausalLM with the shape of `config`."""
    m = config.model
    torch.manual_seed(config.seed)
    model = common.llama(m, use_cache=False, attn_implementation=attention)
    expected = parameter_counts(m)["total"]
    assert sum(p.numel() for p in model.parameters()) == expected, "not the same model"
    if compiled:
        model.compile(dynamic=False)
    optimizer = new_optimizer(config, dict(model.named_parameters()))
    batches = Batches(RandomTokens(m.vocab), config.batch, m.context, 1, config.seed)

    def step() -> None:
        tokens = batches.next().inputs.to(common.DEVICE)
        with torch.autocast(common.DEVICE, torch.bfloat16, enabled=autocast):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        clip_gradients(model.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def shapes(quick: bool) -> dict[str, TrainConfig]:
    """The n=1 configs that are timed."""
    if quick:
        return {"smoke": dataclasses.replace(base("smoke"), compile="off")}
    small = dataclasses.replace(bench_config(), compile="on")
    configs = {"cpu scale": small, "four times": with_model(small, dim=256, attn_heads=8)}
    for dim, layers in ((64, 6), (96, 8)):
        shape = {"dim": dim, "layers": layers, "vocab": 512, "context": 128}
        configs[f"micro d={dim}"] = with_model(dataclasses.replace(small, batch=32), **shape)
    if common.DEVICE == "cuda":
        configs["gpu scale"] = dataclasses.replace(base("gpu"), compile="on", batch=8)
    return configs


# --------------------------------------------------------------------------------------------------
# the profile

PARTS = {  # by operator, unless it is inside a range below
    "matrix products": ("aten::mm", "aten::addmm", "aten::linear", "mkldnn::"),
    "attention": ("aten::bmm", "aten::baddbmm", "aten::_scaled_dot", "aten::_softmax"),
    "compiled kernels": ("Torch-Compiled", "CompiledFunction", "## Call", "cpp_fused", "triton"),
    "embedding": ("aten::embedding", "aten::index"),
    "clipping": ("aten::_foreach", "aten::linalg_vector_norm"),
    "casts and copies": ("aten::copy_", "aten::_to_copy", "aten::empty"),
}
RANGES = {"ChunkedCrossEntropy": "loss", "Optimizer.": "optimizer"}  # and all inside them


def part(event: Any) -> str:
    """The part of a step that a profiled operator belongs to."""
    above = event
    while above is not None:
        for start, name in RANGES.items():
            if above.name.startswith(start):
                return name
        above = above.cpu_parent
    return next((p for p, starts in PARTS.items() if event.name.startswith(starts)), "other")


def profile(step: Step, steps: int = 5) -> dict[str, float]:
    """Percent of `steps` steps' wall time by part; "outside operators" is Python and batches."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, acc_events=True) as profiler:
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wall = 1e6 * (time.perf_counter() - start)
    spent: Counter[str] = Counter()
    for event in profiler.events() or []:
        spent[part(event)] += event.self_cpu_time_total
    spent["outside operators"] = max(0, round(wall - spent.total()))
    return {name: 100 * t / wall for name, t in spent.most_common()}


# --------------------------------------------------------------------------------------------------


def measure(report: common.Report, name: str, config: TrainConfig, seconds: float) -> None:
    """Time the cases of one shape for `seconds`, after they are compiled."""
    ours = {n: trainer(with_model(config, n=n)) for n in (1, 4)}
    cases: dict[str, Step] = {f"ours, n={n}": t.train_step for n, t in ours.items()}
    exact = trainer(dataclasses.replace(config, precision="float32"))
    cases["ours, n=1, float32"] = exact.train_step
    theirs = []
    for precision in ("float32", "bf16 autocast"):
        for attention in ("sdpa", "eager"):
            for compiled in (False, True) if precision == "float32" else (False,):
                how = ", compiled" * compiled
                name_ = f"transformers, {precision}, {attention} attention{how}"
                compiled = compiled and config.compile == "on"
                step = llama_step(config, precision != "float32", attention, compiled)
                if how:  # its compilation is not a part of its steps
                    began = time.perf_counter()
                    step()
                    report.add(f"{name}, {name_}", "first step", time.perf_counter() - began, "s")
                cases[name_] = step
                theirs.append(name_)
    total = parameter_counts(config.model)["total"]
    print(f"\n{name}: {total / 1e6:.1f} M parameters, batch {config.batch} x", end=" ")
    print(f"{config.model.context}; ours: {ours[1].engine.reason}", flush=True)
    times = common.interleave(cases, seconds, warm=3)
    tokens = config.batch * config.model.context
    for case in cases:
        typical = common.median(times, case)
        report.add(f"{name}, {case}", "tokens/s", tokens / typical, "tokens/s")
        report.add(f"{name}, {case}", "ms", 1e3 * typical, "ms")

    eager = [case for case in theirs if "compiled" not in case]
    default = [case for case in eager if "sdpa" in case]
    float32 = [case for case in theirs if "float32" in case]
    for kind, chosen, own, expected in (
        ("faster, default attention", default, "ours, n=1", ""),
        ("faster, any attention", eager, "ours, n=1", ">= 1.5"),
        ("fastest in float32, compiled or not", float32, "ours, n=1, float32", ">= 1.3"),
    ):
        fastest = min(chosen, key=lambda case: common.median(times, case))
        gain = common.ratio(times, fastest, own)
        report.ratio(name, f"tokens/s over transformers' {kind}", gain, expected)
    slower = common.ratio(times, "ours, n=4", "ours, n=1")
    flops = flops_per_token(ours[4].config.model) / flops_per_token(ours[1].config.model)
    report.ratio(name, "FLOPs, n=4 over n=1", flops)
    report.ratio(name, "step time, n=4 over n=1", slower)
    report.ratio(name, "step time over FLOPs, n=4 over n=1", slower / flops, "<= 1.1")
    if common.DEVICE == "cpu":
        for n, t in ours.items():
            for where, percent in profile(t.train_step).items():
                report.add(f"{name}, profile, n={n}", where, percent, "% of step")


@exit_cleanly
def main() -> None:
    args = common.parser("train", __doc__, seconds=240).parse_args()
    transformers = common.transformers()
    report = common.Report("train", out_of(args), f", transformers {transformers.__version__}")
    configs = shapes(args.quick)
    for name, config in configs.items():
        measure(report, name, config, args.seconds / len(configs))
    print()
    report.table({"ms": ",.1f", "tokens/s": ",.0f", "first step": ".1f"})
    print("What our step spends its time on, in %")
    report.table({where: ".1f" for where in profile_parts(report)})
    report.finish()


def profile_parts(report: common.Report) -> list[str]:
    found = [row for row in report.rows if row["unit"] == "% of step"]
    found.sort(key=lambda row: -row["value"])
    return list(dict.fromkeys(row["metric"] for row in found))


if __name__ == "__main__":
    main()
