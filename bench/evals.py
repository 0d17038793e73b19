"""Answers drawn per second, as a benchmark draws them: HumanEval's prompts, sampled at T=0.8 with
top_p 0.95.

The model has the shape of bench/shapes.py, n=1, and random weights, so that no answer ends early.
Each problem gets SAMPLES answers; pass@k wants 200. Cases are batches of 32 different prompts on
all threads, and what `python -m evals` does: more rows at once, the answers to one prompt side by
side, so that they share its prefill, and the number of threads that a short test finds fastest,
which on a busy machine is not all of them. They take turns.
"""

import dataclasses
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench import common
from bench.shapes import bench_config
from evals.benchmarks.humaneval import RAW, load
from evals.harness.candidates import Options
from evals.harness.drafting import on_threads, way
from evals.harness.generation import draw
from evals.harness.journal import Journal
from evals.harness.problems import Source
from evals.harness.prompts import Prompt, prompts
from evals.harness.protocol import Protocol
from experiments.bases import with_model
from mtp.command_line import out_of
from mtp.data.sources import open_source
from mtp.data.tokenizer import BPE
from mtp.errors import exit_cleanly
from mtp.model.model import MultiTokenTransformer

EACH, OURS = "a prefill for each answer", "as chosen"
SAMPLES, PROBLEMS = 8, 32


def draw_all(
    model: MultiTokenTransformer,
    text: BPE,
    asked: dict[str, Prompt],
    protocol: Protocol,
    folder: Path,
    *,
    batch: int,
    threads: int | None,
    apart: bool,
) -> None:
    """Draw all answers anew, in journals of their own. apart: one to each prompt, then the next."""
    rounds = protocol.samples if apart else 1
    protocol = dataclasses.replace(protocol, samples=protocol.samples // rounds)
    with tempfile.TemporaryDirectory(dir=folder) as own, on_threads(threads):
        for number in range(rounds):
            with Journal(Path(own) / f"{number}.jsonl", {}) as journal:
                draw(model, text, asked, protocol, journal, batch=batch, k=1, seed=number)


@exit_cleanly
def main() -> None:
    args = common.parser("evals", __doc__, seconds=120).parse_args()
    report = common.Report("evals", out_of(args))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = with_model(bench_config(args.quick), context=512).model
        sources = open_source("stdlib", folder).documents()
        texts = [document.content.decode(errors="replace") for document in sources]
        text = BPE.train(texts[:300], config.vocab)
        model = MultiTokenTransformer(config).eval()
        new = 8 if args.quick else 64
        protocol = dataclasses.replace(RAW, temperature=0.8, samples=SAMPLES, max_new=new)
        made = prompts(load(Source()), protocol, text, config.context)
        asked = {key: prompt for key, prompt in made.items() if prompt}
        asked = dict(list(asked.items())[: 2 if args.quick else PROBLEMS])
        options = Options(folder)
        chosen = way(folder / "none", model, asked, protocol, options, text.eos)
        cases: dict[str, dict[str, Any]] = {
            EACH: {"batch": 32, "threads": torch.get_num_threads(), "apart": True},
            OURS: {"batch": options.at_once(config), "threads": chosen.threads, "apart": False},
        }
        run = {
            case: partial(draw_all, model, text, asked, protocol, folder, **how)
            for case, how in cases.items()
        }
        times = common.interleave(run, args.seconds, warm=0)
    answers = SAMPLES * len(asked)
    for case, how in cases.items():
        report.add(case, "rows at once", how["batch"], f"of {answers}")
        report.add(case, "threads", how["threads"] or 0, "threads")
        report.add(case, "answers/s", answers / common.median(times, case), "answers/s")
    gain = common.ratio(times, EACH, OURS)
    report.ratio(OURS, f"answers/s over {EACH}", gain, ">= 1.5")
    report.table({"rows at once": ".0f", "threads": ".0f", "answers/s": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
