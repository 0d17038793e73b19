"""Answers drawn per second, as a benchmark draws them: HumanEval's prompts, sampled at T=0.8 with
top_p 0.95.

The model has the shape of the cpu scale, n=1, and random weights, so that no answer ends early.
Cases are batches of 32 on all threads, and what `python -m evals` chooses by itself: more rows at
once, and the number of threads that a short test finds fastest, which on a busy machine is not all
of them. They take turns.
"""

import dataclasses
import tempfile
from functools import partial
from pathlib import Path

import torch

from bench import common
from evals.benchmarks.humaneval import RAW, load
from evals.harness.candidates import Options
from evals.harness.drafting import on_threads, way
from evals.harness.generation import draw
from evals.harness.journal import Journal
from evals.harness.problems import Source
from evals.harness.prompts import Prompt, prompts
from evals.harness.protocol import Protocol
from experiments.bases import base, with_model
from mtp.command_line import out_of
from mtp.data.sources import open_source
from mtp.data.tokenizer import BPE
from mtp.errors import exit_cleanly
from mtp.model.model import MultiTokenTransformer


def draw_all(
    model: MultiTokenTransformer,
    text: BPE,
    asked: dict[str, Prompt],
    protocol: Protocol,
    folder: Path,
    batch: int,
    threads: int | None,
) -> None:
    """Draw the answers anew, in a journal of their own."""
    with tempfile.TemporaryDirectory(dir=folder) as own:
        file = Path(own) / "answers.jsonl"
        with Journal(file, {}) as journal, on_threads(threads):
            draw(model, text, asked, protocol, journal, batch=batch, k=1)


@exit_cleanly
def main() -> None:
    args = common.parser("evals", __doc__, seconds=120).parse_args()
    report = common.Report("evals", out_of(args))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = with_model(base("smoke" if args.quick else "cpu"), context=512).model
        sources = open_source("stdlib", folder).documents()
        texts = [document.content.decode(errors="replace") for document in sources]
        text = BPE.train(texts[:300], config.vocab)
        model = MultiTokenTransformer(config).eval()
        new = 8 if args.quick else 64
        protocol = dataclasses.replace(RAW, temperature=0.8, samples=1, max_new=new)
        made = prompts(load(Source()), protocol, text, config.context)
        asked = {key: prompt for key, prompt in made.items() if prompt}
        if args.quick:
            asked = dict(list(asked.items())[:2])
        options = Options(folder)
        batch = options.at_once(config)
        chosen = way(folder / "none", model, asked, protocol, options, text.eos)
        cases = {
            "batches of 32, all threads": (32, torch.get_num_threads()),
            "as chosen": (batch, chosen.threads),
        }
        run = {
            case: partial(draw_all, model, text, asked, protocol, folder, *how)
            for case, how in cases.items()
        }
        times = common.interleave(run, args.seconds, warm=0)
    for case, (rows, threads) in cases.items():
        report.add(case, "rows at once", rows, f"of {len(asked)}")
        report.add(case, "threads", threads or 0, "threads")
        report.add(case, "answers/s", len(asked) / common.median(times, case), "answers/s")
    gain = common.ratio(times, *cases)
    report.ratio("as chosen", "answers/s over batches of 32", gain, ">= 1.5")
    report.table({"rows at once": ".0f", "threads": ".0f", "answers/s": ".2f"})
    report.finish()


if __name__ == "__main__":
    main()
