"""Summarization (section 3.7, Tables S8 to S10).

    prompt   "DOCUMENT\\nTL;DR:"      the answer:  " SUMMARY" and the end of text

    python -m evals.benchmarks.summaries --pairs FILE --set scitldr --data-dir data/benchmarks

writes a training split as such prompts and completions, for finetuning with
`data.source=pairs:FILE`.

The paper finetunes a model on each set, three epochs at a context of 4096, and takes the epoch with
the best ROUGE-L F1 on the validation split. It does not describe its template, its decoding and
where it cuts documents. Here: the template above, greedy decoding, and a document that is too long
for the context loses its end, since news and papers begin with what matters (row `shortened`).
`finetuned` is for models trained on such pairs, and `finetuned-dev` the same on the validation
split, to choose among RUN/kept. `prompted`, for models that rarely end a text, stops at an empty
line.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.harness import rouge
from evals.harness.generation import draw
from evals.harness.one_answer import Scored, Scores, Work
from evals.harness.problems import Dataset, Problem, Record, Source, convert, write_pairs
from evals.harness.protocol import Protocol
from mtp.command_line import new_parser
from mtp.errors import exit_cleanly

DOCUMENT, ASKS, SOLVED = "{document}", "\nTL;DR:", " {summary}"
VARIANTS = {  # on which split, and what ends an answer beside the end of text
    "finetuned": ("test", ()),
    "prompted": ("test", ("\n\n",)),
    "finetuned-dev": ("dev", ()),
}
STYLES = tuple(rouge.TOKENIZERS)
POST = "spaces around it removed; lines as the model makes them; ROUGE as evals/harness/rouge.py"
PARTS = {"precision": "precision", "recall": "recall", "f1": "F1"}
METRICS = tuple(
    f"{kind} {part}, {style}" for style in STYLES for kind in rouge.TYPES for part in PARTS.values()
)


@dataclass(frozen=True)
class Set:
    """Where the hub has a set, the columns that hold document and summary, and the length of
    answers: tokens of a trained vocabulary, well above the references' length."""

    hub: str
    subset: str | None
    document: str
    summary: str
    max_new: int


SETS = {
    "big-patent": Set("NortheasternUniversity/big_patent", "all", "description", "abstract", 256),
    "cnn-dailymail": Set("abisee/cnn_dailymail", "3.0.0", "article", "highlights", 192),
    "multi-news": Set("alexfabbri/multi_news", None, "document", "summary", 512),
    "orangesum": Set("EdinburghNLP/orange_sum", "abstract", "text", "summary", 128),
    "pn-summary": Set("HooshvareLab/pn_summary", None, "article", "summary", 256),
    "samsum": Set("Samsung/samsum", None, "dialogue", "summary", 128),
    "scitldr": Set("allenai/scitldr", "Abstract", "source", "target", 128),
    "thaisum": Set("nakhun/thaisum", None, "body", "summary", 256),
    "wiki-summary": Set("m3hrdadfi/wiki_summary", None, "article", "highlights", 512),
    "xsum": Set("EdinburghNLP/xsum", None, "document", "summary", 96),
}


def protocols(name: str) -> tuple[Protocol, ...]:
    return tuple(
        Protocol(
            benchmark=name,
            variant=variant,
            template=DOCUMENT + ASKS,
            solved=SOLVED,
            shortens="document",
            stops=stops,
            post=POST,
            max_new=SETS[name].max_new,
        )
        for variant, (_, stops) in VARIANTS.items()
    )


def pair(problem: Problem) -> dict[str, str]:
    """A document and its summary, as a finetuned model has seen them, with the end of text after
    them. A document that is too long loses its end, as it does in a prompt."""
    parts = {"prompt": DOCUMENT, "suffix": ASKS, "completion": SOLVED}
    return {name: part.format_map(problem.fields) for name, part in parts.items()}


def score(work: Work) -> dict[str, Scores]:
    """ROUGE of the model's summaries."""
    drawn = draw(
        work.model, work.text, work.asked, work.protocol, work.journal, batch=work.batch, k=work.k
    )
    return {
        name: judge(summary, work.problems[name].about["references"])
        for name, (summary,) in drawn.items()
    }


def judge(summary: str, references: Sequence[str]) -> Scores:
    """Precision, recall and F1 of each type and style, from 0 to 1 (`ROUGE-L F1, unicode`), against
    the best of several references."""
    found = dict[str, float]()
    for style in STYLES:
        for kind, values in rouge.score(references, summary.strip(), style).items():
            for part, name in PARTS.items():
                found[f"{kind} {name}, {style}"] = getattr(values, part)
    return found


# --------------------------------------------------------------------------------------------------
# documents from files, or from the Hugging Face hub

SCITLDR_SHA256 = "fb42dd6cd4f4a1928ae8a01a189456fbfe994a07e938bd49f68653933f6503c9"


def of_variant(name: str, source: Source, protocol: Protocol) -> Dataset:
    split, _ = VARIANTS[protocol.variant]
    return load(name, source, split)


def load(name: str, source: Source, split: str = "test") -> Dataset:
    """The documents of a split (train, dev, test): from SPLIT.jsonl, whose lines hold `document`
    and `summary` (or the columns of the hub's data set), each a text or a list; or from the hub.

    SciTLDR's own file is read too. Its sources are lists of sentences, joined by spaces; its
    targets are several, of which the best counts, as its authors do.
    """
    one, file = SETS[name], f"{split}.jsonl"
    hub = (one.hub, one.subset, "validation" if split == "dev" else split)
    if name == "scitldr":
        sha256 = SCITLDR_SHA256 if split == "test" else ""
        found, origin = source.read(f"SciTLDR-A.{file}", sha256, hub, [file])
    else:
        found, origin = source.read(file, "", hub)
    return Dataset(convert(name, found, origin, functools.partial(document, one)), (), origin)


def document(one: Set, record: Record) -> Problem:
    """The record to train on, with the first of several summaries."""
    own = "document" in record and "summary" in record
    keys = ("document", "summary") if own else (one.document, one.summary)
    text, summary = (record[key] for key in keys)
    texts = [summary] if isinstance(summary, str) else list(summary)
    references = tuple(each.strip() for each in texts)
    whole = text if isinstance(text, str) else " ".join(part.strip() for part in text)
    if not whole.strip() or not references:
        raise ValueError("no document or no summary")
    fields = {"document": whole.strip(), "summary": references[0]}
    return Problem("", fields, {"references": references})


SUMMARIES = tuple(
    Scored(name, protocols(name), functools.partial(of_variant, name), score, METRICS)
    for name in SETS
)


@exit_cleanly
def main() -> None:
    """Write documents and their summaries as prompts and completions."""
    parser = new_parser("evals.benchmarks.summaries", __doc__)
    say = parser.add_argument
    say("--pairs", type=Path, required=True, metavar="FILE", help="the file to write")
    say("--set", required=True, choices=SETS, help="whose")
    say("--split", default="train", choices=("train", "dev"), help="default: train")
    say("--data-dir", type=Path, help="folder of the data files (default: the Hugging Face hub)")
    args = parser.parse_args()
    data = load(args.set, Source(args.data_dir).of(args.set), args.split)
    print(
        f"{args.pairs}: {write_pairs(args.pairs, map(pair, data.problems))} pairs of {data.origin}"
    )


if __name__ == "__main__":
    main()
