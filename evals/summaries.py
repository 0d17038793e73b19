"""Summarization (section 3.7, Tables S8 to S10).

    prompt   "DOCUMENT\nTL;DR:"      the model goes on:  " SUMMARY" and the end of text

The paper finetunes a model on each set, three epochs at a context of 4096, and takes the epoch with
the best ROUGE-L F1 on the validation split. It says nothing of the template, of decoding and of
where documents are cut. Here: the template above, greedy, and a document too long for the context
loses its end, as news and papers begin with what matters. `finetuned` is for models trained on
`training_text`; `prompted`, for others, which rarely end a text, stops at an empty line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evals import rouge
from evals.answering import answers, room
from evals.intervals import bootstrap
from evals.protocol import Protocol
from evals.records import Record, convert, find, folder, hub, read_jsonl
from evals.templates import delimiter, prompt
from mtp.errors import BadInput, choose
from mtp.model import MultiTokenTransformer
from mtp.tokenizer import Tokenizer

TEMPLATE = "{document}\nTL;DR:"
STYLES = ("ascii-stemmed", "unicode")
POST = "spaces around it removed; lines as the model makes them; ROUGE as evals/rouge.py"


@dataclass(frozen=True)
class DataSet:
    """Where the hub has it, the columns that hold document and summary, and the length of answers:
    tokens of a trained vocabulary, well above the references' length."""

    hub: str
    subset: str | None
    document: str
    summary: str
    max_new: int


SETS = {
    "big-patent": DataSet(
        "NortheasternUniversity/big_patent", "all", "description", "abstract", 256
    ),
    "cnn-dailymail": DataSet("abisee/cnn_dailymail", "3.0.0", "article", "highlights", 192),
    "multi-news": DataSet("alexfabbri/multi_news", None, "document", "summary", 512),
    "orangesum": DataSet("EdinburghNLP/orange_sum", "abstract", "text", "summary", 128),
    "pn-summary": DataSet("HooshvareLab/pn_summary", None, "article", "summary", 256),
    "samsum": DataSet("Samsung/samsum", None, "dialogue", "summary", 128),
    "scitldr": DataSet("allenai/scitldr", "Abstract", "source", "target", 128),
    "thaisum": DataSet("nakhun/thaisum", None, "body", "summary", 256),
    "wiki-summary": DataSet("m3hrdadfi/wiki_summary", None, "article", "highlights", 512),
    "xsum": DataSet("EdinburghNLP/xsum", None, "document", "summary", 96),
}
PROTOCOLS = tuple(
    Protocol(name, variant, template=TEMPLATE, stops=stops, post=POST, max_new=one.max_new)
    for name, one in SETS.items()
    for variant, stops in {"finetuned": (), "prompted": ("\n\n",)}.items()
)


@dataclass(frozen=True)
class Document:
    """A text and its reference summaries; the first is the one to train on."""

    text: str
    references: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.text.strip() or not self.references:
            raise ValueError("no document or no summary")


@dataclass(frozen=True)
class Summary:
    """What the model wrote, and its scores by style and type."""

    text: str
    scores: dict[str, dict[str, rouge.Score]]


def training_text(document: Document, protocol: Protocol) -> str:
    """A document with its summary, as a finetuned model has seen them: end of text follows."""
    filled = prompt(protocol, {"document": document.text})
    return filled + delimiter(protocol) + document.references[0]


def score(
    model: MultiTokenTransformer,
    text: Tokenizer,
    documents: Sequence[Document],
    protocol: Protocol,
    styles: Sequence[str] = STYLES,
) -> list[Summary]:
    """The model's summaries and their scores, against the best of several references."""
    left = room(model, protocol.max_new)
    prompts = [fitting(text, document.text, protocol, left) for document in documents]
    written = answers(model, text, prompts, protocol.stops, protocol.max_new)
    return [
        judge(summary.strip(), document.references, styles)
        for summary, document in zip(written, documents, strict=True)
    ]


def judge(summary: str, references: Sequence[str], styles: Sequence[str] = STYLES) -> Summary:
    """A summary with its scores."""
    return Summary(summary, {style: rouge.score(references, summary, style) for style in styles})


def fitting(text: Tokenizer, document: str, protocol: Protocol, left: int) -> str:
    """The prompt of as much of a document's beginning as makes it `left` tokens, bos included.
    BadInput where there is no room for a document."""
    filled = prompt(protocol, {"document": document})
    ids, excess = text.encode(document), 1 + len(text.encode(filled)) - left
    while excess > 0:  # a part may be cut into more tokens than it has in the whole
        ids = ids[: max(0, len(ids) - excess)]
        if not ids:
            raise BadInput(
                f"{protocol.max_new} new tokens leave {left} of the model's context, too few for a "
                "document; take a model of longer context or a smaller max_new"
            )
        shorter = text.decode(ids).rstrip("\ufffd")  # of a character torn apart
        filled = prompt(protocol, {"document": shorter})
        excess = 1 + len(text.encode(filled)) - left
    return filled


def means(summaries: Sequence[Summary]) -> dict[str, tuple[float, float, float]]:
    """Mean precision, recall and F1 of each style and type, in percent as in the paper, with 90%
    intervals over documents: `ROUGE-L F1, unicode`, ..."""
    found = {}
    for style, types in summaries[0].scores.items():
        for kind in types:
            scores = [summary.scores[style][kind] for summary in summaries]
            for field, name in (("precision", "precision"), ("recall", "recall"), ("f1", "F1")):
                percent = [100 * getattr(score, field) for score in scores]
                interval = bootstrap([[value] for value in percent])
                found[f"{kind} {name}, {style}"] = sum(percent) / len(percent), *interval
    return found


# --------------------------------------------------------------------------------------------------
# documents from files, or from the Hugging Face hub


def load(name: str, split: str, data_dir: Path | None = None) -> list[Document]:
    """The documents of a split, `train`, `validation` or `test`: from SPLIT.jsonl in `data_dir` or
    a folder of the set's name in it, whose lines hold `document` and `summary` (or the columns of
    the hub's data set), each a text or a list; or without one from the Hugging Face hub.

    SciTLDR's own files are read too. Its sources are lists of sentences, joined by spaces; its
    targets are several, of which the best counts, as its authors do.
    """
    choose("summarization set", name, SETS)
    choose("split", split, ("train", "validation", "test"))
    one = SETS[name]

    def row(record: Record) -> Document:
        own = "document" in record and "summary" in record
        keys = ("document", "summary") if own else (one.document, one.summary)
        source, summary = (record[key] for key in keys)
        references = [summary] if isinstance(summary, str) else summary
        text = source if isinstance(source, str) else " ".join(part.strip() for part in source)
        return Document(text.strip(), tuple(each.strip() for each in references))

    if data_dir is None:
        return convert(f"{one.hub} ({split})", hub(one.hub, one.subset, split), row)
    short = "dev" if split == "validation" else split
    names = [f"SciTLDR-A.{short}.jsonl", f"{short}.jsonl"] if name == "scitldr" else []
    file = find(folder(data_dir, name), [f"{split}.jsonl", *names])
    return convert(file, read_jsonl(file), row)
