"""Ten minutes on a GPU that say whether it does what it should: a table with targets.

    step     0.3B and 1B of Table S14 with n = 1 and 4: milliseconds, tokens/s, MFU (at least 50% of
             the part's bf16 peak), and n = 4 over n = 1 (at most 1.05 of the ratio of their FLOPs)
    memory   peak bytes of the three cross-entropy schemes at n = 4
    decode   a forward pass that verifies k tokens over one that makes a single token, at batch 1
             and 32. The speedup is the tokens per forward divided by this, so with a ratio of at
             most 1 / 0.85 it is at least 0.85 of the tokens per forward. The model is untrained:
             it accepts next to nothing, and only the time of its passes counts.

On a CPU everything runs at toy size. A part that fails is a line that says so; the rest goes on.
"""

import dataclasses
import functools
import gc
import time
from collections.abc import Callable

import torch

from bench import common
from bench.train import trainer
from mtp import hardware
from mtp.command_line import out_of
from mtp.config import ModelConfig, TrainConfig, size
from mtp.decoding.generate import generate
from mtp.errors import exit_cleanly
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import flops_per_token

LEAST_MFU, MOST_OVER_FLOPS, MOST_OVER_PASS = 0.5, 1.05, 1 / 0.85
GPU = common.DEVICE == "cuda"
TOY = ModelConfig(dim=64, layers=6, attn_heads=4, vocab=512, context=64)


def configs() -> dict[str, TrainConfig]:
    """The n=1 runs whose steps are timed."""
    toy = TrainConfig(model=TOY, batch=4, tokens=1e6, warmup=0, compile="off")
    if not GPU:
        return {"toy": toy}
    return {
        name: dataclasses.replace(
            toy,
            model=size(name, vocab=32_000, context=2048),
            batch=8 * micro,
            micro=micro,
            compile="on",
        )
        for name, micro in (("0.3B", 8), ("1B", 4))
    }


def attempt(report: common.Report, case: str, part: Callable[[], None]) -> None:
    """Run a part of the check. What it raises, memory that is used up above all, is a line."""
    try:
        part()
    except Exception as error:  # the other parts may still say something
        reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else str(error)
        print(f"{case}: FAILED, {' '.join(reason.split())[:200]}", flush=True)
        report.add(case, "failed", 1.0, "count")
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()


def step_seconds(config: TrainConfig, seconds: float) -> float:
    """The median of a step's time, after its compilation."""
    run = trainer(config)
    for _ in range(3):
        run.train_step()
    found, end = list[float](), time.monotonic() + seconds
    while len(found) < 3 or time.monotonic() < end:
        hardware.synchronize(common.DEVICE)
        began = time.perf_counter()
        run.train_step()
        hardware.synchronize(common.DEVICE)
        found.append(time.perf_counter() - began)
    return sorted(found)[len(found) // 2]


def steps(report: common.Report, name: str, config: TrainConfig, seconds: float) -> None:
    times = {}
    tokens = config.batch * config.model.context
    peak = hardware.peak_flops(hardware.device_name()) if GPU else None
    for n in (1, 4):
        one = dataclasses.replace(config, model=dataclasses.replace(config.model, n=n))
        times[n] = step_seconds(one, seconds)
        report.add(f"{name}, n={n}", "ms", 1e3 * times[n], "ms")
        report.add(f"{name}, n={n}", "tokens/s", tokens / times[n], "tokens/s")
        if peak:
            mfu = flops_per_token(one.model) * tokens / times[n] / peak
            report.ratio(f"{name}, n={n}", "MFU", mfu, f">= {LEAST_MFU}")
    four = dataclasses.replace(config.model, n=4)
    flops = flops_per_token(four) / flops_per_token(config.model)
    over = times[4] / times[1] / flops
    report.ratio(name, "step time over FLOPs, n=4 over n=1", over, f"<= {MOST_OVER_FLOPS}")


def memory(report: common.Report, name: str, config: TrainConfig) -> None:
    four = dataclasses.replace(config.model, n=4)
    for scheme in ("plain", "sequential", "fused"):
        one = dataclasses.replace(config, model=four, scheme=scheme, compile="off")

        def part(one: TrainConfig = one, scheme: str = scheme) -> None:
            run = trainer(one)
            if GPU:
                torch.cuda.reset_peak_memory_stats()
            run.train_step()
            peak = hardware.peak_memory(common.DEVICE) / 2**30
            report.add(f"{name}, n=4, {scheme}", "GiB", peak, "GiB")

        attempt(report, f"{name}, n=4, {scheme}", part)


def decoding(report: common.Report, name: str, config: ModelConfig, repeats: int) -> None:
    """Seconds of a pass by k: of `new` passes, since next to no draft is accepted."""
    model = MultiTokenTransformer(dataclasses.replace(config, n=4)).to(common.DEVICE).eval()
    if GPU:
        model.bfloat16()
    prompt, new = (512, 64) if GPU else (8, 12)
    for batch in (1, 32):
        prompts = torch.randint(config.vocab, (batch, prompt)).tolist()
        taken: dict[int, list[float]] = {k: [] for k in (1, 2, 3, 4)}
        for turn in range(repeats + 1):
            for k, found in taken.items():
                began = time.perf_counter()
                made = generate(model, prompts, new, k, compiled=GPU)
                if turn:  # the first compiles
                    found.append((time.perf_counter() - began) / made.forwards)
        one = sorted(taken[1])[len(taken[1]) // 2]
        for k, found in taken.items():
            middle = sorted(found)[len(found) // 2]
            case = f"{name}, batch {batch}, k={k}"
            report.add(case, "ms", 1e3 * middle, "ms")
            expected = f"<= {MOST_OVER_PASS:.3f}" if k > 1 else ""
            report.ratio(case, "pass over k=1", middle / one, expected)


@exit_cleanly
def main() -> None:
    args = common.parser("gpu-check", __doc__, seconds=240).parse_args()
    report = common.Report("gpu-check", out_of(args))
    if not GPU:
        print("no GPU here: everything at toy size, which says nothing about speed")
    chosen = configs()
    seconds = args.seconds / (4 * len(chosen))
    for name, config in chosen.items():
        attempt(report, name, functools.partial(steps, report, name, config, seconds))
        memory(report, name, config)
    repeats = 3 if GPU else 1
    for name, config in chosen.items():
        part = functools.partial(decoding, report, name, config.model, repeats)
        attempt(report, f"{name}, decoding", part)
    print()
    report.table({"ms": ",.2f", "tokens/s": ",.0f", "GiB": ",.2f", "failed": ".0f"})
    report.finish()


if __name__ == "__main__":
    main()
