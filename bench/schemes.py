"""Peak memory and time of the three memory schemes, and of one head's cross-entropy beside torch's.

A step is one forward and backward into .grad, without the optimizer. The model has d=1024,
V=32,000, SwiGLU width 512 and 9 layers for every n (n parallel heads take theirs from the trunk).
It reads 4096 tokens (32 rows of 128), and is not compiled. Its precision is what training would
choose here: bf16 where it is fast, else float32.

Each n has a fresh process, which makes the model and its inputs, warms up on one row, and then
takes one step of each scheme. It measures the step's time and its peak of resident memory above
weights and inputs; what the step before has left is freed first. The peak includes the gradients,
which are as large as the weights. Rounds over all n repeat while there is time. The time is the
minimum over rounds, the peak the maximum.

One head: ChunkedCrossEntropy against plain cross-entropy, and against torch's
F.linear_cross_entropy with LinearCrossEntropyOptions() if torch has it: forward and backward with
the same 4096 latents, d and V.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from bench import common
from mtp.command_line import out_of
from mtp.config import ModelConfig
from mtp.errors import exit_cleanly
from mtp.hardware import synchronize
from mtp.model.model import MultiTokenTransformer
from mtp.objective.cross_entropy import EQUAL, SCHEMES, ChunkedCrossEntropy, fused, valid_counts
from mtp.training.engine import auto_precision

N = (1, 2, 4, 8)
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
MB = 1e6


def shape(quick: bool, n: int = 1) -> tuple[ModelConfig, int]:
    """The model and its rows of tokens."""
    if quick:
        small = ModelConfig(dim=32, layers=9, attn_heads=2, vocab=500, n=n, context=16)
        return small, 4
    large = ModelConfig(
        dim=1024, layers=9, attn_heads=16, vocab=32_000, n=n, hidden=512, context=128
    )
    return large, 32


def main_precision() -> str:
    return "bf16" if auto_precision(common.DEVICE)[0] == "bf16" else "float32"


# --------------------------------------------------------------------------------------------------
# in a fresh process


def timed(step: Callable[[], object]) -> dict[str, float]:
    """Seconds and peak bytes of a step."""
    with common.peak_memory() as peak:
        start = time.perf_counter()
        step()
        synchronize(common.DEVICE)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak.bytes}


def three_schemes(n: int, dtype: str, quick: bool) -> dict[str, dict[str, float]]:
    """Seconds and peak bytes of a step of each scheme, and bytes of the weights."""
    config, rows = shape(quick, n)
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).to(common.DEVICE, DTYPES[dtype])
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    tokens = torch.randint(config.vocab, (rows, config.context), device=common.DEVICE)
    targets = torch.randint(config.vocab, (n, rows, config.context), device=common.DEVICE)
    fused(model, tokens[:1], targets[:, :1], valid_counts(targets[:, :1]))
    counts, found = valid_counts(targets), {}
    for name, scheme in SCHEMES.items():
        model.zero_grad(set_to_none=True)
        found[name] = timed(partial(scheme, model, tokens, targets, counts)) | {"weights": weights}
    return found


def plain_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight).float(), y, reduction="sum") / len(y)


def chunked_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    count = torch.tensor([len(y)], device=y.device)
    return ChunkedCrossEntropy.apply(y[None], count, EQUAL, 1, weight, x[None])[0]  # pyright: ignore


def torch_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(x, weight, y, options=options)


ONE_HEAD = {"plain": plain_loss, "chunked": chunked_loss, "torch": torch_loss}
if not hasattr(F, "linear_cross_entropy"):
    del ONE_HEAD["torch"]


def one_head(dtype: str, quick: bool) -> dict[str, dict[str, float]]:
    """Seconds and peak bytes of each loss on one head, and its relative error against float64 on
    512 rows."""
    config, rows = shape(quick)
    torch.manual_seed(0)
    x = torch.randn(rows * config.context, config.dim, device=common.DEVICE)
    weight = torch.randn(config.vocab, config.dim, device=common.DEVICE) * config.dim**-0.5
    x, weight = (t.to(DTYPES[dtype]).requires_grad_() for t in (x, weight))
    y = torch.randint(config.vocab, (len(x),), device=common.DEVICE)
    few = slice(0, 512)
    with torch.no_grad():
        exact = F.cross_entropy(F.linear(x[few].double(), weight.double()), y[few])
    found = {}
    for name, compute in ONE_HEAD.items():
        loss = compute(x[few], weight, y[few])
        loss.backward()  # warms up as well
        error = abs(float(loss.detach().double() / exact) - 1)
        del loss
        x.grad = weight.grad = None
        found[name] = timed(lambda f=compute: f(x, weight, y).backward()) | {"error": error}
        x.grad = weight.grad = None
    return found


def run(n: int, dtype: str, quick: bool = False) -> dict[str, dict[str, float]]:
    return three_schemes(n, dtype, quick) if n else one_head(dtype, quick)


# --------------------------------------------------------------------------------------------------
# in the process that starts them

Found = dict[str, list[dict[str, float]]]  # a result per round, by case


def label(name: str, n: int, dtype: str) -> str:
    return f"{name}, n={n}, {dtype}" if n else f"one head, {name}, {dtype}"


def rounds(precision: str, end: float, quick: bool) -> Found:
    """Measure every n (0: one head) in a fresh process, at least once, and again while another
    round ends before `end`."""
    found: Found = defaultdict(list)
    longest = 0.0
    while not longest or time.monotonic() + longest < end:
        start = time.monotonic()
        for n, dtype in [*((0, dtype) for dtype in DTYPES), *((n, precision) for n in N)]:
            measured = (
                run(n, dtype, quick)
                if quick
                else common.in_fresh_process("bench.schemes", "--process", n, dtype)
            )
            for name, values in measured.items():
                found[label(name, n, dtype)].append(values)
        longest = max(longest, time.monotonic() - start)
    return found


@exit_cleanly
def main() -> None:
    parser = common.parser("schemes", __doc__, seconds=360)
    common.add_worker(parser, "--process")
    args = parser.parse_args()
    if args.process:
        return print(json.dumps(run(int(args.process[0]), args.process[1])))
    end = time.monotonic() + args.seconds
    report, precision = common.Report("schemes", out_of(args)), main_precision()
    config, rows = shape(args.quick)
    print(
        f"d={config.dim}, V={config.vocab}, {rows} x {config.context} tokens, {config.layers} "
        f"layers for every n, {precision}; one step, forward and backward, eager\n"
    )
    for case, results in rounds(precision, end, args.quick).items():
        report.add(case, "peak MB", max(r["peak"] for r in results) / MB, "MB")
        report.add(case, "seconds", min(r["seconds"] for r in results), "s")
        if "weights" in results[0]:
            report.add(case, "weights MB", results[0]["weights"] / MB, "MB")
        else:
            report.add(case, "loss error", results[0]["error"], "relative to float64")
    report.table({"peak MB": ",.0f", "weights MB": ",.0f", "seconds": ".2f", "loss error": ".1e"})
    compare(report, precision)
    report.finish()


def compare(report: common.Report, precision: str) -> None:
    """Add ratios of the table's numbers, with their expected bounds."""
    values = {(r["case"], r["metric"]): r["value"] for r in report.rows}

    def over(metric: str, a: tuple[str, int, str], b: tuple[str, int, str]) -> float:
        return values[label(*a), metric] / values[label(*b), metric]

    p = precision
    for n in N[1:]:
        more = over("peak MB", ("fused", n, p), ("fused", 1, p))
        report.ratio("fused", f"peak, n={n} over n=1", more, "<= 1.1" if n == 4 else "")
    for other in ("plain", "sequential"):
        for n in N:
            slower = over("seconds", ("fused", n, p), (other, n, p))
            expected = "<= 1.0" if other == "plain" else ""
            report.ratio("fused", f"time over {other}, n={n}", slower, expected)
    if "torch" in ONE_HEAD:
        for dtype in DTYPES:
            for metric, of in (("seconds", "time"), ("peak MB", "peak")):
                more = over(metric, ("chunked", 0, dtype), ("torch", 0, dtype))
                report.ratio("one head, chunked", f"{of} over torch's, {dtype}", more)


if __name__ == "__main__":
    main()
