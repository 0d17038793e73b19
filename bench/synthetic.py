"""What the synthetic studies cost a machine, at the shapes of their cpu scale.

Variety       how varied the stories are, and the books in a folder (--books)
Generation    tokens/s of both generators, tokenization included, over those that training reads
Engines       a step by precision and compilation
Side by side  runs of the study of polynomials, in turn: one at a time on all threads, a process for
              each thread, and one compiled step over stacked weights (torch.func) on all threads;
              in tokens/s of all runs together, and in runs per hour
"""

import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap  # pyright: ignore

from bench import common, engine
from experiments import arithmetic, name_copying
from mtp.command_line import out_of
from mtp.config import TrainConfig
from mtp.data.sources import generator_options
from mtp.data.tokenizer import BPE, ByteTokenizer, Tokenizer
from mtp.errors import BadInput, exit_cleanly
from mtp.hardware import cores
from mtp.model.model import MultiTokenTransformer
from mtp.model.transformer import use_kernel
from mtp.overrides import from_dict, to_json
from mtp.training.engine import choose_engine
from mtp.training.trainer import new_optimizer
from synthetic import polynomials, stories


def shapes(quick: bool) -> dict[str, TrainConfig]:
    scale = "smoke" if quick else "cpu"
    small, *larger = name_copying.base(scale)
    equations = arithmetic.base("smoke" if quick else "night")[-1]
    configs = {"polynomials": equations, "stories, small": small}
    return configs | {"stories, large": larger[-1]} if larger else configs


def generation(report: common.Report, name: str, config: TrainConfig, seconds: float) -> float:
    """Tokens/s of the source of a config, measured for this many seconds."""
    _, options = generator_options(config.data.source)
    generate: Callable[..., Iterator[str]] = (
        polynomials.documents if name == "polynomials" else stories.documents
    )
    sample = list(itertools.islice(generate(options), 200))
    text: Tokenizer = ByteTokenizer()
    if config.data.tokenizer == "bpe":
        text = BPE.train(sample, config.data.vocab)
    start, count, documents = time.perf_counter(), 0, generate({**options, "count": "100000000"})
    while time.perf_counter() - start < seconds:
        batch = list(itertools.islice(documents, 500))
        count += sum(map(len, text.encode_batch(batch)))
    rate = count / (time.perf_counter() - start)
    report.add(name, "tokens/s made", rate, "tokens/s")
    return rate


def variety(report: common.Report, books: Path | None) -> None:
    """Add how varied the stories are, and real texts beside them."""
    texts = {"stories": list(itertools.islice(stories.documents({}), 800))}
    if books:
        files = sorted(books.rglob("*.txt"))
        if not files:
            raise BadInput(f"--books {books}: no .txt files there")
        texts["books"] = [file.read_text(errors="replace")[:100_000] for file in files]
    for name, some in texts.items():
        for metric, value in stories.variety(some).items():
            report.add(name, metric, value, "words" if "words" in metric else "ratio")


# --------------------------------------------------------------------------------------------------
# runs side by side


def stacked_worker(count: int, config: TrainConfig) -> None:
    """Like engine.worker, for `count` runs with stacked weights that take one compiled step, in
    bf16 over float32 masters."""
    model = config.model
    models = []
    for seed in range(count):
        torch.manual_seed(seed)
        models.append(MultiTokenTransformer(model))
    masters, _ = stack_module_state(models)  # pyright: ignore[reportArgumentType]
    skeleton = models[0].bfloat16()
    use_kernel(skeleton, "matmul", model.context, "cpu")
    optimizer = new_optimizer(config, masters)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(skeleton, weights, (x,))
        heads = [
            torch.nn.functional.cross_entropy(each.flatten(0, 1).float(), y[i].flatten())
            for i, each in enumerate(logits)
        ]
        return torch.stack(heads).sum()

    gradients = vmap(grad(loss), in_dims=(0, 0, 0))
    if config.compile == "on":
        gradients = torch.compile(gradients, dynamic=False)

    def step() -> None:
        x = torch.randint(model.vocab, (count, config.batch, model.context))
        y = torch.randint(model.vocab, (count, model.n, config.batch, model.context))
        found = gradients({k: w.detach().bfloat16() for k, w in masters.items()}, x, y)
        for name, weight in masters.items():
            weight.grad = found[name].float()
        optimizer.step()

    engine.serve(step, count * config.batch * model.context)


def side_by_side(report: common.Report, config: TrainConfig, seconds: float, rounds: int) -> None:
    """Add tokens/s of all runs together, for layouts that take turns."""
    count, text = cores(), to_json(config)
    worker = ("bench.engine", "--worker")
    layouts: dict[str, list[engine.Command]] = {
        f"1 run x {count} threads": [(*worker, count, text)],
        f"{count} runs x 1 thread": [(*worker, 1, text)] * count,
        f"{count} runs stacked x {count} threads": [("bench.synthetic", "--stacked", count, text)],
    }
    speeds = engine.in_turns(layouts, seconds, rounds)
    one = next(iter(speeds.values()))
    for name, found in speeds.items():
        typical = statistics.median(found)
        report.add(name, "tokens/s", typical, "tokens/s")
        report.add(name, "runs per hour", 3600 * typical / config.tokens, "runs")
        gain = statistics.median(b / a for a, b in zip(one, found, strict=True))
        if found is not one:
            report.ratio(name, "tokens/s over one run at a time", gain)


@exit_cleanly
def main() -> None:
    parser = common.parser("synthetic", __doc__, seconds=120)
    parser.add_argument("--books", type=Path, help="a folder of .txt files to compare stories with")
    common.add_worker(parser, "--stacked")
    args = parser.parse_args()
    if args.stacked:
        values = json.loads(args.stacked[1])
        return stacked_worker(int(args.stacked[0]), from_dict(TrainConfig, values))
    torch._dynamo.config.recompile_limit = 64  # pyright: ignore[reportPrivateImportUsage]
    report, configs = common.Report("synthetic", out_of(args)), shapes(args.quick)
    variety(report, args.books)
    for name, config in configs.items():
        rate = generation(report, name, config, args.seconds / 40)
        chosen = choose_engine(config)
        cases = [
            case
            for case in engine.CASES
            if case[1] == chosen.attention and (case[2] == "off" or not args.quick)
        ]
        engine.engines(report, name, config, chosen, cases, args.seconds / 6)
        trained = max(r["value"] for r in report.rows if r["case"].startswith(f"{name}, ")
                      and r["metric"] == "tokens/s")  # fmt: skip
        report.ratio(name, "tokens/s made over tokens/s trained", rate / trained, ">= 20")
    if common.DEVICE == "cpu" and not args.quick:
        config = configs["polynomials"]
        chosen = choose_engine(config)
        case = (chosen.precision, chosen.attention, "on")
        side_by_side(report, engine.with_engine(config, case), args.seconds / 20, rounds=3)
    report.table(dict.fromkeys(stories.variety(["a"]), ".3g"))
    report.table({"first step, s": ".1f", "ms": ",.1f", "tokens/s": ",.0f", "runs per hour": ".1f"})
    report.finish()


if __name__ == "__main__":
    main()
