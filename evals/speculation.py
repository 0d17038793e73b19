"""What self-speculative decoding saves: the measures of Table S2 (and S3, for byte models)."""

import statistics
import time

import torch

from mtp.decode import Generation, check_arguments, generate
from mtp.errors import BadInput
from mtp.model import MultiTokenTransformer


def measure(
    model: MultiTokenTransformer,
    prompts: list[list[int]],
    max_new: int,
    k: int,
    eos: int | None = None,
    batch: int = 1,
    repeats: int = 3,
) -> dict[str, float]:
    """Decode `prompts` greedily, `batch` at a time, with k heads and with one, side by side.

    tokens_per_forward    verified and accepted tokens per row-forward ("tokens / forward")
    acceptance_2 .. _k    share of row-forwards in which draft i was accepted; tokens_per_forward is
                          exactly 1 + their sum (mtp.decode.Generation says what is counted)
    tokens_per_second     new tokens per second of wall clock, prefill included, with k heads
    tokens_per_second_k1  the same with one head
    speedup               their ratio ("relative speedup")
    identical             1.0 if both gave the same tokens, else 0.0

    As in the paper, the baseline of the speedup is the same model with k=1, which does not pay for
    its other heads. The paper decodes 4200 prompts of 512 tokens by 512 more at batch 42, on GPUs
    with 7B models; here all of that is the caller's, and our models are far smaller: a block of k
    tokens and the heads' layers cost relatively more. Times are medians over `repeats`, k=1 and k
    taking turns after a warm-up of each. BadInput as in `generate`, or for a batch below 1.
    """
    if batch < 1 or repeats < 1:
        raise BadInput(f"batch is {batch}, repeats is {repeats}; both must be at least 1")
    check_arguments(model, prompts, max_new, k, eos)
    groups = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]
    for heads in (1, k):
        generate(model, groups[0], max_new, heads, eos)  # warm-up

    def run(heads: int) -> tuple[float, list[Generation]]:
        start = time.perf_counter()
        found = [generate(model, group, max_new, heads, eos) for group in groups]
        return time.perf_counter() - start, found

    pairs = [(run(1), run(k)) for _ in range(repeats)]
    (_, one), (_, block) = pairs[-1]
    plain = statistics.median(seconds for (seconds, _), _ in pairs)
    fast = statistics.median(seconds for _, (seconds, _) in pairs)
    rows, rows_one = ([row for each in found for row in each.tokens] for found in (block, one))
    accepted = torch.stack([each.accepted for each in block]).sum(0)  # (k,)
    shares = (accepted.double() / accepted[0]).tolist()
    new, new_one = (sum(map(len, each)) for each in (rows, rows_one))
    return {
        "tokens_per_forward": sum(shares),
        **{f"acceptance_{i}": share for i, share in enumerate(shares[1:], 2)},
        "tokens_per_second": new / fast,
        "tokens_per_second_k1": new_one / plain,
        "speedup": (new / fast) / (new_one / plain),
        "identical": float(rows == rows_one),
    }
