"""About ten minutes on one GPU that say whether it does what it should: a table beside targets.

    step     0.3B and 1B of Table S14, context 2048, n = 1 and 4, compiled: milliseconds, tokens/s,
             MFU (at least 50% of the part's bf16 peak), and n = 4 over n = 1 (at most 1.05 of the
             ratio of their FLOPs)
    memory   peak memory of a step of 0.3B with n = 4 by cross-entropy scheme
    decode   bf16, 1B, n = 4, batch 1 and 32, k = 1 to 4: milliseconds of a forward pass that
             verifies k tokens. The model is untrained and accepts next to no draft, so its tokens/s
             say nothing. What a trained model gains is its tokens per forward times the pass of
             k=1 over the pass of k; that share should be at least 0.85 (Table S2: 3.05 / 3.50). By
             the layers alone, n = 4 over n = 1, it can be 0.92 here. Eager passes wait for the
             launches of their kernels, so the compiled ones count more; they come last, since each
             compiles for a minute or more. Prefills are measured apart and subtracted.

On a CPU everything runs at toy size. A part that fails is a row that says so, and the rest goes on.
No part begins after eight minutes. Rows are written after each part, so those of a check that is
stopped are there too.
"""

import dataclasses
import functools
import gc
import time
from collections.abc import Callable
from functools import partial

import torch

from bench import common
from bench.train import trainer
from mtp import hardware
from mtp.command_line import out_of
from mtp.config import ModelConfig, TrainConfig, size
from mtp.decoding.generate import Generation, generate
from mtp.errors import exit_cleanly
from mtp.model.model import MultiTokenTransformer
from mtp.model.sizes import flops_per_token
from mtp.objective.cross_entropy import SCHEMES

LEAST_MFU, MOST_OVER_FLOPS, LEAST_SHARE = 0.5, 1.05, 0.85
LAST_BEGIN = 480.0  # seconds after the start
GPU = common.DEVICE == "cuda"
TOY = ModelConfig(dim=64, layers=6, attn_heads=4, vocab=512, context=64)
# On a GPU the last block still ends within 128 slots, so that all passes have the same shape
# (mtp/decoding/passes.py's WINDOW).
PROMPT, NEW = (64, 56) if GPU else (8, 12)


def configs() -> dict[str, TrainConfig]:
    """The n=1 runs whose steps are timed."""
    toy = TrainConfig(model=TOY, batch=4, tokens=1e6, warmup=0, compile="off")
    if not GPU:
        return {"toy": dataclasses.replace(toy, precision="float32")}
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


def with_n(config: TrainConfig, n: int) -> TrainConfig:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, n=n))


def free_memory() -> None:
    gc.collect()
    if GPU:
        torch.cuda.empty_cache()


def attempt(report: common.Report, case: str, part: Callable[[], None]) -> None:
    """Run a part of the check and write the rows so far. What it raises is a row: memory that is
    used up, or no time left."""
    reason = ""
    if time.monotonic() - report.start > LAST_BEGIN:
        reason = "no time left"
    else:
        try:
            part()
        except Exception as error:  # the other parts may still say something
            reason = "out of memory" if isinstance(error, torch.OutOfMemoryError) else str(error)
    if reason:
        print(f"{case}: failed: {' '.join(reason.split())[:200]}", flush=True)
        report.add(case, "failed", 1.0, " ".join(reason.split())[:80])
    free_memory()
    report.write()


# --------------------------------------------------------------------------------------------------
# training


def step_seconds(config: TrainConfig, seconds: float) -> float:
    """The median of a step's time, after its compilation."""
    step = trainer(config).train_step
    return common.median(common.interleave({"step": step}, seconds, warm=3, rounds=3), "step")


def steps(report: common.Report, name: str, config: TrainConfig, seconds: float) -> None:
    """Steps of n = 1 and n = 4, with the largest `micro` that fits both."""
    times: dict[int, float] = {}
    while not times:
        try:
            for n in (4, 1):
                times[n] = step_seconds(with_n(config, n), seconds)
                free_memory()
        except torch.OutOfMemoryError:
            if config.micro <= 1:
                raise
            config = dataclasses.replace(config, micro=config.micro // 2)
            times = {}
        free_memory()
    tokens = config.batch * config.model.context
    peak = hardware.peak_flops(hardware.device_name()) if GPU else None
    for n in (1, 4):
        case = f"{name}, n={n}"
        report.add(case, "ms", 1e3 * times[n], "ms")
        report.add(case, "tokens/s", tokens / times[n], "tokens/s")
        if peak:
            done = flops_per_token(with_n(config, n).model) * tokens
            report.ratio(case, "MFU", done / times[n] / peak, f">= {LEAST_MFU}")
    flops = flops_per_token(with_n(config, 4).model) / flops_per_token(config.model)
    over = times[4] / times[1] / flops
    report.ratio(name, "step time over FLOPs, n=4 over n=1", over, f"<= {MOST_OVER_FLOPS}")


def memory(report: common.Report, case: str, config: TrainConfig) -> None:
    """Peak memory of an eager step, weights and optimizer included."""
    run = trainer(config)
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    run.train_step()
    report.add(case, "GiB", hardware.peak_memory(common.DEVICE) / 2**30, "GiB")


# --------------------------------------------------------------------------------------------------
# decoding


def decoding(
    report: common.Report,
    case: str,
    model: MultiTokenTransformer,
    batch: int,
    ks: tuple[int, ...],
    compiled: bool,
    seconds: float,
) -> None:
    """Milliseconds of a pass by k, and the share of the tokens per forward that becomes speed."""
    prompts = torch.randint(model.config.vocab, (batch, PROMPT)).tolist()
    made: dict[int, Generation] = {}

    def decode(k: int) -> None:
        made[k] = generate(model, prompts, NEW, k, compiled=compiled)

    cases = {f"k={k}": partial(decode, k) for k in ks}
    cases |= {
        f"k={k}, prefill": partial(generate, model, prompts, 1, k, compiled=compiled) for k in ks
    }
    whole = common.interleave(cases, seconds, rounds=3)
    passes = {
        f"k={k}": [
            (a - b) / made[k].forwards
            for a, b in zip(whole[f"k={k}"], whole[f"k={k}, prefill"], strict=True)
        ]
        for k in ks
    }
    for k in ks:
        typical, which = common.median(passes, f"k={k}"), f"{case}, k={k}"
        report.add(which, "ms", 1e3 * typical, "ms per pass")
        if k == 1:
            report.add(which, "tokens/s", batch / typical, "tokens/s")
        else:
            share = common.ratio(passes, "k=1", f"k={k}")
            expected = f">= {LEAST_SHARE}"
            report.ratio(which, "speedup over tokens per forward", share, expected)


@functools.cache
def model_to_decode(config: ModelConfig) -> MultiTokenTransformer:
    """Of random weights, in bf16 on a GPU."""
    model = MultiTokenTransformer(dataclasses.replace(config, n=4)).eval()
    return model.to(common.DEVICE, torch.bfloat16 if GPU else torch.float32)


# --------------------------------------------------------------------------------------------------


def summary(report: common.Report) -> None:
    """Print every number that has a target beside it, and what failed."""
    print("\nNumbers and their targets")
    for name, found in report.ratios.items():
        if "expected" in found:
            verdict = "met" if found["met"] else "MISSED"
            print(f"{name:64} {found['value']:8.3f}  {found['expected']:8} {verdict}")
    for row in report.rows:
        if row["metric"] == "failed":
            print(f"{row['case']:64}   failed: {row['unit']}")
    print(f"\nTo report this: all lines above, and {report.out / 'gpu-check.csv'}\n")


@exit_cleanly
def main() -> None:
    args = common.parser("gpu_check", __doc__, seconds=150).parse_args()
    report, chosen = common.Report("gpu-check", out_of(args)), configs()
    if not GPU:
        print("There is no GPU here: everything is at toy size, which says nothing about speed.")
    seconds = args.seconds / 10
    smallest, *_, largest = [*chosen.items(), *chosen.items()]
    for name, config in chosen.items():
        attempt(report, name, partial(steps, report, name, config, seconds))
    for scheme in SCHEMES:
        name, config = smallest
        case = f"{name}, n=4, {scheme}"
        one = dataclasses.replace(with_n(config, 4), scheme=scheme, compile="off")
        attempt(report, case, partial(memory, report, case, one))
    name, config = largest
    ways: list[tuple[bool, tuple[int, ...]]] = [(False, (1, 2, 3, 4))]
    if GPU:
        ways += [(True, (1, 4)), (True, (1, 2, 3))]
    for compiled, ks in ways:
        for batch in (1, 32):
            how = "compiled" if compiled else "eager"
            case = f"{name}, {how}, batch {batch}" + ", more k" * (ks == (1, 2, 3))

            def part(
                case: str = case,
                batch: int = batch,
                ks: tuple[int, ...] = ks,
                compiled: bool = compiled,
            ) -> None:
                model = model_to_decode(config.model)
                decoding(report, case, model, batch, ks, compiled, seconds)

            attempt(report, case, part)
    print()
    report.table({"ms": ",.2f", "tokens/s": ",.0f", "GiB": ",.2f"})
    summary(report)
    report.finish()


if __name__ == "__main__":
    main()
