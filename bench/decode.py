"""Greedy decoding: ours against transformers' generate, and the price of self-speculation.

n=1: our k=1, eager and compiled, against LlamaForCausalLM.generate with its cache (which is eager),
with the same weights, at the shape of bench/shapes.py. All must give the same tokens.

n=4: 32 layers, like the paper's 7B, so that heads 2 to 4 are as small a part of the model. It is
timed at the width of the cpu scale, where the weights stay in the processor's caches, and at d=768
in bf16, where every pass reads 459 MB from memory, as in a large model. The weights are random: the
cost of a pass does not depend on what it accepts. Prefills are not counted. The speedup over k=1
divided by the tokens per forward is what a pass over one token costs in passes over a block (Table
S2 of the paper, code: 3.05 / 3.50 = 0.87). The profile says which operators take the time of a pass
over one token and of a pass over a block.

Prompts have 64 tokens and 128 new ones (32 at d=768). All threads are used, and the cases of a
batch size take turns.
"""

import dataclasses
import itertools
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench import common
from bench.shapes import bench_config
from experiments.bases import base, with_model
from mtp.command_line import out_of
from mtp.config import ModelConfig
from mtp.decoding.generate import Generation, generate, stream
from mtp.decoding.trees import Tree, chain
from mtp.errors import exit_cleanly
from mtp.formats.hugging_face import hf_weights
from mtp.hardware import has_compiler
from mtp.model.model import MultiTokenTransformer

TREE = Tree(((), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (0, 0, 0)))


def llama(model: MultiTokenTransformer) -> Any:
    """A LlamaForCausalLM with the weights of an n=1 model."""
    ends = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None}
    theirs = common.llama(model.config, **ends)
    theirs.load_state_dict(hf_weights(model))
    return theirs.eval()


def prompts(batch: int, config: ModelConfig) -> list[list[int]]:
    """Random tokens, a quarter of the context each."""
    g = torch.Generator().manual_seed(batch)
    return torch.randint(config.vocab, (batch, config.context // 4), generator=g).tolist()


def against_transformers(
    report: common.Report, config: ModelConfig, batches: tuple[int, ...], new: int, seconds: float
) -> None:
    """tokens/s of both and their ratio, for each batch size."""
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).to(common.DEVICE).eval()
    theirs = llama(model)

    def transformers_generate(rows: list[list[int]]) -> list[list[int]]:
        ids = torch.tensor(rows, device=common.DEVICE)
        with torch.inference_mode():
            mask = torch.ones_like(ids)
            outputs = theirs.generate(ids, attention_mask=mask, max_new_tokens=new, do_sample=False)
        return outputs[:, ids.shape[1] :].tolist()

    for batch in batches:
        rows, name = prompts(batch, config), f"n=1, batch {batch}"
        cases = {
            "transformers": partial(transformers_generate, rows),
            "ours": lambda rows=rows: generate(model, rows, new).tokens,
        }
        if common.DEVICE != "cpu" or has_compiler():
            cases["ours, compiled"] = lambda rows=rows: (
                generate(model, rows, new, compiled=True).tokens
            )
        outputs = {who: case() for who, case in cases.items()}
        for who in list(cases)[1:]:
            same = sum(a == b for a, b in zip(outputs[who], outputs["transformers"], strict=True))
            report.add(f"{name}, {who}", "rows equal to transformers'", same, f"of {batch}")
        times = common.interleave(cases, seconds / len(batches))
        for who in cases:
            rate = batch * new / common.median(times, who)
            report.add(f"{name}, {who}", "tokens/s", rate, "tokens/s")
        for who in list(cases)[1:]:
            gain = common.ratio(times, "transformers", who)
            expected = ">= 2" if batch == 1 else ""
            report.ratio(f"{name}, {who}", "tokens/s over transformers' generate", gain, expected)


def price_of_a_block(
    report: common.Report,
    config: ModelConfig,
    dtype: torch.dtype,
    batches: tuple[int, ...],
    new: int,
    seconds: float,
) -> None:
    """ms per pass of chains and of a tree, and the share of the tokens per forward that becomes
    speed. The prefill is timed by itself and subtracted."""
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).to(common.DEVICE, dtype).eval()
    shape = f"n=4, d={config.dim}, {str(dtype).removeprefix('torch.')}"
    ways = {f"k={k}": chain(k) for k in range(1, config.n + 1)} | {"tree of 8": TREE}
    for batch in batches:
        rows, name = prompts(batch, config), f"{shape}, batch {batch}"
        outputs: dict[str, Generation] = {}

        def decode(
            way: str, rows: list[list[int]] = rows, outputs: dict[str, Generation] = outputs
        ) -> None:
            outputs[way] = generate(model, rows, new, tree=ways[way])

        def prefill(way: str, rows: list[list[int]] = rows) -> None:
            generate(model, rows, 1, tree=ways[way])

        cases = {way: partial(decode, way) for way in ways}
        cases |= {f"{way}, prefill": partial(prefill, way) for way in ways}
        whole = common.interleave(cases, seconds / len(batches))
        times = {
            way: [a - b for a, b in zip(whole[way], whole[f"{way}, prefill"], strict=True)]
            for way in ways
        }
        for way, found in outputs.items():
            seconds_ = common.median(times, way)
            report.add(f"{name}, {way}", "ms per pass", 1e3 * seconds_ / found.forwards, "ms")
            report.add(f"{name}, {way}", "tokens/s", batch * (new - 1) / seconds_, "tokens/s")
        for way in list(ways)[1:]:
            left = common.ratio(times, "k=1", way) / outputs[way].tokens_per_forward
            expected = ">= 0.85" if batch == 1 and way == "k=4" else ""
            report.ratio(f"{name}, {way}", "speedup over tokens per forward", left, expected)


GROUPS = {  # of operators in the profile, by what their names contain
    "matrix products": ("mm", "linear"),
    "attention": ("attention",),
    "norms": ("norm", "rsqrt", "pow", "mean", "sum"),
    "cache writes": ("index_copy",),
}


def profile_of_a_block(
    report: common.Report,
    config: ModelConfig,
    dtype: torch.dtype,
    batches: tuple[int, ...],
    new: int,
) -> None:
    """ms that each group of operators takes in a pass over one token (k=1) and over a block."""
    torch.manual_seed(0)
    model = MultiTokenTransformer(config).to(common.DEVICE, dtype).eval()
    shape = f"n=4, d={config.dim}, {str(dtype).removeprefix('torch.')}"
    for batch, k in itertools.product(batches, (1, config.n)):
        rows = prompts(batch, config)
        generate(model, rows, new, k)
        decoding = stream(model, rows, new, k)
        next(decoding)  # the prefill
        with profile(activities=[ProfilerActivity.CPU]) as found:
            passes = sum(1 for _ in decoding)
        left = {event.key: event.self_cpu_time_total for event in found.key_averages()}
        name = f"{shape}, batch {batch}, k={k}, profile"
        for group, parts in GROUPS.items():
            names = [key for key in left if any(part in key for part in parts)]
            report.add(name, group, sum(map(left.pop, names)) / 1e3 / passes, "ms per pass")
        report.add(name, "the rest", sum(left.values()) / 1e3 / passes, "ms per pass")


@exit_cleanly
def main() -> None:
    args = common.parser("decode", __doc__, seconds=180).parse_args()
    transformers = common.transformers()
    transformers.logging.set_verbosity_error()
    report = common.Report("decode", out_of(args), f", transformers {transformers.__version__}")
    model, batches, new = bench_config().model, (1, 8, 32), 128
    if args.quick:
        model, batches, new = with_model(base("smoke"), layers=2).model, (1, 2), 4
    deep = dataclasses.replace(model, layers=5 if args.quick else 32, n=4)
    wide = deep if args.quick else dataclasses.replace(deep, dim=768, attn_heads=12)
    against_transformers(report, model, batches, new, args.seconds / 3)
    price_of_a_block(report, deep, torch.float32, batches, new, args.seconds / 3)
    price_of_a_block(report, wide, torch.bfloat16, batches[:2], max(4, new // 4), args.seconds / 3)
    if common.DEVICE == "cpu":
        profile_of_a_block(report, deep, torch.float32, batches, new // 2)
        profile_of_a_block(report, wide, torch.bfloat16, batches[:2], max(4, new // 4))
    report.table({"tokens/s": ",.0f", "ms per pass": ".2f"})
    report.table({**{group: ".2f" for group in GROUPS}, "the rest": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
