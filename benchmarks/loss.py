"""Peak memory and time of the three loss schemes, and of one head against torch's own.

A step is one forward and backward into .grad, without the optimizer. The model is d=1024,
V=32,000, 4096 tokens (32 rows of 128), 9 layers whatever n is (n parallel heads take theirs from
the trunk), SwiGLU width 512, not compiled, in the precision that training would choose here: bf16
where it is fast, else float32.

Each (scheme, n) runs in a fresh process: the model and its inputs, a warm-up on one row, and one
step of which the peak of resident memory beyond weights and inputs and the time are taken. The
gradients, as large as the weights, are in the peak. Rounds over all cases repeat while there is
time; the time is the minimum and the peak the maximum over rounds.

One head: ChunkedCrossEntropy against plain cross-entropy and torch's F.linear_cross_entropy with
LinearCrossEntropyOptions(), where torch has it: same 4096 latents, d and V, forward and backward.
"""

import json
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import common
from mtp.config import ModelConfig
from mtp.errors import exit_cleanly
from mtp.loss import SCHEMES, ChunkedCrossEntropy, valid_counts
from mtp.model import MultiTokenTransformer
from mtp.parallel import bf16_gain

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
    return "bf16" if bf16_gain(common.DEVICE) > 1.5 else "float32"


# --------------------------------------------------------------------------------------------------
# in a fresh process


def one_step(scheme: str, n: int, dtype: str, quick: bool) -> dict[str, float]:
    """Seconds, and the peak in bytes, of one step; bytes of the weights."""
    config, rows = shape(quick, n)
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).to(common.DEVICE, DTYPES[dtype])
    tokens = torch.randint(config.vocab, (rows, config.context), device=common.DEVICE)
    targets = torch.randint(config.vocab, (n, rows, config.context), device=common.DEVICE)

    def step(tokens: Tensor, targets: Tensor) -> None:
        SCHEMES[scheme](model, tokens, targets, valid_counts(targets))
        common.synchronize(common.DEVICE)

    step(tokens[:1], targets[:, :1])
    model.zero_grad()
    with common.peak_memory() as peak:
        start = time.perf_counter()
        step(tokens, targets)
        seconds = time.perf_counter() - start
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    return {"seconds": seconds, "peak": peak.bytes, "weights": weights}


def plain_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, weight).float(), y, reduction="sum") / len(y)


def chunked_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    count = torch.tensor([len(y)], device=y.device)
    return ChunkedCrossEntropy.apply(y[None], count, 1, weight, x[None])[0]  # pyright: ignore


def torch_loss(x: Tensor, weight: Tensor, y: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(x, weight, y, options=options)


ONE_HEAD = {"plain": plain_loss, "chunked": chunked_loss, "torch": torch_loss}
if not hasattr(F, "linear_cross_entropy"):
    del ONE_HEAD["torch"]


def one_head(name: str, dtype: str, quick: bool) -> dict[str, float]:
    """Seconds and peak of one head's loss, and its relative error against float64 on 512 rows."""
    config, rows = shape(quick)
    torch.manual_seed(0)
    x = torch.randn(rows * config.context, config.dim, device=common.DEVICE)
    weight = torch.randn(config.vocab, config.dim, device=common.DEVICE) * config.dim**-0.5
    x, weight = (t.to(DTYPES[dtype]).requires_grad_() for t in (x, weight))
    y = torch.randint(config.vocab, (len(x),), device=common.DEVICE)
    few = slice(0, 512)
    loss = ONE_HEAD[name](x[few], weight, y[few])
    loss.backward()
    with torch.no_grad():
        exact = F.cross_entropy(F.linear(x[few].double(), weight.double()), y[few])
        error = abs(float(loss.double() / exact) - 1)
    x.grad = weight.grad = None
    with common.peak_memory() as peak:
        start = time.perf_counter()
        ONE_HEAD[name](x, weight, y).backward()
        common.synchronize(common.DEVICE)
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak.bytes, "error": error}


# --------------------------------------------------------------------------------------------------
# in front of the processes

Case = tuple[str, str, int | str, str]  # kind, scheme or loss, n (one head: nothing), precision


def label(case: Case) -> str:
    kind, name, n, dtype = case
    return f"{name}, n={n}, {dtype}" if kind == "step" else f"one head, {name}, {dtype}"


def rounds(cases: list[Case], end: float, quick: bool) -> dict[Case, list[dict[str, float]]]:
    """All cases in turn, each in a fresh process, as often as they fit before `end`; once at
    least."""
    found: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    longest = 0.0
    while not longest or time.monotonic() + longest < end:
        start = time.monotonic()
        for case in cases:
            found[case].append(
                run(*case, quick=True)
                if quick
                else common.in_fresh_process("benchmarks.loss", "--case", *case)
            )
        longest = max(longest, time.monotonic() - start)
    return found


def run(kind: str, name: str, n: int | str, dtype: str, quick: bool) -> dict[str, float]:
    if kind == "step":
        return one_step(name, int(n), dtype, quick)
    return one_head(name, dtype, quick)


@exit_cleanly
def main() -> None:
    parser = common.parser(__doc__, seconds=220)
    parser.add_argument("--case", nargs=4, help="used by the benchmark itself")
    args = parser.parse_args()
    if args.case:
        return print(json.dumps(run(*args.case, quick=False)))
    end = time.monotonic() + args.seconds
    report, precision = common.Report("loss", args.out), main_precision()
    config, rows = shape(args.quick)
    print(
        f"d={config.dim}, V={config.vocab}, {rows} x {config.context} tokens, {config.layers} "
        f"layers for every n, {precision}; one step, forward and backward, eager\n"
    )
    # n outside, so that the schemes that are compared run next to each other
    cases: list[Case] = [("head", name, "", dtype) for dtype in DTYPES for name in ONE_HEAD]
    cases += [("step", scheme, n, precision) for n in N for scheme in SCHEMES]
    found = rounds(cases, end, args.quick)
    for case, results in found.items():
        report.add(label(case), "peak MB", max(r["peak"] for r in results) / MB, "MB")
        report.add(label(case), "seconds", min(r["seconds"] for r in results), "s")
        for other, unit in (("weights", "MB"), ("error", "")):
            if other in results[0]:
                value = results[0][other] / (MB if unit else 1)
                name = "weights MB" if unit else "loss error"
                report.add(label(case), name, value, unit or "relative to float64")
    report.table({"peak MB": ",.0f", "weights MB": ",.0f", "seconds": ".2f", "loss error": ".1e"})
    compare(report, precision)
    report.finish()


def compare(report: common.Report, precision: str) -> None:
    """Ratios of the table's figures, with what is expected of them."""

    def value(case: Case, metric: str) -> float:
        rows = report.rows
        return next(r["value"] for r in rows if (r["case"], r["metric"]) == (label(case), metric))

    def step(scheme: str, n: int) -> Case:
        return ("step", scheme, n, precision)

    for n in N[1:]:
        peaks = [value(step("fused", k), "peak MB") for k in (n, 1)]
        expected = "<= 1.1" if n == 4 else ""
        report.ratio("fused", f"peak, n={n} over n=1", peaks[0] / peaks[1], expected)
    for other in ("plain", "sequential"):
        for n in N:
            seconds = [value(step(s, n), "seconds") for s in ("fused", other)]
            expected = "<= 1.0" if other == "plain" else ""
            report.ratio("fused", f"time over {other}, n={n}", seconds[0] / seconds[1], expected)
    if "torch" in ONE_HEAD:
        for dtype in DTYPES:
            for metric, of in (("seconds", "time"), ("peak MB", "peak")):
                ours, theirs = (value(("head", k, "", dtype), metric) for k in ("chunked", "torch"))
                name = f"{of} over torch's, {dtype}"
                report.ratio("one head, chunked", name, ours / theirs)


if __name__ == "__main__":
    main()
